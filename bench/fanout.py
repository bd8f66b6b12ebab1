"""Capture beside one, two and five sinks, one of which is ten times slower; events per second.

    bench/run fanout [--quick] [--json] [--rounds N]

Three jobs follow the same table: with one sink, with two, with five; the last of several is the slow one
(`tests/plugins/slow_parquet.py`; the others are Parquet, too). All tables are loaded and live, then syncd is stopped,
changes are made (statements of 1,000 rows), and the jobs are started one after the other. The clock runs from the first
100 kB that leave the source until all is published in the queue, seen at most 20 ms late; the sinks write meanwhile.

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
from bench.data import EVENTS, QUICK_EVENTS, QUICK_ROWS
from bench.measure import Figure, cpu_of, emit, faster, median, parser
from bench.source import FirstRows, SourceServer, source
from syncd import control
from syncd.ops import settle
from syncd.state import State
from tests.plugins import FOLDER

COUNTS = (1, 2, 5)
BAR = 0.9


@dataclass
class Rounds:
    """Of each round: events per processor second of capture, and per second."""

    by_cpu: list[float] = field(default_factory=list)
    by_clock: list[float] = field(default_factory=list)


def sinks(folder: Path, count: int) -> Mapping[str, str]:
    kinds = ["parquet"] * count if count == 1 else [*["parquet"] * (count - 1), "slow_parquet"]
    return {f"s{number}": f"{kind}: {{path: {folder}/{number}}}" for number, kind in enumerate(kinds, 1)}


def load(daemon: Daemon) -> None:
    daemon.start()
    try:
        daemon.wait_live()
        daemon.stop()
    finally:
        daemon.kill()


def publish(daemon: Daemon, server: SourceServer, events: int, into: Rounds) -> None:
    """One round of one job."""
    with control.opened_queue(daemon.service) as queue:
        head = settle.source_head(daemon.parts, queue)
    first = FirstRows(server)
    daemon.start()
    try:
        while first.at is None and daemon.running:
            time.sleep(FirstRows.TICK)
        capture = daemon.workers()["capture"]
        before = cpu_of(capture)
        end = daemon.until(lambda queue: settle.published(State(queue, "bench"), head))
        into.by_cpu.append(events / (cpu_of(capture) - before))
        into.by_clock.append(events / (end - first.stop()))
        daemon.stop()
    finally:
        daemon.kill()


def finish(daemon: Daemon) -> None:
    """All that the sinks have not written yet is written; every copy against the source."""
    daemon.start()
    try:
        while "capture" not in daemon.workers():
            time.sleep(FirstRows.TICK)
        daemon.wait_applied()
        daemon.stop()
    finally:
        daemon.kill()
    daemon.reconcile()


def main(argv: Sequence[str]) -> int:
    arguments = parser(__doc__).parse_args(argv)
    events = QUICK_EVENTS if arguments.quick else EVENTS
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
            load(daemon)
        for _ in range(arguments.rounds or 3):
            server.orders.large(events)
            for count, daemon in jobs.items():
                publish(daemon, server, events, measured[count])
        for daemon in jobs.values():
            finish(daemon)
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
