"""scan_once(): what each server needs for a read whose place is known, and what it says when it cannot be had."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from syncd.errors import FatalError, TransientError
from tests.integration.mysql_tools import found, opened, schema_of
from tests.services.database import Database, fresh_database
from tests.services.fixtures import PrivateServer

USER = "someone@'127.0.0.1'"


@pytest.mark.parametrize(
    "kind", [pytest.param("mysql9", marks=pytest.mark.mysql9), pytest.param("mysql80", marks=pytest.mark.mysql80)]
)
def test_the_grant_that_is_missing_is_named(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    database: Database = request.getfixturevalue(f"{kind}_database")
    database.execute(
        "CREATE TABLE t (a INT)",
        "INSERT INTO t VALUES (1), (1)",
        f"CREATE USER {USER} IDENTIFIED BY ''",
        # The right to see prepared branches is asked for where the server has had any, from other tests for instance.
        f"GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT, XA_RECOVER_ADMIN ON *.* TO {USER}",
    )
    try:
        with opened(database, tmp_path, url=f"mysql://someone@127.0.0.1:{database.port}/") as source:
            said = found(source, database).findings
            assert [finding.level for finding in said] == ["ok", "warning"]
            assert "locks it for a moment" in said[0].text
            assert any("LOCK TABLES" in finding.todo for finding in source.check())
            with pytest.raises(FatalError, match="grant is missing") as caught:
                source.scan_once(schema_of(source, database), 1, 1)
            assert caught.value.table == f"{database.name}.t"
            database.execute(said[1].todo.replace("the user of the source", USER))
        with opened(database, tmp_path, url=f"mysql://someone@127.0.0.1:{database.port}/") as source:
            assert [finding.level for finding in found(source, database).findings] == ["ok"]
            assert not any("LOCK TABLES" in finding.todo for finding in source.check())
            _, batches = source.scan_once(schema_of(source, database), 1, 1)
            assert [len(batch) for batch in batches] == [2]
    finally:
        database.execute(f"DROP USER {USER}")


def test_an_engine_without_consistent_reads_is_refused(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (a INT) ENGINE = MyISAM")
    with opened(database, tmp_path) as source, pytest.raises(FatalError, match="MyISAM") as caught:
        source.scan_once(schema_of(source, database), 1, 1)
    assert caught.value.code == "E194"


def test_a_prepared_xa_transaction(database: Database, tmp_path: Path) -> None:
    """Its rows are in the log before the place, and not visible: MySQL waits for its end; MariaDB leaves them out."""
    # a log of its own: head() looks for the branch's beginning from the log's
    database.execute("CREATE TABLE t (a INT)", "INSERT INTO t VALUES (1)", "FLUSH BINARY LOGS")
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        for text in ("XA START 'once'", "INSERT INTO t VALUES (2)", "XA END 'once'", "XA PREPARE 'once'"):
            cursor.execute(text)
    try:
        with opened(database, tmp_path, head_timeout=1) as source:
            if database.query("SELECT VERSION() LIKE '%MariaDB%'") == [(1,)]:
                _, batches = source.scan_once(schema_of(source, database), 1, 1)
                assert [batch.rows.to_pylist() for batch in batches] == [[{"a": 1}]]
            else:
                with pytest.raises(TransientError, match="held the table"):
                    source.scan_once(schema_of(source, database), 1, 1)
    finally:
        database.execute("XA ROLLBACK 'once'")


@pytest.mark.mysql9
def test_who_holds_the_table_is_named(private_mysql9: PrivateServer, tmp_path: Path) -> None:
    with fresh_database(private_mysql9("--performance-schema=ON")) as database:
        database.execute("CREATE TABLE t (a INT)")
        with opened(database, tmp_path, head_timeout=1) as source:
            schema = schema_of(source, database)
            with closing(database.connect(autocommit=False)) as holder, holder.cursor() as cursor:
                cursor.execute("INSERT INTO t VALUES (1)")
                with pytest.raises(TransientError, match=rf"connection {holder.thread_id()} \(root@"):
                    source.scan_once(schema, 1, 1)
                holder.commit()
            _, batches = source.scan_once(schema, 1, 1)
            assert [len(batch) for batch in batches] == [1]


def test_a_read_that_was_given_up_is_not_read_on(database: Database, tmp_path: Path) -> None:
    """Another read on the connection has ended the transaction: its rows would be of another moment."""
    database.execute("CREATE TABLE t (a INT)", "INSERT INTO t VALUES (1)")
    with opened(database, tmp_path) as source:
        schema = schema_of(source, database)
        _, batches = source.scan_once(schema, 1, 1)
        _, later = source.scan_once(schema, 1, 1)
        with pytest.raises(TransientError, match="has ended"):
            next(batches)
        with pytest.raises(TransientError, match="has ended"):
            next(later)
