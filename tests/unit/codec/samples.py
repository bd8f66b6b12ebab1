"""Batches that the codec's tests encode, and that the golden files hold.

`python -m tests.unit.codec.samples` writes the golden files anew: only for a new format version, beside the old ones.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa

from syncd import codec, partition
from syncd.model import ChangeBatch, Column, Ddl, Lane, Message, Op, SchemaChange, TableId, TableSchema

GOLDEN = Path(__file__).parent / "golden"
LANE = Lane("shop.orders", 3)

SCHEMA = TableSchema(
    table=TableId("shop", "orders"),
    version=(5 << 56) + 17,
    columns=(
        Column("id", pa.uint64(), nullable=False, source_type="bigint unsigned"),
        Column("state", pa.dictionary(pa.int8(), pa.string()), source_type="enum('new','paid','sent')"),
        Column("price", pa.decimal128(20, 4), source_type="decimal(20,4)"),
        Column("note", pa.string(), source_type="text", collation="utf8mb4_general_ci"),
        Column("data", pa.binary()),
        Column("at", pa.timestamp("us")),
        Column("_op", pa.int32(), comment="a column of the table that is named as one of ours"),
    ),
    key=("id",),
    key_from="primary",
)


def batch(count: int, *, before: bool = True) -> ChangeBatch:
    """`count` changes; every third row has a before-image when `before`."""
    n = range(count)
    states = pa.DictionaryArray.from_arrays(pa.array([i % 3 for i in n], pa.int8()), ["new", "paid", "sent"])
    columns = [
        pa.array([2**64 - 1 - i for i in n], pa.uint64()),
        states,
        pa.array([None if i % 4 == 1 else Decimal(i) / 16 for i in n], pa.decimal128(20, 4)),
        pa.array([None if i % 5 == 2 else f"Grüße {i}" for i in n], pa.string()),
        pa.array([bytes([i % 256]) * (i % 7) for i in n], pa.binary()),
        pa.array([dt.datetime(2026, 1, 2, 3, 4, 5, i % 1000) for i in n], pa.timestamp("us")),  # noqa: DTZ001
        pa.array(list(n), pa.int32()),
    ]
    rows = pa.RecordBatch.from_arrays(columns, schema=SCHEMA.arrow())
    ops = np.array([Op.UPDATE if i % 3 == 0 else Op.INSERT for i in n], np.uint8)
    old = pa.RecordBatch.from_arrays(
        [
            pa.array([f"old {i}" if i % 3 == 0 else None for i in n], pa.string()),
            pa.array([i if i % 3 == 0 else None for i in n], pa.int32()),
        ],
        ["note", "_op"],
    )
    seq = np.arange(count, dtype=np.uint64) * np.uint64(120) + np.uint64(SCHEMA.version)
    return ChangeBatch(SCHEMA, rows, ops, seq, old if before else None, time=1_767_323_045_000_000, trace=int(seq[0]))


def encoded(changes: ChangeBatch) -> Message:
    return codec.encode(changes, LANE, "origin", 99, partition.key_hash(SCHEMA, changes.rows))


def change() -> SchemaChange:
    return SchemaChange(Ddl.ALTER, SCHEMA, (5 << 56) + 99, "ALTER TABLE orders ADD 'ü'", 1_767_323_045_000_001)


def refresh() -> Message:
    keys = batch(3).rows.select(["id"])
    return codec.encode_refresh(SCHEMA, keys, LANE, "origin", 99, partition.key_hash(SCHEMA, keys), 77)


MESSAGES: dict[str, Callable[[], Message]] = {
    "rows": lambda: encoded(batch(5)),
    "rows-lz4": lambda: encoded(batch(100, before=False)),
    "barrier": lambda: codec.encode_change(change(), LANE, "origin", 99),
    "refresh": refresh,
}

if __name__ == "__main__":
    for name, made in MESSAGES.items():
        (GOLDEN / f"v{codec.VERSION}-{name}.bin").write_bytes(made().body)
