"""The table after ALTER TABLE: its steps done in the order in which the servers do them.

Columns first: those that go are left out, those that change stay at their place unless FIRST or AFTER is said, and then
what is added or moved takes its place, in the order of the statement, among the columns by their new names. Indexes
come after that. Whatever changes the key, by which rows are told apart, is not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from syncd.model import Column, Index, TableSchema
from syncd.sources.mysql.binlog import tabled
from syncd.sources.mysql.binlog.actions import (
    Added,
    Changed,
    Defaulted,
    Dropped,
    Indexed,
    Options,
    Reindexed,
    Renamed,
    Repartitioned,
    Step,
    Unindexed,
)
from syncd.sources.mysql.binlog.columns import Defined
from syncd.sources.mysql.binlog.converted import converted
from syncd.sources.mysql.binlog.defaults import valued
from syncd.sources.mysql.binlog.keys import same_key
from syncd.sources.mysql.binlog.server import Server, Unclear
from syncd.sources.mysql.types import base_type
from syncd.sources.mysql.wider import may_change

_Named = TypeVar("_Named", Changed, Renamed, Defaulted)


@dataclass(frozen=True, slots=True)
class Altered:
    """`renamed`, `unsure`: as in `SchemaChange`. `fresh`: columns whose definition the statement gives.
    `repartitioned`: it has other partitions, which only the server can spell."""

    schema: TableSchema
    renamed: tuple[tuple[str, str], ...] = ()
    unsure: str = ""
    fresh: frozenset[str] = frozenset()
    repartitioned: bool = False


def altered(
    schema: TableSchema,
    steps: Sequence[Step],
    server: Server,
    settle: Callable[[Defined], Defined],
    *,
    zero_is_null: bool,
) -> Altered:
    """`settle`: a column with what the session says of its default. Unclear: what becomes of the table is not surely
    known, or its key changes."""
    return _Table(schema, server, settle, zero_is_null).after(steps)


@dataclass
class _Table:
    schema: TableSchema
    server: Server
    settle: Callable[[Defined], Defined]
    zero_is_null: bool
    columns: list[Column] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    """From the old to the new name, of all columns that are still there."""
    fresh: set[str] = field(default_factory=set)
    unsure: list[str] = field(default_factory=list)

    def after(self, steps: Sequence[Step]) -> Altered:
        old = [column for column in self.schema.columns if not column.normal_of]
        steps = _needed(steps, old, self.schema.indexes)
        options = [step for step in steps if isinstance(step, Options)]
        collation, comment = self._options(options)
        self._collation = collation
        converts = [step for step in options if step.converts]
        if converts and any(isinstance(step, Added | Changed) for step in steps):
            raise Unclear("a new character set for all columns, and columns that come or change")
        self._change(old, steps)
        if converts:
            self.columns = [converted(column, collation, self.server) for column in self.columns]
        self._refuse_broken(steps)
        self._look_at_values(old)
        indexes = self._indexes(steps)
        partitioned = [step for step in steps if isinstance(step, Repartitioned)]
        found = replace(
            self.schema,
            columns=tuple(self.columns),
            key=tuple(self.renamed.get(name, name) for name in self.schema.key),
            comment=comment,
            indexes=indexes,
            collation=collation,
            partitions="" if any(step.gone for step in partitioned) else self.schema.partitions,
        )
        found = same_key(self.schema, found, self.renamed, steps, zero_is_null=self.zero_is_null)
        twins = {f"_key_{old}": f"_key_{new}" for old, new in self.renamed.items() if old in self.schema.key}
        there = {column.name for column in self.schema.columns}
        renamed = self.renamed | {old: new for old, new in twins.items() if old in there}
        return Altered(
            found,
            tuple((old, new) for old, new in renamed.items() if old != new),
            "; ".join(self.unsure),
            frozenset(self.fresh),
            any(not step.gone for step in partitioned),
        )

    # -------------------------------------------------------------------------------------------------- options

    def _options(self, options: Sequence[Options]) -> tuple[str, str]:
        collation, comment = self.schema.collation, self.schema.comment
        for said in options:
            if said.collation:
                collation = said.collation
            elif said.charset:
                collation = self.server.default_collation(said.charset)
                if not collation:
                    raise Unclear(f"the collation of {said.charset} by default")
            comment = comment if said.comment is None else said.comment
        return collation, comment

    # -------------------------------------------------------------------------------------------------- columns

    def _change(self, old: Sequence[Column], steps: Sequence[Step]) -> None:
        gone = {step.name.lower() for step in steps if isinstance(step, Dropped)}
        changes = _once([step for step in steps if isinstance(step, Changed)])
        names = _once([step for step in steps if isinstance(step, Renamed)])
        defaults = _once([step for step in steps if isinstance(step, Defaulted)])
        wanted = {*gone, *changes, *names, *defaults}
        if wanted - {column.name.lower() for column in old} or len(gone) < _count(steps, Dropped):
            raise Unclear("a column that is not there")
        if len(wanted) < len(gone) + len(changes) + len(names) + len(defaults):
            raise Unclear("two changes of one column")
        for column in old:
            name = column.name.lower()
            if name in changes:
                self._changed(column, changes[name])
            elif name not in gone:
                self._kept(column, names.get(name), defaults.get(name))
        for step in steps:
            if isinstance(step, Added):
                self._added(step, gone)
            elif isinstance(step, Changed) and step.after is not None:
                self._place(self._in_table(step.defined), step.after)

    def _changed(self, column: Column, step: Changed) -> None:
        new = self._in_table(step.defined)
        self.renamed[column.name] = new.name
        self.fresh.add(new.name)
        if new.filled == "AUTO_INCREMENT" != column.filled:
            self.unsure.append(f"{new.name} gets numbers where it was 0 or NULL")
        if new.generated != column.generated:
            self.unsure.append(f"{new.name} is computed, or no longer")
        if step.after is None:
            self.columns.append(new)

    def _kept(self, column: Column, rename: Renamed | None, default: Defaulted | None) -> None:
        self.renamed[column.name] = rename.to if rename else column.name
        if rename:
            column = replace(column, name=rename.to)
        elif default and column.generated:
            raise Unclear("a default of a generated column")  # MariaDB takes it, and keeps both
        elif default and default.words is None:
            update = column.filled[column.filled.find("ON UPDATE") :] if "ON UPDATE" in column.filled else ""
            column = replace(column, default=None, filled=update)
            self.fresh.add(column.name)
        elif default and default.words is not None:
            column = self._in_table(self.settle(valued(column, [*default.words], self.server)))
            self.fresh.add(column.name)
        self.columns.append(column)

    def _added(self, step: Added, gone: set[str]) -> None:
        column = self._in_table(step.defined)
        if column.name.lower() in gone:
            parts = [part.column.lower() for index in self.schema.indexes for part in index.parts]
            if column.name.lower() in parts:
                raise Unclear("an index over a column that goes and comes")  # MariaDB keeps it, with a prefix
            self.unsure.append(f"{column.name} is another column than before")
        elif step.defined.volatile:
            self.unsure.append(f"{column.name} has values that the log does not tell")
        if column.default is None and step.defined.implicit is not None:
            column = replace(column, default=step.defined.implicit)
        self.fresh.add(column.name)
        self._place(column, step.after)

    def _look_at_values(self, old: Sequence[Column]) -> None:
        now = {column.name: column for column in self.columns}
        for column in old:
            new = now.get(self.renamed.get(column.name, ""))
            if new is not None and not new.generated and may_change(column, new, strict=self.server.strict):
                self.unsure.append(f"values of {new.name} may have changed with its type")

    def _place(self, column: Column, after: str | None) -> None:
        names = [other.name.lower() for other in self.columns]
        if after and after.lower() not in names:
            raise Unclear(f"a column behind {after}")
        at = len(names) if after is None else names.index(after.lower()) + 1 if after else 0
        self.columns.insert(at, column)

    def _in_table(self, one: Defined) -> Column:
        if one.unclear:
            raise Unclear(one.unclear)
        return tabled.in_table(one.column, self._collation, self.server, zero_is_null=self.zero_is_null)

    def _refuse_broken(self, steps: Sequence[Step]) -> None:
        names = [column.name.lower() for column in self.columns]
        if len(set(names)) < len(names) or not names:
            raise Unclear("two columns of one name, or none")
        # Expressions name columns; what the server makes of one whose column has another name, it alone knows.
        moved = {old for old, new in self.renamed.items() if old != new}
        texts = [c.generated + c.filled for c in self.schema.columns]
        texts += [part.expression for index in self.schema.indexes for part in index.parts]
        if any(name.lower() in text.lower() for name in moved for text in texts):
            raise Unclear("a new name for a column that an expression names")

    # -------------------------------------------------------------------------------------------------- indexes

    def _indexes(self, steps: Sequence[Step]) -> tuple[Index, ...]:
        """One that goes unsaid, since a new one serves the foreign key that it was made for, is kept."""
        names = {step.name.lower(): step.to for step in steps if isinstance(step, Reindexed)}
        gone = {step.name.lower() for step in steps if isinstance(step, Unindexed) and _goes(step, self.schema.indexes)}
        kept = [self._index(index, names) for index in self.schema.indexes if index.name.lower() not in gone]
        there = [index for index in kept if index.parts]
        for step in sorted((step for step in steps if isinstance(step, Indexed)), key=lambda step: step.foreign):
            index = tabled.named(step, there, self.columns)
            if step.foreign and self._is_served(index, there):
                continue
            there = [other for other in there if other.name.lower() != index.name.lower()] + [index]
        return tabled.in_order(there)

    def _is_served(self, index: Index, there: Sequence[Index]) -> bool:
        first = [part.column for part in index.parts]
        by_key = [self.renamed.get(name, name) for name in self.schema.key][: len(first)] == first
        return by_key or any(tabled.serves(other, index) for other in there)

    def _index(self, index: Index, names: dict[str, str]) -> Index:
        columns = {column.name: column for column in self.columns}
        before = {column.name: column for column in self.schema.columns}
        found = []
        for part in index.parts:
            now = columns.get(self.renamed.get(part.column, ""))
            if part.expression:
                found.append(part)
            elif now is not None:
                changed = now.source_type != before[part.column].source_type
                if changed and base_type(before[part.column].source_type) in {"enum", "set"} and tabled.is_text(now):
                    raise Unclear(f"an index over members of {part.column}")  # MySQL makes a prefix of it
                length = tabled.whole(now, part.length) if changed and index.kind in {"", "unique"} else part.length
                found.append(part._replace(column=now.name, length=length))
        return replace(index, name=names.get(index.name.lower(), index.name), parts=tuple(found))


def _count(steps: Sequence[Step], kind: type[Step]) -> int:
    return sum(isinstance(step, kind) for step in steps)


def _once(steps: Sequence[_Named]) -> dict[str, _Named]:
    """By the column's name in small letters. Unclear: two of one column."""
    found = {step.name.lower(): step for step in steps}
    if len(found) < len(steps):
        raise Unclear("two changes of one column")
    return found


def _goes(step: Unindexed, there: Sequence[Index]) -> bool:
    """A constraint that is dropped by name may be an index, but only a unique one."""
    return not step.constraint or any(i.name.lower() == step.name.lower() and i.kind == "unique" for i in there)


def _needed(steps: Sequence[Step], old: Sequence[Column], indexes: Sequence[Index]) -> list[Step]:
    """Without those that IF EXISTS and IF NOT EXISTS leave out: both look at the table as it was."""
    columns, there = {column.name.lower() for column in old}, {index.name.lower() for index in indexes}
    found: list[Step] = []
    for step in steps:
        if isinstance(step, Added) and step.lenient:
            name = step.defined.column.name.lower()
            again = any(isinstance(one, Added) and one.defined.column.name.lower() == name for one in found)
            needed = name not in columns and not again
        elif isinstance(step, Indexed) and step.lenient:
            needed = step.index.name.lower() not in there
        elif isinstance(step, Dropped | Changed | Renamed | Defaulted) and step.lenient:
            needed = step.name.lower() in columns
        else:
            needed = True
        found += [step] if needed else []
    return found
