"""From commit at MariaDB to visible in ClickHouse (chDB), on an otherwise idle job: p50_ms and p99_ms.

    bench/run latency [--quick] [--json] [--rounds N]

One row is inserted and committed; from the moment that the commit returns, the sink is asked for that row again and
again, through the socket of the process that hosts the engine. The asking is the error of measurement: a row is seen at
most one answer late (told with the figure), and the asking itself takes time from the engine. Then a pause of random
length, so that no timer of syncd's own is hit in step. `--rounds` is the number of commits.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.daemon import Daemon
from bench.measure import below, emit, median, parser
from bench.source import SourceServer, source
from syncd import control
from syncd.model import Bound, Target
from syncd.spi import Sink
from syncd.state import State

BARS = {"p50": 250.0, "p99": 1000.0}
ROWS = 10_000
COMMITS, QUICK_COMMITS = 600, 120
PAUSE = 0.4
"""The longest pause between two commits, in seconds."""
COLUMNS = "user_id, shop_id, status, amount, qty, discount, sku, note, attrs, created_at, updated_at"


def reached(daemon: Daemon) -> tuple[Sink, Target]:
    """The job's sink, reached as `syncd reconcile` reaches it."""
    with control.opened_queue(daemon.service) as queue:
        state = State(queue, daemon.parts.job.name)
        record = state.tables()[0]
        published = daemon.parts.schema_at(state, record).published
    sink = daemon.parts.reach_sink(record.sink)
    sink.open()
    return sink, daemon.parts.target(record.sink, published)


def measured(server: SourceServer, sink: Sink, target: Target, commits: int) -> tuple[list[float], list[float]]:
    """Milliseconds from each commit to the answer that shows its row; and how long each answer took."""
    rng = random.Random(7)
    waits, answers = [], []
    top = int(server.one("SELECT MAX(id) FROM orders")[0])
    for number in range(top + 1, top + commits + 1):
        time.sleep(rng.uniform(0, PAUSE))
        server.one(f"INSERT INTO orders SELECT {number}, {COLUMNS} FROM orders WHERE id = 1")
        committed = time.perf_counter()
        while True:
            asked = time.perf_counter()
            seen = any(len(rows) for rows in sink.scan(target, *(Bound((n,), (n,)) for n in (number - 1, number))))
            now = time.perf_counter()
            answers.append((now - asked) * 1000)
            if seen:
                waits.append((now - committed) * 1000)
                break
            if now - committed > 60:
                raise TimeoutError(f"row {number} did not come")
    return waits, answers


def main(argv: Sequence[str]) -> int:
    arguments = parser(__doc__, rounds=COMMITS).parse_args(argv)
    commits = arguments.rounds or (QUICK_COMMITS if arguments.quick else COMMITS)
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as name:
        folder = Path(name)
        with source(folder) as server:
            server.orders.create(ROWS)
            daemon = Daemon(folder / "syncd", server.port, "snapshot+cdc")
            daemon.start()
            try:
                daemon.wait_live()
                sink, target = reached(daemon)
                measured(server, sink, target, 10)  # what is imported and compiled on first use
                waits, answers = measured(server, sink, target, commits)
                sink.close()
                daemon.stop()
            finally:
                daemon.kill()
    holds = True
    note = f"seen at most one answer late, which took {median(answers):.1f} ms (median); largest {max(waits):.0f} ms"
    for word, bar in BARS.items():
        value = float(np.percentile(waits, int(word[1:])))
        figure = below(f"{word}_ms", value, "ms", bar, rounds=commits, note=note)
        emit(figure, as_json=arguments.json)
        holds = holds and bool(figure.holds)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
