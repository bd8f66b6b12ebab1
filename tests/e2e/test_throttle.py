"""`throttle` holds for the job: its readers divide the rate among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.state import State
from tests.e2e.harness import running
from tests.services.database import Database

ROWS, RATE = 8000, 1500


@pytest.mark.mariadb
def test_two_readers_read_no_faster_than_one_may(mariadb_database: Database, tmp_path: Path) -> None:
    mariadb_database.execute(f"CREATE TABLE t (id INT PRIMARY KEY) AS SELECT seq AS id FROM seq_1_to_{ROWS}")
    mariadb_database.execute("ANALYZE TABLE t")
    extra = f"throttle: {{rows_per_s: {RATE}}}\n"
    with running(
        tmp_path, mariadb_database.port, mariadb_database.name, "arrival", chunk_bytes=10_000, extra=extra
    ) as run:
        run.wait_live(1, 60)
        assert run.queue is not None
        state = State(run.queue, "chaos")
        (record,) = state.tables()
        done = sorted(state.done("copy", record.table).values(), key=lambda mark: mark.at)
        assert len({event["pid"] for event in run.events("worker_started") if "reader/" in event["worker"]}) == 2
        took = (done[-1].at - done[0].at) / 1e6
        read = sum(mark.rows for mark in done[1:])
        assert len(done) > 8
        assert 0.3 * RATE < read / took < 1.25 * RATE
        assert run.terminate() == 0
        run.assert_equal()
