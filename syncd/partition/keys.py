"""Key bytes, key hash, slot and queue of rows; the last change of each key."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.types as pat
from numpy.typing import NDArray

from syncd.errors import FatalError
from syncd.model import ChangeBatch, TableSchema
from syncd.partition.xxh64 import xxh64

SLOTS = 1024
"""A key belongs to one of these for ever; a slot belongs to a queue for as long as the number of queues stays."""


class _Part(NamedTuple):
    """One key column's bytes: `data` is (rows, width) for a fixed width, else flat with `ends` (rows + 1)."""

    data: NDArray[np.uint8]
    ends: NDArray[np.int64] | None


def key_bytes(schema: TableSchema, rows: pa.RecordBatch) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The canonical key of each row: all keys one after the other, and their borders (rows + 1).

    FatalError names a key column that is absent, holds NULL, or has a type without key bytes.
    """
    parts = [_part(schema, rows, name) for name in schema.identity]
    if all(part.ends is None for part in parts):
        matrix = np.concatenate([np.empty((rows.num_rows, 0), np.uint8), *(p.data for p in parts)], axis=1)
        return matrix.reshape(-1), np.arange(rows.num_rows + 1, dtype=np.int64) * matrix.shape[1]
    return _interleave(parts, rows.num_rows)


def key_hash(schema: TableSchema, rows: pa.RecordBatch) -> NDArray[np.uint64]:
    """XXH64 (seed 0) of each row's key bytes. Equal keys have equal hashes; equal hashes do not mean equal keys."""
    return xxh64(*key_bytes(schema, rows))


def slots(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    return (hashes % np.uint64(SLOTS)).astype(np.int64)


def queues(hashes: NDArray[np.uint64], count: int) -> NDArray[np.int64]:
    """The queue (0 .. count - 1) of each key."""
    return slots(hashes) % count


def last_per_key(schema: TableSchema, batch: ChangeBatch) -> NDArray[np.int64]:
    """Where the last change of each key is in the batch, ascending."""
    return ends_per_key(schema, batch)[1]


def ends_per_key(schema: TableSchema, batch: ChangeBatch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the first and the last change of each key are in the batch, in the order of the last ones.

    Rows are grouped by hash and then told apart by their key bytes: a collision merges nothing.
    """
    data, borders = key_bytes(schema, batch.rows)
    hashes = xxh64(data, borders)
    ordered = np.sort(hashes)
    if not (ordered[1:] == ordered[:-1]).any():
        alone = np.arange(len(hashes), dtype=np.int64)
        return alone, alone
    order = np.argsort(hashes, kind="stable")
    same = hashes[order[1:]] == hashes[order[:-1]]
    if _equal_keys(data, borders, order[:-1][same], order[1:][same]):
        first, last = order[np.append(True, ~same)], order[np.append(~same, True)]
        by_last = np.argsort(last)
        return first[by_last], last[by_last]
    return _ends_by_bytes(data, borders)


def _equal_keys(
    data: NDArray[np.uint8], borders: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]
) -> bool:
    """Whether the key of each row of `left` is, byte for byte, that of its neighbour in `right`."""
    lengths = borders[left + 1] - borders[left]
    if not np.array_equal(lengths, borders[right + 1] - borders[right]):
        return False
    ends = np.cumsum(lengths)
    within = np.arange(int(ends[-1]), dtype=np.int64) - np.repeat(ends - lengths, lengths)
    return np.array_equal(
        data[np.repeat(borders[left], lengths) + within], data[np.repeat(borders[right], lengths) + within]
    )


def _ends_by_bytes(data: NDArray[np.uint8], borders: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # Two keys of one hash in one batch: once in about 10**10 batches. A dictionary of keys is right and slow.
    whole = data.tobytes()
    edges = borders.tolist()
    ends: dict[bytes, tuple[int, int]] = {}
    for i in range(len(edges) - 1):
        key = whole[edges[i] : edges[i + 1]]
        ends[key] = (ends.get(key, (i, i))[0], i)
    first, last = np.array(sorted(ends.values(), key=lambda pair: pair[1]), np.int64).T
    return first, last


def _part(schema: TableSchema, rows: pa.RecordBatch, name: str) -> _Part:
    at = rows.schema.get_field_index(name)
    if at < 0:
        raise FatalError(f"{schema.table}: rows without key column {name!r}", table=str(schema.table))
    column = rows.column(at)
    if column.null_count:
        raise FatalError(
            f"{schema.table}: NULL in key column {name!r}",
            table=str(schema.table),
            hint="declare a key whose columns are NOT NULL",
        )
    if pat.is_dictionary(column.type):
        column = column.dictionary_decode()
    if _is_bytes(column.type):
        return _variable(column)
    numbers = _fixed(column)
    if numbers is None:
        raise FatalError(f"{schema.table}: no key bytes for {name!r} of type {column.type}", table=str(schema.table))
    return _Part(numbers, None)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pat.is_string(kind)
        or pat.is_large_string(kind)
        or pat.is_binary(kind)
        or pat.is_large_binary(kind)
        or pat.is_fixed_size_binary(kind)
    )


def _variable(column: pa.Array) -> _Part:
    if pat.is_fixed_size_binary(column.type):
        column = column.cast(pa.binary())
    wide = pat.is_large_string(column.type) or pat.is_large_binary(column.type)
    _, borders, values = column.buffers()
    ends = np.frombuffer(borders, np.int64 if wide else np.int32)[column.offset : column.offset + len(column) + 1]
    if not len(column):
        ends = np.zeros(1, np.int64)
    data = np.empty(0, np.uint8) if values is None else np.frombuffer(values, np.uint8)
    return _Part(data[ends[0] : ends[-1]], ends.astype(np.int64) - int(ends[0]))


def _fixed(column: pa.Array) -> NDArray[np.uint8] | None:
    """(rows, 8) or, for decimals, (rows, 32) bytes; None for a type that has no key bytes."""
    kind = column.type
    if pat.is_decimal(kind):
        return _decimal(column)
    if pat.is_floating(kind):
        doubles = column.cast(pa.float64()).to_numpy(zero_copy_only=False) + 0.0  # -0.0 + 0.0 is 0.0
        return _as_bytes(np.where(np.isnan(doubles), np.nan, doubles).astype("<f8"))
    if pat.is_uint64(kind):
        return _as_bytes(column.to_numpy(zero_copy_only=False).astype("<u8"))
    if pat.is_boolean(kind):
        column = column.cast(pa.int64())
    elif pat.is_temporal(kind) and kind != pa.month_day_nano_interval():
        column = column.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif not pat.is_integer(kind):
        return None
    return _as_bytes(column.to_numpy(zero_copy_only=False).astype("<i8"))


def _as_bytes(numbers: NDArray[np.generic]) -> NDArray[np.uint8]:
    return numbers.view(np.uint8).reshape(-1, 8)


def _decimal(column: pa.Array) -> NDArray[np.uint8]:
    """The unscaled value, little-endian two's complement, sign-extended to 32 bytes whatever the precision."""
    width = column.type.bit_width // 8
    start = column.offset * width
    raw = np.frombuffer(column.buffers()[1], np.uint8)[start : start + len(column) * width].reshape(-1, width)
    out = np.empty((len(column), 32), np.uint8)
    out[:, :width] = raw
    out[:, width:] = np.where(raw[:, -1:] & 0x80, 0xFF, 0)
    return out


def _interleave(parts: list[_Part], rows: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Each row's parts one behind the other, variable ones behind their length as u32."""
    sizes = [
        np.full(rows, part.data.shape[1], np.int64) if part.ends is None else np.diff(part.ends) + 4 for part in parts
    ]
    borders = np.zeros(rows + 1, np.int64)
    np.cumsum(np.sum(sizes, axis=0), out=borders[1:])
    out = np.empty(int(borders[-1]), np.uint8)
    place = borders[:-1].copy()
    for part, size in zip(parts, sizes, strict=True):
        if part.ends is None:
            out[place[:, None] + np.arange(part.data.shape[1])] = part.data
        else:
            lengths = (size - 4).astype("<u4").view(np.uint8).reshape(-1, 4)
            out[place[:, None] + np.arange(4)] = lengths
            _scatter(out, place + 4, part.data, size - 4)
        place += size
    return out, borders


def _scatter(
    out: NDArray[np.uint8], starts: NDArray[np.int64], data: NDArray[np.uint8], lengths: NDArray[np.int64]
) -> None:
    """Copy `data`, cut into `lengths`, to `starts`. Each start is behind the end before it."""
    edge = np.zeros(len(out) + 1, np.int8)
    edge[starts] += 1
    edge[starts + lengths] -= 1
    out[np.cumsum(edge[:-1], dtype=np.int8).view(np.bool_)] = data
