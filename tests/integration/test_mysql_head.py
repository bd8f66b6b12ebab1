"""head(): whatever lies before it in the log is visible to a read that begins afterwards."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from syncd.errors import FatalError, TransientError
from syncd.model import Checkpoint
from syncd.sources.mysql.binlog.seq import file_number, make
from syncd.sources.mysql.head import choose
from syncd.sources.mysql.place import Place, log_end
from syncd.testing.servers import Server
from tests.integration.log_tools import read, schemas
from tests.integration.mysql_tools import opened, schema_of
from tests.services.database import Database, connect, fresh_database
from tests.services.fixtures import PrivateServer

DELAY = 1_000_000  # microseconds: the largest that the server takes


def seq_of(place: Place, epoch: int = 1) -> int:
    return make(epoch, file_number(place.file), place.pos)


@contextmanager
def held(database: Database, release: str = "DO 0") -> Iterator[tuple[Place, Callable[[], bool]]]:
    """While a transaction is in the log and not yet visible; gives the end of the log before it, and whether it is
    visible now. `release`: the statement that ends this."""
    with database.connect() as asking, asking.cursor() as cursor:

        def visible() -> bool:
            cursor.execute(f"SELECT COUNT(*) FROM t WHERE id = {row}")
            return bool(cursor.fetchall() == ((1,),))

        for row in range(20):  # on a busy machine it may be visible before it is looked for
            before = log_end(asking)
            writer = threading.Thread(target=database.execute, args=(f"INSERT INTO t VALUES ({row})",))
            writer.start()
            try:
                deadline = time.monotonic() + 60
                while log_end(asking).order == before.order:
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
                if not visible():
                    yield before, visible
                    return
            finally:
                database.execute(release)
                writer.join()
        raise AssertionError("no transaction was held back")


def prove(database: Database, tmp_path: Path, release: str = "DO 0", **options: Any) -> bool:
    """Head, then read: what is not visible is not before it. True if the head had to wait until it was visible."""
    with opened(database, tmp_path, **options) as source:
        source.head(1)
        with held(database, release) as (before, visible):
            head = source.head(1)
            seen = visible()
            assert seen or head.seq <= seq_of(before)
    return seen


@contextmanager
def slow_commits(server: Server) -> Iterator[Database]:
    """A database of a MySQL server whose commits stay between log and visibility for a second."""
    with fresh_database(server) as database:
        database.execute("CREATE TABLE t (id INT PRIMARY KEY)", f"SET GLOBAL binlog_group_commit_sync_delay = {DELAY}")
        try:
            yield database
        finally:
            database.execute("SET GLOBAL binlog_group_commit_sync_delay = 0")


@pytest.mark.parametrize(
    "kind", [pytest.param("mysql9", marks=pytest.mark.mysql9), pytest.param("mysql80", marks=pytest.mark.mysql80)]
)
def test_mysql_with_gtids(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with slow_commits(request.getfixturevalue(kind)) as database:
        assert prove(database, tmp_path)
        with opened(database, tmp_path) as source, database.connect() as connection:
            assert json.loads(source.head(1).position)["gtid"]
            assert choose(connection, source._options) == "gtid"


@pytest.mark.mysql9
@pytest.mark.parametrize("performance_schema", ["ON", "OFF"])
@pytest.mark.parametrize(
    ("way", "grants", "source_options"),
    [
        ("log_status", ["BACKUP_ADMIN ON *.*", "SELECT ON performance_schema.log_status"], {}),
        ("marker", ["BACKUP_ADMIN ON *.*", "INSERT, DELETE, CREATE ON syncd.*"], {"marker_table": "syncd.marker"}),
        ("lock", ["BACKUP_ADMIN, RELOAD ON *.*"], {}),
    ],
)
def test_mysql_without_gtids(
    private_mysql9: PrivateServer,
    tmp_path: Path,
    performance_schema: str,
    way: str,
    grants: list[str],
    source_options: dict[str, Any],
) -> None:
    """Each way by the grants that it needs; half of the first one's hides none of the others."""
    server = private_mysql9(
        "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF", f"--performance-schema={performance_schema}"
    )
    with slow_commits(server) as database:
        database.execute(
            "CREATE DATABASE syncd",
            "CREATE USER plain@'127.0.0.1' IDENTIFIED BY ''",
            f"GRANT SELECT ON `{database.name}`.* TO plain@'127.0.0.1'",
            "GRANT REPLICATION SLAVE, REPLICATION CLIENT, XA_RECOVER_ADMIN ON *.* TO plain@'127.0.0.1'",
        )
        options = {"url": f"mysql://plain@127.0.0.1:{database.port}/", **source_options}
        with opened(database, tmp_path, url=options["url"]) as source:
            (told,) = [finding for finding in source.check() if finding.subject == "low watermark"]
            with pytest.raises(FatalError, match="low watermark") as caught:
                source.head(1)
        assert (told.level, told.todo, caught.value.code) == ("error", caught.value.hint, "E185")
        database.execute(*(f"GRANT {grant} TO plain@'127.0.0.1'" for grant in grants))
        with opened(database, tmp_path, **options) as source:
            assert choose(source._link("asking"), source._options) == way
            assert "gtid" not in json.loads(source.head(1).position)
            # tables() finds a head while it holds the tables against DDL
            assert schema_of(source, database).version > 0
        assert prove(database, tmp_path, **options)
        database.execute("DROP DATABASE syncd")


def test_what_the_marker_table_lacks_is_told(mysql80_database: Database, tmp_path: Path) -> None:
    database = mysql80_database
    database.execute(
        "CREATE USER marking@'127.0.0.1' IDENTIFIED WITH mysql_native_password BY ''",
        "GRANT REPLICATION SLAVE, REPLICATION CLIENT, XA_RECOVER_ADMIN ON *.* TO marking@'127.0.0.1'",
    )
    options: dict[str, Any] = {"url": f"mysql://marking@127.0.0.1:{database.port}/", "gtid": False}
    try:
        with opened(database, tmp_path, **options, marker_table=f"{database.name}.mark") as source:
            with pytest.raises(FatalError, match=r"marker_table.*INSERT, DELETE") as caught:
                source.head(1)
            mends = f"GRANT CREATE, INSERT, DELETE ON `{database.name}`.`mark` TO 'marking'@'127.0.0.1';"
            assert (caught.value.code, caught.value.hint) == ("E182", mends)
            database.execute(mends)
            assert json.loads(source.head(1).position)["pos"] > 0
    finally:
        database.execute("DROP USER marking@'127.0.0.1'")


@pytest.mark.mysql9
def test_a_commit_that_hangs_is_told(private_mysql9: PrivateServer, tmp_path: Path) -> None:
    """Semi-synchronous replication without a replica: the transaction waits in the log, and head says for which one.

    Capture may have it already: the log is not taken for one that lacks it.
    """
    server = private_mysql9()
    with fresh_database(server) as database:
        database.execute(
            "CREATE TABLE t (id INT PRIMARY KEY)",
            "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
            "SET GLOBAL rpl_semi_sync_source_timeout = 60000",
            "SET GLOBAL rpl_semi_sync_source_wait_point = AFTER_SYNC",
            "SET GLOBAL rpl_semi_sync_source_enabled = 1",
        )
        late = pytest.raises(TransientError, match="not visible after")
        with opened(database, tmp_path, head_timeout=0.3) as source:
            start = source.head(1).position
            with held(database, "SET GLOBAL rpl_semi_sync_source_enabled = 0") as (_, visible):
                copied = read(database, start, schemas(database, "t"))[-1]
                assert isinstance(copied, Checkpoint)
                assert json.loads(copied.position)["gtid"] != json.loads(start)["gtid"]
                assert source.identity(copied.position) == source.identity(start)
                with late:
                    source.head(1)
                assert not visible()


@pytest.mark.mariadb
def test_mariadb(private_mariadb: PrivateServer, tmp_path: Path) -> None:
    """A replica that acknowledges nothing holds commits between log and visibility."""
    server = private_mariadb()
    with fresh_database(server) as database:
        database.execute(
            "CREATE TABLE t (id INT PRIMARY KEY)",
            "SET GLOBAL rpl_semi_sync_master_timeout = 60000",
            "SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC",
            "SET GLOBAL rpl_semi_sync_master_enabled = 1",
        )
        with silent_replica(server):
            off = "SET GLOBAL rpl_semi_sync_master_enabled = 0"
            assert not prove(database, tmp_path, off), "the head waited, so nothing was proved"
        with opened(database, tmp_path) as source, database.connect() as connection:
            assert source.head(1).seq == seq_of(log_end(connection))


@contextmanager
def silent_replica(server: Server) -> Iterator[None]:
    with connect(server) as asking, connect(server) as connection, connection.cursor() as cursor:
        end = log_end(asking)
        for text in (
            "SET @rpl_semi_sync_slave = 1",
            "SET @mariadb_slave_capability = 4",
            "SET @master_binlog_checksum = @@global.binlog_checksum",
        ):
            cursor.execute(text)
        connection._execute_command(0x12, struct.pack("<IHI", end.pos, 0, 99) + end.file.encode())
        deadline = time.monotonic() + 60
        while (
            dict(status(asking, "rpl_semi_sync_master_clients")).get("Rpl_semi_sync_master_clients") != "1"
            and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        yield


def status(connection: Any, name: str) -> list[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW GLOBAL STATUS LIKE '{name}'")
        return list(cursor.fetchall())


def test_under_load_nothing_before_the_head_is_missing(database: Database, tmp_path: Path) -> None:
    """Writers note the log's end before each insert: a row that was in the log before head() must be readable."""
    database.execute("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, file INT, pos BIGINT)")
    stop = threading.Event()

    def write() -> None:
        with database.connect() as connection, connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("INSERT INTO t (file, pos) VALUES (0, 0)")
                end = log_end(connection)
                done.append((cursor.lastrowid, seq_of(end)))

    done: list[tuple[int, int]] = []
    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    try:
        with opened(database, tmp_path) as source:
            last = 0
            for _ in range(40):
                finished = [row for row, _ in done]
                head = source.head(1)
                seen = {row for (row,) in database.query("SELECT id FROM t")}
                assert head.seq >= last
                assert set(finished) <= seen
                assert {row for row, seq in list(done) if seq <= head.seq} <= seen
                last = head.seq
    finally:
        stop.set()
        for writer in writers:
            writer.join()


def test_an_open_xa_branch_pulls_it_back(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    with opened(database, tmp_path) as source, database.connect() as connection, connection.cursor() as cursor:
        start = source.head(1)
        for text in (
            "XA START 'g''1', 'b', 3",
            "INSERT INTO t VALUES (1)",
            "XA END 'g''1', 'b', 3",
            "XA PREPARE 'g''1', 'b', 3",
        ):
            cursor.execute(text)
        database.execute("INSERT INTO t VALUES (2)", "FLUSH LOGS", "INSERT INTO t VALUES (3)")
        try:
            pulled = source.head(1)
            assert pulled.seq == start.seq
            assert json.loads(pulled.position) == json.loads(start.position)
        finally:
            cursor.execute("XA COMMIT 'g''1', 'b', 3")
        assert source.head(1).seq > pulled.seq
    with opened(database, tmp_path) as source, database.connect() as asking:
        assert source.head(2).seq == seq_of(log_end(asking), 2)


def test_xa_without_the_grant_is_named(mysql9_database: Database, tmp_path: Path) -> None:
    mysql9_database.execute(
        "CREATE TABLE t (id INT PRIMARY KEY)",
        "CREATE USER blind@'127.0.0.1' IDENTIFIED BY ''",
        "GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO blind@'127.0.0.1'",
        "XA START 'a'",
        "XA END 'a'",
        "XA ROLLBACK 'a'",
    )
    try:
        url = f"mysql://blind@127.0.0.1:{mysql9_database.port}/"
        with opened(mysql9_database, tmp_path, url=url) as source, pytest.raises(FatalError, match="XA") as caught:
            source.head(1)
        assert "XA_RECOVER_ADMIN" in caught.value.hint
    finally:
        mysql9_database.execute("DROP USER blind@'127.0.0.1'")


def test_no_log_is_named(private_mariadb: PrivateServer, tmp_path: Path) -> None:
    said = pytest.raises(FatalError, match="binary log")
    with fresh_database(private_mariadb("--skip-log-bin")) as database, opened(database, tmp_path) as source, said:
        source.head(1)
