"""Capture beside one, two and five sinks, one of which is ten times slower; events per second.

    bench/run fanout [--quick] [--json] [--rounds N]

Three jobs follow the same table: with one sink, with two, with five; the last of several is the slow one
(`tests/plugins/slow_parquet.py`; the others are Parquet, too). All tables are loaded and live, then syncd is stopped,
changes are made (statements of 1,000 rows), and the jobs are started one after the other, until all is published in the
queue, seen at most 20 ms late; the sinks write meanwhile. The source is paused while a job starts, so that its start
does not count.

The figure is capture's rate by its own processor time: sinks in the same machine take from it what they need, and what
is asked here is whether one of them holds it up. The rate by the clock is in the note. At the end every sink has all of
it: each copy is compared with the source.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.daemon import Daemon
from bench.data import EVENTS, QUICK_ROWS
from bench.measure import Figure, cpu_of, emit, faster, median, parser
from bench.source import source
from syncd import control
from syncd.ops import settle
from syncd.state import State
from tests.plugins import FOLDER

COUNTS = (1, 2, 5)
BAR = 0.9
SETTLE_SECONDS = 0.5
QUICK = 300_000
"""Changes of a quick run: of fewer, most of the time is that of beginning."""


@dataclass
class Rounds:
    """Of each round: events per processor second of capture, and per second."""

    by_cpu: list[float] = field(default_factory=list)
    by_clock: list[float] = field(default_factory=list)


def sinks(folder: Path, count: int) -> Mapping[str, str]:
    kinds = ["parquet"] * count if count == 1 else [*["parquet"] * (count - 1), "slow_parquet"]
    return {f"s{number}": f"{kind}: {{path: {folder}/{number}}}" for number, kind in enumerate(kinds, 1)}


@dataclass(frozen=True)
class Took:
    """Processor seconds of capture, and seconds."""

    cpu: float
    seconds: float


def run(daemon: Daemon, *, applied: bool = False) -> Took:
    """Until all that is in the log is in the queue; `applied`: at all sinks. What the start takes does not count."""
    with control.opened_queue(daemon.service) as queue:
        head = settle.source_head(daemon.parts, queue)
    control.pause(daemon.service, "bench", source=True)
    daemon.start()
    try:
        daemon.until(lambda queue: any(lease.live for lease in queue.leases("job/bench/capture")))
        time.sleep(SETTLE_SECONDS)
        capture, began = daemon.workers()["capture"], time.time()
        before = cpu_of(capture)
        control.resume(daemon.service, "bench", source=True)
        end = daemon.until(lambda queue: settle.published(State(queue, "bench"), head))
        took = Took(cpu_of(capture) - before, end - began)
        if applied:
            daemon.wait_applied()
        daemon.stop()
    finally:
        daemon.kill()
    return took


def main(argv: Sequence[str]) -> int:
    arguments = parser(__doc__).parse_args(argv)
    events = QUICK if arguments.quick else EVENTS
    measured = {count: Rounds() for count in COUNTS}
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as place, source(Path(place)) as server:
        server.orders.create(QUICK_ROWS)
        jobs = {
            count: Daemon(
                Path(place) / f"{count}", server.port, "snapshot+cdc", sinks(Path(place) / f"to{count}", count), FOLDER
            )
            for count in COUNTS
        }
        for daemon in jobs.values():
            daemon.load()
        for _ in range(arguments.rounds or 3):
            server.orders.large(events)
            for count, daemon in jobs.items():
                took = run(daemon)
                measured[count].by_cpu.append(events / took.cpu)
                measured[count].by_clock.append(events / took.seconds)
        for daemon in jobs.values():
            run(daemon, applied=True)
            daemon.reconcile()
    holds = True
    for count in COUNTS[1:]:
        figure = _figure(measured[count], measured[1], count, events)
        emit(figure, as_json=arguments.json)
        holds = holds and bool(figure.holds)
    return 0 if holds else 1


def _figure(found: Rounds, alone: Rounds, count: int, events: int) -> Figure:
    clock = median([mine / other for mine, other in zip(found.by_clock, alone.by_clock, strict=True)])
    return faster(
        f"capture_events_per_s, {count} sinks",
        found.by_cpu,
        alone.by_cpu,
        peer="one sink",
        bar=BAR,
        unit="events/cpu s",
        cpu={},
        note=f"{events:,} changes; by the clock {median(found.by_clock):,.0f} events/s, ratio {clock:.2f}",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
