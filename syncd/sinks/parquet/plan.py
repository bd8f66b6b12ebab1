"""What `plan` and `check` say: the folder, one line per column, what is refused, room on the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from syncd.model import Finding, Target, TargetPlan
from syncd.sinks.parquet import disk
from syncd.sinks.parquet.table import DELETED, OWN, VERSION, Table, differences
from syncd.sinks.parquet.types import is_wide, note, stored

LITTLE = 1 << 30
"""Bytes of free space below which `check` warns."""


def plan(target: Target, table: Table) -> TargetPlan:
    found = [*refusals(target, table)]
    state = None if found else table.state()
    if state is not None:
        todo = "give the target another name, or remove the folder"
        wrong = differences(target, state)
        found += [Finding("error", str(table.folder), f"the table is there, but {w}", todo) for w in wrong]
    made = () if found or state is not None else (f"{table.folder}/*.parquet",)
    return TargetPlan(made, tuple(_lines(target)), (*found, *_remarks(target, table)))


def refusals(target: Target, table: Table) -> Iterator[Finding]:
    """Why this table cannot be held."""
    schema, place = target.schema, str(table.folder)
    for column in schema.columns:
        if column.name in {VERSION, DELETED}:
            todo = "rename it in the job (`columns: {rename: ...}`); one that has run must then be loaded anew"
            yield Finding("error", place, f"column {column.name} has a name that the sink needs", todo)
        if stored(column.type) is None:
            text = f"column {column.name}: no Parquet type holds {column.source_type or column.type} exactly"
            yield Finding("error", place, text, "leave the column out, or convert it in the job")
    if target.append:
        return
    if not schema.key:
        todo = "declare a key, or `append` for the table"
        yield Finding("error", place, "no key: rows cannot be told apart", todo)
    for name in schema.identity:
        column = schema.column(name)
        if column.nullable and not column.normal_of:
            yield Finding("error", place, f"key column {name} takes NULL", "declare a key without NULLs")
        if pa.types.is_floating(column.type):
            yield Finding("error", place, f"key column {name} is {column.type}", "a float tells no two rows apart")


def _remarks(target: Target, table: Table) -> Iterator[Finding]:
    wide = [c.name for c in target.schema.columns if is_wide(c.type)]
    if wide:
        text = f"{', '.join(wide)}: decimals of more than 38 digits; Arrow reads them, Spark and DuckDB do not"
        yield Finding("warning", str(table.folder), text, "leave them out where such readers are to come")
    if target.append and not target.schema.key:
        text = "rows are only ever added: an update at the source halts the table"
        text += "; deletes are left out" if target.deletes == "ignore" else ", and so does a delete"
        yield Finding("warning", str(table.folder), text, "`syncd explain E191` says what is to be done then")
    elif target.append and target.deletes == "apply":
        text = f"rows are only ever added: a delete is added too, with {DELETED} true"
        yield Finding("warning", str(table.folder), text, "deletes: ignore leaves them out")


def _lines(target: Target) -> Iterator[tuple[str, str, str, str]]:
    for column in target.schema.columns:
        kind = stored(column.type)
        notes = [
            note(column.type) if kind else "refused",
            "key" if column.name in target.schema.identity else "",
            f"normalised {column.normal_of}" if column.normal_of else "",
        ]
        shown = str(kind) if kind else "-"
        yield column.name, column.source_type or str(column.type), shown, ", ".join(filter(None, notes))
    told = {VERSION: "seq of the change", DELETED: "the row is deleted"}
    yield from ((field.name, "", str(field.type), told[field.name]) for field in OWN)


def check(root: Path) -> Iterator[Finding]:
    """May it be written, and how much fits. Writes nothing."""
    there = next(path for path in (root, *root.parents) if path.exists())
    if not there.is_dir():
        yield Finding("error", str(there), "is a file, a folder is wanted", "give another `path`")
        return
    if not os.access(there, os.W_OK | os.X_OK):
        yield Finding("error", str(there), "may not be written", "let the user that runs syncd write there")
        return
    free = shutil.disk_usage(there).free
    text = f"{free / 1e9:,.1f} GB free"
    if free < LITTLE:
        yield Finding("warning", str(root), text, "free some space: merging files needs as much again as they have")
    else:
        yield Finding("ok", str(root), text)


def table_of(root: Path, target: Target) -> Table:
    folder = root / disk.folder_name(target.database) / disk.folder_name(target.name)
    return Table(folder, str(target.schema.table))
