"""Jobs that only load, jobs that only follow, and where the latter begin."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from syncd.state import Phase, State
from tests.e2e.harness import Running, running
from tests.services.database import Database

ON_BOTH = pytest.mark.parametrize(
    ("kind", "sink"),
    [
        pytest.param("mariadb", "versioned", marks=pytest.mark.mariadb),
        pytest.param("mysql9", "arrival", marks=pytest.mark.mysql9),
    ],
)
TABLES = ("a", "b")


@pytest.fixture
def made(kind: str, request: pytest.FixtureRequest) -> Database:
    database: Database = request.getfixturevalue(f"{kind}_database")
    database.execute(
        "CREATE TABLE a (id INT PRIMARY KEY, v VARCHAR(40), d DECIMAL(12,3) NOT NULL)",
        "CREATE TABLE b (x BIGINT, y VARCHAR(9) COLLATE utf8mb4_bin, n INT, PRIMARY KEY (x, y))",
    )
    a = [(n, None if n % 7 == 0 else f"ä{n}", n / 8) for n in range(999)]
    database.many("INSERT INTO a VALUES (%s, %s, %s)", a)
    database.many("INSERT INTO b VALUES (%s, %s, %s)", [(n // 3, f"k{n % 3}", -n) for n in range(600)])
    return database


def rows(database: Database) -> dict[str, Counter[tuple[Any, ...]]]:
    return {table: Counter(database.query(f"SELECT * FROM {table}")) for table in TABLES}


def change(database: Database, first: int) -> None:
    """Changes of every kind, to rows whose numbers begin with `first`; `changed` are those that are there then."""
    database.execute(
        f"UPDATE a SET v = CONCAT(v, '!'), d = d + 1 WHERE id BETWEEN {first} AND {first + 9}",
        f"DELETE FROM a WHERE id = {first + 3}",
        f"INSERT INTO a VALUES ({first + 2000}, 'new', 0.125)",
        f"UPDATE a SET id = id + 3000 WHERE id = {first + 4}",
        f"UPDATE b SET n = 7 WHERE x BETWEEN {first} AND {first + 5}",
        f"DELETE FROM b WHERE x = {first + 1}",
        f"INSERT INTO b VALUES ({first}, 'new', NULL)",
    )


def changed(database: Database, first: int, table: str) -> Counter[tuple[Any, ...]]:
    if table == "a":
        ids = f"id BETWEEN {first} AND {first + 9} OR id IN ({first + 2000}, {first + 3004})"
        return Counter(database.query(f"SELECT * FROM a WHERE {ids}"))
    return Counter(database.query(f"SELECT * FROM b WHERE x BETWEEN {first} AND {first + 5}"))


def copies(run: Running) -> dict[str, Counter[tuple[Any, ...]]]:
    return {table: run.copied(table) for table in TABLES}


def marks(run: Running) -> dict[str, Any]:
    """When each chunk was written."""
    assert run.queue is not None
    state = State(run.queue, "chaos")
    return {str(record.table): state.done(record.sink, record.table) for record in state.tables()}


@pytest.mark.parametrize(
    ("kind", "sink"),
    [
        pytest.param("mariadb", "clickhouse", marks=pytest.mark.mariadb),
        pytest.param("mysql9", "arrival", marks=pytest.mark.mysql9),
    ],
)
def test_a_snapshot_ends_when_all_is_loaded(kind: str, sink: str, made: Database, tmp_path: Path) -> None:
    """Exit code 0, every value there; also after a death at the last step; a later start does nothing more."""
    run = Running(tmp_path, made.port, made.name, sink, chunk_bytes=20_000, extra="mode: snapshot\n")
    run.die_at({"snapshot.all_marked": 2})
    try:
        run.start()
        assert run.ended() == -9, run.tail()
        before = marks(run)
        assert all(before.values())
        run.start()
        assert run.ended() == 0, run.tail()
        assert marks(run) == before
        assert [*run.phases().values()] == [Phase.DONE, Phase.DONE]
        loaded = rows(made)
        assert copies(run) == loaded
        run.assert_equal()
        made.execute("UPDATE a SET v = 'later'", "DELETE FROM b WHERE x = 3")
        run.start()
        assert run.ended() == 0, run.tail()
        assert copies(run) == loaded
        assert not any(event["worker"] == "capture" for event in run.events("worker_started"))
    finally:
        run.close()


@ON_BOTH
def test_changes_alone(kind: str, sink: str, made: Database, tmp_path: Path) -> None:
    """Without `start`, what is committed once the job has begun; the rows before it are not loaded."""
    with running(tmp_path, made.port, made.name, sink, extra="mode: cdc\n") as run:
        run.wait_live(len(TABLES))
        change(made, 0)
        run.wait_applied()
        assert run.terminate() == 0
        assert not any("reader" in event["worker"] for event in run.events("worker_started"))
        assert copies(run) == {table: changed(made, 0, table) for table in TABLES}


PLACES = {
    ("mariadb", "position"): "SHOW MASTER STATUS",
    ("mariadb", "gtid"): "SELECT @@GLOBAL.gtid_binlog_pos",
    ("mysql9", "position"): "SHOW BINARY LOG STATUS",
    ("mysql9", "gtid"): "SELECT @@GLOBAL.gtid_executed",
}


def place(database: Database, kind: str, way: str) -> str:
    """Where the log ends now, as a person would write it."""
    (found,) = database.query(PLACES[kind, way])
    return f"{found[0]}:{found[1]}" if way == "position" else str(found[0]).replace("\n", "")


@ON_BOTH
def test_start_at_a_position(kind: str, sink: str, made: Database, tmp_path: Path) -> None:
    """What lies behind it and nothing before; a killed daemon goes on from what it has saved, not from `start`."""
    change(made, 0)
    extra = f"mode: cdc\nstart: {{position: '{place(made, kind, 'position')}'}}\n"
    change(made, 100)
    with running(tmp_path, made.port, made.name, sink, extra=extra) as run:
        run.wait_live(len(TABLES))
        run.wait_applied()
        run.kill()
        made.execute("FLUSH BINARY LOGS")
        change(made, 200)
        run.start()
        run.wait_applied()
        assert run.terminate() == 0
        assert copies(run) == {table: changed(made, 100, table) + changed(made, 200, table) for table in TABLES}


@ON_BOTH
def test_start_at_a_gtid_set(kind: str, sink: str, made: Database, tmp_path: Path) -> None:
    """All of the server's: nothing is there to copy, and that is known, although no transaction says where it is."""
    change(made, 0)
    extra = f"mode: cdc\nstart: {{gtid: '{place(made, kind, 'gtid')}'}}\n"
    with running(tmp_path, made.port, made.name, sink, extra=extra) as run:
        run.wait_live(len(TABLES))
        run.wait_applied(120)
        change(made, 100)
        run.wait_applied(120)
        assert run.terminate() == 0
        assert copies(run) == {table: changed(made, 100, table) for table in TABLES}


@pytest.mark.mariadb
@pytest.mark.parametrize("kind", ["mariadb"])
def test_a_start_that_is_no_place(kind: str, made: Database, tmp_path: Path) -> None:
    extra = "mode: cdc\nstart: {position: 'nonsense'}\n"
    with running(tmp_path, made.port, made.name, "arrival", extra=extra) as run:
        assert run.ended() == 4, run.tail()
        assert "'nonsense' is no place in the log of mariadb:" in run.tail(1)
        assert "write binlog.000012:4711, or a GTID set of this server" in run.tail(1)
        run.path.write_text(run.path.read_text().replace("nonsense", "binlog.009999:4"))
        run.start()
        assert run.ended() == 4, run.tail()
        assert "binlog.009999:4 is no place in the log of mariadb:" in run.tail(1)
        assert "Could not find" in run.tail(1)
        assert "Traceback" not in run.log.read_text()
