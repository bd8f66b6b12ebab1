"""RENAME TABLE: tables that go, come, change places, or are replaced by their shadows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from syncd.errors import Unfollowed
from syncd.model import Ddl, TableId, TableSchema
from syncd.sources.mysql.binlog.shadows import Shadows, swapped
from syncd.sources.mysql.binlog.tables import Tables


@dataclass(frozen=True, slots=True)
class Change:
    """What will be a `SchemaChange`. `arrived`: the schemas of tables that have a new name from here on."""

    kind: Ddl
    schema: TableSchema
    renamed: tuple[tuple[str, str], ...] = ()
    unsure: str = ""
    to: TableId | None = None
    arrived: tuple[TableSchema, ...] = ()


class Renames:
    """`away`: tables that a tool has put aside, to put the shadow into their place by its next statement."""

    def __init__(self, tables: Tables, shadows: Shadows) -> None:
        self._tables, self._shadows = tables, shadows
        self._away: dict[TableId, TableId] = {}

    def follow(self, pairs: Sequence[tuple[TableId, TableId]], text: str, shown: str) -> Iterator[Change]:
        """What the statement does as a whole: names that are only passed through do not count.

        Unfollowed: a wanted table comes with rows that were not in the stream.
        """
        origin: dict[TableId, TableId] = {}
        for old, new in pairs:
            origin[new] = origin.pop(old, old)
        came = {new: old for new, old in origin.items() if new != old}
        known = {old: self._known(old) for old in came.values()}
        for new, old in came.items():
            if self._tables.wanted(new) and known[old] is None and not self._is_followed(new, old):
                self.refuse(new, shown)
        for new, old in came.items():
            if self._tables.wanted(old):
                yield from self._gone(known[old], new, came)
            elif self._away.get(new) == old:
                del self._away[new]
            elif self._tables.wanted(new):
                yield self._swapped(new, old, text)
            else:
                self._moved(old, new)

    def refuse(self, table: TableId, shown: str) -> None:
        """Unfollowed: a wanted table, whose rows are in the log under another name or not at all."""
        if self._tables.wanted(table):
            what = f"{table}: it came with its rows by {shown!r}"
            raise Unfollowed(what, table=str(table), hint="resync the table")

    def come_back(self, table: TableId) -> Change | None:
        """Another table takes the place of one that a tool has put aside."""
        to = self._away.pop(table, None)
        schema = self._tables.schemas.get(table)
        return Change(Ddl.RENAME, schema, to=to) if to and schema else None

    def _known(self, table: TableId) -> TableSchema | None:
        return self._tables.schemas.get(table) if self._tables.wanted(table) else None

    def _is_followed(self, new: TableId, old: TableId) -> bool:
        """The table goes on: with its shadow's rows, or under the name that it had before."""
        shadow = self._shadows.real(old) == new
        return new in self._tables.schemas and (shadow or self._away.get(new) == old)

    def _gone(self, schema: TableSchema | None, to: TableId, came: dict[TableId, TableId]) -> Iterator[Change]:
        if schema is None:
            return
        table = schema.table
        if self._tables.wanted(to):
            yield Change(Ddl.RENAME, schema, to=to, arrived=(replace(schema, table=to),))
        elif table in came and self._shadows.real(came[table]) == table:
            return  # its shadow takes its place in this very statement
        elif self._shadows.is_old(to, table) and self._shadows.of(table):
            self._away[table] = to
        else:
            yield Change(Ddl.RENAME, schema, to=to)

    def _swapped(self, real: TableId, old: TableId, text: str) -> Change:
        before, in_step = self._tables.schemas[real], self._shadows.kept_in_step(old, text)
        self._away.pop(real, None)
        shadow = self._shadows.forget(old)
        found = swapped(before, shadow, real, in_step=in_step) if shadow else None
        return Change(Ddl.ALTER, found[0], (), found[1]) if found else Change(Ddl.OTHER, before)

    def _moved(self, old: TableId, new: TableId) -> None:
        """A shadow, or what is none of ours."""
        shadow = self._shadows.forget(old)
        if shadow and self._shadows.real(new):
            self._shadows.put(new, shadow)
