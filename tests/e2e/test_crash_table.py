"""SIGKILL at every line of the crash table, under write load, with a sink that applies in arrival order and a versioned
one: afterwards every value at both ends is the same."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest

from syncd import control, failpoints
from syncd.engine import capture, snapshot
from syncd.state import Phase
from tests.e2e.harness import Running, order, running
from tests.e2e.test_append import CHANGES, LOADS, assert_copied
from tests.e2e.test_put_back import DEATHS
from tests.e2e.workload import TABLES, Workload
from tests.services.database import Database

# Not all at once: five deaths of one process in a row are a crash loop.
GROUPS = {
    "load": {
        "snapshot.head_taken": 1,
        "snapshot.head_saved": 1,
        "snapshot.prepared": 1,
        "snapshot.border_found": 2,
        "snapshot.chunk_saved": 2,
        "snapshot.chunk_written": 2,
        "snapshot.chunk_marked": 1,
        "snapshot.all_marked": 1,
        "snapshot.handed_over": 2,
    },
    "changes": {
        "capture.transformed": 5,
        "capture.published": 10,
        "deliver.merged": 2,
        "deliver.written": 3,
        "deliver.committed": 4,
    },
    "barrier": {
        "barrier.reached": 1,
        "barrier.acted": 1,
        "barrier.passed": 1,
    },
}

# Reached only by a transaction of more than 16 MB, a chunk of more than one write, a refused row, a table that halts, a
# full queue, another server, a REFRESH, a table without a key, a target that was put back: each has a test of its own.
ELSEWHERE = {"capture.part_published", "capture.halt_saved", "capture.share_given_up", "capture.epoch_raised"}
ELSEWHERE |= {"deliver.refused", "refresh.read"}
# Another job file: test_change.py.
ELSEWHERE |= {"change.saved", "change.cleared", "snapshot.added", "capture.joined"}
# One table loaded anew: test_resync.py.
ELSEWHERE |= {"deliver.swapped", "change.forgotten"}
# A lost position, and what differs since: test_lost_position.py.
ELSEWHERE |= {"snapshot.relocated", "repair.asked", "repair.compared"}
ELSEWHERE |= {*LOADS, *CHANGES, *DEATHS}

LARGE = 1 << 18


def test_every_failpoint_is_fired_somewhere() -> None:
    assert {name for group in GROUPS.values() for name in group} | ELSEWHERE == set(failpoints.ALL)


@pytest.mark.mariadb
@pytest.mark.parametrize(
    ("group", "sink"),
    [("barrier", "arrival"), ("changes", "arrival"), ("load", "versioned")],
)
def test_nothing_is_lost_or_doubled(mariadb_database: Database, tmp_path: Path, group: str, sink: str) -> None:
    workload = Workload(mariadb_database, seed=11, pause=0.03)  # a table that never stands still is not LIVE
    workload.create(rows=2000)
    with running(tmp_path, mariadb_database.port, mariadb_database.name, sink, chunk_bytes=20_000) as run:
        run.die_at(GROUPS[group])
        workload.start()
        try:
            run.wait_live(len(TABLES))
            if group == "barrier":
                mariadb_database.execute("ALTER TABLE items ADD COLUMN added INT NOT NULL DEFAULT 42")
                mariadb_database.execute("TRUNCATE TABLE pairs")
            run.wait_for(lambda: not run.deaths_to_come())
        finally:
            workload.stop()
        run.wait_live(len(TABLES))
        run.wait_applied()
        assert run.terminate() == 0
        run.assert_equal()
        assert_copied(run, mariadb_database, TABLES)


@pytest.mark.mariadb
@pytest.mark.parametrize("sink", ["arrival", "versioned"])
def test_a_transaction_that_was_published_in_part(mariadb_database: Database, tmp_path: Path, sink: str) -> None:
    """Its rows come again, at new offsets, behind those of the first time."""
    workload, rng = Workload(mariadb_database, seed=12), random.Random(12)
    workload.create(rows=300)
    mariadb_database.execute("CREATE TABLE large (id INT PRIMARY KEY, n INT NOT NULL, body MEDIUMBLOB NULL)")
    with running(tmp_path, mariadb_database.port, mariadb_database.name, sink) as run:
        run.wait_live(len(TABLES) + 1)
        run.die_at({"capture.part_published": 1})
        with closing(mariadb_database.connect(autocommit=False)) as connection, connection.cursor() as cursor:
            for number in range(2 * capture.PUBLISH_BYTES // LARGE):
                workload.transaction(cursor)
                values = (number % 20, number, rng.randbytes(LARGE))  # nothing that could be compressed
                cursor.execute("REPLACE INTO large VALUES (%s, %s, _binary %s)", values)
                cursor.execute("UPDATE IGNORE large SET id = id + 100 WHERE id = %s", (rng.randrange(20),))
            connection.commit()
        run.wait_for(lambda: not run.deaths_to_come())
        run.wait_applied()
        assert run.terminate() == 0
        run.assert_equal()
        assert_copied(run, mariadb_database, (*TABLES, "large"))


@pytest.mark.mariadb
@pytest.mark.parametrize("sink", ["arrival"])
def test_a_chunk_that_was_written_in_part(mariadb_database: Database, tmp_path: Path, sink: str) -> None:
    """Its rows are written again, over what the source has changed and deleted meanwhile."""
    rows = snapshot.WRITE_ROWS + 10_000
    Workload(mariadb_database, seed=13).create(rows=300)
    mariadb_database.execute("CREATE TABLE many (id INT PRIMARY KEY, n INT NOT NULL)")
    mariadb_database.many("INSERT INTO many VALUES (%s, %s)", [(i, i) for i in range(rows)])
    run = Running(tmp_path, mariadb_database.port, mariadb_database.name, sink, chunk_bytes=1 << 26)
    run.die_at({"snapshot.chunk_part": 1})
    try:
        run.start()
        run.wait_for(lambda: not run.deaths_to_come())
        mariadb_database.execute("DELETE FROM many WHERE id % 3 = 0", "UPDATE many SET n = -n WHERE id % 5 = 0")
        run.wait_live(len(TABLES) + 1)
        run.wait_applied()
        assert [event["worker"].partition("/")[0] for event in run.events("worker_died")] == ["reader"]
        assert run.terminate() == 0
        run.assert_equal()
        assert_copied(run, mariadb_database, (*TABLES, "many"))
    finally:
        run.close()


@pytest.mark.mariadb
@pytest.mark.parametrize("sink", ["versioned"])
def test_a_write_that_was_refused_in_part(mariadb_database: Database, tmp_path: Path, sink: str) -> None:
    """The next deliver makes the write again, and the table halts by name; mended, nothing is missing or twice."""
    Workload(mariadb_database, seed=15).create(rows=300)
    items = f"{mariadb_database.name}.items"
    with running(tmp_path, mariadb_database.port, mariadb_database.name, sink) as run:
        run.wait_live(len(TABLES))
        order(tmp_path, refuse={"note": ["poison"]})
        run.die_at({"deliver.refused": 1})
        mariadb_database.execute(
            "UPDATE items SET n = -n, note = IF(id % 5 = 0, 'poison', note)",
            "DELETE FROM items WHERE id % 7 = 0",
            "UPDATE words SET n = n + 1",
        )
        run.wait_for(lambda: not run.deaths_to_come())
        run.wait_for(lambda: run.phases()[items] is Phase.HALTED)
        assert [event["worker"] for event in run.events("worker_died")] == ["deliver/copy"]
        (halted,) = run.events("table_halted")
        assert "refused by order" in halted["error"]
        order(tmp_path)
        control.resume(run.service, "chaos", table=items)
        mariadb_database.execute("UPDATE IGNORE items SET id = id + 1 WHERE id % 5 = 0")
        run.wait_live(len(TABLES))
        run.wait_applied()
        assert run.terminate() == 0
        run.assert_equal()
        assert_copied(run, mariadb_database, TABLES)


@pytest.mark.mariadb
@pytest.mark.parametrize("sink", ["arrival"])
def test_a_halt_that_was_saved(mariadb_database: Database, tmp_path: Path, sink: str) -> None:
    """The next capture leaves the table out and goes on with the others, from before the statement."""
    Workload(mariadb_database, seed=14).create(rows=300)
    extra = "policy: {ddl: {reload: halt-table}}\n"
    with running(tmp_path, mariadb_database.port, mariadb_database.name, sink, extra=extra) as run:
        run.wait_live(len(TABLES))
        run.die_at({"capture.halt_saved": 1})
        mariadb_database.execute("UPDATE items SET n = 1", "ALTER TABLE words MODIFY n VARCHAR(9)")
        mariadb_database.execute("UPDATE items SET n = n + id", "DELETE FROM words", "DELETE FROM pairs WHERE a = 1")
        run.wait_for(lambda: not run.deaths_to_come())
        run.wait_for(lambda: len(run.events("worker_died")) == 1)
        run.wait_applied()
        halted = run.halted()
        assert [*halted] == [f"{mariadb_database.name}.words"]
        assert "MODIFY n" in halted[f"{mariadb_database.name}.words"]
        run.terminate()
        others = [f"{mariadb_database.name}.{table}" for table in ("items", "pairs")]
        results = control.reconcile(run.service, run.job, others)
        assert [(result.table.name, result.right, result.rows) for result in results] == [
            ("items", True, 300),
            ("pairs", True, 297),
        ]
        assert_copied(run, mariadb_database, ("items", "pairs"))
