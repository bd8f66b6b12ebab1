"""Columns and indexes as a table gives them what their definitions leave open: character sets, names, keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pyarrow as pa

from syncd.model import Column, Index, IndexPart
from syncd.sources.mysql.binlog.actions import Indexed
from syncd.sources.mysql.binlog.server import Server, Unclear, charset_of
from syncd.sources.mysql.types import DATES, TEXTS, arguments, arrow_type, base_type

_PREFIXED = TEXTS | {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"}


def is_text(column: Column) -> bool:
    """It has a character set; JSON's is none of its own."""
    text = pa.types.is_string(column.type) or pa.types.is_dictionary(column.type)
    return text and base_type(column.source_type) != "json"


def in_table(column: Column, collation: str, server: Server, *, zero_is_null: bool) -> Column:
    """The column in a table of this collation. Where that is not known ("") what hangs on it stays open.

    Unclear: of a character set that is not followed.
    """
    if zero_is_null and base_type(column.source_type) in DATES:
        column = replace(column, nullable=True)
    if not is_text(column):
        return column
    if not column.charset and collation:
        column = replace(column, charset=charset_of(collation), collation=collation)
        if column.charset == "binary" or arrow_type(column.source_type, column.charset) is None:
            raise Unclear(f"{column.name} has the table's character set {column.charset}")
    if column.charset and not column.collation:
        column = replace(column, collation=server.default_collation(column.charset))
    return column


def is_open(column: Column) -> bool:
    """What the statement does not say of the column is not known."""
    return is_text(column) and not (column.charset and column.collation)


def named(one: Indexed, there: Sequence[Index], columns: Sequence[Column]) -> Index:
    """The index with its columns spelled as the table spells them, and the name that the server gives it."""
    spelled = {column.name.lower(): column for column in columns}
    found = []
    for part in one.index.parts:
        column = spelled.get(part.column.lower())
        if column is None and not part.expression:
            raise Unclear(f"an index over {part.column}, which is no column")
        size = 0 if column is None or one.index.kind in {"fulltext", "spatial"} else whole(column, part.length)
        found.append(part._replace(column=column.name if column else "", length=size))
    name = one.index.name or _made_up(found[0], {index.name.lower() for index in there})
    return replace(one.index, name=name, parts=tuple(found))


def whole(column: Column, length: int) -> int:
    """A prefix's length, 0 for one that is the whole column. Unclear: of a column too long for that, whose index
    MariaDB cuts, or keeps in a hidden column."""
    kind = base_type(column.source_type)
    if not length and kind.endswith(("text", "blob")):
        raise Unclear(f"an index over the whole of {column.name}")
    size = arguments(column.source_type)
    if kind not in _PREFIXED or (size.isdigit() and int(size) <= length):
        return 0
    return length


def _made_up(part: IndexPart, taken: set[str]) -> str:
    base = part.column or "functional_index"
    if base.lower() not in taken and base.upper() != "PRIMARY":
        return base
    return next(f"{base}_{n}" for n in range(2, 1000) if f"{base}_{n}".lower() not in taken)


def serves(index: Index, one: Index) -> bool:
    """A foreign key over the columns of `one` needs no other index than `index`."""
    mine = [(part.column.lower(), part.length) for part in index.parts[: len(one.parts)]]
    return mine == [(part.column.lower(), 0) for part in one.parts] and index.kind in {"", "unique"}


def in_order(indexes: Iterable[Index]) -> tuple[Index, ...]:
    return tuple(sorted(indexes, key=lambda index: index.name.lower()))


def may_be_key(index: Index, columns: Sequence[Column], *, zero_is_null: bool) -> bool:
    """By it each row is found alone, unless it is hidden: unique, over whole columns that are never NULL."""
    if index.kind != "unique":
        return False
    there = {column.name: column for column in columns}
    return all(
        part.column
        and not part.length
        and (not there[part.column].nullable or (zero_is_null and base_type(there[part.column].source_type) in DATES))
        for part in index.parts
    )
