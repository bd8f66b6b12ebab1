"""From an Arrow type to the ClickHouse type that holds it exactly, and back (docs/types/clickhouse.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from syncd.model import Column

_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
DELTA = "CODEC(Delta, ZSTD(1))"


@dataclass(frozen=True, slots=True)
class Held:
    """How a column is held: `name` is the type as ClickHouse writes it, `note` what a reader should know of it."""

    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Making:
    """The job's choices that types depend on."""

    zero_date_null: bool = False
    low_cardinality: bool = True
    codecs: bool = True


def is_dated(kind: pa.DataType) -> bool:
    return bool(pa.types.is_date32(kind) or pa.types.is_timestamp(kind))


def nullable(column: Column, key: bool, making: Making) -> bool:
    """NULLs are taken where the source has them, and where its zero dates become NULL; never in a key."""
    if key or column.normal_of:
        return column.nullable and not column.normal_of
    return column.nullable or (making.zero_date_null and is_dated(column.type))


def held(column: Column, key: bool, making: Making) -> Held | None:
    """The type of a column; None where nothing holds it exactly."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        base = _plain(kind.value_type)
        if base is None or base.name != "String":
            return None
        inner = "Nullable(String)" if nullable(column, key, making) else "String"
        return Held(f"LowCardinality({inner})" if making.low_cardinality else inner, "the member's name")
    base = _plain(kind)
    if base is None:
        return None
    return Held(f"Nullable({base.name})", base.note) if nullable(column, key, making) else base


_ENVELOPE = re.compile(r"(Nullable|LowCardinality)\((.*)\)$")
_SIZED = re.compile(r"(U?Int|Float|Decimal|DateTime64)\(?(\d+)(?:, (.*)\))?\)?$")


def holds(wide: str, narrow: str) -> bool:
    """Whether a column of the one type takes each value of the other, as both are written by the server."""
    (one, takes_null), (other, has_null) = _bare(wide), _bare(narrow)
    return (takes_null or not has_null) and (one == other or _has_room(one, other))


def takes_null(name: str) -> bool:
    return _bare(name)[1]


def _bare(name: str) -> tuple[str, bool]:
    """Without what is around it; whether it takes NULL."""
    null = False
    while found := _ENVELOPE.match(name):
        null, name = null or found[1] == "Nullable", found[2]
    return name, null


def _has_room(one: str, other: str) -> bool:
    here, there = _SIZED.match(one), _SIZED.match(other)
    if here is None or there is None:
        return False
    size, its = int(here[2]), int(there[2])
    if here[1] == there[1] == "Decimal":
        scale, its_scale = int(here[3] or 0), int(there[3] or 0)
        return scale >= its_scale and size - scale >= its - its_scale
    if (here[1], there[1]) == ("Int", "UInt"):
        return size > its
    return here[1] == there[1] and here[3] == there[3] and size >= its


def _plain(kind: pa.DataType) -> Held | None:
    if pa.types.is_integer(kind):
        return Held(("UInt" if pa.types.is_unsigned_integer(kind) else "Int") + str(kind.bit_width))
    if pa.types.is_decimal(kind):
        return Held(f"Decimal({kind.precision}, {kind.scale})")
    if pa.types.is_timestamp(kind):
        note = "UTC" if kind.tz else "the wall clock, as if it were UTC"
        return Held(f"DateTime64({_DIGITS[kind.unit]}, 'UTC')", note) if kind.tz in (None, "UTC") else None
    if pa.types.is_duration(kind):
        return Held("Int64", _WORDS[kind.unit])
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return Held("String", "UTF-8")
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return Held("String", "the bytes")
    return {
        pa.bool_(): Held("Bool"),
        pa.float32(): Held("Float32"),
        pa.float64(): Held("Float64"),
        pa.date32(): Held("Date32"),
    }.get(kind)


def codec(column: Column, key: bool, making: Making) -> str:
    """A codec for what grows step by step: integers of the key, dates and times."""
    kind = column.type
    stepped = is_dated(kind) or (key and pa.types.is_integer(kind) and kind.bit_width > 8)
    return DELTA if making.codecs and stepped else ""


def restored(values: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """A column of a result, with strings as binary, as the Arrow type that it had when it was written."""
    array = values.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_dictionary(kind):
        return pc.dictionary_encode(array.cast(kind.value_type)).cast(kind)
    return array if array.type == kind else array.cast(kind)
