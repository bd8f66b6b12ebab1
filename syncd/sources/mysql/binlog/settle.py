"""What a statement does not say of a table, out of the server's present description, where that cannot be wrong.

The server may have gone on to another table by the time that the log is read. So its description is used for what rows
do not hang on (how it spells an expression, indexes that come and go unsaid, partitions), and for character sets only
where it has the same columns in the same order with the same types, among others that came since.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from syncd.model import Column, Index, TableSchema
from syncd.sources.mysql.binlog import tabled
from syncd.sources.mysql.binlog.altered import Altered
from syncd.sources.mysql.binlog.expressions import alike
from syncd.sources.mysql.types import arguments, base_type, members


def changed(found: Altered, describe: Callable[[], TableSchema | None]) -> TableSchema | None:
    """The table after ALTER; the server is asked only where something is open. None: it stays open."""
    schema = found.schema
    fresh = [column for column in schema.columns if column.name in found.fresh]
    spelled = any(column.generated or "(" in column.filled for column in fresh)
    spelled = spelled or any(part.expression for index in schema.indexes for part in index.parts)
    texts = any(tabled.is_open(column) for column in schema.columns)
    if not (spelled or texts or found.repartitioned):
        return schema
    present = describe()
    if texts:
        filled = with_texts(schema, present)
        if filled is None:
            return None
        schema = filled
    if present is None:
        return schema
    return replace(
        with_spelling(schema, present, found.fresh),
        partitions=present.partitions if found.repartitioned else schema.partitions,
    )


def with_texts(schema: TableSchema, present: TableSchema | None) -> TableSchema | None:
    """With the character sets that are open, and whether a TIMESTAMP may be NULL. None: the server describes another
    table, and without a character set, or a key's collation, no row can be read."""
    if present is not None and present.key == schema.key:
        names = {column.name for column in schema.columns}
        # Columns that came since are left away: a capture that lags meets several statements of one table.
        real = [column for column in present.columns if column.name in names and not column.normal_of]
        mine = [column for column in schema.columns if not column.normal_of]
        if [_shape(c) for c in real] == [_shape(c) for c in mine]:
            pairs = list(zip(mine, real, strict=True))
            if all(_fits(column, there) for column, there in pairs):
                twins = tuple(column for column in schema.columns if column.normal_of)
                columns = tuple(
                    replace(column, charset=there.charset, collation=there.collation, nullable=there.nullable)
                    for column, there in pairs
                )
                return replace(schema, columns=columns + twins, collation=schema.collation or present.collation)
    bare = [c for c in schema.columns if tabled.is_open(c) and not (c.charset and c.name not in schema.key)]
    return None if bare else schema


def with_spelling(schema: TableSchema, present: TableSchema, names: frozenset[str]) -> TableSchema:
    """The expressions of these columns in the server's own words, where it describes the same."""
    there = {column.name: column for column in present.columns}
    return replace(
        schema,
        columns=tuple(
            _spelled(column, there[column.name]) if column.name in names and column.name in there else column
            for column in schema.columns
        ),
        indexes=tuple(_index(index, present) for index in schema.indexes),
    )


def with_defaults(schema: TableSchema, present: TableSchema, names: frozenset[str]) -> TableSchema:
    """The constant defaults of these columns, which are there for tables made like this one alone."""
    there = {column.name: column for column in present.columns}
    columns = (
        replace(c, default=there[c.name].default) if c.name in names & there.keys() else c for c in schema.columns
    )
    return replace(schema, columns=tuple(columns))


def _spelled(column: Column, there: Column) -> Column:
    return replace(
        column,
        generated=there.generated if alike(column.generated, there.generated) else column.generated,
        filled=there.filled if alike(column.filled, there.filled) else column.filled,
    )


def _index(index: Index, present: TableSchema) -> Index:
    there = next((other for other in present.indexes if other.name == index.name), None)
    if there is None or len(there.parts) != len(index.parts) or not any(part.expression for part in index.parts):
        return index
    pairs = zip(index.parts, there.parts, strict=True)
    same = all(alike(part.expression, other.expression) and part.column == other.column for part, other in pairs)
    return replace(index, parts=there.parts) if same else index


def _shape(column: Column) -> tuple[object, ...]:
    """What must be the same in both for them to be the same column: everything that decoding depends on."""
    base = base_type(column.source_type)
    detail: object = ()
    if base in {"enum", "set"}:
        detail = members(column.source_type)
    elif base in {"time", "datetime", "timestamp", "bit", "binary"}:
        detail = arguments(column.source_type)
    # whether a TIMESTAMP may be NULL depends on a setting of the session
    return column.name, column.type, column.nullable or base == "timestamp", base, detail


def _fits(mine: Column, there: Column) -> bool:
    """The server's description contradicts nothing that the statement says."""
    return all(not a or a == b for a, b in ((mine.charset, there.charset), (mine.collation, there.collation)))
