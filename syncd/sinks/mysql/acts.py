"""Barrier acts: harmless when done twice or late, and impossible for a writer whose epoch is over."""

# ruff: noqa: S608 - names are quoted

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from syncd.drivers.mysql.connection import Connection, quoted, rows
from syncd.errors import Unsupported
from syncd.model import Column, Ddl, SchemaChange, Target
from syncd.sinks.mysql import ddl
from syncd.sinks.mysql.book import Book
from syncd.sinks.mysql.layout import Layout, layout
from syncd.sinks.mysql.present import Present, describe
from syncd.sinks.mysql.shards import Shard
from syncd.sinks.mysql.words import DELETED, full_name


def _other_indexes(change: SchemaChange) -> frozenset[str]:
    """The names of indexes that the change has dropped, or made in another way."""
    now = {index.name: index for index in change.schema.indexes}
    before = () if change.before is None else change.before.indexes
    names = dict(change.renamed)
    same = {
        index.name: replace(index, parts=tuple(p._replace(column=names.get(p.column, p.column)) for p in index.parts))
        for index in before
    }
    return frozenset(name for name, index in same.items() if now.get(name) != index)


def _body(line: str, column: Column) -> str:
    """A column's definition without its name."""
    return line.removeprefix(quoted(column.name))


class Acts:
    """Over one connection, which is registered as a writer before each act: a fence ends it, and its ALTER TABLE."""

    def __init__(self, connection: Connection, book: Book) -> None:
        self._connection, self._book = connection, book

    def run(self, sql: str, target: Target) -> None:
        rows(self._connection, sql, table=str(target.schema.table))

    def act(self, of: Layout, change: SchemaChange) -> None:
        """The acts that need no new table. DROP and RENAME keep the table: a person decides."""
        match change.kind:
            case Ddl.CREATE if of.target.own:
                shard = Shard(self._connection, self._book, of)
                shard.fit()
                shard.relax()
            case Ddl.CREATE | Ddl.INDEX:
                self._index(of)
            case Ddl.ALTER:
                self.alter(of, change)
            case Ddl.TRUNCATE:
                self.truncate(of, change.seq)
            case Ddl.DROP | Ddl.RENAME:
                return
            case _:
                raise Unsupported(
                    f"{change.table}: the sink cannot follow `{change.statement}`",
                    table=str(change.table),
                    hint="change the target by hand and go on, or resync the table",
                )

    def alter(self, of: Layout, change: SchemaChange) -> None:
        """What the table still lacks of the change. Indexes go first, since a column may go only without them."""
        present = describe(self._connection, of.target)
        if present is None:
            return
        self._drop(of, present, _other_indexes(change))
        if of.target.own:
            Shard(self._connection, self._book, of).fit(change)
            self._index(of)
            return
        was = layout(replace(of.target, schema=change.before), of.limits) if change.before else of
        parts = [*self._gone(was, change, present), *self._changed(of, was, change, present)]
        # OceanBase does not take every pair of such parts in one statement.
        for one in [[part] for part in parts] if of.limits.oceanbase else filter(None, [parts]):
            self.run(f"ALTER TABLE {full_name(of.target)} {', '.join(one)}", of.target)
        added = [c for c in of.columns if change.former(c.name) is None]
        self._fill(of, [c for c in added if ddl.filled_later(c)], change.seq)
        self._index(of)

    def _gone(self, was: Layout, change: SchemaChange, present: Present) -> Iterator[str]:
        """Of columns that are kept, only that a row may have no value in them."""
        for column in was.columns:
            there = present.column(column.name)
            if there is None:
                continue
            if column.name in change.gone:
                yield f"DROP COLUMN {quoted(column.name)}"
            elif column.name in change.kept and not there.nullable and column.name not in was.generated:
                yield f"MODIFY COLUMN {ddl.column_line(was, replace(column, nullable=True))}"

    def _changed(self, of: Layout, was: Layout, change: SchemaChange, present: Present) -> Iterator[str]:
        """Of those that are done already, only what does no harm again."""
        for column in of.columns:
            old = change.former(column.name)
            line = ddl.column_line(of, column)
            if present.column(column.name) is None and old is not None and present.column(old.name) is not None:
                yield f"CHANGE COLUMN {quoted(old.name)} {line}"
            elif present.column(column.name) is None:
                yield self._add(of, column)
            elif old in was.columns and _body(line, column) != _body(ddl.column_line(was, old), old):
                yield f"MODIFY COLUMN {line}"

    def _add(self, of: Layout, column: Column) -> str:
        names = [c.name for c in of.columns]
        at = names.index(column.name)
        place = f"AFTER {quoted(names[at - 1])}" if at else "FIRST"
        return f"ADD COLUMN {ddl.column_line(of, column, added=True)} {place}"

    def _fill(self, of: Layout, columns: list[Column], seq: int) -> None:
        """Defaults that the server lets no such column have; once, since rows that come later have their own values."""
        target, act = of.target, f"{of.target.name}/fill"
        if not columns or self._book.done(target.database, act) >= seq:
            return
        values = ", ".join(f"{quoted(c.name)} = {ddl.literal(c, c.default or '')}" for c in columns)
        self.run(f"UPDATE {full_name(target)} SET {values}{of.unmoved()}", target)
        self._book.do(target.database, act, seq)

    def _drop(self, of: Layout, present: Present, names: frozenset[str]) -> None:
        there = {index.name.lower() for index in present.indexes}
        drops = [f"DROP INDEX {quoted(name)}" for name in sorted(names) if name.lower() in there]
        if drops:
            self.run(f"ALTER TABLE {full_name(of.target)} {', '.join(drops)}", of.target)

    def _index(self, of: Layout) -> None:
        """The table has the target's indexes, of which those over columns that are still to come are left out. One
        statement, so that the rows are read once."""
        present = describe(self._connection, of.target)
        if present is None:
            return
        there = {index.name.lower() for index in present.indexes}
        adds = [
            ddl.create_index(of, index)
            for index in of.indexes
            if index.name.lower() not in there and all(not p.column or present.column(p.column) for p in index.parts)
        ]
        if adds:
            self.run(f"ALTER TABLE {full_name(of.target)} {', '.join(adds)}", of.target)

    def swap(self, shadow: Target, of: Layout, owner: str) -> None:
        """In one statement, so that there is always a table of the name."""
        target = of.target
        if target.own:
            Shard(self._connection, self._book, of).swap(shadow, owner)
            return
        old = replace(shadow, name=f"{shadow.name}_old")
        if describe(self._connection, shadow) is not None:
            away = f"{full_name(target)} TO {full_name(old)}, " if describe(self._connection, target) else ""
            self.run(f"RENAME TABLE {away}{full_name(shadow)} TO {full_name(target)}", target)
        if describe(self._connection, old) is not None:
            self.run(f"DROP TABLE {full_name(old)}", target)

    def truncate(self, of: Layout, seq: int) -> None:
        """All rows go, or are marked as deleted, or stay: as the target's policy treats any delete. Once only: rows
        have no versions that could tell those that came since."""
        target = of.target
        if target.own:
            Shard(self._connection, self._book, of).truncate(seq)
            return
        if target.deletes == "ignore" or self._book.done(target.database, target.name) >= seq:
            return
        if of.soft:
            self.run(f"UPDATE {full_name(target)} SET {quoted(DELETED)} = 1{of.unmoved()}", target)
        else:
            self.run(f"TRUNCATE TABLE {full_name(target)}", target)
        self._book.do(target.database, target.name, seq)
