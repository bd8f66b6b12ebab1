"""Statements in the log: schema changes are followed at their place, whatever the server has become since."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymysql
import pytest

from syncd.errors import FatalError, Unsupported
from syncd.model import ChangeBatch, Checkpoint, Ddl, Op, Position, SchemaChange, TableId
from tests.integration.log_tools import batches, changes, log_end, read, rows, schema, schemas, table
from tests.integration.mysql_tools import opened, schema_of
from tests.services.database import Database, fresh_database
from tests.services.fixtures import PrivateServer


@pytest.fixture
def start(database: Database) -> Position:
    database.execute("CREATE TABLE a (id INT PRIMARY KEY, v VARCHAR(20))")
    return log_end(database)


def describing(database: Database) -> dict[str, Any]:
    return {"describe": lambda of: schema(database, of.name)}


def test_added_columns_are_followed_at_their_place(database: Database, start: Position) -> None:
    known = schemas(database, "a")
    database.execute(
        "INSERT INTO a VALUES (1, 'old')",
        "ALTER TABLE a ADD COLUMN n INT NOT NULL DEFAULT 7 AFTER id, ADD w DECIMAL(10,2) FIRST",
        "INSERT INTO a VALUES (1.5, 2, 3, 'new')",
        "ALTER TABLE a ADD (x BIGINT UNSIGNED, y DATETIME(3) NULL DEFAULT '2020-01-02'), ADD INDEX (n), COMMENT = 'c'",
        "INSERT INTO a VALUES (NULL, 3, 4, 'newer', 18446744073709551615, '2024-01-01 00:00:00.5')",
        # the server goes on to a schema that has nothing to do with the log before it
        "ALTER TABLE a DROP COLUMN v, MODIFY id BIGINT, CHANGE x v TEXT FIRST",
    )
    events = read(database, start, known, **describing(database))
    found = changes(events)
    assert [change.kind for change in found] == [Ddl.ALTER, Ddl.ALTER, Ddl.ALTER]
    assert [c.name for c in found[2].schema.columns] == ["v", "w", "id", "n", "y"]
    assert found[2].renamed == (("x", "v"),)
    assert [c.name for c in found[0].schema.columns] == ["w", "id", "n", "v"]
    assert found[0].schema.column("n").default == "7"
    assert [c.name for c in found[1].schema.columns] == ["w", "id", "n", "v", "x", "y"]
    assert list(rows(events)[0][1].values()) == [1, "old"]
    assert [len(row) for _, row in rows(events)] == [2, 4, 6]
    assert rows(events)[2][1]["x"] == 18446744073709551615
    order = [
        event.seq if isinstance(event, SchemaChange) else int(event.seq[0])
        for event in events
        if not isinstance(event, Checkpoint)
    ]
    assert order == sorted(order)
    assert found[0].schema.version == found[0].seq
    assert batches(events)[1].schema == found[0].schema


def test_texts_that_are_added_while_capture_lags_are_followed(database: Database, start: Position) -> None:
    """Their character sets are nowhere in the statements, and the server describes a later table."""
    known = schemas(database, "a")
    database.execute(
        "ALTER TABLE a ADD COLUMN x VARCHAR(9) NOT NULL DEFAULT 'ü'",
        "INSERT INTO a VALUES (1, 'v', 'é')",
        "ALTER TABLE a ADD COLUMN y VARCHAR(5) CHARACTER SET latin1 NULL AFTER id, ADD z INT FIRST",
        "INSERT INTO a VALUES (5, 2, 'ÿ', 'v', 'ß')",
        "CREATE TABLE n (k VARCHAR(9) NOT NULL PRIMARY KEY)",
        "INSERT INTO n VALUES ('Ä')",
        "ALTER TABLE n ADD COLUMN t TEXT NULL",
    )
    events = read(database, start, known, lambda t: True, **describing(database))
    assert [change.kind for change in changes(events)] == [Ddl.ALTER, Ddl.ALTER, Ddl.CREATE, Ddl.ALTER]
    assert [[*row.values()] for _, row in rows(events)][:2] == [[1, "v", "é"], [5, 2, "ÿ", "v", "ß"]]
    assert changes(events)[0].schema.column("x").default == "ü"


def test_a_created_table_is_followed(database: Database, start: Position, tmp_path: Path) -> None:
    database.execute(
        "CREATE TABLE n (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, k VARCHAR(40) NOT NULL, e ENUM('x','y') NULL, "
        "d DECIMAL(20,3), t TIMESTAMP(3) NULL, b BINARY(4), s SET('a','b'), f FLOAT, bool BOOL, PRIMARY KEY (k, id), "
        "KEY (id)) DEFAULT CHARSET=utf8mb4",
        "INSERT INTO n (k, e, d, t, b, s, f, bool) VALUES ('k', 'y', 1.5, '2024-01-01', 'x', 'a,b', 0.5, true)",
    )
    events = read(database, start, {}, lambda t: t == table(database, "n"), **describing(database))
    (change,) = changes(events)
    assert change.kind is Ddl.CREATE
    with opened(database, tmp_path) as source:
        expected = schema_of(source, database, "n")
    plain = tuple(column for column in expected.columns if not column.normal_of)
    assert replace(change.schema, version=0) == replace(expected, version=0, columns=plain)
    assert rows(events)[0][1]["e"] == "y"


def test_a_created_table_that_is_gone_again(database: Database, start: Position) -> None:
    database.execute(
        "CREATE TABLE n (id INT PRIMARY KEY, v VARCHAR(10) CHARACTER SET latin1 COLLATE latin1_bin)",
        "INSERT INTO n VALUES (1, 'ü')",
        "DROP TABLE n",
    )
    events = read(database, start, {}, lambda t: t == table(database, "n"), **describing(database))
    assert [change.kind for change in changes(events)] == [Ddl.CREATE, Ddl.DROP]
    assert rows(events) == [(Op.INSERT, {"id": 1, "v": "ü"})]


def test_truncate_drop_and_rename(database: Database, start: Position) -> None:
    database.execute(
        "CREATE TABLE b (id INT PRIMARY KEY)", "CREATE TABLE c (id INT PRIMARY KEY)", "CREATE TABLE x (id INT)"
    )
    begin, known = log_end(database), schemas(database, "a", "b", "c")
    database.execute(
        "INSERT INTO a VALUES (1, '')",
        "TRUNCATE TABLE a",
        "TRUNCATE x",
        "INSERT INTO a VALUES (2, '')",
        "RENAME TABLE c TO c2, x TO x2",
        "DROP TABLE IF EXISTS a, b, nothing",
    )
    events = read(database, begin, known)
    assert [(change.kind, change.table.name) for change in changes(events)] == [
        (Ddl.TRUNCATE, "a"),
        (Ddl.RENAME, "c"),
        (Ddl.DROP, "a"),
        (Ddl.DROP, "b"),
    ]
    kinds = [type(event) for event in events if not isinstance(event, Checkpoint)]
    assert kinds[:3] == [ChangeBatch, SchemaChange, ChangeBatch]
    assert len({change.seq for change in changes(events)}) == 4


def test_what_changes_no_column(database: Database, start: Position) -> None:
    known = schemas(database, "a")
    database.execute(
        "ALTER TABLE a ADD INDEX (v)",
        "CREATE INDEX i2 ON a (v, id)",
        "DROP INDEX i2 ON a",
        "ALTER TABLE a COMMENT = 'ALTER TABLE a DROP COLUMN v', AUTO_INCREMENT = 5",
        "ANALYZE TABLE a",
        "ALTER TABLE a ENGINE = InnoDB",
        "CREATE TABLE other (id INT PRIMARY KEY, a INT)",
        "ALTER TABLE other DROP COLUMN a",
        "CREATE VIEW w AS SELECT * FROM a",
        "DROP VIEW w",
        "INSERT INTO a VALUES (1, 'x')",
    )
    events = read(database, start, known, lambda t: t in known)
    assert [[index.name for index in change.schema.indexes] for change in changes(events)] == [
        ["v"],
        ["i2", "v"],
        ["v"],
        ["v"],
    ]
    assert changes(events)[-1].schema.comment == "ALTER TABLE a DROP COLUMN v"
    assert all(change.schema.columns == known[change.table].columns for change in changes(events))
    assert rows(events) == [(Op.INSERT, {"id": 1, "v": "x"})]


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE a DROP PRIMARY KEY, ADD PRIMARY KEY (id, v)",
        "ALTER TABLE a MODIFY id VARCHAR(9)",
        "ALTER TABLE a ADD COLUMN t INT DEFAULT 007",
        "ALTER TABLE a ADD COLUMN t POINT",
        "ALTER TABLE a CHANGE v w CHAR(9) CHARACTER SET gbk",
    ],
)
def test_what_no_sink_may_follow_blindly(database: Database, start: Position, statement: str) -> None:
    known = schemas(database, "a")
    database.execute(statement)
    assert [change.kind for change in changes(read(database, start, known, **describing(database)))] == [Ddl.OTHER]


@pytest.mark.parametrize(
    "definition",
    ["t TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP", "g INT AS (id + 1) STORED", "d DATE NOT NULL", "x INT AS (3)"],
)
def test_columns_whose_values_the_log_does_not_tell(database: Database, start: Position, definition: str) -> None:
    known = schemas(database, "a")
    database.execute(
        "INSERT INTO a VALUES (1, 'x')", "SET SESSION sql_mode = ''", f"ALTER TABLE a ADD COLUMN {definition}"
    )
    (change,) = changes(read(database, start, known, **describing(database)))
    assert change.kind is Ddl.ALTER
    assert change.unsure == f"{definition[0]} has values that the log does not tell"


def test_a_change_that_was_not_followed_is_noticed_by_the_log_itself(database: Database, start: Position) -> None:
    known = schemas(database, "a")
    database.execute("ALTER TABLE a ADD COLUMN n INT")
    behind = log_end(database)
    database.execute("INSERT INTO a VALUES (1, '', 2)")
    with pytest.raises(Unsupported, match="3 columns in the log, 2 in the schema") as refused:
        read(database, behind, known)
    assert refused.value.table == f"{database.name}.a"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("MODIFY v VARCHAR(20) CHARACTER SET latin1", "character set latin1"),
        ("MODIFY id INT UNSIGNED", "another sign"),
        ("MODIFY id BIGINT", "has type 8"),
        ("MODIFY v VARBINARY(20)", "character set binary"),
        ("CHANGE v w VARCHAR(20)", "is called w"),
    ],
)
def test_a_column_that_differs_is_named(database: Database, start: Position, change: str, fault: str) -> None:
    known = schemas(database, "a")
    database.execute(f"ALTER TABLE a {change}")
    behind = log_end(database)
    database.execute("INSERT INTO a VALUES (1, 'x')")
    with pytest.raises(Unsupported, match=fault):
        read(database, behind, known)


@pytest.mark.parametrize("image", ["MINIMAL", "NOBLOB"])
def test_images_without_all_columns_are_refused(database: Database, image: str) -> None:
    database.execute("CREATE TABLE m (id INT PRIMARY KEY, v VARCHAR(20), t TEXT)")
    start, known = log_end(database), schemas(database, "m")
    database.execute(
        f"SET SESSION binlog_row_image = {image}", "INSERT INTO m VALUES (1, 'x', 'y')", "UPDATE m SET v = 'z'"
    )
    with pytest.raises(Unsupported, match="binlog_row_image = FULL") as refused:
        read(database, start, known)
    assert refused.value.table == f"{database.name}.m"


def test_a_session_in_statement_format_is_refused(database: Database, start: Position) -> None:
    known = schemas(database, "a")
    database.execute("CREATE TABLE other (id INT PRIMARY KEY)")
    database.execute("SET SESSION binlog_format = STATEMENT", "INSERT INTO other VALUES (1)")
    read(database, start, known)
    database.execute("SET SESSION binlog_format = STATEMENT", "INSERT INTO a VALUES (1, 'x')")
    with pytest.raises(Unsupported, match="STATEMENT") as refused:
        read(database, start, known)
    assert refused.value.table == f"{database.name}.a"


def test_xa_rows_are_refused_for_their_table_only(database: Database, start: Position) -> None:
    database.execute("CREATE TABLE other (id INT PRIMARY KEY)")
    known = schemas(database, "a")
    xid = f"'{database.name}'"
    database.execute(
        f"XA START {xid}", "INSERT INTO other VALUES (1)", f"XA END {xid}", f"XA PREPARE {xid}", f"XA COMMIT {xid}"
    )
    database.execute("INSERT INTO a VALUES (1, 'plain')")
    assert rows(read(database, start, known)) == [(Op.INSERT, {"id": 1, "v": "plain"})]
    database.execute(
        f"XA START {xid}", "INSERT INTO a VALUES (2, 'xa')", f"XA END {xid}", f"XA PREPARE {xid}", f"XA COMMIT {xid}"
    )
    with pytest.raises(Unsupported, match="XA") as refused:
        read(database, start, known)
    assert refused.value.table == f"{database.name}.a"


def test_rolled_back_rows_are_refused(database: Database, start: Position) -> None:
    database.execute("CREATE TABLE my (id INT PRIMARY KEY) ENGINE = MyISAM")
    begin, known = log_end(database), schemas(database, "a")
    database.execute("BEGIN", "INSERT INTO a VALUES (1, 'gone')", "ROLLBACK", "INSERT INTO a VALUES (2, 'there')")
    assert rows(read(database, begin, known)) == [(Op.INSERT, {"id": 2, "v": "there"})]


def test_rows_rolled_back_beside_a_table_that_cannot(mariadb_database: Database) -> None:
    database = mariadb_database
    database.execute("CREATE TABLE a (id INT PRIMARY KEY)", "CREATE TABLE my (id INT PRIMARY KEY) ENGINE = MyISAM")
    begin, known = log_end(database), schemas(database, "a", "my")
    database.execute(
        "BEGIN", "INSERT INTO a VALUES (1)", "INSERT INTO my VALUES (1)", "INSERT INTO a VALUES (2)", "ROLLBACK"
    )
    events = read(database, begin, known)
    assert rows(events) == [(Op.INSERT, {"id": 1})]
    assert batches(events)[0].table.name == "my"


def test_savepoints_and_tables_without_transactions(database: Database, start: Position) -> None:
    database.execute("CREATE TABLE my (id INT PRIMARY KEY) ENGINE = MyISAM")
    begin, known = log_end(database), schemas(database, "a", "my")
    database.execute(
        "BEGIN", "INSERT INTO a VALUES (1, 'x')", "SAVEPOINT s", "INSERT INTO a VALUES (2, 'y')", "ROLLBACK TO s"
    )
    database.execute("INSERT INTO my VALUES (1), (2)")
    database.execute("BEGIN", "INSERT INTO a VALUES (3, 'x')", "SAVEPOINT s", "INSERT INTO a VALUES (4, 'y')", "COMMIT")
    events = read(database, begin, known)
    assert [row["id"] for _, row in rows(events, table(database, "my"))] == [1, 2]
    assert [row["id"] for _, row in rows(events, table(database, "a"))] == [3, 4]


@pytest.mark.parametrize("statement", ["TRUNCATE TABLE a", "ALTER TABLE a ADD COLUMN n INT"])
def test_a_temporary_table_of_the_same_name(database: Database, start: Position, statement: str) -> None:
    """Made before the log is read from: a session in STATEMENT writes what it does to it under the real one's name."""
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SET binlog_format = STATEMENT")
        cursor.execute("CREATE TEMPORARY TABLE a (id INT PRIMARY KEY)")
        begin = log_end(database)
        cursor.execute(statement)
    database.execute("INSERT INTO a VALUES (1, 'x')")
    events = read(database, begin, schemas(database, "a"), **describing(database))
    assert [change.kind for change in changes(events)] == [Ddl.OTHER]


@pytest.mark.parametrize("mode", ["STATEMENT", "ROW"])
def test_a_temporary_table_of_another_name(database: Database, start: Position, mode: str) -> None:
    """What its session does to tables of the job is followed."""
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET binlog_format = {mode}")
        cursor.execute("CREATE TEMPORARY TABLE other (id INT PRIMARY KEY)")
        begin, known = log_end(database), schemas(database, "a")
        cursor.execute("SELECT CONNECTION_ID() FROM other")
        cursor.execute("ALTER TABLE a ADD COLUMN n INT")
        cursor.execute("INSERT INTO other VALUES (1)")
        cursor.execute("TRUNCATE TABLE a")
    events = read(database, begin, known, **describing(database))
    assert [change.kind for change in changes(events)] == [Ddl.ALTER, Ddl.TRUNCATE]


def test_a_table_filled_as_it_is_created(database: Database, start: Position) -> None:
    database.execute("INSERT INTO a VALUES (1, 'x'), (2, 'y')")
    try:
        database.execute("CREATE TABLE n (PRIMARY KEY (id)) AS SELECT * FROM a")
    except pymysql.err.OperationalError as error:
        pytest.skip(f"this server refuses CREATE TABLE ... SELECT: {error}")
    try:
        events = read(database, start, {}, lambda t: t == table(database, "n"), **describing(database))
    except FatalError:  # a server that logs the SELECT itself
        return
    assert [change.kind for change in changes(events)] == [Ddl.CREATE]
    assert [row["id"] for _, row in rows(events)] == [1, 2]


def test_minimal_metadata_is_enough(database: Database) -> None:
    database.execute(
        "CREATE TABLE m (id INT UNSIGNED PRIMARY KEY, e ENUM('x','y'), s SET('a','b'), "
        "l VARCHAR(9) CHARACTER SET latin1, b BINARY(3))"
    )
    start, known = log_end(database), schemas(database, "m")
    database.execute("SET GLOBAL binlog_row_metadata = MINIMAL")
    try:
        database.execute("INSERT INTO m VALUES (4294967295, 'y', 'a,b', 'ü', 'x')")
        assert rows(read(database, start, known))[0][1] == {
            "id": 4294967295,
            "e": "y",
            "s": "a,b",
            "l": "ü",
            "b": b"x\0\0",
        }
    finally:
        database.execute("SET GLOBAL binlog_row_metadata = FULL")


def test_a_table_of_the_same_name_in_another_database(database: Database, start: Position) -> None:
    other = f"{database.name}_2"
    database.execute(
        f"CREATE DATABASE {other}", f"CREATE TABLE {other}.a (id INT)", f"INSERT INTO {other}.a VALUES (1)"
    )
    database.execute(f"DROP DATABASE {other}", "INSERT INTO a VALUES (1, '')")
    events = read(
        database, start, schemas(database, "a") | {TableId(other, "b"): schemas(database, "a")[table(database, "a")]}
    )
    assert len(rows(events)) == 1
    assert [change.kind for change in changes(events)] == [Ddl.DROP]


def test_statements_that_move_rows_without_row_events(mariadb_database: Database) -> None:
    """Each is followed, or halts the tables that it touches, and no other."""
    database = mariadb_database
    other = f"{database.name}_2"
    database.execute(
        *(f"CREATE TABLE {name} (id INT PRIMARY KEY, v INT)" for name in ("a", "1t", "ign", "ex", "quiet")),
        "CREATE TABLE par (id INT PRIMARY KEY, v INT) PARTITION BY RANGE (id) "
        "(PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20))",
        f"CREATE DATABASE {other}",
        f"CREATE TABLE {other}.c (id INT PRIMARY KEY)",
        "INSERT INTO a VALUES (1, 1)",
        "INSERT INTO ign VALUES (1, 1), (2, 1), (3, 2)",
        f"INSERT INTO {other}.c VALUES (1)",
    )
    begin, known = log_end(database), schemas(database, "a", "1t", "ign", "ex", "par", "quiet")
    wanted = known.keys() | {table(database, "n"), table(database, "moved_in")}
    database.execute(
        "SET STATEMENT max_statement_time = 60 FOR TRUNCATE TABLE a",
        f"TRUNCATE TABLE {database.name}.1t",
        "SET STATEMENT max_statement_time = 60 FOR ALTER TABLE a ADD COLUMN w INT",
        "INSERT INTO a VALUES (7, 8, 9)",
        "SET STATEMENT max_statement_time = 60 FOR CREATE TABLE n (id INT PRIMARY KEY)",
        "ALTER IGNORE TABLE ign ADD UNIQUE KEY (v)",
        "ALTER TABLE par EXCHANGE PARTITION p0 WITH TABLE ex",
        "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'",
        rf"CREATE TABLE {other}.x (id INT PRIMARY KEY, p VARCHAR(10) DEFAULT 'c:\')",
        r"ALTER TABLE n ADD COLUMN p VARCHAR(10) CHARACTER SET latin1 DEFAULT 'a\b'",
        "SET SESSION sql_mode = 'ANSI_QUOTES'",
        rf'CREATE TABLE {other}.y (id INT PRIMARY KEY, "a\" INT)',
        "ALTER TABLE quiet COMMENT = 'x', ORDER BY v",
        "INSERT INTO quiet VALUES (5, 6)",
    )
    events = read(database, begin, known, wanted.__contains__, **describing(database))
    assert [(change.kind, change.table.name) for change in changes(events)] == [
        (Ddl.TRUNCATE, "a"),
        (Ddl.TRUNCATE, "1t"),
        (Ddl.ALTER, "a"),
        (Ddl.CREATE, "n"),
        (Ddl.OTHER, "ign"),
        (Ddl.OTHER, "par"),
        (Ddl.OTHER, "ex"),
        (Ddl.ALTER, "n"),
        (Ddl.ALTER, "quiet"),
    ]
    assert changes(events)[-2].schema.column("p").default == r"a\b"
    assert [tuple(row.values()) for _, row in rows(events)] == [(7, 8, 9), (5, 6)]

    for statement, halted in (
        (f"RENAME TABLE {other}.c TO moved_in", "moved_in"),
        ("SET STATEMENT binlog_format = 'STATEMENT' FOR INSERT INTO quiet VALUES (6, 7)", "quiet"),
    ):
        begin = log_end(database)
        database.execute(statement)
        with pytest.raises(Unsupported) as refused:
            read(database, begin, schemas(database, "quiet"), wanted.__contains__, **describing(database))
        assert refused.value.table == f"{database.name}.{halted}"
    database.execute(f"DROP DATABASE {other}")


@pytest.mark.parametrize("call", ["DO f()", "SET @x = f()", "SELECT f()"])
def test_a_function_that_changes_rows_may_change_any_table(database: Database, start: Position, call: str) -> None:
    database.execute("SET GLOBAL log_bin_trust_function_creators = ON")
    known = schemas(database, "a")
    database.execute(
        "CREATE FUNCTION f() RETURNS INT BEGIN INSERT INTO a VALUES (8, 'x'); RETURN 1; END",
        "SET SESSION binlog_format = 'STATEMENT'",
        call,
    )
    with pytest.raises(Unsupported, match="STATEMENT") as refused:
        read(database, start, known)
    assert refused.value.table == f"{database.name}.a"


def test_a_server_that_keeps_names_in_lower_case(private_mariadb: PrivateServer) -> None:
    with fresh_database(private_mariadb("--lower-case-table-names=1")) as database:
        database.execute("CREATE TABLE lc (id INT PRIMARY KEY)", "INSERT INTO lc VALUES (1)")
        begin, known = log_end(database), schemas(database, "lc")
        wanted = known.keys() | {table(database, "mixedcase")}
        database.execute(
            "TRUNCATE TABLE LC",
            f"ALTER TABLE {database.name.upper()}.Lc ADD COLUMN n INT",
            "INSERT INTO LC VALUES (2, 3)",
            "CREATE TABLE MixedCase (id INT PRIMARY KEY)",
            "INSERT INTO MIXEDCASE VALUES (4)",
        )
        events = read(database, begin, known, wanted.__contains__, **describing(database))
    assert [(change.kind, change.table.name) for change in changes(events)] == [
        (Ddl.TRUNCATE, "lc"),
        (Ddl.ALTER, "lc"),
        (Ddl.CREATE, "mixedcase"),
    ]
    assert [row for _, row in rows(events)] == [{"id": 2, "n": 3}, {"id": 4}]
