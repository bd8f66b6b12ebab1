"""Draining a backlog of row changes: MariaDB's log, syncd's queue, ClickHouse (chDB); events per second.

    bench/run cdc_clickhouse [--quick] [--json] [--rounds N]

The table is loaded and live, then syncd is stopped, the changes are made (70 % update, 20 % insert, 10 % delete; in
transactions of 1 to 20 single-row statements, and in statements of 1,000 rows), and syncd is started again. The clock
runs from the first 100 kB that leave the source until all is applied, seen at most 20 ms late. Beside it, on the same
log: PyPI `mysql-ch-replicator`, its table loaded by itself, until the last row of its part of the backlog is visible,
seen at most 100 ms late; its part is the first 60 or 180 thousand changes (quick: 5 or 15), since its rate does not
change with the size.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import engine
from bench.daemon import Daemon
from bench.data import EVENTS, QUICK_EVENTS, QUICK_ROWS, ROWS
from bench.measure import emit, faster, parser
from bench.peers import REPLICATOR, Replicator, ask
from bench.snapshot_clickhouse import TABLE
from bench.source import SUMS, FirstRows, SourceServer, source
from syncd.testing.clickhouse_http import Front

QUICK_BULK = 300_000
"""More than the usual: 60,000 changes of this shape are drained in less time than the pipeline takes to start."""


@dataclass(frozen=True)
class Shape:
    """`make`: the generator of `bench.data`; `bar`: how many times the peer's rate.

    `full`, `quick`: changes of a run, and how many of them are the peer's part.
    """

    make: str
    bar: float
    full: tuple[int, int]
    quick: tuple[int, int]


SHAPES = {
    "single": Shape("small", 20.0, (EVENTS, 60_000), (QUICK_EVENTS, 5_000)),
    "bulk": Shape("large", 8.0, (EVENTS, 180_000), (QUICK_BULK, 15_000)),
}


@dataclass
class Rounds:
    """Events per second, and processor seconds of one event."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    our_cpu: list[float] = field(default_factory=list)
    their_cpu: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Backlog:
    """Changes in the log from `position` on; the first `part` of them end with the insert of row `last`."""

    position: tuple[str, int]
    events: int
    part: int
    last: int


def produce(server: SourceServer, kind: str, events: int, part: int) -> Backlog:
    """Make `events` row changes, the first `part` of them marked by a row behind them."""
    position = server.position()
    make = getattr(server.orders, kind)
    make(part)
    last = int(server.one("SELECT MAX(id) FROM orders")[0]) + 1
    columns = "user_id, shop_id, status, amount, qty, discount, sku, note, attrs, created_at, updated_at"
    server.one(f"INSERT INTO orders SELECT {last}, {columns} FROM orders LIMIT 1")
    if events > part:
        make(events - part)
    return Backlog(position, events + 1, part + 1, last)


def drain(daemon: Daemon, server: SourceServer, backlog: Backlog, into: Rounds) -> None:
    first = FirstRows(server)
    daemon.start()
    try:
        end = daemon.wait_applied()
        began = first.stop()
        into.our_cpu.append(daemon.stop() / backlog.events)
    finally:
        daemon.kill()
    into.ours.append(backlog.events / (end - began))


def drain_peer(folder: Path, server: SourceServer, front: Front, backlog: Backlog, into: Rounds) -> None:
    peer = Replicator(folder, server.port, front)
    first = FirstRows(server)
    with peer.following(backlog.position):
        end = time.monotonic() + 1800
        while ask(front, f"SELECT count() FROM {TABLE} WHERE id = {backlog.last}") != "1":
            if time.monotonic() > end:
                raise TimeoutError(peer.tail())
            time.sleep(0.1)
        seconds = time.time() - first.stop()
    into.theirs.append(backlog.part / seconds)
    into.their_cpu.append(peer.cpu / backlog.part)


def verify(daemon: Daemon, server: SourceServer) -> None:
    found, wanted = engine.run(daemon.engine, [SUMS.format(table=TABLE)])[0].text.split(), server.sums().split()
    if [float(word) for word in found] != [float(word) for word in wanted]:
        raise RuntimeError(f"syncd: the copy has {found}, the source {wanted}")


def main(argv: Sequence[str]) -> int:
    arguments = parser(__doc__).parse_args(argv)
    rows = QUICK_ROWS if arguments.quick else ROWS
    rounds = arguments.rounds or 3
    sizes = {name: shape.quick if arguments.quick else shape.full for name, shape in SHAPES.items()}
    measured = {name: Rounds() for name in SHAPES}
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as place:
        folder = Path(place)
        with source(folder) as server, Front(folder / "front") as front:
            server.orders.create(rows)
            Replicator(folder / "load", server.port, front, workers=2).load()
            daemon = Daemon(folder / "syncd", server.port, "snapshot+cdc")
            daemon.load()
            for number in range(rounds):
                for name, shape in SHAPES.items():
                    backlog = produce(server, shape.make, *sizes[name])
                    drain(daemon, server, backlog, measured[name])
                    drain_peer(folder / f"peer-{name}-{number}", server, front, backlog, measured[name])
            verify(daemon, server)
    holds = True
    for name, shape in SHAPES.items():
        found, (events, part) = measured[name], sizes[name]
        figure = faster(
            f"{name}_events_per_s",
            found.ours,
            found.theirs,
            peer=REPLICATOR,
            bar=shape.bar,
            unit="events/s",
            cpu={"syncd": found.our_cpu, REPLICATOR: found.their_cpu},
            note=f"{events:,} changes; {REPLICATOR} {part:,} of them; cpu_s of one change",
        )
        emit(figure, as_json=arguments.json)
        holds = holds and bool(figure.holds)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
