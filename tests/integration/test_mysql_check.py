"""check(): each bad day has a finding that names it and the statement that mends it; open() names what refuses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from syncd.errors import FatalError, SyncdError, TransientError
from syncd.model import Finding
from syncd.sources.mysql.options import Options
from syncd.testing.servers.ports import free_port
from tests.integration.mysql_tools import opened
from tests.services.database import Database, fresh_database, user
from tests.services.fixtures import PrivateServer
from tests.services.replication import follow


def checked(database: Database, tmp_path: Path, **options: Any) -> dict[str, Finding]:
    """The worst finding of each subject."""
    order = ["ok", "warning", "error"]
    worst: dict[str, Finding] = {}
    with opened(database, tmp_path, **options) as source:
        for finding in source.check():
            known = worst.get(finding.subject)
            if known is None or order.index(finding.level) > order.index(known.level):
                worst[finding.subject] = finding
    return worst


def test_a_good_server(database: Database, tmp_path: Path) -> None:
    found = checked(database, tmp_path)
    assert {f.level for f in found.values()} <= {"ok", "warning"}
    assert found["version"].level == found["grants"].level == found["binlog_format"].level == "ok"
    assert found["low watermark"].level == "ok"
    assert found["server_id"].level == "ok"
    assert "5.5.5" not in found["version"].text
    assert "log_replica_updates" not in found


@pytest.mark.mariadb
def test_what_a_grant_of_no_other_use_would_show(mariadb_database: Database, tmp_path: Path) -> None:
    with user(mariadb_database, "SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.*") as url:
        finding = checked(mariadb_database, tmp_path, url=url)["server_id"]
    assert finding.level == "ok"
    assert finding.text.endswith(
        "; other replicas were not looked at: only a grant that syncd does not need shows their ids"
    )
    assert "log_replica_updates" not in checked(mariadb_database, tmp_path)


@pytest.mark.parametrize("kind", ["mariadb", "mysql9"])
def test_a_replica_that_does_not_log_what_it_replicates(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    private: PrivateServer = request.getfixturevalue(f"private_{kind}")
    off = "--log-slave-updates=OFF" if kind == "mariadb" else "--log-replica-updates=OFF"
    source, replica = private(), private(off)
    with (
        fresh_database(replica) as database,
        user(database, "SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.*") as url,
    ):
        assert "log_replica_updates" not in checked(database, tmp_path)
        follow(replica, source)
        finding = checked(database, tmp_path, url=url)["log_replica_updates"]
    assert (finding.level, finding.text) == (
        "warning",
        "this server is a replica, and what it replicates is not in its log",
    )


def test_missing_grants_by_name(database: Database, tmp_path: Path) -> None:
    with user(database, "SELECT ON *.*") as url:
        finding = checked(database, tmp_path, url=url)["grants"]
        assert finding.level == "error"
        assert finding.todo == "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'someone'@'127.0.0.1';"
        database.execute(finding.todo)
        assert checked(database, tmp_path, url=url)["grants"].level in {"ok", "warning"}
    with user(database, "REPLICATION SLAVE, REPLICATION CLIENT ON *.*") as url:
        todo = checked(database, tmp_path, url=url)["grants"].todo
        assert todo.startswith("GRANT SELECT ON *.* TO 'someone'@'127.0.0.1'; -- SELECT is needed on the tables")
        database.execute(todo)
        assert checked(database, tmp_path, url=url)["grants"].level in {"ok", "warning"}


def test_a_table_without_select_is_named(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    with user(database, f"INSERT ON {database.name}.*", "REPLICATION SLAVE, REPLICATION CLIENT ON *.*") as url:
        with (
            opened(database, tmp_path, url=url) as source,
            pytest.raises(FatalError, match="grant is missing") as caught,
        ):
            source.tables(lambda t: t.database == database.name)
        assert caught.value.table == f"{database.name}.t"


def test_wrong_password(database: Database, tmp_path: Path) -> None:
    with user(database, "SELECT ON *.*", password="right") as url:
        with (
            pytest.raises(FatalError, match="refused the log-in"),
            opened(database, tmp_path, url=url, password="wrong"),
        ):
            pass
        with opened(database, tmp_path, url=url, password="right"):
            pass


@pytest.mark.mysql9
def test_caching_sha2_without_tls(mysql9_database: Database, tmp_path: Path) -> None:
    mysql9_database.execute("CREATE USER sha@'127.0.0.1' IDENTIFIED WITH caching_sha2_password BY 'pä55'")
    try:
        url = f"mysql://sha@127.0.0.1:{mysql9_database.port}/"
        for _ in range(2):
            with opened(mysql9_database, tmp_path, url=url, password="pä55"):
                pass
    finally:
        mysql9_database.execute("DROP USER sha@'127.0.0.1'")


@pytest.mark.mysql9
def test_tls(mysql9_database: Database, tmp_path: Path) -> None:
    """The server made itself an authority; a certificate that does not name the host is refused unless told."""
    authority = mysql9_database.server.data / "ca.pem"
    with opened(mysql9_database, tmp_path, tls={"ca": str(authority), "verify": "ca"}) as source:
        cursor = source._link("asking").cursor()
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        assert cursor.fetchone()[1]
    for tls in ({"ca": str(authority)}, {"verify": "ca"}):
        with pytest.raises(FatalError, match="TLS was refused"), opened(mysql9_database, tmp_path, tls=tls):
            pass


@pytest.mark.mariadb
def test_tls_where_the_server_has_none(mariadb_database: Database, tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="TLS was refused"), opened(mariadb_database, tmp_path, tls={"verify": "none"}):
        pass


def test_unreachable(tmp_path: Path, unused_port: int) -> None:
    database = Database(server=None, name="none")  # type: ignore[arg-type]
    url = f"mysql://root@127.0.0.1:{unused_port}/"
    with pytest.raises(TransientError, match="be reached"), opened(database, tmp_path, url=url):
        pass


@pytest.fixture
def unused_port() -> int:
    return free_port()


@pytest.mark.parametrize(
    ("setting", "back", "subject"),
    [
        ("binlog_format = 'MIXED'", "binlog_format = 'ROW'", "binlog_format"),
        ("binlog_row_image = 'MINIMAL'", "binlog_row_image = 'FULL'", "binlog_row_image"),
        ("binlog_row_metadata = 'MINIMAL'", "binlog_row_metadata = 'FULL'", "binlog_row_metadata"),
    ],
)
def test_log_settings(database: Database, tmp_path: Path, setting: str, back: str, subject: str) -> None:
    database.execute(f"SET GLOBAL {setting}")
    try:
        finding = checked(database, tmp_path)[subject]
    finally:
        database.execute(f"SET GLOBAL {back}")
    assert finding.level == ("warning" if subject == "binlog_row_metadata" else "error")
    assert back.split(" =")[0] in finding.todo


def test_partial_json(mysql9_database: Database, tmp_path: Path) -> None:
    mysql9_database.execute("SET GLOBAL binlog_row_value_options = 'PARTIAL_JSON'")
    try:
        assert checked(mysql9_database, tmp_path)["binlog_row_value_options"].level == "error"
    finally:
        mysql9_database.execute("SET GLOBAL binlog_row_value_options = ''")


def test_short_retention(mysql9_database: Database, tmp_path: Path) -> None:
    ((before,),) = mysql9_database.query("SELECT @@GLOBAL.binlog_expire_logs_seconds")
    mysql9_database.execute("SET GLOBAL binlog_expire_logs_seconds = 7200")
    try:
        finding = checked(mysql9_database, tmp_path)["retention"]
    finally:
        mysql9_database.execute(f"SET GLOBAL binlog_expire_logs_seconds = {before}")
    assert (finding.level, "2 hours" in finding.text) == ("warning", True)


def test_a_server_id_that_is_taken(database: Database, tmp_path: Path) -> None:
    ((mine,),) = database.query("SELECT @@GLOBAL.server_id")
    finding = checked(database, tmp_path, server_id=mine)["server_id"]
    assert (finding.level, "the server itself" in finding.text) == ("error", True)


@pytest.mark.mariadb
def test_no_log(private_mariadb: PrivateServer, tmp_path: Path) -> None:
    with fresh_database(private_mariadb("--skip-log-bin")) as database:
        finding = checked(database, tmp_path)["log_bin"]
    assert finding.level == "error"
    assert "--log-bin" in finding.todo


@pytest.mark.mysql9
def test_no_gtids(private_mysql9: PrivateServer, tmp_path: Path) -> None:
    with fresh_database(private_mysql9("--gtid-mode=OFF", "--enforce-gtid-consistency=OFF")) as database:
        found = checked(database, tmp_path)
        assert (found["gtid"].level, found["low watermark"].level) == ("warning", "ok")
        with user(database, "SELECT, RELOAD, REPLICATION SLAVE, REPLICATION CLIENT ON *.*") as url:
            assert checked(database, tmp_path, url=url)["low watermark"].level == "warning"
        assert checked(database, tmp_path, gtid=True)["gtid"].level == "error"


def test_a_server_that_goes_away(private_mariadb: PrivateServer, tmp_path: Path) -> None:
    server = private_mariadb()
    with fresh_database(server) as database, opened(database, tmp_path) as source:
        server.kill()
        with pytest.raises(SyncdError) as caught:
            source.head(1)
        assert isinstance(caught.value, TransientError)
        server.start()
        assert source.head(1).seq > 0


def test_every_option_is_described() -> None:
    schema = Options.model_json_schema()
    for part in [schema, *schema["$defs"].values()]:
        if part.get("title") != "Address":
            assert [name for name, field in part["properties"].items() if "description" not in field] == []
