"""Two sinks of one job that load the same table."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd import control
from syncd.state import Phase, State
from tests.e2e.harness import order, running
from tests.services.database import Database

ROWS = 4_000
LATER = 1.5
"""Seconds of each write at the slow one."""


@pytest.mark.mariadb
def test_one_scan_is_for_both_sinks_until_one_is_slow(mariadb_database: Database, tmp_path: Path) -> None:
    """What the source counts is told from its own books; a reader dies on the way."""
    source = mariadb_database
    source.execute(f"CREATE TABLE t (id INT PRIMARY KEY, n INT) AS SELECT seq AS id, -seq AS n FROM seq_1_to_{ROWS}")
    source.execute("ANALYZE TABLE t")
    (was,) = source.query("SELECT @@global.userstat")[0]
    source.execute("SET GLOBAL userstat = 1")
    slow = tmp_path / "slow"
    slow.mkdir()
    block = f"hasty_arrival: {{path: {slow}/sink.db, faults_file: {slow}/faults}}"
    options = {"chunk_bytes": 8_000, "readers": 1, "extra": f"  slow: {{{block}}}\n"}
    try:
        with running(tmp_path, source.port, source.name, "arrival", **options) as run:
            run.die_at({"snapshot.chunk_written": 3})

            def phases() -> dict[str, Phase]:
                return {r.sink: r.phase for r in State(run.queue, "chaos").tables()} if run.queue else {}

            def read() -> int:
                """Rows that were read of the table, since the server counts."""
                books = (
                    f"SELECT rows_read FROM information_schema.table_statistics WHERE table_schema = '{source.name}'"
                )
                return sum(int(rows) for (rows,) in source.query(books))

            both = {"copy": Phase.LIVE, "slow": Phase.LIVE}
            run.wait_for(lambda: phases() == both, 60)
            assert run.deaths_to_come() == []
            first = read()
            assert first < 2.5 * ROWS, "borders and rows are read once, and one or two chunks again"
            assert not run.events("sink_loads_alone")

            order(slow, delay=LATER)
            control.resync(run.service, "chaos", f"{source.name}.t")
            run.wait_for(lambda: phases() == {"copy": Phase.LIVE, "slow": Phase.SNAPSHOT}, 60)
            assert {event["sink"] for event in run.events("sink_loads_alone")} == {"slow"}
            order(slow)
            run.wait_for(lambda: phases() == both, 60)
            source.execute("UPDATE t SET n = 7 WHERE id % 3 = 0", "DELETE FROM t WHERE id % 5 = 0")
            run.wait_applied(60)
            assert run.terminate() == 0
            run.assert_equal()
    finally:
        source.execute(f"SET GLOBAL userstat = {was}")
