"""The servers behave as the other tests rely on."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import pymysql
import pytest

from syncd.testing.servers import MariaDB, OceanBase, Server, ServerUnavailable
from syncd.testing.servers.ports import is_free
from tests.services.database import Database, connect
from tests.services.fixtures import KINDS, PrivateServer


@pytest.fixture(params=[*KINDS, pytest.param("oceanbase", marks=pytest.mark.oceanbase)])
def private_server(request: pytest.FixtureRequest) -> PrivateServer:
    factory: PrivateServer = request.getfixturevalue(f"private_{request.param}")
    return factory


def test_settings_that_the_sources_need(mysql_server: Server) -> None:
    with closing(connect(mysql_server)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@log_bin, @@binlog_format, @@binlog_row_image, @@binlog_row_metadata, @@version")
        *settings, version = cursor.fetchall()[0]
    assert settings == [1, "ROW", "FULL", "FULL"]
    assert mysql_server.version == version
    assert mysql_server.flavour == ("mariadb" if "MariaDB" in version else "mysql")


def test_each_test_has_an_empty_database(database: Database) -> None:
    assert database.query("SHOW TABLES") == []
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    database.many("INSERT INTO t VALUES (%s)", [(1,), (2,)])
    assert database.query("SELECT id FROM t ORDER BY id") == [(1,), (2,)]


def test_committed_rows_outlive_kill_and_restart(private_server: PrivateServer) -> None:
    server = private_server()
    port = server.port
    for number, end in enumerate([server.kill, server.stop]):
        with closing(connect(server)) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE IF NOT EXISTS d")
            cursor.execute("CREATE TABLE IF NOT EXISTS d.t (id INT PRIMARY KEY)")
            cursor.execute("INSERT INTO d.t VALUES (%s)", (number,))
        end()
        assert not server.running
        assert is_free(port)
        server.start()
        assert server.port == port
        with closing(connect(server)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM d.t")
            assert cursor.fetchall() == ((number + 1,),)


def test_frozen_server_does_not_answer_until_thawed(private_server: PrivateServer) -> None:
    server = private_server()
    server.freeze()
    with pytest.raises(pymysql.err.OperationalError):
        connect(server, connect_timeout=1, read_timeout=1)
    server.thaw()
    with closing(connect(server)) as connection:
        assert connection.open


def test_options_of_the_test_win_and_two_servers_live_side_by_side(private_mariadb: PrivateServer) -> None:
    one, two = private_mariadb("--binlog-row-image=MINIMAL"), private_mariadb()
    images = []
    for server in (one, two):
        with closing(connect(server)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT @@binlog_row_image")
            images += cursor.fetchall()
    assert images == [("MINIMAL",), ("FULL",)]
    assert one.port != two.port


@pytest.mark.mysql9
def test_no_two_servers_share_a_uuid(private_mysql9: PrivateServer) -> None:
    found = set()
    for server in (private_mysql9(), private_mysql9()):
        with closing(connect(server)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT @@server_uuid")
            found.add(cursor.fetchall())
    assert len(found) == 2


@pytest.mark.oceanbase
def test_oceanbase_is_small_silent_and_for_this_machine_alone(private_oceanbase: PrivateServer) -> None:
    server = private_oceanbase("--parameter", "memory_budget=2G")
    with closing(connect(server)) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW PARAMETERS WHERE name IN ('memory_budget', 'log_disk_size', 'syslog_level')")
        assert {row[1]: row[3] for row in cursor.fetchall()} == {
            "memory_budget": "2G",  # the test's own, which wins
            "log_disk_size": "2G",
            "syslog_level": "ERROR",
        }
        cursor.execute("SELECT @@ob_tcp_invited_nodes, @@version_comment")
        invited, told = cursor.fetchall()[0]
    assert invited == "127.0.0.1"
    assert f"OceanBase {server.version} seekdb" in told
    environment = Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")
    assert b"TELEMETRY_ENABLED=false" in environment


@pytest.mark.oceanbase
def test_oceanbase_that_does_not_start_says_why(private_oceanbase: PrivateServer) -> None:
    private_oceanbase()  # skips where OceanBase is not to be had
    told = ""
    for _ in range(20):  # its log is written by a thread: what it says last may be lost with it
        server = OceanBase(options=["--parameter", "log_disk_size=1G"])
        with pytest.raises(ServerUnavailable, match="ended at once") as caught, server:
            pytest.fail("it started")
        told = str(caught.value)
        if "errcode=-4736" in told:
            break
    assert "errcode=-4736" in told


def test_closing_leaves_nothing(private_server: PrivateServer) -> None:
    server = private_server()
    pid, port, folder = server.pid, server.port, server.dir
    server.close()
    assert pid is not None
    assert not Path(f"/proc/{pid}").exists()
    assert is_free(port)
    assert not folder.exists()


def test_given_folder_is_kept(private_mariadb: PrivateServer, tmp_path: Path) -> None:
    private_mariadb()  # skips where MariaDB is not to be had
    with MariaDB(tmp_path / "m") as server:
        assert server.data.is_dir()
    assert server.data.is_dir()


@pytest.mark.parametrize("frozen", [False, True])
def test_death_of_the_parent_ends_the_server(private_mariadb: PrivateServer, *, frozen: bool) -> None:
    private_mariadb()  # skips where MariaDB is not to be had
    script = """
        import threading, time
        from syncd.testing.servers import MariaDB
        server = MariaDB()
        # started by a thread that ends: the server must not end with it
        thread = threading.Thread(target=server.start)
        thread.start()
        thread.join()
        time.sleep(0.3)
        assert server.running
        FREEZE
        print(server.pid, server.port, server.dir, flush=True)
        time.sleep(60)
    """
    text = textwrap.dedent(script).replace("FREEZE", "server.freeze()" if frozen else "")
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, port, folder = parent.stdout.readline().split()
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (_alive(int(pid)) or not is_free(int(port)) or Path(folder).exists()):
        time.sleep(0.05)
    assert not _alive(int(pid))
    assert is_free(int(port))
    assert not Path(folder).exists()


def _alive(pid: int) -> bool:
    """Whether `pid` runs; one that has ended and waits for its parent does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize(
    "name", [pytest.param("mariadb", marks=pytest.mark.mariadb), pytest.param("oceanbase", marks=pytest.mark.oceanbase)]
)
def test_taken_port_is_told(name: str, request: pytest.FixtureRequest) -> None:
    factory: PrivateServer = request.getfixturevalue(f"private_{name}")
    server = factory()
    second = type(server)(port=server.port)
    with pytest.raises(ServerUnavailable, match=f"port {server.port} is taken"), second:
        pytest.fail("it started")
