"""A target as the sink holds it: which columns, of which types, under which primary key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from syncd.drivers.mysql.connection import quoted
from syncd.drivers.mysql.types import base_type
from syncd.model import Bound, Column, Finding, Index, KeyValue, Target
from syncd.sinks.mysql.options import MySQLTableOptions
from syncd.sinks.mysql.session import Limits
from syncd.sinks.mysql.types import FAMILY, Kind, held, same_collation
from syncd.sinks.mysql.words import BOOK, DELETED, full_name

_LAST_IN_NAMES = 0xFFFF
_NOT_AT_OCEANBASE = {"spatial"}


@dataclass(frozen=True)
class Layout:
    """Made by `layout`. `twins`: the normalised twins that are held, since the server cannot compare their columns.

    `columns`: those that the table has, in order; `key`: the columns of its primary key.
    """

    target: Target
    limits: Limits
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    options: MySQLTableOptions

    @cached_property
    def kinds(self) -> dict[str, Kind | None]:
        return {c.name: held(c, self.limits, key=c.name in self.key) for c in self.columns}

    @cached_property
    def generated(self) -> frozenset[str]:
        """Columns that the server computes: they are never written."""
        if self.options.expressions == "drop" or not self.of_family:
            return frozenset()
        return frozenset(c.name for c in self.columns if c.generated and c.name not in self.key)

    @cached_property
    def written(self) -> tuple[Column, ...]:
        return tuple(c for c in self.columns if c.name not in self.generated)

    def unmoved(self, *given: str) -> str:
        """What an UPDATE of the columns `given` adds to its SET, so that no ON UPDATE CURRENT_TIMESTAMP acts."""
        moments = [c.name for c in self.written if base_type(c.source_type) in {"timestamp", "datetime"}]
        return "".join(f", {quoted(name)} = {quoted(name)}" for name in moments if name not in given)

    @property
    def of_family(self) -> bool:
        """Whether the source's own words mean something here."""
        return self.target.schema.dialect in {"mysql", "mariadb"}

    @property
    def soft(self) -> bool:
        return self.target.deletes == "soft"

    @property
    def relaxed(self) -> str:
        """Why unique indexes are plain ones here, or ""."""
        if self.target.relaxed:
            return "unique: relaxed"
        kept = f"deletes: {self.target.deletes}, so that rows stay whose values may come again"
        return "" if self.target.deletes == "apply" else kept

    @property
    def rewritten_keys(self) -> tuple[str, ...]:
        """Key columns whose bytes may change while the key stays the same."""
        schema = self.target.schema
        return tuple(c.normal_of for c in schema.columns if c.normal_of in self.key)

    def key_of(self, bound: Bound | None) -> tuple[KeyValue, ...] | None:
        """The bound in the columns of the primary key."""
        if bound is None:
            return None
        pairs = zip(self.target.schema.key, self.key, bound.key, bound.normal, strict=True)
        return tuple(value if name == held else normal for name, held, value, normal in pairs)

    @cached_property
    def indexes(self) -> tuple[Index, ...]:
        """The secondary indexes that the table is to have now, as they are made."""
        taken = [index for index in self.target.schema.indexes if self.takes(index)]
        made = [replace(index, kind="") if index.kind == "unique" and self.relaxed else index for index in taken]
        return tuple(index for index in made if index.kind != "unique" or self.target.settled)

    def takes(self, index: Index) -> bool:
        words = any(part.expression or (part.length and part.column in self.generated) for part in index.parts)
        # OceanBase fills an index by statements of its own, in which it quotes these names wrongly.
        names = (self.target.name, *self.key, *(part.column for part in index.parts))
        misread = any("`" in name for name in names)
        return not (self.limits.oceanbase and (index.kind in _NOT_AT_OCEANBASE or words or misread))


def layout(target: Target, limits: Limits) -> Layout:
    schema = target.schema
    twins = {c.normal_of: c for c in schema.columns if c.normal_of}
    held_twins = [name for name in twins if not same_collation(schema.column(name), limits)]
    columns = tuple(c for c in schema.columns if not c.normal_of or c.normal_of in held_twins)
    if held_twins:
        # Their keys' own columns only hold the text: equal is what the twin says.
        columns = tuple(replace(c, collation="utf8mb4_bin") if c.name in held_twins else c for c in columns)
    key = tuple(twins[name].name if name in held_twins else name for name in schema.key)
    options = MySQLTableOptions.model_validate(target.options)
    return Layout(target, limits, columns, () if target.append else key, options)


def refusals(of: Layout) -> list[Finding]:
    """Why this table cannot be held; empty when it can."""
    return [Finding("error", full_name(of.target), text, todo) for text, todo in _refusals(of)]


def _refusals(of: Layout) -> Iterator[tuple[str, str]]:
    schema = of.target.schema
    yield from _keyless(of)
    if of.target.name == BOOK:
        yield f"{BOOK} is the sink's own table", "give it another name (`to`)"
    names = [column.name.lower() for column in of.columns]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"two columns are called {name}: the server does not tell upper from lower case", "rename one in the job"
    for name in (of.target.database, of.target.name, *(column.name for column in of.columns)):
        if any(ord(c) > _LAST_IN_NAMES for c in name):
            yield f"the name {name} has a character that no name may have here", "rename it in the job"
    for column in schema.columns:
        if of.soft and column.name.lower() == DELETED:
            yield f"column {column.name} has a name that `deletes: soft` needs", "rename it in the job"
    for column in of.columns:
        if of.kinds[column.name] is None:
            text = f"column {column.name}: no type holds {column.source_type or column.type} exactly"
            yield text, "leave the column out, or convert it in the job"
        if column.name in of.key and column.nullable and not column.normal_of:
            yield f"key column {column.name} takes NULL", "declare a key without NULLs"
        if column.name in of.key and base_type(column.source_type) in {"float", "double"}:
            yield f"key column {column.name} is {column.source_type}", "a float tells no two rows apart"


def _keyless(of: Layout) -> Iterator[tuple[str, str]]:
    name = of.limits.needs_key
    if not of.target.schema.key and not of.target.append:
        yield "no key: rows cannot be told apart", "declare a key, or `append` for the table"
    elif not of.key and name:
        todo = f"SET GLOBAL {name} = OFF, or declare a key"
        yield f"the server makes no table without a primary key ({name} is on)", todo


def remarks(of: Layout) -> list[Finding]:
    """What a person should know before the job starts."""
    name, schema = full_name(of.target), of.target.schema
    found = []
    for column in of.columns:
        if column.normal_of:
            text = (
                f"the server has no {schema.column(column.normal_of).collation}: the primary key holds {column.name} "
                f"in place of {column.normal_of}, so that rows are told apart as at the source"
            )
            found.append(Finding("warning", name, text))
    left_out = [index.name for index in schema.indexes if not of.takes(index)]
    if left_out:
        found.append(Finding("warning", name, f"indexes that the server does not have: {', '.join(left_out)}"))
    found += [_unique(of, index) for index in schema.indexes if index.kind == "unique" and of.takes(index)]
    return found


def _unique(of: Layout, index: Index) -> Finding:
    name = full_name(of.target)
    others = {c.name for c in of.columns if c.collation and not same_collation(c, of.limits)}
    if of.relaxed:
        text = f"unique index {index.name} is made as a plain one, to be made unique at the cut-over: {of.relaxed}"
        return Finding("ok", name, text)
    text = f"unique index {index.name} is made once the table is LIVE; it has one lane, in commit order"
    names = ", ".join(part.column for part in index.parts if part.column in others)
    if not names:
        return Finding("ok", name, text)
    more = f"; two values of {names} that the source tells apart may be one to this server, and halt the table"
    return Finding("warning", name, text + more, "if there are such, say `unique: relaxed` of the table")


def lines(of: Layout) -> tuple[tuple[str, str, str, str], ...]:
    """(name, source type, target type, note) of each column, the sink's own at the end."""
    shown = []
    for column in of.columns:
        kind = of.kinds[column.name]
        notes = [kind.note if kind else "refused", "key" if column.name in of.key else ""]
        notes.append("generated" if column.name in of.generated else "")
        notes.append("" if base_type(column.source_type) in FAMILY or column.normal_of else "by its Arrow type")
        there = kind.name if kind else "-"
        shown.append((column.name, column.source_type or str(column.type), there, ", ".join(filter(None, notes))))
    return (*shown, (DELETED, "", "tinyint(1)", "1: the row is deleted")) if of.soft else tuple(shown)
