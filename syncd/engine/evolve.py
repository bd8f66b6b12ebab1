"""What a table's ALTER means for what is published of it, by the job's `policy.ddl`.

A column that becomes narrower is held back: published, and held by the sinks, in the wider type that it had. One whose
values would be others in its new type is not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from syncd.config import DdlPolicy
from syncd.errors import Unfollowed, Unsupported
from syncd.model import Column, Index, SchemaChange, TableSchema
from syncd.transforms import Step, Transform

HoldsAll = Callable[[Column, Column], bool]
"""See `spi.Source.holds_all`."""


@dataclass(frozen=True, slots=True)
class Evolved:
    """The transform of the table from here on, and the change as the sinks are told of it."""

    transform: Transform
    change: SchemaChange


def evolve(
    change: SchemaChange,
    old: Transform,
    new: Transform,
    policy: DdlPolicy,
    holds_all: HoldsAll,
    kept: frozenset[str] = frozenset(),
) -> Evolved:
    """`change` is an ALTER of the source; `old` the table's transform before it, `new` what the job's rule makes of the
    table behind it. `kept`: columns that went at the source before, and stayed at the sinks.

    Unsupported: the policy halts the table. Unfollowed: the rows that are there have to be loaded anew.
    """
    return _Evolution(change, old, new, policy, holds_all, kept).evolved()


def halted(change: SchemaChange, why: str) -> Unsupported:
    """The table halts at this change, since people want it so."""
    what, hint = f"{change.table}: {why}: {change.statement}", "resync the table when the change is done"
    return Unsupported(what, table=str(change.table), hint=hint, code="E155")


def refused(change: SchemaChange, why: str) -> Unfollowed:
    """The table's rows have to be loaded anew."""
    what, hint = f"{change.table}: {why}: {change.statement}", "resync the table when the change is done"
    return Unfollowed(what, table=str(change.table), hint=hint)


class _Evolution:
    def __init__(
        self,
        change: SchemaChange,
        old: Transform,
        new: Transform,
        policy: DdlPolicy,
        holds_all: HoldsAll,
        kept: frozenset[str],
    ) -> None:
        self.change, self.old, self.new = change, old, new
        self.policy, self.holds_all, self.kept = policy, holds_all, kept
        self.pairs = [*self._pairs()]

    def evolved(self) -> Evolved:
        if self.change.unsure:
            raise refused(self.change, self.change.unsure)
        self._refuse_other_key()
        columns = [column for was, now in self.pairs if (column := self._column(was, now)) is not None]
        schema = replace(self.new.schema, columns=tuple(columns))
        schema = replace(schema, indexes=self._indexes(schema))
        renamed = tuple((was.name, now.name) for was, now in self.pairs if was is not None and was.name != now.name)
        if renamed and self.policy.rename_column != "apply":
            raise self._halted("rename_column", f"{renamed[0][0]} is called {renamed[0][1]}")
        kept = self._dropped()
        self._refuse_other_bearers(schema)
        change = replace(self.change, schema=schema, before=self.old.schema, renamed=renamed, kept=kept, unsure="")
        return Evolved(self.new.shaped(schema), change)

    def _refuse_other_bearers(self, schema: TableSchema) -> None:
        """A sink that has done half of it could not tell one column from the other; and one that has kept a column
        would show its values as those of the other."""
        before = {name.lower() for name in (*self.kept, *(column.name for column in self.old.schema.columns))}
        after = {column.name for column in schema.columns}
        for was, now in self.pairs:
            other = was is None or was.name.lower() != now.name.lower()
            if other and now.name in after and now.name.lower() in before:
                raise refused(self.change, f"{now.name} is now the name of another column than before")

    def _refuse_other_key(self) -> None:
        was = {now.name: was for was, now in self.pairs if was is not None}
        old = [was[name].name for name in self.new.schema.identity if name in was]
        if old != [*self.old.schema.identity]:
            raise refused(self.change, "its key is another one")

    def _pairs(self) -> Iterator[tuple[Column | None, Column]]:
        """(what was published, what it is behind the change); None: a new column. Left out are those that the source
        had before and that were not published."""
        published = {column.name: column for column in self.old.schema.columns}
        of_source = {step.source: published[step.column.name] for step in self.old.steps}
        former = {new: old for old, new in self.change.renamed}
        had = () if self.change.before is None else self.change.before.columns
        before = {column.name for column in had}
        steps: dict[str, Step] = {step.column.name: step for step in self.new.steps}
        for column in self.new.schema.columns:
            step = steps.get(column.name)
            if step is None:  # a constant, or computed beside the source's columns
                if column.name in published:
                    yield published[column.name], column
                continue
            name = former.get(step.source, step.source)
            if name in of_source:
                yield of_source[name], column
            elif name not in before:
                yield None, column

    # -- columns

    def _column(self, was: Column | None, now: Column) -> Column | None:
        """The column as it is published from here on; None: it is not."""
        if was is None:
            if self.policy.add_column == "halt-table":
                raise self._halted("add_column", f"{now.name} is new")
            return now if self.policy.add_column == "apply" or now.normal_of else None
        now = replace(now, nullable=now.nullable or was.nullable)
        if definition(was) == definition(now):
            return now
        if self.policy.modify_column != "apply":
            raise self._halted("modify_column", f"{now.name} has another type")
        if self.holds_all(now, was):
            return now
        if self.holds_all(was, now):
            return replace(was, name=now.name, nullable=now.nullable, comment=now.comment, normal_of=now.normal_of)
        kinds = f"{was.source_type or was.type} became {now.source_type or now.type}"
        raise refused(self.change, f"{now.name}: {kinds}, in which values may be other ones")

    def _dropped(self) -> tuple[str, ...]:
        """The columns that are gone and that the sinks keep."""
        stay = {was.name for was, _ in self.pairs if was is not None}
        gone = tuple(column.name for column in self.old.schema.columns if column.name not in stay)
        if gone and self.policy.drop_column == "halt-table":
            raise self._halted("drop_column", f"{gone[0]} is gone")
        return gone if self.policy.drop_column == "ignore" else ()

    # -- indexes

    def _indexes(self, schema: TableSchema) -> tuple[Index, ...]:
        """Those whose columns are all published; under `ignore` those of before."""
        names = {column.name for column in schema.columns}
        renamed = {was.name: now.name for was, now in self.pairs if was is not None}

        def whole(index: Index) -> bool:
            return all(part.column in names for part in index.parts if part.column)

        before = [
            replace(index, parts=tuple(part._replace(column=renamed.get(part.column, "")) for part in index.parts))
            for index in self.old.schema.indexes
            if all(part.column in renamed for part in index.parts if part.column)
        ]
        after = [index for index in self.new.schema.indexes if whole(index)]
        if {index.name: index for index in before} == {index.name: index for index in after}:
            return tuple(after)
        if self.policy.index == "halt-table":
            raise self._halted("index", "its indexes are others")
        return tuple(after if self.policy.index == "apply" else filter(whole, before))

    def _halted(self, kind: str, what: str) -> Unsupported:
        return halted(self.change, f"{what}, and `policy.ddl.{kind}` says halt-table")


def definition(column: Column) -> tuple[object, ...]:
    """What a column's values depend on."""
    return column.type, column.nullable, column.source_type, column.charset, column.collation, column.generated
