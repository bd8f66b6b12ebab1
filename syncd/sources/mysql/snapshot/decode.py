"""From windows of wire rows to Arrow columns, every value of a column at once.

How a column is asked for (`expression`) and how its wire form is read (`_layout`) stand side by side: ENUM and BIT are
cast by the server to integers, everything else comes as it is. Types are those of `types.arrow_type`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from syncd.errors import FatalError, Unfollowed, Unsupported
from syncd.model import Column, TableSchema
from syncd.sources.mysql import types
from syncd.sources.mysql.binlog.arrays import Bools, Ints, Views, array, binary
from syncd.sources.mysql.connect import quoted
from syncd.sources.mysql.snapshot.protocol import Field, Window
from syncd.sources.mysql.snapshot.values import day_numbers, decimals, lengths

Normalise = Callable[[Column, pa.Array], pa.Array]

# FIELD_TYPE codes of the protocol
TINY, SHORT, LONG, FLOAT, DOUBLE, TIMESTAMP, LONGLONG = 1, 2, 3, 4, 5, 7, 8
INT24, DATE, TIME, DATETIME, YEAR = 9, 10, 11, 12, 13
VARCHAR, JSON, NEWDECIMAL, VAR_STRING, STRING = 15, 245, 246, 253, 254
BLOBS = frozenset({249, 250, 251, 252})
TEXTS = frozenset({VARCHAR, JSON, VAR_STRING, STRING}) | BLOBS
UNSIGNED = 32

_INTEGERS = {
    "tinyint": (TINY, 1),
    "smallint": (SHORT, 2),
    "mediumint": (INT24, 4),
    "int": (LONG, 4),
    "integer": (LONG, 4),
    "bigint": (LONGLONG, 8),
}
_DAY = 86_400_000_000


def expression(column: Column) -> str:
    """The column in a SELECT list."""
    name = quoted(column.name)
    return f"CAST({name} AS UNSIGNED)" if types.base_type(column.source_type) in {"enum", "bit"} else name


def columns_of(schema: TableSchema) -> list[Column]:
    """The columns that the server has: all but the twins."""
    return [column for column in schema.columns if not column.normal_of]


@dataclass(frozen=True, slots=True)
class Rules:
    """`zero_date` is "null" or "fail"; `normalise` makes a twin's values from its column's."""

    zero_date: str
    normalise: Normalise


class Decoder:
    """Rows of one table. FatalError at once when the result's fields are not those of the schema."""

    def __init__(self, schema: TableSchema, fields: Sequence[Field], rules: Rules) -> None:
        self._schema = schema
        self._rules = rules
        self._columns = columns_of(schema)
        self._arrow = schema.arrow()
        self._layouts: list[str | None] = []
        if len(fields) != len(self._columns):
            raise self._changed(f"{len(self._columns)} columns are expected, {len(fields)} came")
        for column, field in zip(self._columns, fields, strict=True):
            if not _fits(column, field):
                raise self._changed(f"column {column.name} is no longer {column.source_type}")
            self._layouts.append(_layout(column, field))

    def _changed(self, what: str) -> Unfollowed:
        hint = "resync the table if it was changed on purpose"
        return Unfollowed(f"table {self._schema.table}: {what}", table=str(self._schema.table), hint=hint, code="E183")

    def batch(self, window: Window) -> pa.RecordBatch:
        """The window's rows in the schema's columns, twins included."""
        views, starts, ends = Views(window.data), window.starts, window.ends
        at = starts + (len(self._columns) + 9) // 8
        self._inside(at, ends)
        made: dict[str, pa.Array] = {}
        for number, column in enumerate(self._columns):
            made[column.name], at = self._column(views, number, starts, at, ends)
            self._inside(at, ends)
        if not np.array_equal(at, ends):
            raise FatalError(f"table {self._schema.table}: rows on the wire are longer than their columns")
        for column in self._schema.columns:
            if column.normal_of:
                made[column.name] = self._rules.normalise(self._schema.column(column.normal_of), made[column.normal_of])
        return pa.RecordBatch.from_arrays([made[c.name] for c in self._schema.columns], schema=self._arrow)

    def _inside(self, at: Ints, ends: Ints) -> None:
        if bool((at > ends).any()):
            raise FatalError(f"table {self._schema.table}: a value on the wire goes beyond its row")

    def _column(self, views: Views, number: int, starts: Ints, at: Ints, ends: Ints) -> tuple[pa.Array, Ints]:
        """The column's values, and where the next column begins in each row."""
        column, fixed = self._columns[number], self._layouts[number]
        bit = number + 2
        flags = views.data[starts + (bit >> 3)] & (1 << (bit & 7))
        null: Bools | None = flags.astype(np.bool_) if flags.any() else None
        if fixed is not None:
            values = views.at(fixed, at)
            size = values.dtype.itemsize
            after = at + size if null is None else np.where(null, at, at + size)
            return _numbers(column, values, null), after
        if pa.types.is_temporal(column.type):
            return self._moments(views, column, at, null)
        return self._lengthy(views, column, at, ends, null)

    def _lengthy(self, views: Views, column: Column, at: Ints, ends: Ints, null: Bools | None) -> tuple[pa.Array, Ints]:
        # A null has no byte of its own: what stands there belongs to the next column.
        begin, size = lengths(views, at) if null is None else _present(views, at, null)
        after = begin + size
        self._inside(after, ends)
        if pa.types.is_decimal(column.type):
            return decimals(views, begin, size, null, column.type), after
        found = binary(views.data, begin, size, null)
        if pa.types.is_binary(column.type):
            return found, after
        try:
            return found.cast(pa.string()), after
        except pa.ArrowInvalid as error:
            table = str(self._schema.table)
            raise Unsupported(
                f"table {table}, column {column.name}: text that is not valid UTF-8", table=table
            ) from error

    def _moments(self, views: Views, column: Column, at: Ints, null: Bools | None) -> tuple[pa.Array, Ints]:
        size = views.data[at].astype(np.int64)
        after = at + size + 1
        if null is not None:
            size, after = np.where(null, 0, size), np.where(null, at, after)
        if pa.types.is_duration(column.type):
            _known(size, (0, 8, 12))
            return array(column.type, _time(views, at + 1, size), null), after
        _known(size, (0, 4, 7, 11))
        days, wrong = _days(views, at + 1, size)
        null = self._without_zero(column, wrong, null)
        if pa.types.is_date(column.type):
            return array(column.type, days.astype(np.int32), null), after
        return array(column.type, days * _DAY + _clock(views, at + 5, size), null), after

    def _without_zero(self, column: Column, wrong: Bools, null: Bools | None) -> Bools | None:
        """The nulls with the zero dates among them. Unsupported: the job does not say what to do with zero dates."""
        if null is not None:
            wrong = wrong & ~null
        if not wrong.any():
            return null
        table = str(self._schema.table)
        if self._rules.zero_date != "null" or column.name in self._schema.key:
            raise Unsupported(
                f"table {table}, column {column.name}: a date that is none (0000-00-00 or alike)",
                table=table,
                hint="mend the rows, or set `policy: {zero_date: 'null'}` and resync the table (not possible in a key)",
                code="E187",
            )
        return wrong if null is None else null | wrong


def _wire(column: Column) -> tuple[str, bool]:
    base = types.base_type(column.source_type)
    return base, types.is_unsigned(column.source_type)


def _code(column: Column) -> frozenset[int]:
    """The type codes under which the server may send the column (after its `expression`)."""
    base = types.base_type(column.source_type)
    if base in _INTEGERS:
        return frozenset({_INTEGERS[base][0]})
    if base in types.TEXTS | types.BINARIES | {"set", "json"}:
        return TEXTS
    return _CODES[base]


_CODES = {
    "float": frozenset({FLOAT}),
    "double": frozenset({DOUBLE}),
    "decimal": frozenset({NEWDECIMAL}),
    "numeric": frozenset({NEWDECIMAL}),
    "bit": frozenset({LONG, LONGLONG}),
    "enum": frozenset({LONG, LONGLONG}),
    "date": frozenset({DATE, 14}),
    "datetime": frozenset({DATETIME, 18}),
    "timestamp": frozenset({TIMESTAMP, 17}),
    "time": frozenset({TIME, 19}),
    "year": frozenset({YEAR}),
}


def _fits(column: Column, field: Field) -> bool:
    if field.code not in _code(column):
        return False
    base, unsigned = _wire(column)
    if base in _INTEGERS and bool(field.flags & UNSIGNED) != unsigned:
        return False
    return not pa.types.is_decimal(column.type) or field.scale == column.type.scale


def _layout(column: Column, field: Field) -> str | None:
    """The NumPy type of a column of fixed width on the wire; None for one whose values tell their length."""
    base, unsigned = _wire(column)
    if base in _INTEGERS:
        return f"<{'u' if unsigned else 'i'}{_INTEGERS[base][1]}"
    if base in {"bit", "enum"}:
        # MariaDB casts to INT where that is wide enough.
        return "<u4" if field.code == LONG else "<u8"
    return {"float": "<f4", "double": "<f8", "year": "<u2"}.get(base)


def _numbers(column: Column, values: NDArray[np.generic], null: Bools | None) -> pa.Array:
    if not pa.types.is_dictionary(column.type):
        wide = values.astype(np.uint64, copy=False) if pa.types.is_uint64(column.type) else values
        return array(column.type, wide, null)
    names = ["", *types.members(column.source_type)]
    if values.size and int(np.where(null, 0, values).max() if null is not None else values.max()) >= len(names):
        raise FatalError(f"column {column.name}: a member that its ENUM does not have")
    index = array(pa.int16(), values.astype(np.int16), null)
    return pa.DictionaryArray.from_arrays(index, pa.array(names, pa.string()))


def _known(size: Ints, allowed: tuple[int, ...]) -> None:
    if not np.isin(size, allowed).all():
        raise FatalError(f"a date or time on the wire has a length other than {allowed}")


def _present(views: Views, at: Ints, null: Bools) -> tuple[Ints, Ints]:
    """`lengths` for the rows that have a value; the others begin where they are and are 0 long."""
    begin, size = at.copy(), np.zeros(len(at), np.int64)
    there = np.flatnonzero(~null)
    begin[there], size[there] = lengths(views, at[there])
    return begin, size


def _days(views: Views, at: Ints, size: Ints) -> tuple[Ints, Bools]:
    """Day numbers, and which dates are none. The wire leaves out a date that is all zero."""
    word = np.where(size > 0, views.little(4, at), 0)
    return day_numbers(word & 0xFFFF, word >> 16 & 0xFF, word >> 24)


def _clock(views: Views, at: Ints, size: Ints) -> Ints:
    """Microseconds of the day; the wire leaves out a time, or a fraction, that is all zero."""
    word = views.little(3, at)
    seconds = (word & 0xFF) * 3600 + (word >> 8 & 0xFF) * 60 + (word >> 16)
    clock: Ints = np.where(size >= 7, seconds * 1_000_000, 0) + np.where(size >= 11, views.little(4, at + 3), 0)
    return clock


def _time(views: Views, at: Ints, size: Ints) -> Ints:
    """Microseconds: sign, days (u32), hours, minutes, seconds, fraction (u32)."""
    word = views.little(3, at + 5)
    seconds = views.little(4, at + 1) * 86400 + (word & 0xFF) * 3600 + (word >> 8 & 0xFF) * 60 + (word >> 16)
    value = np.where(size >= 8, seconds * 1_000_000, 0) + np.where(size >= 12, views.little(4, at + 8), 0)
    signed: Ints = np.where((size > 0) & (views.data[at] == 1), -value, value)
    return signed
