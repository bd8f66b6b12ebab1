"""Tables without a key, `keyless: append`: every row exactly once, whatever is written meanwhile and whoever dies."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from syncd import control
from syncd.errors import FatalError
from syncd.sinks.clickhouse import ClickHouseSink
from syncd.state import DELIVERED, Phase, State
from tests.e2e.harness import Running, running
from tests.services.database import Database

# Each kills the process that comes by; not all at once: five deaths of one process in a row are a crash loop.
LOADS = {
    "snapshot.attempt_saved": 1,
    "snapshot.attempt_begun": 1,
    "snapshot.chunk_part": 1,
}
CHANGES = {"deliver.intended": 2}

ROWS = 125_000
"""More than two writes."""


class Inserts:
    """Writers that leave no gap: each has a transaction open nearly all the time; many rows are alike."""

    def __init__(self, database: Database, writers: int = 3) -> None:
        self._database = database
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(writers)]

    def create(self, rows: int) -> None:
        self._database.execute(
            "CREATE TABLE visits (who INT NOT NULL, n INT NOT NULL, note VARCHAR(40) NULL, price DECIMAL(10,2) NULL)",
            "CREATE TABLE items (id INT NOT NULL PRIMARY KEY, n INT NOT NULL)",
        )
        self._database.many("INSERT INTO items VALUES (%s, 0)", [(i,) for i in range(50)])
        self._database.many("INSERT INTO visits VALUES (%s, %s, 'ü', 1.50)", [(i % 5, i) for i in range(1000)])
        count = 1000
        while count < rows:
            self._database.execute("INSERT INTO visits SELECT * FROM visits")
            count *= 2

    def _run(self, number: int) -> None:
        rng = random.Random(number)
        try:
            with closing(self._database.connect(autocommit=False)) as connection, connection.cursor() as cursor:
                while not self._stop.is_set():
                    for _ in range(rng.randint(1, 4)):
                        values = (number, rng.randrange(5), rng.choice((None, "", "ä")), rng.choice((None, 0.25)))
                        cursor.execute("INSERT INTO visits (who, n, note, price) VALUES (%s, %s, %s, %s)", values)
                        time.sleep(rng.choice((0, 0.01)))
                    cursor.execute("UPDATE items SET n = n + 1 WHERE id = %s", (rng.randrange(50),))
                    connection.rollback() if rng.random() < 0.1 else connection.commit()
        except BaseException as error:  # noqa: BLE001 - raised again in `stop`
            self._errors.append(error)

    def __enter__(self) -> Inserts:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """An error of a writer is raised here."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]


@contextmanager
def late_transaction(database: Database) -> Iterator[Callable[[], None]]:
    """One that has inserted before the load begins; gives what to call when it is under way: it commits then."""
    connection = database.connect(autocommit=False)
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("INSERT INTO visits (who, n, note) VALUES (77, 1, 'late'), (77, 1, 'late')")

        def commit() -> None:
            cursor.execute("INSERT INTO visits (who, n, note) VALUES (77, 2, 'later')")
            connection.commit()

        yield commit


def emptied(run: Running, table: str) -> None:
    """By hand, in a way that leaves the server the memory of what was inserted."""
    sink = run.parts.make_sink("copy")
    assert isinstance(sink, ClickHouseSink)
    sink.open()
    try:
        sql = f"ALTER TABLE {run.database}.{table} DELETE WHERE 1 SETTINGS mutations_sync = 2"
        sink._client.command(sql, doing="emptying")
    finally:
        sink.close()


def there(database: Database, table: str = "visits") -> Counter[tuple[Any, ...]]:
    return Counter(database.query(f"SELECT * FROM {table}"))


def assert_copied(run: Running, database: Database, tables: Iterable[str] = ("visits", "items")) -> None:
    """The sink has each row as often as a plain SELECT at the source; the daemon is down."""
    for table in tables:
        wrong = run.copied(table) - there(database, table), there(database, table) - run.copied(table)
        assert not any(wrong), f"{table}: too many {wrong[0].most_common(5)}, missing {wrong[1].most_common(5)}"


def phase(run: Running, table: str = "visits") -> Phase | None:
    return next((p for name, p in run.phases().items() if name.endswith(f".{table}")), None)


def held(run: Running) -> bool:
    """The load cannot begin before another transaction has ended, and says so."""
    jobs = control.status(run.service) if run.queue is not None else []
    return any("visits" in wait.reason for job in jobs for wait in job.waits.values())


def last_attempt(run: Running) -> bool:
    """The read that no death interrupts has begun: two of those before it have died, each raised the epoch."""
    records = State(run.queue, run.job.name).tables() if run.queue is not None else []
    return any(record.table.name == "visits" and record.epoch > 3 for record in records)


@pytest.mark.parametrize(
    ("kind", "sink"),
    [
        pytest.param("mariadb", "clickhouse", marks=pytest.mark.mariadb),
        pytest.param("mysql9", "arrival", marks=[pytest.mark.mysql9, pytest.mark.nightly]),
    ],
)
def test_every_row_once(kind: str, sink: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Writers all the time, a transaction that is open over the hand-over, deaths at each step of the load."""
    database: Database = request.getfixturevalue(f"{kind}_database")
    inserts = Inserts(database)
    inserts.create(ROWS)
    with inserts, late_transaction(database) as commit, running(
        tmp_path, database.port, database.name, sink, rule="keyless: append"
    ) as run:  # fmt: skip
        other = "snapshot.attempt_begun" if sink == "arrival" else "snapshot.attempt_saved"
        # the third death of a reader would be the table's fault
        run.die_at({name: times for name, times in LOADS.items() if name != other})
        run.wait_for(lambda: held(run) or last_attempt(run))
        commit()
        run.wait_for(lambda: phase(run) in DELIVERED)
        deaths = {"deliver.written": 2, "deliver.committed": 3, "capture.published": 3}
        run.die_at(deaths if sink == "arrival" else CHANGES | deaths)  # marks need no intent
        run.wait_for(lambda: not run.deaths_to_come())
        database.execute("ALTER TABLE visits ADD COLUMN added INT NOT NULL DEFAULT 42")
        inserts.stop()
        run.wait_live(2)
        run.wait_applied()
        assert [result.right for result in run.reconcile()] == [True, True]
        assert run.terminate() == 0
        assert there(database)[77, 1, "late", None, 42] == 2
        assert_copied(run, database)


@pytest.mark.nightly
@pytest.mark.mysql9
def test_a_table_that_is_held_keeps_no_other_waiting(mysql9_database: Database, tmp_path: Path) -> None:
    """MySQL: a transaction on the table holds off its lock; who it is shows, and its end lets the load begin."""
    inserts = Inserts(mysql9_database, writers=0)
    inserts.create(1000)
    with closing(mysql9_database.connect(autocommit=False)) as holder, holder.cursor() as cursor:
        cursor.execute("INSERT INTO visits (who, n) VALUES (1, 1)")
        options = {"rule": "keyless: append", "readers": 1}
        with running(tmp_path, mysql9_database.port, mysql9_database.name, "arrival", **options) as run:
            run.wait_for(lambda: phase(run, "items") is Phase.LIVE, 60)
            run.wait_for(lambda: held(run), 120)
            assert phase(run) is Phase.SNAPSHOT
            holder.commit()
            run.wait_live(2)
            run.wait_for(lambda: not control.status(run.service)[0].waits, 120)
            run.wait_applied()
            assert run.terminate() == 0
            assert_copied(run, mysql9_database)


@pytest.mark.mariadb
@pytest.mark.parametrize("statement", ["UPDATE visits SET n = 9 WHERE n = 3 LIMIT 1", "DELETE FROM visits LIMIT 1"])
def test_an_update_or_delete_halts_that_table_alone(mariadb_database: Database, tmp_path: Path, statement: str) -> None:
    inserts = Inserts(mariadb_database, writers=0)
    inserts.create(1000)
    with running(tmp_path, mariadb_database.port, mariadb_database.name, "clickhouse", rule="keyless: append") as run:
        run.wait_live(2)
        mariadb_database.execute("INSERT INTO visits (who, n) VALUES (1, 1)")
        run.wait_applied()
        before = there(mariadb_database)
        mariadb_database.execute(statement, "UPDATE items SET n = 5")
        run.wait_for(lambda: phase(run) is Phase.HALTED, 120)
        (halted,) = [r for r in control.status(run.service)[0].tables if r.record.table.name == "visits"]
        assert statement.split()[0] in halted.record.reason
        assert "[E191]" in halted.record.reason
        run.wait_for(lambda: control.reconcile(run.service, run.job, [f"{mariadb_database.name}.items"])[0].right, 60)
        assert phase(run, "items") is Phase.LIVE
        run.terminate()
        assert run.copied("visits") == before


@pytest.mark.mariadb
@pytest.mark.parametrize("sink", ["arrival", "parquet"])
def test_truncate_and_xa(mariadb_database: Database, tmp_path: Path, sink: str) -> None:
    """A TRUNCATE is followed. Rows of an XA transaction halt the table by name, as they do every other."""
    inserts = Inserts(mariadb_database, writers=0)
    inserts.create(1000)
    with running(tmp_path, mariadb_database.port, mariadb_database.name, sink, rule="keyless: append") as run:
        run.wait_live(2)
        mariadb_database.execute(
            "INSERT INTO visits (who, n) VALUES (1, 1)", "TRUNCATE visits", "INSERT INTO visits (who, n) VALUES (2, 2)"
        )
        run.wait_applied()
        assert [result.right for result in run.reconcile()] == [True, True]
        mariadb_database.execute(
            *("XA START 'v'", "INSERT INTO visits (who, n) VALUES (3, 3)", "XA END 'v'", "XA PREPARE 'v'"),
            "XA COMMIT 'v'",
        )
        run.wait_for(run.halted, 120)
        assert "XA" in run.halted()[f"{mariadb_database.name}.visits"]
        run.terminate()
        assert run.copied("visits") == {(2, 2, None, None): 1}


@pytest.mark.mariadb
def test_reconcile_sees_a_row_too_many_and_one_too_few(mariadb_database: Database, tmp_path: Path) -> None:
    inserts = Inserts(mariadb_database, writers=0)
    inserts.create(1000)
    with running(tmp_path, mariadb_database.port, mariadb_database.name, "arrival", rule="keyless: append") as run:
        run.wait_live(2)
        run.wait_applied()
        with closing(sqlite3.connect(tmp_path / "sink.db")) as db:
            one, other = db.execute("SELECT key, data FROM rows WHERE name LIKE '%visits' LIMIT 2").fetchall()
            db.execute("UPDATE rows SET data = ? WHERE key = ?", (other[1], one[0]))
            db.commit()
        (result,) = control.reconcile(run.service, run.job, [f"{mariadb_database.name}.visits"])
        assert (result.missing, result.extra, result.different, result.rows) == (1, 1, 0, 1000)
        with pytest.raises(FatalError, match="no key"):
            control.trace(run.service, run.job, str(result.table), "1")


@pytest.mark.nightly
@pytest.mark.mariadb
def test_a_target_that_is_not_empty_is_left_alone(mariadb_database: Database, tmp_path: Path) -> None:
    """Loaded a second time on top of the first, every row would be there twice, or those that are deleted at the source
    would stay. Emptied by hand, it takes them all."""
    inserts = Inserts(mariadb_database, writers=0)
    inserts.create(1000)
    options = {"sink": "clickhouse", "rule": "keyless: append"}
    with running(tmp_path, mariadb_database.port, mariadb_database.name, **options) as run:
        run.wait_live(2)
        assert run.terminate() == 0
        control.forget(run.service, "chaos")
        run.start()
        run.wait_for(lambda: phase(run) is Phase.HALTED, 60)
        run.wait_for(lambda: {*run.phases().values()} == {Phase.HALTED}, 60)
        assert all("[E192]" in row.record.reason for row in control.status(run.service)[0].tables)
        assert run.terminate() == 4
        emptied(run, "visits")
        emptied(run, "items")
        control.forget(run.service, "chaos")
        run.start()
        run.wait_live(2)
        assert run.terminate() == 0
        assert_copied(run, mariadb_database)
