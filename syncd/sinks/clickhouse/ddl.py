"""Statements for tables, columns and views; names and values quoted."""

# ruff: noqa: S608 - every name and value in these statements is quoted by `ddl`

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa

from syncd.errors import FatalError
from syncd.model import Column, KeyValue, Target
from syncd.sinks.clickhouse.rows import DELETED, VERSION
from syncd.sinks.clickhouse.syntax import quoted, text
from syncd.sinks.clickhouse.types import DELTA, Making, codec, held

DEDUP_WINDOW = 10_000
FLOOR = "syncd_floor"
ALTERED = "syncd_altered_"
"""With the seq of the last schema change that the table has followed: see `alter`."""
FILLING = "syncd_filling_"
"""With the part and the seq of a change that gives rows their values: see `shards`."""
HOLDS = f"CHECK {VERSION} >= 0"
"""For every row. A constant would not do: a column may have its text as a name."""
_FLOOR = rf"CONSTRAINT `?(%s(?:_\d+)?)`? CHECK \(?`?{VERSION}`? >= (\d+)"
_STRING = re.compile(r"'(?:[^'\\]|\\.|'')*'", re.DOTALL)
_UNIX = {"ms": "Milli", "us": "Micro", "ns": "Nano"}


def full_name(target: Target) -> str:
    return f"{quoted(target.database)}.{quoted(target.name)}"


def view_name(target: Target) -> str:
    return f"{quoted(target.database)}.{quoted(target.name + '_current')}"


def column_line(column: Column, key: bool, making: Making) -> str:
    kind = held(column, key, making)
    if kind is None:
        raise FatalError(f"{column.name}: no ClickHouse type holds {column.type} exactly")
    return " ".join(part for part in (quoted(column.name), kind.name, codec(column, key, making)) if part)


def engine(target: Target) -> str:
    if target.append:
        return "MergeTree"
    return f"ReplacingMergeTree({VERSION})" if target.deletes == "soft" else f"ReplacingMergeTree({VERSION}, {DELETED})"


def create_database(target: Target) -> str:
    return f"CREATE DATABASE IF NOT EXISTS {quoted(target.database)}"


def create_table(target: Target, making: Making, fsync: bool) -> str:
    """ORDER BY is exactly the identity: rows that differ in it never replace each other, rows that agree always do."""
    identity = target.schema.identity
    lines = [column_line(c, c.name in identity, making) for c in target.schema.columns]
    lines += [f"{quoted(VERSION)} UInt64{f' {DELTA}' if making.codecs else ''}", f"{quoted(DELETED)} UInt8"]
    lines.append(f"CONSTRAINT {ALTERED}0 {HOLDS}")
    order = ", ".join(quoted(name) for name in identity)
    settings = ["fsync_after_insert = 1", "fsync_part_directory = 1"] if fsync else []
    if target.append:
        settings.append(f"non_replicated_deduplication_window = {DEDUP_WINDOW}")
    parts = [
        f"CREATE TABLE IF NOT EXISTS {full_name(target)}\n(\n    " + ",\n    ".join(lines) + "\n)",
        f"ENGINE = {engine(target)}",
        f"PARTITION BY {partition(target)}" if partition(target) else "",
        f"ORDER BY {'tuple()' if target.append else f'({order})'}",
        f"SETTINGS {', '.join(settings)}" if settings else "",
        f"COMMENT {text(target.schema.comment)}" if target.schema.comment else "",
    ]
    return "\n".join(part for part in parts if part)


def create_view(target: Target, more: Sequence[str] = ()) -> str:
    """`more`: columns of the table that are not the target's."""
    names = ", ".join(quoted(n) for n in (*(c.name for c in target.schema.columns if not c.normal_of), *more))
    table = full_name(target) + ("" if target.append else " FINAL")
    return f"CREATE OR REPLACE VIEW {view_name(target)} AS SELECT {names} FROM {table} WHERE {DELETED} = 0"


def raise_floor(target: Target, seq: int, statement: str) -> str:
    """The server itself refuses own rows older than `seq` from now on, whoever sends them and however late.

    `statement`: the table's own as it was seen. Each floor has a name of its own, and takes away the lower ones that
    were there then: one that comes late lowers nothing.
    """
    name, others = f"{floor_name(target)}_{seq}", f" OR NOT ({own_rows(target)})" if target.own else ""
    lower = [f"DROP CONSTRAINT IF EXISTS {there}" for there, at in floors(target, statement).items() if at < seq]
    check = f"ADD CONSTRAINT IF NOT EXISTS {name} CHECK {VERSION} >= {seq}{others}"
    return f"ALTER TABLE {full_name(target)} {', '.join([*lower, check])}"


def floors(target: Target, statement: str) -> dict[str, int]:
    """Name -> the seq below which the table refuses own rows, out of its CREATE statement."""
    return {name: int(at) for name, at in re.findall(_FLOOR % floor_name(target), without_strings(statement))}


def floor(target: Target, statement: str) -> int:
    """The highest one; 0 without."""
    return max(floors(target, statement).values(), default=0)


def floor_name(target: Target) -> str:
    return f"{FLOOR}_{target.part}" if target.own else FLOOR


def own_rows(target: Target) -> str:
    """The condition that tells the rows of the target's own table from those of others; true where all are."""
    kinds = {column.name: column.type for column in target.schema.columns}
    return " AND ".join(f"{quoted(n)} = {value(of, kinds[n])}" for n, of in target.own) or "1"


def without_strings(statement: str) -> str:
    """A comment or a default may hold anything."""
    return _STRING.sub("''", statement)


def partition(target: Target) -> str:
    return str(target.options.get("partition_by") or "")


_NAME = re.compile(r"`([^`]+)`|'(?:[^'\\]|\\.)*'|([A-Za-z_]\w*)\s*(\()?")


def names_in(expression: str) -> set[str]:
    """The columns that an expression names: its identifiers that are no function calls and no string literals."""
    return {m[1] or m[2] for m in _NAME.finditer(expression) if m[1] or (m[2] and not m[3])}


def value(of: KeyValue, kind: pa.DataType) -> str:
    """A literal of a value of a column of this Arrow type, as the column's ClickHouse type compares it."""
    if isinstance(of, bool):
        return str(of).lower()
    if isinstance(of, timedelta):
        return _number(pa.scalar(of, kind).cast(pa.int64()).as_py(), "Int64")
    if isinstance(of, datetime):
        return _moment(of, kind)
    if isinstance(of, date):
        return f"CAST('{of.isoformat()}' AS Date32)"
    if isinstance(of, bytes):
        return f"unhex('{of.hex()}')"
    if isinstance(of, str):
        return text(of)
    if isinstance(of, Decimal):
        return f"CAST('{of:f}' AS Decimal({kind.precision}, {kind.scale}))"
    if isinstance(of, float):
        return f"CAST('{of!r}' AS Float{kind.bit_width})"
    if pa.types.is_decimal(kind):
        return f"CAST('{of}' AS Decimal({kind.precision}, {kind.scale}))"
    return _number(of, ("UInt" if pa.types.is_unsigned_integer(kind) else "Int") + str(kind.bit_width))


def _number(of: int, kind: str) -> str:
    return f"CAST('{of}' AS {kind})"


def _moment(of: datetime, kind: pa.DataType) -> str:
    """By its number: the text of a year before 1900 is not read by all servers."""
    number = pa.scalar(of, kind).cast(pa.int64()).as_py()
    if kind.unit == "s":
        return f"CAST(fromUnixTimestamp64Milli(toInt64({number * 1000}), 'UTC') AS DateTime64(0, 'UTC'))"
    return f"fromUnixTimestamp64{_UNIX[kind.unit]}(toInt64({number}), 'UTC')"
