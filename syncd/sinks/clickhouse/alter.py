"""ALTER of a target, each statement once and in its turn, however often and however late it is sent.

The table carries the seq of the last change that it has followed in the name of a constraint that holds for every row.
Each statement takes that constraint away and puts its own in its place: the server refuses one that was meant for the
table as it was before another one. So a writer that was frozen before its ALTER changes nothing when it wakes up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from syncd.errors import Unfollowed
from syncd.model import Column, SchemaChange, Target
from syncd.sinks.clickhouse.client import Client
from syncd.sinks.clickhouse.ddl import ALTERED, HOLDS, column_line, full_name, own_rows, without_strings
from syncd.sinks.clickhouse.defaults import literal
from syncd.sinks.clickhouse.limits import Limits
from syncd.sinks.clickhouse.present import Present, describe, fingerprint
from syncd.sinks.clickhouse.rows import VERSION
from syncd.sinks.clickhouse.syntax import quoted, text
from syncd.sinks.clickhouse.types import Making, held, nullable

_MARK = re.compile(rf"CONSTRAINT `?{ALTERED}(\d+)`? CHECK")
# All replicas have done it when the statement returns.
_SYNC = "SETTINGS mutations_sync = 2, alter_sync = 2"


class Alter:
    """One change at one target."""

    def __init__(self, client: Client, target: Target, change: SchemaChange, making: Making, limits: Limits) -> None:
        self._client, self._target, self._change = client, target, change
        self._making, self._limits = making, limits
        self._name, self._table = full_name(target), str(target.schema.table)

    def run(self) -> None:
        """What the table still lacks of the change. Unsupported: a key column would be another one."""
        if describe(self._client, self._target) is None:
            return
        mark = altered(fingerprint(self._client, self._target))
        if mark is None:  # made by hand
            self._command(f"ADD CONSTRAINT IF NOT EXISTS {ALTERED}0 {HOLDS}")
            mark = 0
        if mark >= self._change.seq:
            return
        self._refuse_keys()
        # The server does not rename and change a column in one statement.
        first = [*self._changed_first(self._present())]
        if first:
            self._command(", ".join([*first, *marks(mark, mark)]))
        parts = [*self._parts(self._present())]
        self._command(", ".join([*parts, *marks(mark, self._change.seq)]))

    def _command(self, parts: str) -> None:
        self._client.command(
            f"ALTER TABLE {self._name} {parts} {_SYNC}", doing=f"altering {self._name}", table=self._table
        )

    def _present(self) -> Present:
        found = describe(self._client, self._target)
        assert found is not None, "it was there a moment ago"
        return found

    def _refuse_keys(self) -> None:
        identity = {*self._target.schema.identity}
        for column in self._target.schema.columns:
            old = self._change.former(column.name)
            if column.name in identity and old is not None:
                kinds = self._kind(old, key=True), self._kind(column, key=True)
                if old.name != column.name or kinds[0] != kinds[1]:
                    raise Unfollowed(
                        f"{self._table}: the key column {old.name} {kinds[0]} became {column.name} {kinds[1]}, which "
                        "ClickHouse cannot do to a column of ORDER BY",
                        table=self._table,
                        hint="resync the table",
                    )

    def _kind(self, column: Column, *, key: bool = False) -> str:
        kind = held(column, key, self._making)
        return kind.name if kind else str(column.type)

    def _changed_first(self, present: Present) -> Iterator[str]:
        for old, new in self._change.renamed:
            there = present.column(old)
            if there is not None and present.column(new) is None:
                line = self._modified(self._target.schema.column(new), there.type, name=old)
                if line:
                    yield line

    def _modified(self, column: Column, there: str, *, name: str) -> str:
        if column.name in self._target.schema.identity or self._kind(column) == there:
            return ""
        line = column_line(column, False, self._making).removeprefix(quoted(column.name))
        return f"MODIFY COLUMN {quoted(name)}{line}"

    def _parts(self, present: Present) -> Iterator[str]:
        for name in self._change.gone:
            if present.column(name) is not None:
                yield f"DROP COLUMN {quoted(name)}"
        for name in self._change.kept:
            there = present.column(name)
            if there is not None and not there.default_kind and "Nullable(" not in there.type:
                yield f"MODIFY COLUMN {quoted(name)} DEFAULT defaultValueOfTypeName({text(there.type)})"
        old = {new: old for old, new in self._change.renamed}
        for column in self._target.schema.columns:
            there, was = present.column(column.name), present.column(old.get(column.name, column.name))
            if there is not None:
                yield from filter(None, [self._modified(column, there.type, name=column.name)])
            elif was is not None:
                yield f"RENAME COLUMN {quoted(was.name)} TO {quoted(column.name)}"
            else:
                yield self._added(column)

    def _added(self, column: Column) -> str:
        """Rows that are there show the source's default."""
        names = [c.name for c in self._target.schema.columns]
        at = names.index(column.name)
        line = column_line(column, False, self._making)
        taken = nullable(column, False, self._making)
        missing_is_null = self._is_empty() or (taken and not column.nullable)
        default = literal(self._target.schema.table, column, self._limits, empty=missing_is_null)
        if default is not None:
            # The default stands between the type and the codec.
            kind, codec, rest = line.partition(" CODEC(")
            line = f"{kind} DEFAULT {default}{codec}{rest}"
        place = f"AFTER {quoted(names[at - 1])}" if at else "FIRST"
        return f"ADD COLUMN {line} {place}"

    def _is_empty(self) -> bool:
        """No row is older than the change."""
        old = f"{VERSION} < {self._change.seq} AND {own_rows(self._target)}"
        count = f"SELECT count() FROM (SELECT 1 FROM {self._name} WHERE {old} LIMIT 1)"  # noqa: S608 - quoted
        return self._client.text(count, doing=f"looking into {self._name}", table=self._table).strip() == "0"


def altered(statement: str) -> int | None:
    """The seq of the last change that the table has followed, out of its CREATE statement; None: it does not say."""
    found = _MARK.search(without_strings(statement))
    return int(found[1]) if found else None


def marks(old: int, new: int) -> tuple[str, str]:
    return f"DROP CONSTRAINT {ALTERED}{old}", f"ADD CONSTRAINT {ALTERED}{new} {HOLDS}"
