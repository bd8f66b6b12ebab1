"""TABLE_MAP events: the columns' types as the log writes them, and the optional metadata behind them.

Sources of the format: MySQL `libbinlogevents/include/rows_event.h` (Table_map_event and its Optional_metadata_fields),
MariaDB `sql/log_event.h`; both write the same fields. Signedness and character sets come with every
`binlog_row_metadata`, names, members and keys only with FULL.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from syncd.errors import Unsupported
from syncd.model import TableId
from syncd.sources.mysql.binlog.reader import Reader

TINY, SHORT, LONG, FLOAT, DOUBLE, TIMESTAMP, LONGLONG, INT24 = 1, 2, 3, 4, 5, 7, 8, 9
DATE, TIME, DATETIME, YEAR, VARCHAR, BIT, TIMESTAMP2, DATETIME2, TIME2 = 10, 11, 12, 13, 15, 16, 17, 18, 19
VECTOR, JSON, NEWDECIMAL, ENUM, SET, BLOB, VAR_STRING, STRING, GEOMETRY = 242, 245, 246, 247, 248, 252, 253, 254, 255

_FIXED = {TINY: 1, SHORT: 2, INT24: 3, LONG: 4, LONGLONG: 8, FLOAT: 4, DOUBLE: 8, YEAR: 1, DATE: 3, TIME: 3}
_FIXED |= {TIMESTAMP: 4, DATETIME: 8}
_FRACTIONAL = {TIMESTAMP2: 4, DATETIME2: 5, TIME2: 3}
_PREFIXED = {BLOB, JSON, GEOMETRY, VECTOR}
_NUMERIC = {TINY, SHORT, INT24, LONG, LONGLONG, FLOAT, DOUBLE, NEWDECIMAL}
_TEXT = {STRING, VAR_STRING, VARCHAR, BLOB}
_META_SIZE = {FLOAT: 1, DOUBLE: 1, **dict.fromkeys(_FRACTIONAL, 1), **dict.fromkeys(_PREFIXED, 1)}
_META_SIZE |= {VARCHAR: 2, VAR_STRING: 2, STRING: 2, NEWDECIMAL: 2, BIT: 2}
DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """One column in the log. `size`: bytes of a value, 0 where each value begins with a length of `prefix` bytes.

    `length`: the declared length in bytes (STRING, VARCHAR), bits (BIT) or fraction digits (times); `precision` and
    `scale` of NEWDECIMAL. What the optional metadata did not say is None or empty.
    """

    type: int
    size: int
    prefix: int
    length: int
    nullable: bool
    precision: int = 0
    scale: int = 0
    unsigned: bool | None = None
    collation: int | None = None
    name: str = ""
    members: tuple[bytes, ...] | None = None


@dataclass(frozen=True, slots=True)
class TableMap:
    table: TableId
    columns: tuple[ColumnMap, ...]
    key: tuple[int, ...] = field(default=())


def table_of(body: bytes) -> TableId:
    """The table's name alone; `body` is the event without header and checksum."""
    return _names(Reader(body, "TABLE_MAP", 8))


def _names(reader: Reader) -> TableId:
    database = reader.text(reader.number(1))
    reader.take(1)
    name = reader.text(reader.number(1))
    reader.take(1)
    return TableId(database, name)


def parse(body: bytes) -> TableMap:
    """The whole event. Unsupported names a column type that syncd does not know; FatalError: malformed."""
    reader = Reader(body, "TABLE_MAP", 8)
    table = _names(reader)
    count = reader.packed()
    types = reader.take(count)
    meta = Reader(reader.take(reader.packed()), "TABLE_MAP")
    null = reader.take((count + 7) // 8)
    columns = [
        _column(table, index, kind, meta, nullable=bool(null[index >> 3] >> (index & 7) & 1))
        for index, kind in enumerate(types)
    ]
    return _with_metadata(table, columns, reader)


def _column(table: TableId, index: int, kind: int, meta: Reader, *, nullable: bool) -> ColumnMap:
    if kind in _FIXED:
        meta.take(_META_SIZE.get(kind, 0))
        return ColumnMap(kind, _FIXED[kind], 0, 0, nullable)
    if kind not in _META_SIZE:
        raise Unsupported(
            f"{table}: column {index + 1} has type {kind} in the log, which syncd does not know",
            table=str(table),
            hint="leave the table out of the job, or change the column's type",
        )
    first = meta.number(1)
    if kind in _FRACTIONAL:
        return ColumnMap(kind, _FRACTIONAL[kind] + (first + 1) // 2, 0, first, nullable)
    if kind in _PREFIXED:
        return ColumnMap(kind, 0, first, 0, nullable)
    second = meta.number(1)
    if kind == NEWDECIMAL:
        return ColumnMap(kind, decimal_size(first, second), 0, 0, nullable, precision=first, scale=second)
    if kind == BIT:
        bits = first + 8 * second
        return ColumnMap(kind, (bits + 7) // 8, 0, bits, nullable)
    if kind == STRING:
        return _string(first, second, nullable=nullable)
    length = first | second << 8
    return ColumnMap(VARCHAR, 0, 1 if length < 256 else 2, length, nullable)


def _string(first: int, second: int, *, nullable: bool) -> ColumnMap:
    """STRING hides ENUM, SET and two more bits of its length in the metadata's first byte."""
    if first & 0x30 != 0x30:
        length, kind = second | ((first & 0x30) ^ 0x30) << 4, first | 0x30
    else:
        length, kind = second, first
    if kind in {ENUM, SET}:
        return ColumnMap(kind, length, 0, 0, nullable)
    return ColumnMap(STRING, 0, 1 if length < 256 else 2, length, nullable)


def decimal_size(precision: int, scale: int) -> int:
    whole, rest = precision - scale, scale
    return whole // 9 * 4 + DIGIT_BYTES[whole % 9] + rest // 9 * 4 + DIGIT_BYTES[rest % 9]


def _with_metadata(table: TableId, columns: list[ColumnMap], reader: Reader) -> TableMap:
    key: tuple[int, ...] = ()
    while reader.left:
        kind = reader.number(1)
        part = Reader(reader.take(reader.packed()), "TABLE_MAP")
        if kind == 1:
            _signedness(columns, part)
        elif kind in {2, 10}:
            _default_charset(columns, part, _TEXT if kind == 2 else {ENUM, SET})
        elif kind in {3, 11}:
            for index in _places(columns, _TEXT if kind == 3 else {ENUM, SET}):
                columns[index] = replace(columns[index], collation=part.packed())
        elif kind == 4:
            columns[:] = [replace(column, name=part.text(part.packed())) for column in columns]
        elif kind in {5, 6}:
            for index in _places(columns, {SET} if kind == 5 else {ENUM}):
                members = tuple(part.take(part.packed()) for _ in range(part.packed()))
                columns[index] = replace(columns[index], members=members)
        elif kind == 8:
            key = tuple(_all_packed(part))
        elif kind == 9:
            key = tuple(_all_packed(part)[::2])
    return TableMap(table, tuple(columns), key)


def _places(columns: list[ColumnMap], types: set[int]) -> list[int]:
    return [index for index, column in enumerate(columns) if column.type in types]


def _all_packed(part: Reader) -> list[int]:
    found = []
    while part.left:
        found.append(part.packed())
    return found


def _signedness(columns: list[ColumnMap], part: Reader) -> None:
    """Some servers count YEAR among the numeric columns, as unsigned, others do not, and none says so: what the two
    readings of the bits do not agree on stays unknown."""
    bits = part.rest()
    readings = [_signs(columns, bits, _NUMERIC), _signs(columns, bits, _NUMERIC | {YEAR})]
    possible = [signs for signs in readings if signs is not None]
    for index in _places(columns, _NUMERIC):
        said = {signs[index] for signs in possible}
        columns[index] = replace(columns[index], unsigned=said.pop() if len(said) == 1 else None)


def _signs(columns: list[ColumnMap], bits: bytes, types: set[int]) -> dict[int, bool] | None:
    """Whether each column of these types is unsigned; None when these bits cannot be theirs."""
    places = _places(columns, types)
    flags = [bool(byte >> (7 - place) & 1) for byte in bits for place in range(8)]
    if len(bits) != (len(places) + 7) // 8 or any(flags[len(places) :]):
        return None
    signs = dict(zip(places, flags, strict=False))
    years = [signs[index] for index in places if columns[index].type == YEAR]
    return signs if all(years) else None


def _default_charset(columns: list[ColumnMap], part: Reader, types: set[int]) -> None:
    default, others = part.packed(), _all_packed(part)
    named = dict(zip(others[::2], others[1::2], strict=False))
    for number, index in enumerate(_places(columns, types)):
        columns[index] = replace(columns[index], collation=named.get(number, default))
