"""The table that CREATE TABLE makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from syncd.model import Column, Index, TableSchema
from syncd.sources.mysql.binlog import tabled
from syncd.sources.mysql.binlog.actions import Create
from syncd.sources.mysql.binlog.server import Server


def made(create: Create, server: Server, *, zero_is_null: bool) -> TableSchema:
    """Without its twins; what the statement leaves to the database or to a setting of the session stays open.
    Unclear: a column or an index that is not followed."""
    options = create.options
    collation = options.collation or server.default_collation(options.charset)
    columns = [
        tabled.in_table(one.column, collation, server, zero_is_null=zero_is_null and one.column.name not in create.key)
        for one in create.columns
    ]
    columns = [replace(c, nullable=c.nullable and c.name not in create.key) for c in columns]
    key, key_from, name = create.key, "primary" if create.key else "", ""
    indexes = _indexes(create, columns)
    if not key:
        hidden = {one.index.name for one in create.indexes if one.hidden}
        usable = [
            i for i in indexes if i.name not in hidden and tabled.may_be_key(i, _stated(create), zero_is_null=False)
        ]
        best = min(usable, key=lambda index: (len(index.parts), index.name), default=None)
        if best is not None:
            key, key_from, name = tuple(part.column for part in best.parts), "unique", best.name
            columns = [replace(c, nullable=c.nullable and c.name not in key) for c in columns]
    return TableSchema(
        create.table,
        0,
        tuple(columns),
        key,
        key_from,
        options.comment or "",
        tabled.in_order(index for index in indexes if not name or index.name != name),
        "mariadb" if server.mariadb else "mysql",
        collation,
    )


def _stated(create: Create) -> Sequence[Column]:
    """The columns as they may be NULL, whatever becomes of zero dates."""
    return [one.column for one in create.columns]


def _indexes(create: Create, columns: Sequence[Column]) -> list[Index]:
    found: list[Index] = []
    for one in sorted(create.indexes, key=lambda one: one.foreign):
        index = tabled.named(one, found, columns)
        by_key = create.key[: len(index.parts)] == tuple(part.column for part in index.parts)
        if not (one.foreign and (by_key or any(tabled.serves(other, index) for other in found))):
            found.append(index)
    return found
