"""Loading `orders` from MariaDB into OceanBase (seekdb): rows per second, first row read to last visible.

    bench/run snapshot_oceanbase [--quick] [--json] [--rounds N]

syncd runs as a user runs it (`syncd run`, a job with `mode: snapshot`, default settings). Beside it, in turns with it:
multi-row INSERTs of the same rows, ready as texts, over two connections to the same server (`bench/target.py`). Each
copy is compared with the source afterwards (count and sums). syncd's clock begins when the first 100 kB have left the
source.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench.daemon import Daemon
from bench.data import ROWS
from bench.measure import emit, parser
from bench.source import source
from bench.target import Rounds, inserts, target, watched
from syncd.testing.servers import OceanBase

BAR = 0.75
QUICK_ROWS = 400_000
"""Enough chunks for both readers to end at about the same time."""


def load(daemon: Daemon) -> tuple[float, float]:
    """When the last row was visible, and processor seconds of the whole run."""
    cpu = daemon.wait()
    return daemon.loaded_at(), cpu


def main(argv: Sequence[str]) -> int:
    arguments = parser(__doc__).parse_args(argv)
    rows = QUICK_ROWS if arguments.quick else ROWS
    found = Rounds()
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as place:
        folder = Path(place)
        with source(folder) as server, target(OceanBase, folder) as there:
            server.orders.create(rows)
            statements = inserts(server)
            for number in range(arguments.rounds or 3):
                there.drop()
                daemon = Daemon(folder / f"syncd{number}", server.port, "snapshot", there.sinks)
                seconds, cpu = watched(daemon, server, there, partial(load, daemon))
                there.make_floor()
                found.add(rows, seconds, cpu, there.run(rows, statements))
                there.check(server)
    figure = found.figure("rows_per_s", "rows/s", there.engine, BAR, f"{rows:,} rows")
    emit(figure, as_json=arguments.json)
    return 0 if figure.holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
