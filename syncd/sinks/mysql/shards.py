"""A target that several source tables share (`Target.own`): its columns are made to hold the rows of all of them, and
acts touch the rows of one."""

# ruff: noqa: S608 - names are quoted

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from syncd.drivers.mysql.connection import Connection, patient, quoted, rows
from syncd.errors import FatalError
from syncd.model import Column, SchemaChange, Target
from syncd.sinks.mysql import ddl
from syncd.sinks.mysql.book import Book
from syncd.sinks.mysql.layout import Layout
from syncd.sinks.mysql.present import Present, PresentColumn, describe, has_room, is_wider
from syncd.sinks.mysql.scan import own_rows
from syncd.sinks.mysql.words import DELETED, full_name

_ROWS = 20_000
"""In one DELETE."""
_PATIENCE = 3600
"""Seconds for a statement at OceanBase, which ends others after `write_timeout` by itself."""


class Shard:
    """The own table of a layout's target, over a connection that is registered as a writer."""

    def __init__(self, connection: Connection, book: Book, of: Layout) -> None:
        self._connection, self._book, self._of = connection, book, of
        self._target, self._name = of.target, full_name(of.target)

    def _run(self, sql: str) -> int:
        """How many rows it has changed."""
        rows(self._connection, sql, table=str(self._target.schema.table))
        return int(self._connection.affected_rows())

    def _present(self) -> Present:
        found = describe(self._connection, self._target)
        if found is None:
            table = str(self._target.schema.table)
            raise FatalError(f"{self._name} is gone", table=table, hint="resync the tables that go to it")
        return found

    # -- columns

    def fit(self, change: SchemaChange | None = None) -> None:
        """The table takes the own rows, and still those of all others. FatalError: a column cannot do both."""
        present = self._present()
        self._refuse_other_key(present)
        parts = [*self._parts(present, change)]
        for one in [[part] for part in parts] if self._of.limits.oceanbase else filter(None, [parts]):
            self._run(f"ALTER TABLE {self._name} {', '.join(one)}")
        if change is not None and change.before is not None:
            both = self._met(present, change)
            self._fill([c for c in self._of.written if change.former(c.name) is None], both, change.seq)
            for old in {*both.values()} - {*change.kept}:
                self._run(f"ALTER TABLE {self._name} DROP COLUMN {quoted(old)}")

    def _met(self, present: Present, change: SchemaChange) -> dict[str, str]:
        """As `SchemaChange.met`, without columns that the server computes, and those whose names are one here."""
        met = change.met(present.column).items()
        return {new: old for new, old in met if new.lower() != old.lower() and new not in self._of.generated}

    def _refuse_other_key(self, present: Present) -> None:
        if [name.lower() for name in present.key] != [name.lower() for name in self._of.key]:
            raise FatalError(
                f"{self._name} has the primary key ({', '.join(present.key)}), and rows of several tables are told "
                f"apart by ({', '.join(self._of.key)})",
                table=str(self._target.schema.table),
                hint="drop the target table, then `syncd jobs resume`",
            )

    def _parts(self, present: Present, change: SchemaChange | None) -> Iterator[str]:
        gone = {name.lower() for name in (change.gone if change is not None else ())}
        yield from (f"DROP COLUMN {quoted(c.name)}" for c in present.columns if c.name.lower() in gone)
        ours = {DELETED, *gone}
        for column in self._of.columns:
            there = present.column(column.name)
            old = change.former(column.name) if change is not None else None
            was = present.column(old.name) if old is not None else None
            ours |= {column.name.lower(), *([was.name.lower()] if was is not None and there is None else [])}
            if there is not None:
                line = self._widened(column, there)
                yield from [f"MODIFY COLUMN {line}"] if line else []
            elif was is not None:
                line = self._widened(column, was) or _as_it_is(
                    column.name, was, nullable=column.name not in self._of.key
                )
                yield f"CHANGE COLUMN {quoted(was.name)} {line}"
            else:
                yield self._added(column)
        for there in present.columns:
            if there.name.lower() not in ours and not there.nullable and there.default is None and not there.extra:
                yield f"MODIFY COLUMN {_as_it_is(there.name, there, nullable=True)}"

    def _widened(self, column: Column, there: PresentColumn) -> str:
        """The column's definition where it must become another one."""
        kind = self._of.kinds[column.name]
        assert kind is not None, "refused before"
        if column.name in self._of.generated:
            return ""
        key = column.name in self._of.key
        if has_room(there, kind.name, key=key):
            return _as_it_is(column.name, there, nullable=True) if column.nullable and not there.nullable else ""
        if not is_wider(kind.name, there, key=key):
            raise FatalError(
                f"{self._target.schema.table}.{column.name} is {kind.name} now, {self._name} has {there.type} for it "
                "and for other tables, and neither holds all values of the other",
                table=str(self._target.schema.table),
                hint="give the column one type in all tables that go there, drop the target, and resync them all",
                code="E155",
            )
        return self._line(replace(column, nullable=column.nullable or there.nullable))

    def _line(self, column: Column) -> str:
        """Other tables may write rows without it."""
        if column.name in self._of.key:
            return ddl.column_line(self._of, column)
        if not ddl.has_default(self._of, column):
            column = replace(column, nullable=True)
        return ddl.column_line(self._of, column, added=True)

    def _added(self, column: Column) -> str:
        names = [c.name for c in self._of.columns]
        at = names.index(column.name)
        place = f"AFTER {quoted(names[at - 1])}" if at else "FIRST"
        return f"ADD COLUMN {self._line(column)} {place}"

    def _fill(self, columns: list[Column], both: dict[str, str], seq: int) -> None:
        """The own rows hold what the source gave them; once, since later ones have values of their own."""
        act = f"{self._target.name}/fill/{self._target.part}"
        if not (columns or both) or self._book.done(self._target.database, act) >= seq:
            return
        values = {quoted(c.name): ddl.old_value(c) for c in columns} | {quoted(n): quoted(o) for n, o in both.items()}
        own, table = own_rows(self._of), self._target.schema.table
        unknown = next((name for name, value in values.items() if value is None), None)
        if unknown is not None and rows(self._connection, f"SELECT 1 FROM {self._name} WHERE {own} LIMIT 1"):
            raise FatalError(
                f"{table}: the value of the new column {unknown} in the rows that are there is not known",
                table=str(table),
                hint="give the column a constant DEFAULT at the source, or resync the table",
            )
        if unknown is None:
            same = " AND ".join(f"{name} <=> {value}" for name, value in values.items())
            given = ", ".join(f"{name} = {value}" for name, value in values.items())
            named = [c.name for c in columns] + [*both]
            self._run(f"UPDATE {self._name} SET {given}{self._of.unmoved(*named)} WHERE {own} AND NOT ({same})")
        self._book.do(self._target.database, act, seq)

    # -- rows

    def truncate(self, seq: int) -> None:
        act = f"{self._target.name}/{self._target.part}"
        if self._target.deletes == "ignore" or self._book.done(self._target.database, act) >= seq:
            return
        if self._of.soft:
            self._run(f"UPDATE {self._name} SET {quoted(DELETED)} = 1{self._of.unmoved()} WHERE {own_rows(self._of)}")
        else:
            self._remove()
        self._book.do(self._target.database, act, seq)

    def _remove(self, patience: str = "") -> None:
        while self._run(f"DELETE {patience}FROM {self._name} WHERE {own_rows(self._of)} LIMIT {_ROWS}") == _ROWS:
            pass

    def swap(self, shadow: Target, owner: str) -> None:
        """The shadow's rows in the place of the own ones, in one transaction, in which the book says that it was done:
        by its load's number, since the position of two loads may be the same."""
        act, epoch = f"{self._target.name}/swap/{self._target.part}", int(shadow.name.rpartition("_")[2])
        if describe(self._connection, shadow) is None:
            return
        if self._book.done(self._target.database, act, owner) != epoch:
            self.fit()
            self.relax()
            self._run("BEGIN")
            try:
                self._take_rows(shadow)
                self._book.do(self._target.database, act, epoch, owner)
                self._run("COMMIT")
            except BaseException:
                if self._connection.open:
                    self._run("ROLLBACK")
                raise
        self._run(f"DROP TABLE {full_name(shadow)}")

    def _take_rows(self, shadow: Target) -> None:
        """As long as it takes: what was broken off would be undone by the server, and begun again."""
        names = [c.name for c in self._of.written] + ([DELETED] if self._of.soft else [])
        listed = ", ".join(quoted(name) for name in names)
        patience = f"/*+ QUERY_TIMEOUT({_PATIENCE * 10**6}) */ " if self._of.limits.oceanbase else ""
        with patient(self._connection):
            self._remove(patience)
            self._run(
                f"INSERT {patience}INTO {self._name} ({listed}) SELECT {listed} FROM {full_name(shadow)} "
                f"WHERE {own_rows(self._of)}"
            )

    def relax(self) -> None:
        """Before rows that were read at several moments: without the source's unique indexes, which are made again when
        all tables are LIVE."""
        mine = {index.name.lower() for index in self._target.schema.indexes if index.kind == "unique"}
        drops = [f"DROP INDEX {quoted(name)}" for name in self._present().unique if name.lower() in mine]
        if drops and not self._target.relaxed:
            self._run(f"ALTER TABLE {self._name} {', '.join(drops)}")


def _as_it_is(name: str, there: PresentColumn, *, nullable: bool = False) -> str:
    """The definition of a column that is there, maybe under another name."""
    text = f" CHARACTER SET {there.charset} COLLATE {there.collation}" if there.collation else ""
    null = "NULL" if nullable or there.nullable else "NOT NULL"
    return f"{quoted(name)} {there.type}{text} {null}"
