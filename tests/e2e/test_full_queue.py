"""A queue that is full: a table that stands HALTED gives its share up, one that people have PAUSED is waited for."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd import control
from syncd.ops.status import TableStatus
from syncd.state import Phase
from tests.e2e.harness import Running, order, running
from tests.services.database import Database

pytestmark = pytest.mark.mariadb

MIB = 1 << 20
LIMIT = 6 * MIB
QUEUE = f"max_bytes: {LIMIT}, keep_bytes: 0, segment_bytes: {MIB}"
OTHER = """\
  other:
    sqlite_versioned: {{path: {folder}/other.db}}
"""


@pytest.fixture
def tables(mariadb_database: Database) -> Database:
    for name in ("bad", "good"):
        mariadb_database.execute(f"CREATE TABLE {name} (id INT PRIMARY KEY, v MEDIUMTEXT, n INT NOT NULL DEFAULT 0)")
    return mariadb_database


def fill(database: Database, table: str, megabytes: int, seed: int) -> None:
    """Changes of about so many bytes, which do not compress well, on a hundred keys."""
    rng = random.Random(seed)
    for _ in range(megabytes):
        rows = [(rng.randrange(100), rng.randbytes(50_000).hex(), seed) for _ in range(20)]
        database.many(f"REPLACE INTO {table} VALUES (%s, %s, %s)", rows)


def row(run: Running, table: str, sink: str = "copy") -> TableStatus:
    rows = control.status(run.service)[0].tables
    return next(r for r in rows if (r.record.table.name, r.record.sink) == (table, sink))


def phase(run: Running, table: str, sink: str = "copy") -> Phase:
    return row(run, table, sink).record.phase


def waits_for(run: Running, text: str) -> Callable[[], bool]:
    return lambda: any(text in wait.reason for wait in control.status(run.service)[0].waits.values())


def equal(run: Running, table: str, sink: str) -> bool:
    results = control.reconcile(run.service, run.job, [f"{run.database}.{table}"])
    return next(result for result in results if result.sink == sink).right


def test_a_halted_table_gives_its_share_up(tables: Database, tmp_path: Path) -> None:
    extra = OTHER.format(folder=tmp_path)
    with running(tmp_path, tables.port, tables.name, "arrival", extra=extra, queue=QUEUE) as run:
        run.wait_live(2, 60)
        order(tmp_path, refuse={"v": ["poison"]})
        run.die_at({"capture.share_given_up": 1})
        tables.execute("INSERT INTO bad VALUES (1000, 'poison', 0)")
        run.wait_for(lambda: phase(run, "bad") is Phase.HALTED, 60)
        for part in range(4):
            fill(tables, "bad", 3, part)
            fill(tables, "good", 6, part)
            if part == 1:
                run.kill()
                run.start()
        run.wait_for(lambda: phase(run, "bad") is Phase.NEEDS_RESYNC, 60)
        assert not run.deaths_to_come()
        tables.execute("CREATE TABLE fresh (id INT PRIMARY KEY, v VARCHAR(9))", "INSERT INTO fresh VALUES (1, 'a')")
        run.wait_applied(120)
        run.wait_for(lambda: phase(run, "fresh") is Phase.LIVE, 60)
        assert phase(run, "bad", "other") is Phase.LIVE
        reason = row(run, "bad").record.reason
        assert "[E158]" in reason
        assert "refused by order" in reason
        stuck = {f"{tables.name}.bad": reason}
        assert control.resume(run.service, "chaos", table=f"{tables.name}.bad") == stuck
        assert control.resume(run.service, "chaos") == stuck
        assert control.resume(run.service, "chaos", sink="other") == {}
        assert phase(run, "bad") is Phase.NEEDS_RESYNC
        for table, name in (("good", "copy"), ("good", "other"), ("bad", "other"), ("fresh", "copy")):
            assert equal(run, table, name), (table, name)
        assert run.terminate() == 4


def test_a_paused_table_is_waited_for_by_name(tables: Database, tmp_path: Path) -> None:
    with running(tmp_path, tables.port, tables.name, "arrival", queue=QUEUE) as run:
        run.wait_live(2, 60)
        order(tmp_path, refuse={"v": ["poison"]})
        control.pause(run.service, "chaos", table=f"{tables.name}.good")
        tables.execute("INSERT INTO bad VALUES (1000, 'poison', 0)")
        run.wait_for(lambda: phase(run, "bad") is Phase.HALTED, 60)
        fill(tables, "bad", 1, 1)
        fill(tables, "good", 10, 1)
        run.wait_for(waits_for(run, f"{tables.name}.good at copy (PAUSED)"), 60)
        assert control.status(run.service)[0].queue_full_in == 0
        run.wait_for(lambda: run.events("queue_full_near"), 20)
        assert phase(run, "bad") is Phase.HALTED
        order(tmp_path)
        control.resume(run.service, "chaos", table=f"{tables.name}.good")
        control.resume(run.service, "chaos", table=f"{tables.name}.bad")
        run.wait_applied(120)
        assert run.terminate() == 0
        run.assert_equal()
