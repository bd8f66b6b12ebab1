"""A target that several source tables share (`Target.own`): its columns are made to hold the rows of all of them, and a
table that was loaded anew takes the place of its own rows. All under the lock, which a frozen process keeps."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from syncd.errors import FatalError
from syncd.model import Column, Ddl, SchemaChange, Target
from syncd.sinks.parquet import acts, defaults, disk
from syncd.sinks.parquet.entrance import Entrance
from syncd.sinks.parquet.merge import rewrite, store
from syncd.sinks.parquet.pages import merged, opened, own_rows
from syncd.sinks.parquet.rows import order
from syncd.sinks.parquet.table import VERSION, WRITTEN, State, Table
from syncd.sinks.parquet.types import holds, stored


def fit(table: Table, entrance: Entrance, target: Target, change: SchemaChange, rows: int) -> None:
    """The table takes the own rows, and still those of all others. FatalError: a column cannot do both."""
    with table.locked():
        state = table.known()
        if change.kind is Ddl.ALTER and state.marks(target).altered >= change.seq:
            return
        both = change.met({column.name for column in state.schema.columns}.__contains__)
        state = _fitted(table, entrance, _rewritten(table, state, rows), target, change)
        state = _rewritten(table, state, rows)
        if change.kind is Ddl.ALTER:
            _fill(table, state, target, change, both, rows)
            gone = {*both.values()} - {*change.kept}
            columns = tuple(column for column in state.schema.columns if column.name not in gone)
            state = replace(state, schema=replace(state.schema, columns=columns)).marked(target, altered=change.seq)
            table.save(state)
            if gone:
                entrance.shut(table)
                _rewritten(table, state, rows)


def _rewritten(table: Table, state: State, rows: int) -> State:
    """Every file has the table's columns; before that, no other change may begin."""
    for file in table.files():
        if acts.is_old(file, state):
            rewrite(table, state, file, lambda page: page, rows)
    if state.former:
        state = replace(state, former={})
        table.save(state)
    return state


def _fitted(table: Table, entrance: Entrance, state: State, target: Target, change: SchemaChange) -> State:
    if target.schema.identity != state.key:
        raise FatalError(
            f"{table.folder} has the key ({', '.join(state.key)}), and rows of several tables are told apart by "
            f"({', '.join(target.schema.identity)})",
            table=table.source,
            hint="remove the folder, then `syncd jobs resume`",
        )
    there = {column.name: column for column in state.schema.columns if column.name not in change.gone}
    columns, former = [], {}
    for column in target.schema.columns:
        old = change.former(column.name)
        was = there.get(column.name) or (there.get(old.name) if old is not None else None)
        columns.append(column if was is None else _both(table, state, column, was))
        if was is not None and (was.name, stored(was.type)) != (column.name, stored(columns[-1].type)):
            former[column.name] = was.name
        there.pop(column.name if was is None else was.name, None)
    others = [replace(column, nullable=True) for column in there.values()]
    now = replace(state, schema=replace(state.schema, columns=(*columns, *others)), former=former)
    if now != state:
        table.save(now)
        entrance.shut(table)  # whoever was admitted with other columns tries again
    return now


def _both(table: Table, state: State, column: Column, was: Column) -> Column:
    """One column for the values of the own table and for those that are there."""
    kind, its = stored(column.type), stored(was.type)
    is_key = column.name in state.key
    if not holds(its, kind) and (is_key or not holds(kind, its)):
        raise FatalError(
            f"{table.source}.{column.name} is {kind} now, {table.folder} has {its} for it and for other tables, and it "
            "cannot become one type for all",
            table=table.source,
            hint="give the column one type in all tables that go there, drop the target, and resync them all",
            code="E155",
        )
    wider = was if holds(its, kind) else column
    return replace(wider, name=column.name, nullable=column.nullable or was.nullable, default=was.default)


def _fill(table: Table, state: State, target: Target, change: SchemaChange, both: Mapping[str, str], rows: int) -> None:
    """The own rows that are older hold what the source gave them, whatever the table's default is."""
    own = own_rows(target, state)
    assert own is not None, "only of such targets"
    older = own & (pc.field(VERSION) < pa.scalar(change.seq, pa.uint64()))
    for column in target.schema.columns:
        if column.name in both:
            value = pc.field(both[column.name])
        elif change.former(column.name) is None:
            kind = state.columns.field(column.name).type
            value = pc.scalar(defaults.fill(target.schema.table, column).cast(kind))
            _refuse_unknown(table, state, column, older)
        else:
            continue
        for file in table.files():
            _fill_file(table, state, file, column.name, older, value, rows)


def _refuse_unknown(table: Table, state: State, column: Column, older: pc.Expression) -> None:
    with ExitStack() as stack:
        if defaults.is_known(column) or not any(p.count(older) for p in opened(stack, table.files(), state)):
            return
    raise FatalError(
        f"{table.source}.{column.name}: the value of the new column in the rows that are there is not known",
        table=table.source,
        hint="give the column a constant DEFAULT at the source, or resync the table",
    )


def _fill_file(
    table: Table, state: State, file: Path, name: str, older: pc.Expression, value: pc.Expression, rows: int
) -> None:
    """`value` in the column, of the rows that are older."""
    field, at = pc.field(name), state.columns.get_field_index(name)
    same = (field.is_null() & value.is_null()) | (field == value)
    with ExitStack() as stack:
        (part,) = opened(stack, [file], state)
        if not part.count(older):
            return
        whole = {*state.columns.names} <= {*part.schema.names}
    if not whole:
        rewrite(table, state, file, lambda page: page, rows)
    with ExitStack() as stack:
        (part,) = opened(stack, [file], state)
        if not part.count(older & ~pc.coalesce(same, pc.scalar(False))):
            return

    def filled(page: pa.Table) -> pa.Table:
        rest, mine = page.filter(~older), page.filter(older)
        given = ds.dataset(mine).to_table(columns={"given": value}).column("given").cast(state.columns.field(at).type)
        return _sorted(pa.concat_tables([rest, mine.set_column(at, state.columns.field(at), given)]), state)

    rewrite(table, state, file, filled, rows)


def _sorted(page: pa.Table, state: State) -> pa.Table:
    return page.take(order(page, state.key))


def swap(shadow: Table, table: Table, entrance: Entrance, target: Target, seq: int, rows: int) -> None:
    """The shadow's rows come, then the older own ones go; the shadow goes last, and who comes later finds none.

    It goes in one step: of one that is half gone, whoever does this again would take half of the rows.
    """
    gone = shadow.folder.with_name(f"{shadow.folder.name}_old")
    fit(table, entrance, target, SchemaChange(Ddl.CREATE, target.schema, seq, "loaded anew"), rows)
    with table.locked():
        if not shadow.folder.exists():
            shutil.rmtree(gone, ignore_errors=True)
            return
        state = acts.close(table, entrance, target, seq)
        with shadow.locked():
            its = acts.close(shadow, entrance, target, seq)
            with ExitStack() as stack:
                pages = merged(opened(stack, shadow.files(), its), its, rows)
                store(
                    table, f"{WRITTEN}{shadow.folder.name}", (_as(page, state) for page in pages), state.columns, rows
                )
        acts.remove(table, target, state, seq, rows)
        shadow.folder.rename(gone)
        disk.fsync(gone.parent)
        shutil.rmtree(gone, ignore_errors=True)


def _as(page: pa.Table, state: State) -> pa.Table:
    """With all columns of the table."""
    arrays = []
    for column, field in zip((*state.schema.columns, None, None), state.columns, strict=True):
        if field.name in page.column_names:
            arrays.append(page.column(field.name).cast(field.type))
        else:
            assert column is not None, "the sink's own are in every page"
            arrays.append(pa.chunked_array([pa.repeat(defaults.fill(state.schema.table, column), len(page))]))
    return pa.Table.from_arrays(arrays, schema=state.columns)
