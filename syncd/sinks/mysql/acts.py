"""Barrier acts: harmless when done twice or late, and impossible for a writer whose epoch is over."""

# ruff: noqa: S608 - names are quoted

from __future__ import annotations

from syncd.drivers.mysql.connection import Connection, quoted, rows
from syncd.errors import Unsupported
from syncd.model import Column, Ddl, SchemaChange, Target
from syncd.sinks.mysql import ddl
from syncd.sinks.mysql.book import Book
from syncd.sinks.mysql.layout import Layout
from syncd.sinks.mysql.present import describe
from syncd.sinks.mysql.words import DELETED, full_name


def _gone(change: SchemaChange) -> frozenset[str]:
    """The names of indexes that the change has dropped, or made in another way."""
    now = {index.name: index for index in change.schema.indexes}
    before = () if change.before is None else change.before.indexes
    return frozenset(index.name for index in before if now.get(index.name) != index)


class Acts:
    """Over one connection, which is registered as a writer before each act: a fence ends it, and its ALTER TABLE."""

    def __init__(self, connection: Connection, book: Book) -> None:
        self._connection, self._book = connection, book

    def run(self, sql: str, target: Target) -> None:
        rows(self._connection, sql, table=str(target.schema.table))

    def act(self, of: Layout, change: SchemaChange) -> None:
        """The acts that need no new table. DROP and RENAME keep the table: a person decides."""
        match change.kind:
            case Ddl.CREATE | Ddl.INDEX:
                self.index(of, frozenset())
            case Ddl.ALTER:
                self.add_columns(of, change)
                self.index(of, _gone(change))
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

    def add_columns(self, of: Layout, change: SchemaChange) -> None:
        """Every column of the target that the table has not, at its place; rows that are there get the default."""
        present = describe(self._connection, of.target)
        if present is None:
            return
        missing = [c for c in of.columns if present.column(c.name) is None]
        if missing:
            parts = ", ".join(self._add(of, column) for column in missing)
            self.run(f"ALTER TABLE {full_name(of.target)} {parts}", of.target)
        known = {c.name for c in change.before.columns} if change.before else None
        added = missing if known is None else [c for c in of.columns if c.name not in known]
        self._fill(of, [c for c in added if ddl.filled_later(c)], change.seq)

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
        self.run(f"UPDATE {full_name(target)} SET {values}", target)
        self._book.do(target.database, act, seq)

    def index(self, of: Layout, gone: frozenset[str]) -> None:
        """The table has the target's indexes, of which those over columns that are still to come are left out, and none
        of those that are `gone`. One statement, so that the rows are read once."""
        present = describe(self._connection, of.target)
        if present is None:
            return
        there = {index.name.lower() for index in present.indexes}
        drops = [f"DROP INDEX {quoted(name)}" for name in sorted(gone) if name.lower() in there]
        there -= {name.lower() for name in gone}
        adds = [
            ddl.create_index(of, index)
            for index in of.indexes
            if index.name.lower() not in there and all(not p.column or present.column(p.column) for p in index.parts)
        ]
        for parts in filter(None, (drops, adds)):
            self.run(f"ALTER TABLE {full_name(of.target)} {', '.join(parts)}", of.target)

    def truncate(self, of: Layout, seq: int) -> None:
        """All rows go, or are marked as deleted, or stay: as the target's policy treats any delete. Once only: rows
        have no versions that could tell those that came since."""
        target = of.target
        if target.deletes == "ignore" or self._book.done(target.database, target.name) >= seq:
            return
        if of.soft:
            self.run(f"UPDATE {full_name(target)} SET {quoted(DELETED)} = 1", target)
        else:
            self.run(f"TRUNCATE TABLE {full_name(target)}", target)
        self._book.do(target.database, target.name, seq)
