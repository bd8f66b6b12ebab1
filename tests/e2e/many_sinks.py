"""Two sources into the same five targets, one of them ten times slower, one of them down for a while; then every value.

python -m tests.e2e.many_sinks [--size full] [--seed N]

The embedded ClickHouse, a folder of Parquet files (the slow one), OceanBase, MariaDB (the one that goes down, behind a
proxy) and MySQL, fed by a MariaDB and a MySQL, each through a job and a daemon of its own. While MariaDB is down, what
is held up behind it must show nowhere else: capture and the other sinks keep the pace that they had. Then changes come
until the queue is full, and capture waits, with the forecast said; then MariaDB is back, and all that was held arrives.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from syncd import control
from syncd.testing.servers import MariaDB, MySQL9, OceanBase, Server
from tests.e2e.bulk import BulkWorkload
from tests.e2e.harness import Running, running
from tests.e2e.proof import CHUNK_BYTES, PATIENCE, Sink, compare, family
from tests.e2e.proxy import Proxy, proxied
from tests.e2e.tables import ALL
from tests.e2e.test_metrics import address, scrape
from tests.services.database import Database, fresh_database

DOWN, SLOW = "down", "slow"
"""The names of these sinks."""
OTHERS = ("copy", "ocean", "other")
MOST = 3.0
"""By how much the median lag of the others may differ while one is down: machines are busy."""
LEAST = 2.0
"""Seconds of lag that nobody asks about."""


@dataclass(frozen=True)
class Size:
    """`rows` of each source; seconds of quiet load before, and while one sink is `down`; megabytes of each queue."""

    rows: int
    before: float
    down: float
    queue: int


SIZES = {"full": Size(50_000, 60.0, 300.0, 128), "small": Size(3_000, 6.0, 10.0, 16)}


@dataclass
class Lags:
    """Of each sink, and of capture under "capture": seconds, as /metrics tells; the worst table's."""

    seen: dict[str, list[float]] = field(default_factory=dict)
    queue_bytes: float = 0.0

    def look(self, run: Running) -> None:
        worst: dict[str, float] = {}
        for name, value in scrape(address(run)).items():
            if name[0] == "table_lag_seconds":
                worst[name[2]] = max(worst.get(name[2], 0.0), value)
            elif name[0] == "capture_lag_seconds":
                worst["capture"] = value
            elif name[0] == "queue_bytes":
                self.queue_bytes = max(self.queue_bytes, value)
        for who, value in worst.items():
            self.seen.setdefault(who, []).append(value)

    def medians(self) -> dict[str, float]:
        return {who: round(median(values), 2) for who, values in sorted(self.seen.items())}


@dataclass
class Source:
    """One source with its job."""

    database: Database
    run: Running
    workload: BulkWorkload

    def watch(self, seconds: float, wanted: Callable[[], object] = lambda: False) -> Lags:
        """What shows within so many seconds, or until it is as `wanted`."""
        lags, end = Lags(), time.monotonic() + seconds
        while time.monotonic() < end and not wanted():
            self.workload.check()
            assert not self.run.halted(), self.run.tail()
            lags.look(self.run)
            time.sleep(0.5)
        return lags


def prove(
    databases: Mapping[str, Database], targets: Mapping[str, Server], folder: Path, size: Size, seed: int
) -> dict[str, dict[str, Any]]:
    """`databases`: at two sources; `targets`: "ocean", "down", "other". What was seen of each source.

    AssertionError: something is not right.
    """
    rng = random.Random(seed)
    with ExitStack() as stack:
        proxy = stack.enter_context(proxied(targets[DOWN].port))
        sources = {
            name: stack.enter_context(_source(database, targets, proxy, folder / name, size, rng))
            for name, database in databases.items()
        }
        return _proved(sources, targets, proxy, size)


@contextmanager
def _source(
    database: Database, targets: Mapping[str, Server], proxy: Proxy, folder: Path, size: Size, rng: random.Random
) -> Iterator[Source]:
    folder.mkdir()
    workload = BulkWorkload(database, rng.getrandbits(32), size.rows, statements_every=2_000, statements_at_most=10)
    workload.pause = 1.0
    workload.create()
    queue = f"max_bytes: {size.queue << 20}, keep_bytes: 0, segment_bytes: {1 << 20}"
    options = {"chunk_bytes": CHUNK_BYTES, "queue": queue, "extra": _more_sinks(targets, proxy, folder)}
    with running(folder, database.port, database.name, "clickhouse", **options) as run:
        try:
            yield Source(database, run, workload)
        finally:
            workload.stop()


def _more_sinks(targets: Mapping[str, Server], proxy: Proxy, folder: Path) -> str:
    down = f'mysql: {{url: "mysql://root@127.0.0.1:{proxy.port}/"}}'
    blocks = {
        SLOW: f"slow_parquet: {{path: {folder}/files}}",
        "ocean": family(targets["ocean"]).format(),
        DOWN: down,
        "other": family(targets["other"]).format(),
    }
    return "".join(f"  {name}:\n    {block}\n" for name, block in blocks.items())


def _proved(
    sources: Mapping[str, Source], targets: Mapping[str, Server], proxy: Proxy, size: Size
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {name: {} for name in sources}
    for source in sources.values():
        source.workload.start()
    for source in sources.values():
        source.run.wait_live(5 * len(ALL), PATIENCE)
    for name, source in sources.items():
        found[name]["before"] = source.watch(size.before / len(sources)).medians()
    proxy.cut()
    for name, source in sources.items():
        lags = source.watch(size.down / len(sources))
        found[name]["down"] = lags.medians()
        found[name]["queue_mb"] = round(lags.queue_bytes / 2**20, 1)
        _assert_others_keep_pace(found[name]["before"], found[name]["down"])
    for name, source in sources.items():
        found[name]["full"] = _fill(source)
    proxy.lead_to(targets[DOWN].port)
    for name, source in sources.items():
        source.workload.stop()
        sinks: list[Sink] = ["clickhouse", "parquet", targets["ocean"], targets[DOWN], targets["other"]]
        found[name]["rows_compared"] = compare(source.run, source.workload, source.database, *sinks)
        found[name]["changes"] = source.workload.changes
    return found


def _assert_others_keep_pace(before: Mapping[str, float], now: Mapping[str, float]) -> None:
    late = {who: now[who] for who in ("capture", *OTHERS) if now[who] > max(LEAST, MOST * before[who])}
    assert not late, f"behind while one sink is down: {late}; before: {before}"


def _fill(source: Source) -> dict[str, Any]:
    """Changes without a pause until capture waits for room; what was said of it."""
    source.workload.pause = 0.0
    most = source.run.service.queue_warning

    def waits() -> bool:
        return any("queue" in wait.reason for wait in control.status(source.run.service)[0].waits.values())

    lags = source.watch(PATIENCE, waits)
    assert waits(), source.run.tail()
    source.run.wait_for(lambda: source.run.events("queue_full_near"), 60)
    limit = control.status(source.run.service)[0].queue_limit
    assert lags.queue_bytes <= limit * 1.1, "the queue is larger than it may be"
    told = source.run.events("queue_full_near")[0]
    assert told["seconds"] <= most
    source.workload.pause = 1.0
    return {"queue_mb": round(lags.queue_bytes / 2**20, 1), "forecast_s": told["seconds"]}


def run(size: Size, folder: Path, seed: int) -> dict[str, dict[str, Any]]:
    """The whole proof on fresh servers."""
    with ExitStack() as stack:
        maria, mysql, ocean = (stack.enter_context(kind()) for kind in (MariaDB, MySQL9, OceanBase))
        databases = {"mariadb": stack.enter_context(fresh_database(maria))}
        databases["mysql9"] = stack.enter_context(fresh_database(mysql))
        targets: dict[str, Server] = {"ocean": ocean}
        targets[DOWN] = stack.enter_context(MariaDB())
        targets["other"] = stack.enter_context(MySQL9())
        return prove(databases, targets, folder, size, seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="syncd-proof-"))
    print(f"seed {given.seed}, {folder}")
    for name, facts in run(SIZES[given.size], folder, given.seed).items():
        print(name, facts)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
