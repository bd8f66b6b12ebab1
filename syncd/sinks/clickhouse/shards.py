"""The columns of a target that several source tables share (`Target.own`): they are made to hold the rows of all.

The changes of one table come in the order of its own seqs, those of two in any order. So each has a mark of its own in
the table, `syncd_altered_<part>_<seq>`; and `syncd_altered_<n>` is counted up by every statement, so that the server
refuses one that was meant for the table as it was before another one.
"""

# ruff: noqa: S608 - every name and value in these statements is quoted by `ddl`

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from syncd.errors import FatalError
from syncd.model import Column, Ddl
from syncd.sinks.clickhouse.alter import Alter, altered, marks
from syncd.sinks.clickhouse.ddl import ALTERED, FILLING, HOLDS, column_line, own_rows, without_strings
from syncd.sinks.clickhouse.defaults import literal
from syncd.sinks.clickhouse.present import Present, PresentColumn, fingerprint, keys
from syncd.sinks.clickhouse.rows import DELETED, VERSION
from syncd.sinks.clickhouse.syntax import quoted, text
from syncd.sinks.clickhouse.types import holds, takes_null


class Shared(Alter):
    """What a CREATE (the table is to take the own rows) or an ALTER of one of the tables does to the target."""

    def run(self) -> None:
        statement = fingerprint(self._client, self._target)
        turn, done = altered(statement), self._done(statement)
        if done is not None and (done > self._change.seq or (done == self._change.seq and self._is_alter)):
            return
        if turn is None:  # made by hand
            self._command(f"ADD CONSTRAINT IF NOT EXISTS {ALTERED}0 {HOLDS}")
            turn = 0
        self._refuse_keys()
        present = self._present()
        self._refuse_other_key(present)
        for parts in ([*self._first(present)], [*self._rest(present)]):
            if parts:
                self._command(", ".join([*parts, *marks(turn, turn + 1)]))
                turn += 1
        if self._is_alter:
            both = self._change.met(present.column)
            new = [c for c in self._target.schema.columns if self._change.former(c.name) is None]
            turn = self._fill(new, both, turn)
            mine = f"{ALTERED}{self._target.part}_"
            gone = [f"DROP COLUMN {quoted(old)}" for old in sorted({*both.values()} - {*self._change.kept})]
            gone += [*self._without_gates(), *([] if done is None else [f"DROP CONSTRAINT {mine}{done}"])]
            self._command(
                ", ".join([*gone, f"ADD CONSTRAINT {mine}{self._change.seq} {HOLDS}", *marks(turn, turn + 1)])
            )
        elif gates := [*self._without_gates()]:  # of a change that did not come to its end before the table left
            self._command(", ".join([*gates, *marks(turn, turn + 1)]))

    @property
    def _is_alter(self) -> bool:
        return self._change.kind is Ddl.ALTER

    @property
    def _gate(self) -> str:
        """A column that is there while this change, and no later one, gives values."""
        return f"{FILLING}{self._target.part}_{self._change.seq}"

    def _without_gates(self) -> Iterator[str]:
        """Also without those of earlier changes, whose writers died or are frozen."""
        mine = f"{FILLING}{self._target.part}_"
        return (f"DROP COLUMN {quoted(c.name)}" for c in self._present().columns if c.name.startswith(mine))

    def _refuse_other_key(self, present: Present) -> None:
        wrong = keys(self._target, present)
        if wrong:
            raise FatalError(
                f"{self._name} cannot take rows of several tables: {'; '.join(wrong)}",
                table=self._table,
                hint="drop the target table, then `syncd jobs resume`",
            )

    def _done(self, statement: str) -> int | None:
        """The seq of the own table's last change that the target has followed."""
        found = re.search(rf"CONSTRAINT `?{ALTERED}{self._target.part}_(\d+)`? CHECK", without_strings(statement))
        return int(found[1]) if found else None

    def _first(self, present: Present) -> Iterator[str]:
        """Types of columns that are renamed: the server does not do both in one statement."""
        for old, new in self._change.renamed:
            there = present.column(old)
            if there is not None and present.column(new) is None:
                yield from self._widened(self._target.schema.column(new), there)

    def _rest(self, present: Present) -> Iterator[str]:
        gone = {name for name in self._change.gone if present.column(name) is not None}
        yield from (f"DROP COLUMN {quoted(name)}" for name in sorted(gone))
        old = {new: old for old, new in self._change.renamed}
        ours = {VERSION, DELETED, *gone}
        for column in self._target.schema.columns:
            there, was = present.column(column.name), present.column(old.get(column.name, column.name))
            ours |= {column.name, *([was.name] if was is not None and there is None else [])}
            if there is not None:
                yield from self._widened(column, there)
            elif was is not None:
                yield f"RENAME COLUMN {quoted(was.name)} TO {quoted(column.name)}"
            else:
                yield self._added(column)
        for there in present.columns:
            if there.name not in ours and not there.default_kind and not takes_null(there.type):
                yield f"MODIFY COLUMN {quoted(there.name)} DEFAULT defaultValueOfTypeName({text(there.type)})"

    def _widened(self, column: Column, there: PresentColumn) -> Iterator[str]:
        key = column.name in self._target.schema.identity
        kind = self._kind(column, key=key)
        if holds(there.type, kind):
            return
        wider = replace(column, nullable=column.nullable or takes_null(there.type))
        if key or not holds(self._kind(wider), there.type):
            raise FatalError(
                f"{self._table}.{column.name} is {kind} now, {self._name} has {there.type} for it and for other "
                "tables, and it cannot become one type for all",
                table=self._table,
                hint="give the column one type in all tables that go there, drop the target, and resync them all",
                code="E155",
            )
        line = column_line(wider, False, self._making).removeprefix(quoted(column.name))
        yield f"MODIFY COLUMN {quoted(there.name)}{line}"

    def _fill(self, columns: list[Column], both: dict[str, str], turn: int) -> int:
        """The own rows that are older hold what the source gave them, whatever the table's default is.

        Guarantee 7: the server refuses the values of whoever was frozen before, since they name a column that is gone.
        The next turn.
        """
        values = {quoted(new): self._moved(new, old) for new, old in both.items()}
        for column in columns:
            there = self._present().column(column.name)
            empty = self._is_empty() or (there is not None and takes_null(there.type) and not column.nullable)
            default = literal(self._target.schema.table, column, self._limits, empty=empty)
            values[quoted(column.name)] = "NULL" if default is None else default
        if not values:
            return turn
        other = " OR ".join(
            f"{name} IS NOT NULL"
            if value == "NULL"
            else f"ifNull({name} != {value}, isNull({name}) != isNull({value}))"
            for name, value in values.items()
        )
        where = f"{own_rows(self._target)} AND {VERSION} < {self._change.seq} AND ({other})"
        count = f"SELECT count() FROM {self._name} WHERE {where}"
        if not int(self._client.text(count, doing=f"looking into {self._name}", table=self._table)):
            return turn
        gate = f"ADD COLUMN IF NOT EXISTS {self._gate} UInt8 DEFAULT 0"
        self._command(", ".join([gate, *marks(turn, turn + 1)]))
        given = ", ".join(f"{name} = {value}" for name, value in values.items())
        self._command(f"UPDATE {given} WHERE {self._gate} = 0 AND {where}")
        return turn + 1

    def _moved(self, new: str, old: str) -> str:
        """The old column's value for the new one, also in rows of others, which have none: the server looks at them,
        too."""
        there = self._present().column(new)
        assert there is not None, "it was there a moment ago"
        return (
            quoted(old)
            if takes_null(there.type)
            else f"ifNull({quoted(old)}, defaultValueOfTypeName({text(there.type)}))"
        )
