"""A job under steady load for as long as one likes: what grows, what lags, what dies; in the end every value."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from syncd import control
from syncd.testing.servers import MariaDB
from tests.e2e.bulk import BulkWorkload
from tests.e2e.harness import Running, running
from tests.e2e.proof import PATIENCE, compare
from tests.e2e.tables import ALL
from tests.services.database import fresh_database

ROWS = 100_000
PAUSE = 0.1
"""Seconds between two transactions of about 250 row changes."""
STATEMENTS_EVERY = 50_000
SAMPLE_SECONDS = 5.0
GROWTH, GROWTH_MINUTES = 1.3, 30.0
"""Memory at the end may be so many times that of the beginning, in a soak that lasts at least so long."""


def run(minutes: float, seed: int) -> dict[str, Any]:
    """The figures; `wrong` says what did not hold. AssertionError: the ends differ, or work has stopped."""
    with MariaDB() as server, fresh_database(server) as database, tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        workload = BulkWorkload(database, seed, ROWS, statements_every=STATEMENTS_EVERY)
        workload.create()
        workload.pause = PAUSE
        with running(folder, database.port, database.name, "clickhouse", chunk_bytes=1 << 20) as job:
            job.wait_live(len(ALL), PATIENCE)
            workload.start()
            try:
                samples = _samples(job, workload, minutes * 60)
            finally:
                workload.stop()
            deaths = len(job.events("worker_died"))
            rows = compare(job, workload, database, "clickhouse")
    return _figures(samples, workload.changes, minutes, rows, deaths, f"{server.name} {server.version}")


def _samples(job: Running, workload: BulkWorkload, seconds: float) -> list[dict[str, Any]]:
    end, found = time.monotonic() + seconds, []
    while time.monotonic() < end:
        time.sleep(SAMPLE_SECONDS)
        workload.check()
        status = control.status(job.service)[0]
        memory = {name: _memory(pid) for name, pid in job.workers().items()}
        found.append({"state": status.state, "lag": status.lag or 0.0, "queue": status.queue_bytes, "memory": memory})
    return found


def _memory(pid: int) -> float:
    """Megabytes that the process holds."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except FileNotFoundError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _figures(
    samples: list[dict[str, Any]], changes: int, minutes: float, rows: int, deaths: int, server: str
) -> dict[str, Any]:
    quarter = max(1, len(samples) // 4)
    names = sorted({name for sample in samples for name in sample["memory"]})
    first, last = (
        {name: statistics.median(s["memory"].get(name, 0.0) for s in part) for name in names}
        for part in (samples[:quarter], samples[-quarter:])
    )
    growth = sum(last.values()) / sum(first.values())
    not_running = sum(sample["state"] != "RUNNING" for sample in samples)
    wrong = []
    if deaths:
        wrong.append(f"{deaths} workers died")
    if not_running:
        wrong.append(f"not RUNNING in {not_running} of {len(samples)} samples")
    if minutes >= GROWTH_MINUTES and growth > GROWTH:
        wrong.append(f"memory has grown to {growth:.2f} of what it was, at most {GROWTH} is expected")
    return {
        "server": server,
        "minutes": minutes,
        "changes": changes,
        "changes_per_s": round(changes / (minutes * 60)),
        "lag_s_median": round(statistics.median(s["lag"] for s in samples), 2),
        "lag_s_max": round(max(s["lag"] for s in samples), 2),
        "queue_mb_max": round(max(s["queue"] for s in samples) / 2**20, 1),
        "memory_mb_first": {name: round(value) for name, value in first.items()},
        "memory_mb_last": {name: round(value) for name, value in last.items()},
        "memory_growth": round(growth, 3),
        "deaths": deaths,
        "samples": len(samples),
        "rows_compared": rows,
        "differences": 0,
        "wrong": wrong,
    }
