"""SIGKILL at every line of the crash table, under write load, with a sink that applies in arrival order and a versioned
one: afterwards every value at both ends is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd import failpoints
from tests.e2e.harness import running
from tests.e2e.test_append import CHANGES, LOADS
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

# Reached only by a transaction of more than 16 MB, by a table that halts, or by one without a key; they have tests of
# their own.
ELSEWHERE = {"capture.part_published", "capture.halt_saved", "capture.share_given_up", *LOADS, *CHANGES}


def test_every_failpoint_is_fired_somewhere() -> None:
    assert {name for group in GROUPS.values() for name in group} | ELSEWHERE == set(failpoints.ALL)


@pytest.mark.mariadb
@pytest.mark.parametrize("sink", ["arrival", "versioned"])
@pytest.mark.parametrize("group", sorted(GROUPS))
def test_nothing_is_lost_or_doubled(mariadb_database: Database, tmp_path: Path, group: str, sink: str) -> None:
    workload = Workload(mariadb_database, seed=11)
    workload.create(rows=2000)
    with running(tmp_path, mariadb_database.port, mariadb_database.name, sink, chunk_bytes=20_000) as run:
        order(run.failpoints, GROUPS[group])
        workload.start()
        try:
            run.wait_live(len(TABLES))
            if group == "barrier":
                mariadb_database.execute("ALTER TABLE items ADD COLUMN added INT NOT NULL DEFAULT 42")
                mariadb_database.execute("TRUNCATE TABLE pairs")
            run.wait_for(lambda: not list(run.failpoints.iterdir()))
        finally:
            workload.stop()
        run.wait_live(len(TABLES))
        run.wait_applied()
        assert run.terminate() == 0
        run.assert_equal()


def order(folder: Path, wanted: dict[str, int]) -> None:
    for name, times in wanted.items():
        (folder / name).write_text(str(times))
