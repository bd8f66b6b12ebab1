"""Loading `orders` from MariaDB into ClickHouse (chDB): rows per second, first row read to last visible.

    bench/run snapshot_clickhouse [--quick] [--json] [--rounds N]

syncd runs as a user runs it (`syncd run`, a job with `mode: snapshot`, default settings). Beside it, in turns with it:
ClickHouse's own `INSERT INTO ... SELECT FROM mysql(...)` into a table of the same statement, from the statement's begin
to its end; and PyPI `mysql-ch-replicator` with two workers, against the engine behind an HTTP front. Each copy is
compared with the source afterwards (count and sums). The clock of syncd and of the replicator begins when the first
100 kB have left the source, whoever asked for them: how long the programs take to start is in the second figure.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench import engine
from bench.daemon import Daemon
from bench.data import QUICK_ROWS, ROWS
from bench.measure import Figure, emit, faster, median, parser, spread
from bench.peers import REPLICATOR, Replicator, ask
from bench.source import DATABASE, SUMS, FirstRows, SourceServer, source
from syncd.testing.clickhouse_http import Front

TABLE = f"{DATABASE}.orders"
FLOOR = "ClickHouse mysql()"
BARS = {FLOOR: 1.0, REPLICATOR: 7.0}


@dataclass
class Rounds:
    """What was measured: rows per second, processor seconds, and the source's processor seconds."""

    rate: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


class Loads:
    """The three ways to load the table of one server, each into an engine of its own."""

    def __init__(self, folder: Path, server: SourceServer, front: Front, rows: int) -> None:
        self._folder = folder
        self._server = server
        self._front = front
        self._rows = rows
        self._number = 0
        self._table = ""
        self._sums = _numbers(server.sums())

    def syncd(self, into: Rounds) -> None:
        self._number += 1
        daemon = Daemon(self._folder / f"syncd{self._number}", self._server.port, "snapshot")
        first, began = FirstRows(self._server), time.time()
        daemon.start()
        try:
            cpu = daemon.wait()
        finally:
            daemon.kill()
        end = daemon.loaded_at()
        into.rate.append(self._rows / (end - first.stop()))
        into.whole.append(self._rows / (end - began))
        into.cpu.append(cpu)
        found = engine.run(daemon.engine, [f"SHOW CREATE TABLE {TABLE}", SUMS.format(table=TABLE)])
        self._table = found[0].text
        self._check("syncd", found[1].text)

    def floor(self, into: Rounds) -> None:
        self._number += 1
        columns = "*, 1, 0"
        read = f"mysql('127.0.0.1:{self._server.port}', '{DATABASE}', 'orders', 'root', '')"
        statements = [f"CREATE DATABASE {DATABASE}", self._table, f"INSERT INTO {TABLE} SELECT {columns} FROM {read}"]
        found = engine.run(self._folder / f"floor{self._number}", [*statements, SUMS.format(table=TABLE)])
        into.rate.append(self._rows / found[2].seconds)
        into.cpu.append(found[2].cpu)
        self._check(FLOOR, found[3].text)

    def replicator(self, into: Rounds) -> None:
        self._number += 1
        peer = Replicator(self._folder / f"peer{self._number}", self._server.port, self._front, workers=2)
        first = FirstRows(self._server)
        end, cpu = peer.load()
        into.rate.append(self._rows / (end - first.stop()))
        into.cpu.append(cpu)
        self._check(REPLICATOR, ask(self._front, SUMS.format(table=TABLE)))

    def _check(self, who: str, found: str) -> None:
        # Peers that keep decimals as floating-point numbers sum them with an error behind the fifteenth digit.
        numbers = _numbers(found)
        if len(numbers) != len(self._sums) or not all(map(partial(math.isclose, rel_tol=1e-14), numbers, self._sums)):
            raise RuntimeError(f"{who}: the copy has {found}, the source {self._sums}")


def _numbers(line: str) -> list[float]:
    return [float(word) for word in line.split()]


def main(argv: Sequence[str]) -> int:
    arguments = parser(__doc__).parse_args(argv)
    rows = QUICK_ROWS if arguments.quick else ROWS
    rounds = arguments.rounds or 3
    ours, floor, peer = Rounds(), Rounds(), Rounds()
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as name:
        folder = Path(name)
        with source(folder) as server, Front(folder / "front") as front:
            server.orders.create(rows)
            loads = Loads(folder, server, front, rows)
            for _ in range(rounds):
                loads.syncd(ours)
                loads.floor(floor)
                loads.replicator(peer)
    holds = True
    for name, theirs in ((FLOOR, floor), (REPLICATOR, peer)):
        figure = faster(
            "rows_per_s",
            ours.rate,
            theirs.rate,
            peer=name,
            bar=BARS[name],
            unit="rows/s",
            cpu={"syncd": ours.cpu, name: theirs.cpu},
            note=f"{rows:,} rows",
        )
        emit(figure, as_json=arguments.json)
        holds = holds and bool(figure.holds)
    whole = Figure(
        "rows_per_s_end_to_end",
        median(ours.whole),
        "rows/s",
        spread=spread(ours.whole),
        rounds=rounds,
        note="from the start of `syncd run`",
    )
    emit(whole, as_json=arguments.json)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
