"""How the rows behind one TABLE_MAP become the columns of one schema version; made once and kept by the event's bytes.

The TABLE_MAP is checked against the schema in force, always: a column count, a type, a fraction, a precision, a sign, a
character set, a member or a name that differs halts the table by name, since the bytes would be read as something else.
Declared lengths are not compared: they do not change how a value is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from syncd.errors import Unsupported
from syncd.model import Column, TableSchema
from syncd.sources.mysql.binlog import numbers, tablemap, temporal, texts
from syncd.sources.mysql.binlog.cells import Convert, Place
from syncd.sources.mysql.binlog.jsonb import json_text
from syncd.sources.mysql.binlog.layout import Layout
from syncd.sources.mysql.binlog.tablemap import ColumnMap, TableMap
from syncd.sources.mysql.types import INTEGERS, arguments, arrow_type, base_type, is_unsigned, members

Normalise = Callable[[Column, pa.Array], pa.Array]
"""From a key column and its values to the values of its normalised twin."""

_TYPES: Mapping[str, frozenset[int]] = {
    "tinyint": frozenset({tablemap.TINY}),
    "smallint": frozenset({tablemap.SHORT}),
    "mediumint": frozenset({tablemap.INT24}),
    "int": frozenset({tablemap.LONG}),
    "integer": frozenset({tablemap.LONG}),
    "bigint": frozenset({tablemap.LONGLONG}),
    "float": frozenset({tablemap.FLOAT}),
    "double": frozenset({tablemap.DOUBLE}),
    "decimal": frozenset({tablemap.NEWDECIMAL}),
    "numeric": frozenset({tablemap.NEWDECIMAL}),
    "bit": frozenset({tablemap.BIT}),
    "year": frozenset({tablemap.YEAR}),
    "date": frozenset({tablemap.DATE}),
    "datetime": frozenset({tablemap.DATETIME2, tablemap.DATETIME}),
    "timestamp": frozenset({tablemap.TIMESTAMP2, tablemap.TIMESTAMP}),
    "time": frozenset({tablemap.TIME2, tablemap.TIME}),
    "char": frozenset({tablemap.STRING}),
    "binary": frozenset({tablemap.STRING}),
    "varchar": frozenset({tablemap.VARCHAR}),
    "varbinary": frozenset({tablemap.VARCHAR}),
    "enum": frozenset({tablemap.ENUM}),
    "set": frozenset({tablemap.SET}),
    "json": frozenset({tablemap.JSON}),
    **{size + kind: frozenset({tablemap.BLOB}) for kind in ("text", "blob") for size in ("", "tiny", "medium", "long")},
}
_TEXT_TYPES = frozenset({tablemap.STRING, tablemap.VARCHAR, tablemap.BLOB})


@dataclass(frozen=True, slots=True)
class Plan:
    """`columns`: those of the table itself, in its order; `converts`: one for each. `count`: their number, in bytes."""

    schema: TableSchema
    layout: Layout
    converts: tuple[Convert, ...]
    columns: tuple[Column, ...]
    count: bytes
    arrow: pa.Schema


def make(schema: TableSchema, found: TableMap, zero_date: str, charsets: Mapping[int, str]) -> Plan:
    """`charsets`: collation number -> character set, as the server lists them. Unsupported: they do not fit."""
    real = tuple(column for column in schema.columns if not column.normal_of)
    if len(real) != len(found.columns):
        raise _mismatch(schema, f"{len(found.columns)} columns in the log, {len(real)} in the schema")
    for column, mapped in zip(real, found.columns, strict=True):
        _check(schema, column, mapped, charsets)
    converts = tuple(
        _convert(Place(schema.table, column.name), column, mapped, "key" if column.name in schema.key else zero_date)
        for column, mapped in zip(real, found.columns, strict=True)
    )
    return Plan(schema, Layout(found.columns), converts, real, _packed(len(real)), schema.arrow())


def fits(schema: TableSchema, found: TableMap, charsets: Mapping[int, str]) -> bool:
    """Whether rows of this TABLE_MAP may be of that schema."""
    try:
        make(schema, found, "fail", charsets)
    except Unsupported:
        return False
    return True


def _packed(count: int) -> bytes:
    return bytes([count]) if count < 251 else b"\xfc" + count.to_bytes(2, "little")


def _mismatch(schema: TableSchema, what: str) -> Unsupported:
    return Unsupported(
        f"{schema.table}: the log does not fit the table's known schema: {what}",
        table=str(schema.table),
        hint="the table was changed by a statement that syncd did not follow: resync the table",
    )


def _check(schema: TableSchema, column: Column, mapped: ColumnMap, charsets: Mapping[int, str]) -> None:
    base = base_type(column.source_type)
    for fault in (_type_fault(column, mapped, base), _text_fault(column, mapped, base, charsets)):
        if fault:
            raise _mismatch(schema, f"column {column.name} ({column.source_type}): {fault}")


def _type_fault(column: Column, mapped: ColumnMap, base: str) -> str:
    args = arguments(column.source_type)
    if mapped.name and mapped.name != column.name:
        return f"is called {mapped.name} in the log"
    if mapped.type not in _TYPES.get(base, ()):
        return f"has type {mapped.type} in the log"
    if base in INTEGERS and mapped.unsigned not in {None, is_unsigned(column.source_type)}:
        return "has another sign in the log"
    if base in {"decimal", "numeric"} and (mapped.precision, mapped.scale) != _precision(args):
        return f"is decimal({mapped.precision},{mapped.scale}) in the log"
    if base in {"datetime", "timestamp", "time"} and mapped.length != int(args or 0):
        return f"has {mapped.length} fraction digits in the log"
    if base == "bit" and mapped.length != int(args or 1):
        return f"has {mapped.length} bits in the log"
    if base == "binary" and mapped.length != int(args or 1):
        return f"has {mapped.length} bytes in the log"
    return ""


def _precision(args: str) -> tuple[int, int]:
    precision, _, scale = (args or "10,0").partition(",")
    return int(precision), int(scale or 0)


def _text_fault(column: Column, mapped: ColumnMap, base: str, charsets: Mapping[int, str]) -> str:
    if base in {"enum", "set"}:
        names = members(column.source_type)
        if mapped.members is not None and len(mapped.members) != len(names):
            return f"has {len(mapped.members)} members in the log"
        charset = charsets.get(mapped.collation or 0, column.charset)
        if mapped.members is not None and [texts.decoded(m, charset) for m in mapped.members] != names:
            return "has other members in the log"
        return ""
    if mapped.type in _TEXT_TYPES and mapped.collation is not None:
        charset = charsets.get(mapped.collation, f"number {mapped.collation}")
        wanted = "binary" if pa.types.is_binary(column.type) else column.charset
        if wanted and _charset(charset) != _charset(wanted):
            return f"has character set {charset} in the log"
    return ""


def _charset(name: str) -> str:
    return "utf8mb3" if name == "utf8" else name


def _convert(place: Place, column: Column, mapped: ColumnMap, zero_date: str) -> Convert:
    kind, base = mapped.type, base_type(column.source_type)
    zero = temporal.ZeroDates(place, zero_date)
    if kind in {tablemap.FLOAT, tablemap.DOUBLE}:
        return numbers.floating(mapped.size)
    if kind == tablemap.NEWDECIMAL:
        return numbers.decimal(mapped.precision, mapped.scale, column.type)
    if kind == tablemap.BIT:
        return numbers.bit(mapped.size)
    if kind in {tablemap.ENUM, tablemap.SET}:
        make_one = texts.enum if kind == tablemap.ENUM else texts.set_
        return make_one(place, mapped.size, members(column.source_type))
    if kind == tablemap.JSON:
        return json_text(place)
    if kind in _TEXT_TYPES:
        if pa.types.is_binary(column.type):
            return texts.padded(mapped.length) if base == "binary" else texts.blob
        return texts.text(place, column.charset or "utf8mb4")
    sized = {tablemap.DATETIME2: temporal.datetime, tablemap.TIMESTAMP2: temporal.timestamp}
    if kind in sized:
        return sized[kind](mapped.size, zero)
    if kind == tablemap.TIME2:
        return temporal.time(mapped.size)
    simple: dict[int, Convert] = {
        tablemap.YEAR: numbers.year,
        tablemap.DATE: temporal.date(zero),
        tablemap.TIME: temporal.old_time,
        tablemap.DATETIME: temporal.old_datetime(zero),
        tablemap.TIMESTAMP: temporal.old_timestamp(zero),
    }
    if kind in simple:
        return simple[kind]
    expected = arrow_type(column.source_type, column.charset)
    assert expected is not None
    return numbers.integer(mapped.size, expected, unsigned=is_unsigned(column.source_type))
