"""Tables of online-schema-change tools: gh-ost, pt-online-schema-change and what works like them.

Such a tool makes a shadow of a table, alters that, copies the rows into it while it keeps both in step, and renames
both at once. All of that is in the log. The shadow's rows are the table's, so none are given out; only its schema is
followed, and at the swap the table goes on with it, as after one ALTER.

That holds only if the shadow was kept in step: gh-ost says its name in the statement that swaps; triggers on the table
for each of INSERT, UPDATE and DELETE have to name the shadow otherwise. Where neither was seen, the swap is `unsure`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field, replace

from syncd.model import Column, TableId, TableSchema
from syncd.sources.mysql.binlog.keys import same_keys
from syncd.sources.mysql.types import base_type
from syncd.sources.mysql.wider import may_change

_GHOST = re.compile(r"/\*[^*]*gh-ost[^*]*\*/")
_EVENTS = frozenset({"INSERT", "UPDATE", "DELETE"})
_FILLED = frozenset({"date", "datetime", "timestamp", "json", "enum", "binary"})
"""Types whose NOT NULL columns without a default are filled with something else than 0 or the empty text."""


@dataclass
class Shadow:
    """`schema`: None where it is not known. `asked`: it is what the server said, not what statements say."""

    schema: TableSchema | None
    asked: bool = False
    unsure: list[str] = field(default_factory=list)


class Shadows:
    """The shadows of tables that are `there`. `patterns`: of shadows; `others`: of the tools' other tables; the first
    group of each is the table's name. Tables of `own` are the job's, whatever their names; those of `idle`, too, though
    they are not wanted for now: their shadows are no tables of their own meanwhile."""

    def __init__(
        self,
        wanted: Callable[[TableId], bool],
        there: Container[TableId] = (),
        own: Container[TableId] = (),
        patterns: Iterable[str] = (),
        others: Iterable[str] = (),
        idle: Container[TableId] = (),
    ) -> None:
        self._wanted, self._there, self._own, self._idle = wanted, there, own, idle
        self._patterns = [re.compile(pattern) for pattern in patterns]
        self._others = [re.compile(pattern) for pattern in others]
        self._found: dict[TableId, Shadow] = {}
        self._fed: dict[TableId, set[str]] = {}

    def wanted(self, table: TableId) -> bool:
        """Wanted, and no tool's."""
        return self._wanted(table) and self.real(table) is None and self._matched(table, self._others) is None

    def real(self, table: TableId) -> TableId | None:
        """The wanted table that this may be the shadow of."""
        return self._matched(table, self._patterns)

    def is_old(self, table: TableId, real: TableId) -> bool:
        """Whether a tool gives this name to the table that its shadow replaces."""
        return self._matched(table, self._others) == real

    def _matched(self, table: TableId, patterns: Iterable[re.Pattern[str]]) -> TableId | None:
        if table in self._own:
            return None
        for pattern in patterns:
            found = pattern.fullmatch(table.name)
            real = TableId(table.database, found[1]) if found else table
            if real != table and (real in self._idle or (real in self._there and self._wanted(real))):
                return real
        return None

    def get(self, table: TableId) -> Shadow | None:
        return self._found.get(table)

    def tables(self) -> list[TableId]:
        return [*self._found]

    def of(self, real: TableId) -> bool:
        """Whether a shadow of the table is there."""
        return any(self.real(table) == real for table in self._found)

    def put(self, table: TableId, shadow: Shadow) -> None:
        self._found[table] = shadow

    def forget(self, table: TableId) -> Shadow | None:
        self._fed.pop(table, None)
        return self._found.pop(table, None)

    def fed(self, on: TableId, event: str, names: Iterable[TableId]) -> None:
        """A trigger on a table names these."""
        for name in names:
            if self.real(name) == on:
                self._fed.setdefault(name, set()).add(event)

    def kept_in_step(self, table: TableId, statement: str) -> bool:
        return bool(_GHOST.search(statement)) or self._fed.get(table, set()) >= _EVENTS


def swapped(before: TableSchema, shadow: Shadow, real: TableId, *, in_step: bool) -> tuple[TableSchema, str] | None:
    """The table after its shadow took its place, and why it is unsure; None: unknown, or with another key."""
    after = shadow.schema
    if after is None or (after.key, after.key_from) != (before.key, before.key_from):
        return None
    if not all(same_keys(before.column(name), after.column(name)) for name in before.key):
        return None
    old, new = {c.name: c for c in before.columns}, {c.name: c for c in after.columns}
    come, gone = [c for c in after.columns if c.name not in old], [name for name in old if name not in new]
    unsure = (
        [*shadow.unsure] if in_step else ["nothing in the log shows that the new table was kept in step with the old"]
    )
    if come and gone:
        unsure.append(f"{gone[0]} is gone and {come[0].name} has come, which may be its new name")
    unsure += [f"{column.name} has values that the log does not tell" for column in come if _is_filled(column, shadow)]
    indexes = {index.name for index in before.indexes if index.kind == "unique"}
    unsure += [
        f"the unique index {index.name} is new: the tool leaves out rows that it refuses"
        for index in after.indexes
        if index.kind == "unique" and index.name not in indexes
    ]
    kept = [(old[name], column) for name, column in new.items() if name in old]
    unsure += [f"{now.name} is computed, or no longer" for was, now in kept if _computed(was, now)]
    # the tools copy by INSERT IGNORE, which makes values fit as a session does that is not strict
    unsure += [f"values of {now.name} may have changed with its type" for was, now in kept if _altered(was, now)]
    return replace(after, table=real), "; ".join(unsure)


def _computed(old: Column, new: Column) -> bool:
    return bool(old.generated) != bool(new.generated)


def _altered(was: Column, now: Column) -> bool:
    return not now.generated and may_change(was, now, strict=False)


def _is_filled(column: Column, shadow: Shadow) -> bool:
    if column.generated or column.filled or (shadow.asked and column.default is not None):
        return True
    return not column.nullable and column.default is None and base_type(column.source_type) in _FILLED
