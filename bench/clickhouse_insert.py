"""Rows per second of `ClickHouseSink.write` on the embedded engine, 12 columns, by rows in a batch.

    python -m bench.clickhouse_insert [--rows 1000000] [--rounds 3]

Prints one line per size: the median of the rounds, with and without fsync, and `insert_arrow` alone for comparison.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa

from syncd.model import ChangeBatch, Column, Op, TableId, TableSchema, Target
from syncd.sinks.clickhouse import ClickHouseSink
from syncd.sinks.clickhouse.limits import Limits
from syncd.sinks.clickhouse.options import ClickHouseOptions
from syncd.sinks.clickhouse.rows import build
from syncd.sinks.clickhouse.types import Making
from syncd.spi import Context, Ticket

SIZES = (10_000, 50_000, 100_000)
COLUMNS = (
    Column("id", pa.int64(), nullable=False),
    Column("customer", pa.int32(), nullable=False),
    Column("status", pa.dictionary(pa.int16(), pa.string()), nullable=False),
    Column("amount", pa.decimal128(18, 4), nullable=False),
    Column("tax", pa.decimal128(10, 2)),
    Column("created", pa.timestamp("us"), nullable=False),
    Column("updated", pa.timestamp("us", "UTC")),
    Column("day", pa.date32()),
    Column("note", pa.string()),
    Column("city", pa.string(), nullable=False),
    Column("weight", pa.float64()),
    Column("blob", pa.binary()),
)
SCHEMA = TableSchema(TableId("shop", "orders"), 1, COLUMNS, ("id",), "primary")


def orders(first: int, count: int) -> ChangeBatch:
    rng = np.random.default_rng(first)
    ids = np.arange(first, first + count)
    moment = pa.array(1_700_000_000_000_000 + ids * 1_000, pa.int64())
    words = pa.array([f"some words of a note, number {i}" for i in range(1_000)])
    amounts = pa.array([Decimal(i).scaleb(-4) for i in range(1_000)], pa.decimal128(18, 4))
    pick = pa.array(rng.integers(0, 1_000, count))
    arrays = [
        pa.array(ids, pa.int64()),
        pa.array(rng.integers(0, 10**6, count), pa.int32()),
        pa.DictionaryArray.from_arrays(pa.array(rng.integers(0, 3, count), pa.int16()), pa.array(["", "new", "paid"])),
        amounts.take(pick),
        amounts.take(pick).cast(pa.decimal128(10, 2), safe=False),
        moment.cast(pa.timestamp("us")),
        moment.cast(pa.timestamp("us", "UTC")),
        pa.array(rng.integers(10_000, 20_000, count), pa.int32()).cast(pa.date32()),
        words.take(pick),
        words.take(pick),
        pa.array(rng.random(count)),
        words.take(pick).cast(pa.binary()),
    ]
    rows = pa.RecordBatch.from_arrays(arrays, schema=SCHEMA.arrow())
    return ChangeBatch(SCHEMA, rows, np.full(count, Op.INSERT, np.uint8), ids.astype(np.uint64))


def timed(batches: list[ChangeBatch], write: Callable[[int, ChangeBatch], None]) -> float:
    """Thousand rows a second."""
    begun = time.perf_counter()
    for number, batch in enumerate(batches):
        write(number, batch)
    return sum(map(len, batches)) / (time.perf_counter() - begun) / 1_000


def measure(folder: Path, size: int, rows: int, *, fsync: bool, bare: bool) -> float:
    options = ClickHouseOptions(url=f"chdb://{folder}/engine", fsync=fsync)
    sink = ClickHouseSink(options, Context("job/sink", folder))
    sink.open()
    try:
        target = Target(SCHEMA, "shop", f"orders_{size}_{time.monotonic_ns()}")
        sink.prepare(target)
        batches = [orders(first, size) for first in range(0, rows, size)]
        if not bare:
            return timed(batches, lambda n, b: sink.write(target, b, Ticket("job/sink", 1, n)))
        wide = Limits((-(10**6), 10**7), (-(10**5), 10**5))
        tables = [build(target, b, Making(), wide, 0).rows for b in batches]
        return timed(batches, lambda n, b: sink._client.insert("shop", target.name, tables[n], {}))
    finally:
        sink.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    ways = {"write": (True, False), "write, no fsync": (False, False), "insert_arrow alone": (False, True)}
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            found: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(given.rounds):
                for name, (fsync, bare) in ways.items():
                    found[name].append(measure(Path(folder), size, given.rows, fsync=fsync, bare=bare))
            line = "   ".join(f"{name} {statistics.median(speeds):6.0f}" for name, speeds in found.items())
            print(f"{size:>7} rows a batch, thousand rows/s:   {line}", flush=True)


if __name__ == "__main__":
    main()
