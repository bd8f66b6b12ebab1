"""What `plan` says of a table: its statements, one line per column, what is lossy and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from syncd.model import Column, Finding, Target
from syncd.sinks.clickhouse.ddl import create_database, create_table, create_view, full_name, names_in, partition
from syncd.sinks.clickhouse.limits import Limits, shown
from syncd.sinks.clickhouse.rows import DELETED, VERSION
from syncd.sinks.clickhouse.types import Making, held, is_dated


def refusals(target: Target, making: Making) -> list[Finding]:
    """Why this table cannot be held; empty when it can."""
    schema, identity = target.schema, target.schema.identity
    found = [*_types(target, making)]
    if not schema.key and not target.append:
        found.append(_error(target, "no key: rows cannot be told apart", "declare a key, or `append` for the table"))
    for name in () if target.append else identity:
        column = schema.column(name)
        if column.nullable and not column.normal_of:
            found.append(_error(target, f"key column {name} takes NULL", "declare a key without NULLs"))
        if pa.types.is_floating(column.type):
            found.append(_error(target, f"key column {name} is {column.type}", "a float tells no two rows apart"))
    outside = sorted(names_in(partition(target)) - set(identity)) if not target.append else []
    if outside:
        text = f"PARTITION BY names {', '.join(outside)}, not of the key: versions of a row could lie in two partitions"
        found.append(_error(target, text, "partition by key columns only, or not at all"))
    return found


def _types(target: Target, making: Making) -> Iterator[Finding]:
    for column in target.schema.columns:
        if column.name in {VERSION, DELETED}:
            todo = "rename it in the job (`columns: {rename: ...}`); one that has run must then be loaded anew"
            yield _error(target, f"column {column.name} has a name that the sink needs", todo)
        if held(column, False, making) is None:
            text = f"column {column.name}: no ClickHouse type holds {column.source_type or column.type} exactly"
            yield _error(target, text, "leave the column out, or convert it in the job")


def remarks(target: Target, limits: Limits) -> list[Finding]:
    """What a person should know before the job starts."""
    found = []
    kinds = {c.type for c in target.schema.columns if is_dated(c.type)}
    for kind in sorted(kinds, key=str):
        bounds = limits.of(kind)
        assert bounds is not None
        names = ", ".join(c.name for c in target.schema.columns if c.type == kind)
        text = f"{names}: this server holds {shown(kind, bounds)}; a row with another value is refused"
        found.append(Finding("ok", full_name(target), text))
    if target.append and not target.schema.key:
        text = "rows are only ever added: an update at the source halts the table"
        text += "; deletes are left out" if target.deletes == "ignore" else ", and so does a delete"
        found.append(Finding("warning", full_name(target), text, "`syncd explain E191` says what is to be done then"))
    elif target.append and target.deletes == "apply":
        text = f"rows are only ever added: a delete is added too, with {DELETED} = 1"
        found.append(Finding("warning", full_name(target), text, "deletes: ignore leaves them out"))
    return found


def statements(target: Target, making: Making, *, fsync: bool, views: bool) -> tuple[str, ...]:
    made = [create_database(target), create_table(target, making, fsync)]
    return (*made, create_view(target)) if views else tuple(made)


def lines(target: Target, making: Making) -> tuple[tuple[str, str, str, str], ...]:
    """(name, source type, target type, note) of each column, the sink's own at the end."""
    identity = target.schema.identity
    own = ((VERSION, "", "UInt64", "seq of the change"), (DELETED, "", "UInt8", "1: the row is deleted"))
    return (*(_line(c, c.name in identity, making) for c in target.schema.columns), *own)


def _line(column: Column, key: bool, making: Making) -> tuple[str, str, str, str]:
    kind = held(column, key, making)
    notes = [kind.note if kind else "refused", "key" if key else ""]
    notes.append(f"normalised {column.normal_of}" if column.normal_of else "")
    there = kind.name if kind else "-"
    return column.name, column.source_type or str(column.type), there, ", ".join(filter(None, notes))


def _error(target: Target, text: str, todo: str) -> Finding:
    return Finding("error", full_name(target), text, todo)
