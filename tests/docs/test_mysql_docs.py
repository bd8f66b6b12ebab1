"""docs/sources/mysql.md: its grants are those that are needed, and each setting that `check` looks at is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from syncd.errors import FatalError
from syncd.model import Chunk
from syncd.sources.mysql import check
from syncd.sources.mysql.binlog.control import Query
from syncd.sources.mysql.binlog.follow import Asking, Follower
from syncd.sources.mysql.binlog.tables import Tables
from syncd.sources.mysql.cascades import logged
from syncd.sources.mysql.head import choose
from tests.integration.mysql_tools import found, opened, whole
from tests.services.database import Database, fresh_database
from tests.services.fixtures import PrivateServer
from tests.unit.mysql_binlog.craft import SCHEMA

PAGE = (Path(__file__).parents[2] / "docs/sources/mysql.md").read_text(encoding="utf-8")
ON_BOTH, ON_MYSQL, *WITHOUT_GTIDS = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


CHANGES = re.findall(
    r"^\| `([^`]+)` \| (\w+)(, unsure)?(?:[:,][^|]*)? \|$", PAGE.partition("## Schema changes")[2], re.MULTILINE
)


@pytest.mark.parametrize(("statement", "kind", "unsure"), CHANGES)
def test_schema_changes_come_as_the_page_says(statement: str, kind: str, unsure: str) -> None:
    schema = replace(SCHEMA, collation="utf8mb4_0900_ai_ci")
    server = {"utf8mb4": "utf8mb4_0900_ai_ci", "latin1": "latin1_swedish_ci"}
    tables = Tables({schema.table: schema}, lambda table: table.database == "d" and table.name != "x", "fail", {})
    asking = Asking(lambda table: None, lambda made: made, 80030, False, False, collations=server)
    changes = Follower(tables, asking).follow(Query("d", statement.encode()), "utf8mb4", 1, 0).changes
    assert [str(change.kind) for change in changes] == ([kind] if kind != "nothing" else [])
    assert [bool(change.unsure) for change in changes] == [bool(unsure)] * len(changes)
    assert len(CHANGES) > 15


@contextmanager
def the_page_s_user(database: Database) -> Iterator[str]:
    """The url of the user that the page makes, allowed to see this database."""
    ((version,),) = database.query("SELECT VERSION()")
    for line in (ON_BOTH + ("" if "MariaDB" in version else ON_MYSQL)).splitlines():
        database.execute(adapted(line, database))
    try:
        yield f"mysql://sync@127.0.0.1:{database.port}/"
    finally:
        database.execute("DROP USER sync@'127.0.0.1'")


def adapted(statement: str, database: Database) -> str:
    return statement.replace("shop.*", f"{database.name}.*").replace("sync@'%'", "sync@'127.0.0.1'")


def test_the_page_s_user_may_do_what_a_job_does(database: Database, tmp_path: Path) -> None:
    database.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, a DOUBLE)",
        "INSERT INTO t VALUES (1, 0.5)",
        "CREATE TABLE child (id INT PRIMARY KEY, t INT, FOREIGN KEY (t) REFERENCES t (id) ON DELETE CASCADE)",
        "XA START 'x'",
        "INSERT INTO t VALUES (2, 0.5)",
        "XA END 'x'",
        "XA PREPARE 'x'",
        "XA COMMIT 'x'",
    )
    with the_page_s_user(database) as url, opened(database, tmp_path, url=url, password="...") as source:
        told = {(finding.level, finding.text) for finding in source.check() if finding.subject == "grants"}
        lock = {text for level, text in told if level == "warning"}
        assert not [text for level, text in told if level == "error"]
        assert all(text.startswith("LOCK TABLES is not granted") for text in lock)
        assert source.head(1).seq > 0
        table = found(source, database)
        assert table.refusals == ()
        assert whole(source, table.schema, Chunk(table.schema.table, 0)).to_pylist() == [
            {"id": 1, "a": 0.5},
            {"id": 2, "a": 0.5},
        ]
        hidden = not logged(source._link("asking"))
        assert bool(found(source, database, "child").refusals) == hidden, "foreign keys can be seen"
        next(source.stream(source.head(1).position, 1, {}, lambda _: False, lambda _: ()))


@pytest.mark.mariadb
def test_a_replica_s_lag_needs_its_grant(mariadb_database: Database, tmp_path: Path) -> None:
    assert "`REPLICA MONITOR` (MariaDB)" in PAGE

    def lag() -> str:
        with opened(mariadb_database, tmp_path, url=url, password="...", throttle={"replica_lag_s": 1.0}) as source:
            (finding,) = [finding for finding in source.check() if finding.subject == "replica_lag_s"]
            return finding.text

    with the_page_s_user(mariadb_database) as url:
        assert "a grant is missing" in lag()
        mariadb_database.execute("GRANT REPLICA MONITOR ON *.* TO sync@'127.0.0.1'")
        assert "is no replica" in lag()


@pytest.mark.mysql9
def test_xa_needs_its_grant(mysql9_database: Database, tmp_path: Path) -> None:
    mysql9_database.execute("CREATE TABLE t (id INT PRIMARY KEY)", "XA START 'y'", "XA END 'y'", "XA ROLLBACK 'y'")
    with the_page_s_user(mysql9_database) as url:
        mysql9_database.execute("REVOKE XA_RECOVER_ADMIN ON *.* FROM sync@'127.0.0.1'")
        with opened(mysql9_database, tmp_path, url=url, password="...") as source, pytest.raises(FatalError) as caught:
            source.head(1)
    assert caught.value.code == "E182"


@pytest.mark.mysql9
def test_each_way_without_gtids_needs_its_grants_alone(private_mysql9: PrivateServer, tmp_path: Path) -> None:
    with fresh_database(private_mysql9("--gtid-mode=OFF", "--enforce-gtid-consistency=OFF")) as database:
        database.execute("CREATE DATABASE syncd")
        for grants, way in zip(WITHOUT_GTIDS, ("log_status", "marker", "lock"), strict=True):
            marker = "syncd.mark" if way == "marker" else ""
            with the_page_s_user(database) as url:
                with opened(database, tmp_path, url=url, password="...") as source, pytest.raises(FatalError) as caught:
                    source.head(1)
                assert caught.value.code == "E185"
                database.execute(*(adapted(grant, database) for grant in grants.splitlines()))
                with opened(database, tmp_path, url=url, password="...", marker_table=marker) as source:
                    assert choose(source._link("asking"), source._options) == way
                    assert source.head(1).seq > 0
                    assert source.head(1).seq > 0


@pytest.mark.parametrize("name", check._VARIABLES)
def test_every_setting_that_is_checked_is_named(name: str) -> None:
    assert f"`{name}`" in PAGE
