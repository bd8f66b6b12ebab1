"""Rows of the test sinks: Arrow values as bytes and back, without a loss."""

from __future__ import annotations

import json
import marshal
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from syncd.model import Column, KeyValue, Target
from syncd.spi import Mark

PAGE = 10_000


def signed(seq: int) -> int:
    """A u64 as a signed 64-bit number in the same order."""
    return seq - 2**63


def dump_mark(mark: Mark) -> str:
    return json.dumps([mark.offset, mark.incarnation, dict(mark.seqs)])


def load_mark(text: str) -> Mark:
    return Mark(*json.loads(text))


def encode(rows: pa.RecordBatch, columns: Sequence[str] | None) -> list[bytes]:
    """Each row's values of these columns (None: all) as bytes; equal values give equal bytes."""
    names = rows.schema.names if columns is None else columns
    lists = [plain(rows.column(name)) for name in names]
    # Version 2 writes no references: the bytes depend on the values alone.
    return [marshal.dumps(values, 2) for values in zip(*lists, strict=True)]


def plain(array: pa.Array) -> list[Any]:
    """As int, float, str, bytes, bool or None: dates, times and durations by their number, decimals by their text."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return plain(array.cast(kind.value_type))
    if pa.types.is_date32(kind):
        return list(array.view(pa.int32()).to_pylist())
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return list(array.view(pa.int64()).to_pylist())
    if pa.types.is_decimal(kind):
        return [None if v is None else f"{v:f}" for v in array.to_pylist()]
    return list(array.to_pylist())


def arrow(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """The way back of `plain`."""
    if pa.types.is_dictionary(kind):
        return arrow(values, kind.value_type).dictionary_encode().cast(kind)
    if pa.types.is_date32(kind):
        return pa.array(values, pa.int32()).view(kind)
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return pa.array(values, pa.int64()).view(kind)
    if pa.types.is_decimal(kind):
        return pa.array([None if v is None else Decimal(v) for v in values], kind)
    return pa.array(values, kind)


def decode(
    target: Target,
    stored: Sequence[tuple[str, bytes]],
    lower: tuple[KeyValue, ...] | None,
    upper: tuple[KeyValue, ...] | None,
) -> Iterator[pa.RecordBatch]:
    """(names of the columns, bytes) -> batches of `target`'s columns in key order; absent columns get their default."""
    columns = target.schema.columns
    defaults = {c.name: default(c) for c in columns}
    rows = []
    for names, data in stored:
        row = dict(zip(names.split("\0"), marshal.loads(data), strict=True))
        rows.append([row.get(c.name, defaults[c.name]) for c in columns])
    if not target.append:
        rows = _in_range(target, rows, lower, upper)
    schema = target.schema.arrow()
    for start in range(0, len(rows), PAGE):
        lists = zip(*rows[start : start + PAGE], strict=True)
        arrays = [arrow(values, c.type) for values, c in zip(lists, columns, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _in_range(
    target: Target, rows: list[list[Any]], lower: tuple[KeyValue, ...] | None, upper: tuple[KeyValue, ...] | None
) -> list[list[Any]]:
    names = [c.name for c in target.schema.columns]
    places = [names.index(name) for name in target.schema.identity]
    kinds = [target.schema.columns[at].type for at in places]

    def key(row: list[Any]) -> tuple[Any, ...]:
        return tuple(_ordered(row[at], kind) for at, kind in zip(places, kinds, strict=True))

    def bound(values: tuple[KeyValue, ...]) -> tuple[Any, ...]:
        plains = [plain(pa.array([v], kind))[0] for v, kind in zip(values, kinds, strict=True)]
        return tuple(_ordered(v, kind) for v, kind in zip(plains, kinds, strict=True))

    low = None if lower is None else bound(lower)
    high = None if upper is None else bound(upper)
    kept = [r for r in rows if (low is None or key(r) > low) and (high is None or key(r) <= high)]
    return sorted(kept, key=key)


def _ordered(value: Any, kind: pa.DataType) -> Any:
    return Decimal(value) if pa.types.is_decimal(kind) else value


def widened(data: bytes, values: Sequence[Any]) -> bytes:
    """A stored row with more values behind its own."""
    return marshal.dumps((*marshal.loads(data), *values), 2)


def default(column: Column) -> Any:
    """What rows hold that were stored before the column was there: its constant default, else NULL or the zero."""
    if column.default is None:
        return None if column.nullable else plain(_zero(column.type))[0]
    if pa.types.is_binary(column.type):
        return bytes.fromhex(column.default.removeprefix("0x"))
    if pa.types.is_decimal(column.type):
        return plain(pa.array([Decimal(column.default)], column.type))[0]
    if pa.types.is_dictionary(column.type):
        return column.default
    if pa.types.is_duration(column.type):
        return _microseconds(column.default)
    kind = pa.timestamp("us") if pa.types.is_timestamp(column.type) else column.type
    return plain(pa.array([column.default]).cast(kind))[0]


def _microseconds(time: str) -> int:
    hours, minutes, seconds = time.lstrip("-").split(":")
    size = (int(hours) * 60 + int(minutes)) * 60_000_000 + int(Decimal(seconds) * 1_000_000)
    return -size if time.startswith("-") else size


def _zero(kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind):
        return pa.array([""])
    if pa.types.is_binary(kind):
        return pa.array([b""])
    return arrow(["0" if pa.types.is_decimal(kind) else 0], kind)
