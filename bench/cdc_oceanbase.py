"""Draining a backlog of row changes: MariaDB's log, syncd's queue, OceanBase (seekdb); events per second.

    bench/run cdc_oceanbase [--quick] [--json] [--rounds N]

The table is loaded and live, then syncd is stopped, the changes are made (70 % update, 20 % insert, 10 % delete; in
transactions of 1 to 20 single-row statements, and in statements of 1,000 rows), and syncd is started again. The clock
runs from the first 100 kB that leave the source until all is applied, seen at most 20 ms late. Beside it, in turns with
it: multi-row upserts of the same keys with the same values, and deletes of the same keys, ready as texts, over two
connections to the same server, into a table of the same rows (`bench/target.py`). Both copies are compared with the
source.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.daemon import Daemon
from bench.data import EVENTS, QUICK_EVENTS, QUICK_ROWS, ROWS
from bench.measure import emit, parser
from bench.source import SourceServer, source
from bench.target import Rounds, TargetServer, deletes, inserts, target, upserts, watched
from syncd.testing.servers import MariaDB, OceanBase

BAR = 0.6
CHANGED = """(SELECT now.* FROM orders now LEFT JOIN was.orders was USING (id)
 WHERE was.id IS NULL OR was.qty <> now.qty OR was.amount <> now.amount) changed"""
GONE = "(SELECT id FROM was.orders was LEFT JOIN orders now USING (id) WHERE now.id IS NULL) gone"


@dataclass(frozen=True)
class Shape:
    """`make`: the generator of `bench.data`; `full`, `quick`: changes of a run."""

    make: str
    full: int
    quick: int


SHAPES = {"single": Shape("small", EVENTS, QUICK_EVENTS), "bulk": Shape("large", EVENTS, 2 * QUICK_EVENTS)}


def remember(server: SourceServer) -> None:
    """The rows as they are now, outside of the log, so that the changes to come can be told."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        for sql in (
            "SET SESSION sql_log_bin = 0",
            "CREATE OR REPLACE DATABASE was",
            "CREATE TABLE was.orders (PRIMARY KEY (id)) SELECT id, qty, amount FROM orders",
        ):
            cursor.execute(sql)


def rows_of(server: SourceServer, what: str) -> int:
    return int(server.one(f"SELECT COUNT(*) FROM {what}")[0])


def drain(daemon: Daemon) -> tuple[float, float]:
    """When all was applied, and processor seconds of the whole run."""
    end = daemon.wait_applied()
    return end, daemon.stop()


def measure(shape: Shape, events: int, daemon: Daemon, server: SourceServer, there: TargetServer, into: Rounds) -> None:
    """One round of one shape."""
    remember(server)
    getattr(server.orders, shape.make)(events)
    seconds, cpu = watched(daemon, server, there, partial(drain, daemon))
    statements = [*upserts(server, CHANGED), *deletes(server, GONE)]
    floor = there.run(rows_of(server, CHANGED) + rows_of(server, GONE), statements)
    into.add(events, seconds, cpu, floor)
    there.check(server)


def main(argv: Sequence[str], kind: type[MariaDB] | type[OceanBase] = OceanBase, doc: str | None = __doc__) -> int:
    arguments = parser(doc).parse_args(argv)
    sizes = {name: shape.quick if arguments.quick else shape.full for name, shape in SHAPES.items()}
    measured = {name: Rounds() for name in SHAPES}
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as place:
        folder = Path(place)
        with source(folder) as server, target(kind, folder) as there:
            server.orders.create(QUICK_ROWS if arguments.quick else ROWS)
            daemon = Daemon(folder / "syncd", server.port, "snapshot+cdc", there.sinks)
            daemon.load()
            there.make_floor()
            there.run(0, inserts(server))
            for _ in range(arguments.rounds or 3):
                for name, shape in SHAPES.items():
                    measure(shape, sizes[name], daemon, server, there, measured[name])
    holds = True
    for name, found in measured.items():
        note = f"{sizes[name]:,} changes"
        figure = found.figure(f"{name}_events_per_s", "events/s", there.engine, BAR, note)
        emit(figure, as_json=arguments.json)
        holds = holds and bool(figure.holds)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
