"""Tables that change their names, and the swaps of online-schema-change tools, on real servers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from syncd.errors import Unsupported
from syncd.model import Checkpoint, Ddl, Position, TableId
from syncd.sources.mysql import MySQLSource
from tests.integration.log_tools import changes, here, log_end, rows, table
from tests.integration.mysql_tools import found, opened, schema_of
from tests.services.database import Database

OLD = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), w INT NOT NULL DEFAULT 4)"
GHOST = [
    """CREATE TABLE _t_ghc (id BIGINT AUTO_INCREMENT PRIMARY KEY, last_update TIMESTAMP NULL, hint VARCHAR(64),
    value VARCHAR(4096), UNIQUE KEY hint_uidx (hint))""",
    "create /* gh-ost */ table `_t_gho` like `t`",
    "alter /* gh-ost */ table `_t_gho` ADD n INT NOT NULL DEFAULT 7 AFTER id, MODIFY v VARCHAR(50)",
    "INSERT INTO _t_ghc (hint, value) VALUES ('state', 'on')",
    "insert /* gh-ost `t` */ ignore into `_t_gho` (id, v, w) select id, v, w from t",
    "INSERT INTO t VALUES (2, 'both', 5)",
    "replace /* gh-ost */ into `_t_gho` (id, v, w) values (2, 'both', 5)",
]
CUT_OVER = {
    "atomic": [
        "create table `_t_del` (id int primary key)",
        "DROP TABLE `_t_del`",
        "rename /* gh-ost */ table `t` to `_t_del`, `_t_gho` to `t`",
    ],
    "two-step": ["alter /* gh-ost */ table `t` rename `_t_del`", "alter /* gh-ost */ table `_t_gho` rename `t`"],
}
PERCONA = [
    """CREATE TABLE `_t_new` (`id` int NOT NULL, `v` varchar(20) DEFAULT NULL, `w` int NOT NULL DEFAULT '4',
    PRIMARY KEY (`id`)) DEFAULT CHARSET=utf8mb4""",
    "ALTER TABLE `_t_new` ADD n INT NOT NULL DEFAULT 7 AFTER id, MODIFY v VARCHAR(50)",
]
TRIGGERS = [
    "CREATE TRIGGER `pt_osc_del` AFTER DELETE ON `t` FOR EACH ROW DELETE IGNORE FROM `_t_new` WHERE id <=> OLD.id",
    """CREATE TRIGGER `pt_osc_upd` AFTER UPDATE ON `t` FOR EACH ROW
    REPLACE INTO `_t_new` (id, v, w) VALUES (NEW.id, NEW.v, NEW.w)""",
    """CREATE TRIGGER `pt_osc_ins` AFTER INSERT ON `t` FOR EACH ROW
    REPLACE INTO `_t_new` (id, v, w) VALUES (NEW.id, NEW.v, NEW.w)""",
]
PERCONA_RUNS = ["INSERT IGNORE INTO `_t_new` (id, v, w) SELECT id, v, w FROM t", "INSERT INTO t VALUES (2, 'both', 5)"]
PERCONA_ENDS = ["RENAME TABLE `t` TO `_t_old`, `_t_new` TO `t`", "DROP TABLE IF EXISTS `_t_old`"]


def everything(database: Database) -> Callable[[TableId], bool]:
    """A job that takes all tables of the database."""
    return lambda of: of.database == database.name


def read(source: MySQLSource, database: Database, start: Position, *known: str) -> list[Any]:
    """What the source gives out, from `start` to the end of the log."""
    end = log_end(database)
    schemas = {table(database, name): schema_of(source, database, name) for name in known}
    return given(source, database, start, schemas, end)


def given(source: MySQLSource, database: Database, start: Position, schemas: Any, end: Position) -> list[Any]:
    events = []
    with closing(source.stream(start, 1, schemas, everything(database), lambda of: ())) as stream:  # type: ignore[type-var]
        for event in stream:
            events.append(event)
            if isinstance(event, Checkpoint) and here(event.position) >= here(end):
                break
    return events


@pytest.mark.parametrize("way", CUT_OVER)
def test_gh_ost_changes_a_table_once(database: Database, tmp_path: Path, way: str) -> None:
    database.execute(OLD, "INSERT INTO t VALUES (1, 'a', 4)")
    with opened(database, tmp_path) as source:
        known, start = {table(database, "t"): schema_of(source, database)}, log_end(database)
        database.execute(*GHOST, *CUT_OVER[way], "INSERT INTO t VALUES (3, 8, 'new', 6)", "DROP TABLE _t_ghc, _t_del")
        events = given(source, database, start, known, log_end(database))
        now = schema_of(source, database)
    (change,) = changes(events)
    assert (change.kind, change.before, change.unsure) == (Ddl.ALTER, known[now.table], "")
    assert replace(change.schema, version=0) == replace(now, version=0)
    assert [row for _, row in rows(events)] == [
        {"id": 2, "v": "both", "w": 5},
        {"id": 3, "n": 8, "v": "new", "w": 6},
    ]


def test_pt_online_schema_change_changes_a_table_once(database: Database, tmp_path: Path) -> None:
    database.execute("SET GLOBAL log_bin_trust_function_creators = ON", OLD, "INSERT INTO t VALUES (1, 'a', 4)")
    with opened(database, tmp_path) as source:
        known, start = {table(database, "t"): schema_of(source, database)}, log_end(database)
        database.execute(*PERCONA, *TRIGGERS, *PERCONA_RUNS)
        middle, begun = log_end(database), {table(database, "t"): schema_of(source, database)}
        database.execute("UPDATE t SET w = 9 WHERE id = 2")
        # started again in the middle: the shadow and the triggers are asked for
        with closing(source.stream(middle, 1, begun, everything(database), lambda of: ())) as again:  # type: ignore[type-var]
            events: list[Any] = []
            while not rows(events) or not isinstance(events[-1], Checkpoint):
                events.append(next(again))
            database.execute(*PERCONA_ENDS, "INSERT INTO t VALUES (3, 8, 'new', 6)")
            end = log_end(database)
            while not isinstance(events[-1], Checkpoint) or here(events[-1].position) < here(end):
                events.append(next(again))
        (change,) = changes(events)
        # a default that the server says is not the value as rows hold it
        assert (change.kind, change.unsure) == (Ddl.ALTER, "n has values that the log does not tell")
        events = given(source, database, start, known, end)
        now = schema_of(source, database)
    (change,) = changes(events)
    assert (change.kind, change.before, change.unsure) == (Ddl.ALTER, known[now.table], "")
    assert replace(change.schema, version=0) == replace(now, version=0)
    assert [row["id"] for _, row in rows(events)] == [2, 2, 3]


@pytest.mark.parametrize(
    ("alter", "unsure"),
    [
        ("CHANGE v x VARCHAR(20)", "may be its new name"),
        ("DROP v, ADD x INT", "may be its new name"),
        ("ADD UNIQUE (v)", "leaves out rows"),
        ("ADD u DATETIME DEFAULT CURRENT_TIMESTAMP", "u has values"),
        ("DROP v, ADD v VARCHAR(20)", "another column"),
    ],
)
def test_a_swap_whose_rows_are_not_known_says_so(
    mysql9_database: Database, tmp_path: Path, alter: str, unsure: str
) -> None:
    database = mysql9_database
    database.execute(OLD)
    with opened(database, tmp_path) as source:
        known, start = {table(database, "t"): schema_of(source, database)}, log_end(database)
        database.execute(GHOST[1], f"ALTER TABLE _t_gho {alter}", CUT_OVER["atomic"][-1])
        (change,) = changes(given(source, database, start, known, log_end(database)))
        assert replace(change.schema, version=0) == replace(schema_of(source, database), version=0)
    assert change.kind is Ddl.ALTER
    assert unsure in change.unsure


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (["CREATE TABLE _t_new LIKE t"], Ddl.ALTER),
        (["CREATE TABLE _t_new LIKE t", "ALTER TABLE _t_new DROP PRIMARY KEY, ADD PRIMARY KEY (id, w)"], Ddl.OTHER),
        (["CREATE TABLE _t_new LIKE t", "DROP TABLE _t_new", "CREATE TABLE _t_new AS SELECT 1 id"], Ddl.OTHER),
    ],
)
def test_a_table_that_no_tool_kept_in_step_is_not_trusted(
    mariadb_database: Database, tmp_path: Path, made: list[str], kind: Ddl
) -> None:
    database = mariadb_database
    database.execute(OLD)
    with opened(database, tmp_path) as source:
        known, start = {table(database, "t"): schema_of(source, database)}, log_end(database)
        database.execute(*made, "RENAME TABLE t TO _t_old, _t_new TO t")
        (change,) = changes(given(source, database, start, known, log_end(database)))
    assert (change.kind, change.table.name) == (kind, "t")
    assert "kept in step" in change.unsure or kind is Ddl.OTHER


def test_tables_of_the_job_change_their_names_and_places(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE a (id INT PRIMARY KEY, x INT)", "CREATE TABLE b (id INT PRIMARY KEY, y TEXT)")
    other = f"{database.name}_2"
    with opened(database, tmp_path) as source:
        schemas = {table(database, name): schema_of(source, database, name) for name in "ab"}
        start = log_end(database)
        database.execute(
            f"CREATE DATABASE {other}",
            "RENAME TABLE a TO tmp, b TO a, tmp TO b",
            "INSERT INTO a VALUES (1, 'was b')",
            "INSERT INTO b VALUES (1, 5)",
            "ALTER TABLE a ADD z INT DEFAULT 3, RENAME TO c",
            "INSERT INTO c VALUES (2, 'too', 4)",
            f"RENAME TABLE b TO {other}.gone",
            "CREATE TABLE d LIKE c",
            "INSERT INTO d VALUES (7, 'like', 8)",
            "CREATE TABLE IF NOT EXISTS d (other INT)",
            "TRUNCATE TABLE d",
            "DROP TABLE d",
            f"DROP DATABASE {other}",
        )
        events = given(source, database, start, schemas, log_end(database))
        now = schema_of(source, database, "c")
    told = [(change.kind, change.table.name, change.to.name if change.to else "") for change in changes(events)]
    assert sorted(told[:2]) == [(Ddl.RENAME, "a", "b"), (Ddl.RENAME, "b", "a")]
    assert told[2:] == [
        (Ddl.ALTER, "a", ""),
        (Ddl.RENAME, "a", "c"),
        (Ddl.RENAME, "b", "gone"),
        (Ddl.CREATE, "d", ""),
        (Ddl.TRUNCATE, "d", ""),
        (Ddl.DROP, "d", ""),
    ]
    # each table's rows are in order; between tables nothing is promised
    assert {tuple(row.values()) for _, row in rows(events)} == {(1, "was b"), (1, 5), (2, "too", 4), (7, "like", 8)}
    made = next(change.schema for change in changes(events) if change.kind is Ddl.CREATE)
    assert replace(made, version=0) == replace(now, version=0, table=made.table)


def test_a_new_database_s_tables_come_as_created(database: Database, tmp_path: Path) -> None:
    other = f"{database.name}_3"
    start = log_end(database)
    database.execute(f"CREATE DATABASE {other}", f"CREATE TABLE {other}.n (id INT PRIMARY KEY, v TEXT)")
    try:
        database.execute(f"CREATE TABLE {other}.m LIKE {other}.n", f"INSERT INTO {other}.m VALUES (1, 'x')")
        with opened(database, tmp_path) as source:
            end, events = log_end(database), []
            with closing(source.stream(start, 1, {}, lambda of: of.database == other, lambda of: ())) as stream:  # type: ignore[type-var]
                for event in stream:
                    events.append(event)
                    if isinstance(event, Checkpoint) and here(event.position) >= here(end):
                        break
    finally:
        database.execute(f"DROP DATABASE {other}")
    assert [(change.kind, change.table.name) for change in changes(events)] == [(Ddl.CREATE, "n"), (Ddl.CREATE, "m")]
    assert [row for _, row in rows(events)] == [{"id": 1, "v": "x"}]


def test_the_tables_of_tools_are_left_out(mariadb_database: Database, tmp_path: Path) -> None:
    database = mariadb_database
    database.execute(OLD, "CREATE TABLE _t_gho LIKE t", "CREATE TABLE _x_new (id INT PRIMARY KEY)")
    with opened(database, tmp_path) as source:
        aside = {each.schema.table.name: each.aside for each in source.tables(everything(database))}
        assert aside == {"t": False, "_t_gho": True, "_x_new": False}
    with opened(database, tmp_path, shadow_tables=[]) as source:
        assert not found(source, database, "_t_gho").aside


def test_the_tables_of_tools_are_left_out_while_their_table_is_not_wanted(
    mariadb_database: Database, tmp_path: Path
) -> None:
    """It is halted, or is loaded anew and still to join."""
    database = mariadb_database
    database.execute(OLD)
    with opened(database, tmp_path) as source:
        schemas, start = {table(database, "t"): schema_of(source, database)}, log_end(database)
        database.execute(
            *GHOST, *CUT_OVER["atomic"], "DROP TABLE _t_ghc, _t_del", "CREATE TABLE x (id INT PRIMARY KEY)"
        )
        end, told = log_end(database), []
        wanted = everything(database)
        with closing(
            source.stream(start, 1, schemas, lambda of: wanted(of) and of.name != "t", lambda of: ())  # type: ignore[type-var]
        ) as stream:
            for event in stream:
                told.append(event)
                if isinstance(event, Checkpoint) and here(event.position) >= here(end):
                    break
    assert [(change.kind, change.table.name) for change in changes(told)] == [(Ddl.CREATE, "x")]
    assert rows(told) == []


def test_rows_that_were_not_in_the_stream_are_refused(mariadb_database: Database, tmp_path: Path) -> None:
    database = mariadb_database
    database.execute("CREATE DATABASE IF NOT EXISTS elsewhere", "CREATE TABLE elsewhere.e (id INT PRIMARY KEY)")
    start = log_end(database)
    database.execute("RENAME TABLE elsewhere.e TO came", "DROP DATABASE elsewhere")
    with opened(database, tmp_path) as source, pytest.raises(Unsupported, match="with its rows"):
        read(source, database, start)
