"""From an Arrow type to the Arrow type that is written to Parquet, and back (docs/types/parquet.md)."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from syncd.model import Column

WIDEST = 38
"""Digits of the widest decimal that readers without 256-bit numbers know."""
_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_AS_IT_IS = (
    pa.types.is_integer,
    pa.types.is_decimal,
    pa.types.is_timestamp,
    pa.types.is_duration,
    pa.types.is_date32,
    pa.types.is_boolean,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
)


def stored(kind: pa.DataType) -> pa.DataType | None:
    """The type in the files; None where nothing holds it exactly."""
    if pa.types.is_dictionary(kind):
        return kind.value_type if pa.types.is_string(kind.value_type) else None
    if pa.types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("ms", kind.tz)  # Parquet has no seconds
    return kind if any(is_one(kind) for is_one in _AS_IT_IS) else None


_UNITS = ("s", "ms", "us", "ns")


def holds(wide: pa.DataType, narrow: pa.DataType) -> bool:
    """Whether a column of the one type in the files takes each value of the other as it is."""
    if wide == narrow:
        return True
    if pa.types.is_integer(wide) and pa.types.is_integer(narrow):
        signs = pa.types.is_signed_integer(wide), pa.types.is_signed_integer(narrow)
        return bool(wide.bit_width > narrow.bit_width and (signs[0] or not signs[1]))
    if pa.types.is_decimal(wide) and pa.types.is_decimal(narrow):
        return bool(wide.scale >= narrow.scale and wide.precision - wide.scale >= narrow.precision - narrow.scale)
    if pa.types.is_timestamp(wide) and pa.types.is_timestamp(narrow):
        return wide.tz == narrow.tz and _UNITS.index(wide.unit) >= _UNITS.index(narrow.unit)
    return bool(pa.types.is_float64(wide) and pa.types.is_float32(narrow))


def note(kind: pa.DataType) -> str:
    """What a reader that is not Arrow should know of it."""
    if pa.types.is_dictionary(kind):
        return "the member's name"
    if pa.types.is_duration(kind):
        return f"{_WORDS[kind.unit]} as INT64"
    if is_wide(kind):
        return f"{kind.precision} digits, more than many readers hold"
    if pa.types.is_timestamp(kind):
        return "UTC" if kind.tz else "the wall clock"
    return ""


def is_wide(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind) and kind.precision > WIDEST)


def nullable(column: Column, key: bool, *, zero_date_null: bool) -> bool:
    """NULLs are taken where the source has them, and where its zero dates become NULL; never in a key."""
    if key or column.normal_of:
        return False
    dated = pa.types.is_date32(column.type) or pa.types.is_timestamp(column.type)
    return column.nullable or (zero_date_null and dated)


def to_store(values: pa.Array) -> pa.Array:
    """A column of a batch as it is written. Dictionaries of the source may name a value twice, which Parquet cannot."""
    if pa.types.is_dictionary(values.type):
        return values.dictionary_decode()
    kind = stored(values.type)
    return values if kind == values.type else values.cast(kind)


def restored(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column as it was read, with the type that it had when it was written."""
    if pa.types.is_dictionary(kind):
        return pc.dictionary_encode(values).cast(kind)
    return values if values.type == kind else values.cast(kind)
