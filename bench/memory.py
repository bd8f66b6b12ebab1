"""The largest resident memory of each process of a job, by size of the table, and under one huge transaction.

    bench/run memory [--quick] [--json]

peak_mb is the kernel's own high-water mark (VmHWM) of a process, read thirty times a second until it ends; program
files that are mapped count too. The job writes to ClickHouse over HTTP, so that the engine stands apart (its mark is
told, not judged), then once more into the embedded engine, which lives in the deliver process. "Flat": ten times the
rows, at most a quarter more memory, or 32 MB where that is little, or 128 MB with the engine.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bench.daemon import Daemon
from bench.measure import Figure, emit, parser
from bench.source import SourceServer, source
from syncd.testing.clickhouse_http import PASSWORD, Front

SIZES, QUICK_SIZES = (1_000_000, 10_000_000), (300_000, 1_000_000)
CHANGED, QUICK_CHANGED = (200_000, 1_000_000), (50_000, 100_000)
"""Rows of one transaction on the smaller and on the larger table."""
FLAT, SLACK_MB = 1.25, 32.0
ENGINE_SLACK_MB = 128.0
"""What the engine's own mark differs from run to run, by when it merges."""
ENGINE, WITH_ENGINE = "the engine alone", "deliver with the embedded engine"

Peak = dict[str, float]
"""Kind of process -> MB."""


class Peaks(threading.Thread):
    """High-water marks in MB of a daemon's processes, by kind: readers together under one name, the largest counts."""

    TICK = 0.03

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(name="peaks", daemon=True)
        self._daemon = daemon
        self._over = threading.Event()
        self.found: dict[str, float] = {}
        self.start()

    def run(self) -> None:
        while not self._over.wait(self.TICK):
            for name, pid in self._daemon.workers().items():
                with suppress(FileNotFoundError, ProcessLookupError, StopIteration):
                    kind = name.partition("/")[0]
                    self.found[kind] = max(self.found.get(kind, 0.0), high_water(pid))

    def forget(self) -> None:
        """Begin anew, in the kernel too, with what the processes hold now."""
        for pid in self._daemon.workers().values():
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")
        self.found = {}

    def stop(self) -> None:
        self._over.set()
        self.join()


def high_water(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def loaded(
    folder: Path, server: SourceServer, transaction: int, sinks: Mapping[str, str] | None = None
) -> tuple[Peak, Peak]:
    """Peaks of a load until LIVE, then of one transaction that changes `transaction` rows."""
    daemon = Daemon(folder, server.port, "snapshot+cdc", sinks)
    daemon.start()
    peaks = Peaks(daemon)
    try:
        daemon.wait_live()
        time.sleep(2 * Peaks.TICK)
        load = dict(peaks.found)
        peaks.forget()
        server.one(f"UPDATE orders SET qty = qty + 1 WHERE id <= {transaction}")
        daemon.wait_applied()
        time.sleep(2 * Peaks.TICK)
        peaks.stop()
        daemon.stop()
    finally:
        peaks.stop()
        daemon.kill()
    return load, {kind: peaks.found[kind] for kind in ("capture", "deliver")}


def marks(folder: Path, server: SourceServer, transaction: int) -> tuple[Peak, Peak]:
    """The peaks of `loaded` over HTTP; those of the engine, and of the process that hosts it where it is embedded."""
    with Front(folder / "front") as front:
        sink = f'clickhouse: {{url: "{front.url}", password: {PASSWORD}}}'
        load, change = loaded(folder / "http", server, transaction, {"target": sink})
        load[ENGINE] = high_water(front.pid)
    embedded_load, embedded_change = loaded(folder / "embedded", server, transaction)
    load[WITH_ENGINE], change[WITH_ENGINE] = embedded_load["deliver"], embedded_change["deliver"]
    return load, change


def flat(what: str, small: Mapping[str, float], large: Mapping[str, float], notes: Sequence[str]) -> list[Figure]:
    """One figure per process, beside what it was with less to do; the engine's own memory is told, not judged."""
    made = []
    for kind in sorted(large.keys() & small.keys()):
        before, after = small[kind], large[kind]
        slack = ENGINE_SLACK_MB if kind == WITH_ENGINE else SLACK_MB
        holds = after <= before * FLAT or after - before <= slack
        judged = kind != ENGINE
        made.append(
            Figure(
                f"peak_mb, {what}, {kind}",
                after,
                "MB",
                {notes[0]: before},
                after / before,
                FLAT if judged else None,
                holds if judged else None,
                note=notes[1],
            )
        )
    return made


def main(argv: Sequence[str]) -> int:
    arguments = parser(__doc__).parse_args(argv)
    sizes, changed = (QUICK_SIZES, QUICK_CHANGED) if arguments.quick else (SIZES, CHANGED)
    found: list[tuple[Peak, Peak]] = []
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as name:
        folder = Path(name)
        with source(folder) as server:
            for rows, transaction in zip(sizes, changed, strict=True):
                server.orders.create(rows)
                found.append(marks(folder / str(rows), server, transaction))
    loads, changes = zip(*found, strict=True)
    made = flat("load", loads[0], loads[1], [f"{rows:,} rows" for rows in sizes])
    made += flat("one transaction", changes[0], changes[1], [f"{rows:,} rows" for rows in changed])
    for figure in made:
        emit(figure, as_json=arguments.json)
    return 0 if all(figure.holds is not False for figure in made) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
