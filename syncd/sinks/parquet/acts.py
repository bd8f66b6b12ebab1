"""Barrier acts and the purge of tombstones: only what is older than the seq is touched, twice or late is harmless."""

from __future__ import annotations

import shutil
import uuid
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from syncd.errors import FatalError, Unfollowed, Unsupported
from syncd.model import Column, Ddl, SchemaChange, Target
from syncd.sinks.parquet import defaults, disk
from syncd.sinks.parquet.entrance import Entrance
from syncd.sinks.parquet.merge import merge, rewrite, store
from syncd.sinks.parquet.pages import merged, opened, own_rows
from syncd.sinks.parquet.rows import live
from syncd.sinks.parquet.table import DELETED, VERSION, WRITTEN, State, Table
from syncd.sinks.parquet.types import stored


def act(table: Table, entrance: Entrance, target: Target, change: SchemaChange, rows: int) -> None:
    """The acts that need no new table. DROP and RENAME keep the files: a person decides."""
    match change.kind:
        case Ddl.ALTER:
            _alter(table, entrance, target, change, rows)
            table.fitting(target)
        case Ddl.TRUNCATE:
            _truncate(table, entrance, target, change.seq, rows)
        case Ddl.DROP | Ddl.RENAME | Ddl.INDEX:
            return
        case _:
            raise Unsupported(
                f"{change.table}: the sink cannot follow `{change.statement}`",
                table=str(change.table),
                hint="change the target by hand and go on, or resync the table",
            )


def _alter(table: Table, entrance: Entrance, target: Target, change: SchemaChange, rows: int) -> None:
    """The table gets the target's columns; the columns that only it has, and that are not gone, stay.

    Files that have other names or types, a column that is gone, or not the default of a new one where that is not NULL,
    are rewritten. Until all are, `former` tells what they have. Where more is done than to add columns, the table takes
    no rows older than the change any more: whoever still had such would not know the columns (7).
    """
    with table.locked():
        state = table.known()
        if state.altered < change.seq:
            _refuse_keys(target, change)
            if change.gone or any(_is_other(change, column) for column in target.schema.columns):
                state = close(table, entrance, target, change.seq)
            state = _altered(table, state, target, change)
            table.save(state)
        for file in table.files():
            if is_old(file, state):
                rewrite(table, state, file, lambda page: page, rows)
        if state.former:
            table.save(replace(state, former={}))


def _refuse_keys(target: Target, change: SchemaChange) -> None:
    for name in () if target.append else target.schema.identity:
        if _is_other(change, target.schema.column(name)):
            raise Unfollowed(
                f"{change.table}: the key column {name} is another one, by which files are not sorted",
                table=str(change.table),
                hint="resync the table",
            )


def _is_other(change: SchemaChange, column: Column) -> bool:
    """It was there, under another name or of another type."""
    old = change.former(column.name)
    return old is not None and (old.name, stored(old.type)) != (column.name, stored(column.type))


def _altered(table: Table, state: State, target: Target, change: SchemaChange) -> State:
    names, here = dict(change.renamed), {column.name for column in target.schema.columns}
    there = {names.get(column.name, column.name) for column in state.schema.columns}
    for column in target.schema.columns:
        if column.name in there:
            continue
        if not defaults.is_known(column) and _oldest(table, state) < change.seq:
            raise FatalError(
                f"{target.schema.table}.{column.name}: the value of the new column in the rows that are there is "
                "not known",
                table=table.source,
                hint="give the column a constant DEFAULT at the source, or resync the table",
            )
        defaults.fill(target.schema.table, column)
    own = [
        replace(column, nullable=True, default=None)
        for column in state.schema.columns
        if names.get(column.name, column.name) not in here and column.name not in change.gone
    ]
    others = [column for column in target.schema.columns if _is_other(change, column)]
    former = {column.name: old.name for column in others if (old := change.former(column.name)) is not None}
    schema = replace(state.schema, columns=(*target.schema.columns, *own))
    return replace(state, schema=schema, altered=change.seq, former=former)


def is_old(file: Path, state: State) -> bool:
    with ExitStack() as stack:
        (part,) = opened(stack, [file], state)
        columns = state.columns
        if any(f.name not in columns.names or columns.field(f.name).type != f.type for f in part.schema):
            return True
        missing = [c for c in state.schema.columns if c.name not in part.schema.names]
        return any(defaults.fill(state.schema.table, column).is_valid for column in missing)


def _truncate(table: Table, entrance: Entrance, target: Target, seq: int, rows: int) -> None:
    """All rows older than `seq` go, or are marked as deleted, or stay: as the target's policy treats any delete."""
    if target.deletes == "ignore":
        return
    with table.locked():
        state = close(table, entrance, target, seq)
        if target.deletes == "soft" and state.key:
            _mark(table, target, state, seq, rows)
        elif target.deletes == "soft":
            for file in table.files():
                if _versions(file, state)[0] < seq:
                    rewrite(table, state, file, partial(_deleted, seq), rows)
        else:
            remove(table, target, state, seq, rows)


def remove(table: Table, target: Target, state: State, seq: int, rows: int) -> None:
    """The own rows older than `seq`; the lock is held."""
    for file in table.files():
        with ExitStack() as stack:
            (part,) = opened(stack, [file], state)
            count, all_ = part.count(_own_older(target, state, seq)), part.metadata.num_rows
        if count == all_:
            table.remove([file])
        elif count:
            rewrite(table, state, file, partial(_removed, target, state, seq), rows)


def _own_older(target: Target, state: State, seq: int) -> pc.Expression:
    older = pc.field(VERSION) < pa.scalar(seq, pa.uint64())
    own = own_rows(target, state)
    return older if own is None else older & own


def swap(shadow: Table, table: Table, entrance: Entrance, target: Target, seq: int) -> None:
    """Under the shadow's lock, which goes with it: who gets that later, or wakes up late, finds no shadow any more.

    For a moment there is no folder of the table's name.
    """
    old = table.folder.with_name(f"{shadow.folder.name}_old")
    if shadow.folder.exists():
        with shadow.locked():
            if shadow.folder.exists():
                close(shadow, entrance, target, seq)
                if table.folder.exists():
                    entrance.shut(table)
                    table.folder.rename(old)
                shadow.folder.rename(table.folder)
                disk.fsync(table.folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def close(table: Table, entrance: Entrance, target: Target, seq: int) -> State:
    """The table takes no own rows older than `seq` from now on, whoever sends them and however late (7)."""
    state = table.known()
    if state.marks(target).floor < seq:
        state = state.marked(target, floor=seq)
        table.save(state)
    entrance.shut(table)
    return state


def _mark(table: Table, target: Target, state: State, seq: int, rows: int) -> None:
    """A newer version of each live own row older than `seq`: the same values, deleted."""
    with ExitStack() as stack:
        pages = merged(opened(stack, table.files(), state), state, rows, own_rows(target, state))
        older = (live(page.filter(_older(seq, page))) for page in pages)
        marks = (_all(_all(page, VERSION, seq), DELETED, True) for page in older)
        store(table, f"{WRITTEN}{uuid.uuid4().hex}", marks, state.columns, rows)


def _all(page: pa.Table, name: str, value: object) -> pa.Table:
    """With one value in all rows of a column."""
    field = page.schema.field(name)
    values = pa.repeat(pa.scalar(value, field.type), len(page))
    return page.set_column(page.schema.get_field_index(name), field, values)


def _deleted(seq: int, page: pa.Table) -> pa.Table:
    marked = pc.or_(page.column(DELETED), _older(seq, page))
    return page.set_column(page.schema.get_field_index(DELETED), page.schema.field(DELETED), marked)


def _older(seq: int, page: pa.Table) -> pa.ChunkedArray:
    return pc.less(page.column(VERSION), pa.scalar(seq, pa.uint64()))


def _removed(target: Target, state: State, seq: int, page: pa.Table) -> pa.Table:
    return page.filter(~_own_older(target, state, seq))


def refuse_newer(table: Table, target: Target, newest: int) -> None:
    """FatalError: rows with the seq `newest` would be left out, or lose to what is there (4); the lock is held."""
    state = table.known()
    floor, there = state.marks(target).floor, max((_versions(file, state)[1] for file in table.files()), default=0)
    if there > newest and target.own:
        with ExitStack() as stack:
            newer = (pc.field(VERSION) > pa.scalar(newest, pa.uint64())) & own_rows(target, state)
            there = there if sum(p.count(newer) for p in opened(stack, table.files(), state)) else 0
    if max(floor, there) <= newest:
        return
    why = f"takes no rows older than seq {floor}" if floor > newest else f"holds rows up to seq {there}"
    raise FatalError(
        f"{table.folder} {why}, and the log is at seq {newest}: it was written by another job, or from another log",
        table=table.source,
        hint="remove the folder (emptying it is not enough), then `syncd jobs resume`",
        code="E192",
    )


def expire(table: Table, entrance: Entrance, target: Target, below: int, at_least: int, rows: int) -> None:
    """Remove own tombstones with a seq below `below`, once there are `at_least` of them; the lock is held.

    The table is closed to rows older than `below`: they were applied everywhere, and could now only bring a deleted row
    back. Then all files become one, in which nothing is hidden by a tombstone any more, and that one is rewritten
    without them: at no line does a reader see a row that was deleted.
    """
    state = table.known()
    old = pc.field(DELETED) & _own_older(target, state, below)
    with ExitStack() as stack:
        if sum(part.count(old) for part in opened(stack, table.files(), state)) < at_least:
            return
    state = close(table, entrance, target, below)
    file = merge(table, state, table.files(), rows)
    rewrite(table, state, file, lambda page: page.filter(~old), rows)


def _oldest(table: Table, state: State) -> int:
    return min((_versions(file, state)[0] for file in table.files()), default=2**64)


def _versions(file: Path, state: State) -> tuple[int, int]:
    """The smallest and the largest seq in a file."""
    with ExitStack() as stack:
        (part,) = opened(stack, [file], state)
        at = part.schema.names.index(VERSION)
        found = [part.metadata.row_group(i).column(at).statistics for i in range(part.metadata.num_row_groups)]
        return min((s.min for s in found), default=2**64), max((s.max for s in found), default=0)
