"""A table with a column of each kind, rows and batches of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from syncd.config import TableRule
from syncd.model import ChangeBatch, Column, Op, TableId, TableSchema

TABLE = TableId("shop", "users")


def text(name: str, collation: str = "utf8mb4_0900_bin", source_type: str = "varchar(99)") -> Column:
    return Column(name, pa.string(), True, source_type, "utf8mb4", collation)


SCHEMA = TableSchema(
    TABLE,
    1,
    (
        Column("id", pa.int64(), False, "bigint"),
        text("email"),
        text("country", "utf8mb4_0900_ai_ci", "char(2)"),
        text("padded", "utf8mb4_bin"),
        text("general", "utf8mb4_general_ci"),
        text("czech", "utf8mb4_czech_ci"),
        text("doc", "utf8mb4_bin", "json"),
        Column("kind", pa.dictionary(pa.int16(), pa.string()), True, "enum('a','b')", "utf8mb4", "utf8mb4_general_ci"),
        Column("small", pa.int32(), True, "int"),
        Column("big", pa.uint64(), True, "bigint unsigned"),
        Column("price", pa.decimal128(10, 2), True, "decimal(10,2)"),
        Column("ratio", pa.float64(), True, "double"),
        Column("born", pa.date32(), True, "date"),
        Column("made", pa.timestamp("us"), True, "datetime(6)"),
        Column("seen", pa.timestamp("us", "UTC"), True, "timestamp"),
        Column("span", pa.duration("us"), True, "time"),
        Column("year", pa.uint16(), True, "year"),
        Column("raw", pa.binary(), True, "varbinary(9)"),
    ),
    ("id",),
    "primary",
)

FIRST: dict[str, Any] = {
    "id": 1,
    "email": "ann.bee@example.org",
    "country": "DE",
    "padded": "abc",
    "general": "Abc",
    "czech": "x",
    "doc": "{}",
    "kind": "a",
    "small": -5,
    "big": 2**64 - 1,
    "price": Decimal("12.50"),
    "ratio": 0.5,
    "born": date(2001, 2, 3),
    "made": datetime.fromisoformat("2024-05-06 07:08:09.123456"),
    "seen": datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC),
    "span": timedelta(hours=-3),
    "year": 1999,
    "raw": b"\x00\xff",
}


def rule(**settings: Any) -> TableRule:
    return TableRule(TABLE, "shop.users", TABLE, **settings)


def batch(
    rows: Sequence[Mapping[str, Any]],
    ops: Sequence[Op] | None = None,
    before: Sequence[Mapping[str, Any]] | None = None,
    schema: TableSchema = SCHEMA,
) -> ChangeBatch:
    """Rows that say only what differs from FIRST; `before` with the columns of its first row."""
    full = [{**FIRST, **row} for row in rows]
    arrow = schema.arrow()
    old = None
    if before is not None:
        names = list(dict.fromkeys(name for row in before for name in row))
        old = pa.RecordBatch.from_pylist(list(before), schema=pa.schema([(n, arrow.field(n).type) for n in names]))
    return ChangeBatch(
        schema,
        pa.RecordBatch.from_pylist(full, schema=arrow),
        np.array([int(op) for op in ops or [Op.INSERT] * len(rows)], dtype=np.uint8),
        np.arange(1, len(rows) + 1, dtype=np.uint64),
        old,
    )
