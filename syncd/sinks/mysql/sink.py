"""The sinks `mysql` and `oceanbase`: plain tables, written in transactions that hold the lanes' marks, too.

A row has no version: the order of arrival decides, and the marks see to it that nothing arrives twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, TypeVar

import pyarrow as pa

from syncd.drivers.mysql.connection import Connection, close, place, rows
from syncd.drivers.mysql.faults import mapped
from syncd.errors import BatchError, FatalError, TransientError
from syncd.model import Bound, ChangeBatch, Ddl, Finding, Lane, Op, SchemaChange, Target, TargetPlan
from syncd.sinks.mysql import ddl
from syncd.sinks.mysql.acts import Acts
from syncd.sinks.mysql.book import Book, Unregistered
from syncd.sinks.mysql.checks import findings
from syncd.sinks.mysql.layout import Layout, layout, lines, refusals, remarks
from syncd.sinks.mysql.options import MySQLOptions, MySQLTableOptions, OceanBaseOptions
from syncd.sinks.mysql.present import Present, describe, differences, fingerprint
from syncd.sinks.mysql.scan import own_rows, scan
from syncd.sinks.mysql.session import Limits, connect
from syncd.sinks.mysql.words import full_name
from syncd.sinks.mysql.write import Writer, work_of
from syncd.spi import Context, Foreign, Mark, Ticket, Traits

T = TypeVar("T")

_ENVELOPE = 4096
"""Bytes of a packet that are left to the protocol."""
_PAGE_ROWS = 20_000


class MySQLSink:
    """One connection; see `spi.Sink` for each method."""

    Options: ClassVar[type[MySQLOptions]] = MySQLOptions
    TableOptions: ClassVar[type[MySQLTableOptions]] = MySQLTableOptions
    name: ClassVar[str] = "mysql"

    def __init__(self, options: MySQLOptions, context: Context) -> None:
        self._options = options
        self._context = context
        self._link: tuple[Connection, Limits, Book] | None = None
        # (database, name, part) -> what the table was when it was last compared
        self._fits: dict[tuple[str, str, str], tuple[Target, str, Present]] = {}

    def traits(self) -> Traits:
        return Traits(
            "any process",
            versioned=False,
            transactional=True,
            target=str(self._options.address),
            parallel=self._options.connections,
            unique=True,
            shares=True,
        )

    def open(self) -> None:
        self._linked()

    def close(self) -> None:
        if self._link is None:
            return
        connection, _, book = self._link
        self._link = None
        try:
            if connection.open:
                book.leave()
        except TransientError as error:
            # Ended by a fence, as that of a reader is when its table is handed over: its rows are gone, too.
            self._context.log("connection_was_ended", error=str(error))
        finally:
            close(connection)

    def _linked(self) -> tuple[Connection, Limits, Book]:
        """The connection, made anew after it was lost: then its writers are to be registered anew, too."""
        if self._link is None or not self._link[0].open:
            connection, limits = connect(self._options, f"{self.name} sink")
            self._link = connection, limits, Book(connection, folds=bool(limits.folds))
            self._fits.clear()
        return self._link

    def check(self) -> Sequence[Finding]:
        connection, limits, _ = self._linked()
        return findings(connection, self._options.url, limits, wanted=self.name)

    def folds(self) -> str:
        return self._linked()[1].folds

    def plan(self, target: Target) -> TargetPlan:
        target = self._placed(target)
        connection, limits, _ = self._linked()
        of = layout(target, limits)
        found = refusals(of)
        statements: tuple[str, ...] = ()
        if not found:
            there = describe(connection, target)
            statements = (ddl.create_database(target.database), ddl.create_table(of))
            if there is not None:
                statements = ()
                todo = "mend the table, or give the target another name"
                wrong = differences(of, there)
                found += [Finding("error", full_name(target), f"the table is there, but {w}", todo) for w in wrong]
        return TargetPlan(statements, lines(of), (*found, *remarks(of), *ddl.remarks(of)), ddl.unique_later(of))

    def prepare(self, target: Target, newest: int | None = None) -> None:
        target = self._placed(target)
        of = self._made(target)
        _, present = self._compare(of)
        if newest is not None:
            self._refuse_others(of, present)

    def _made(self, target: Target) -> Layout:
        connection, _, book = self._linked()
        of = self._layout(target)
        new = describe(connection, target) is None
        if new:
            self._create_database(of)
        book.make(target.database)
        if new:
            # A table of this name that people have dropped may have been that of another data directory.
            book.forget_acts(target.database, target.name)
            self._run(ddl.create_table(of), of.target)
        return of

    def _create_database(self, of: Layout) -> None:
        connection, _, _ = self._linked()
        # Asked first, since IF NOT EXISTS wants the right to create databases also where there is one.
        sql = "SELECT 1 FROM information_schema.schemata WHERE schema_name = %s"
        if not rows(connection, sql, [of.target.database]):
            self._run(ddl.create_database(of.target.database), of.target)

    def _refuse_others(self, of: Layout, present: Present) -> None:
        """Before the load: rows that are there would stay, and a unique index would refuse what is read at two
        moments."""
        connection, _, _ = self._linked()
        table = str(of.target.schema.table)
        sql = f"SELECT 1 FROM {full_name(of.target)} WHERE {own_rows(of)} LIMIT 1"  # noqa: S608 - quoted
        if rows(connection, sql, table=table):
            raise FatalError(
                f"{full_name(of.target)} holds rows already: it was written by another job, or by hand",
                table=table,
                hint="empty or drop the target table, then `syncd jobs resume`",
                code="E192",
            )
        if present.unique:
            raise FatalError(
                f"{full_name(of.target)} has unique indexes beside its key: {', '.join(present.unique)}",
                table=table,
                hint="drop them: syncd makes the source's own ones when the table is LIVE; then `syncd jobs resume`",
                code="E192",
            )

    def _run(self, sql: str, target: Target) -> None:
        rows(self._linked()[0], sql, table=str(target.schema.table))

    def fence(self, owner: str, epoch: int) -> None:
        self._linked()[2].fence(owner, epoch)

    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> Foreign | None:
        """Guarantees 1, 2 and 7: rows and marks in one transaction, which a fenced writer cannot begin."""
        placed = self._placed(target)
        return self._connected(lambda: self._write(placed, batch, ticket))

    def _write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> Foreign | None:
        connection, limits, book = self._linked()
        of = self._layout(target)
        most = min(self._options.statement_bytes, limits.packet - _ENVELOPE)
        fresh = bool(len(batch)) and bool((batch.op == Op.READ).all())
        writer = Writer(connection, book, self._options.statement_rows, most)

        def fits() -> bool:
            return bool(self._still_fits(of).unique)

        with mapped(place(connection), str(target.schema.table)):
            try:
                return writer.write(of, work_of(target, batch, fresh=fresh), ticket, fits)
            except FatalError as error:
                if error.code == "E183" and error.table is None:  # the sink's own table, and the database with it
                    raise self._changed(target, ["it is gone"]) from error
                raise
            except BatchError:
                if writer.too_large:
                    self.close()  # a new connection has the limit that people may have raised meanwhile
                raise

    def _connected(self, do: Callable[[], T]) -> T:
        """Once more over a new connection where this one is found to be gone: dropped while it was idle, or ended by a
        fence, of which the new one learns."""
        try:
            return do()
        except TransientError:
            if self._link is not None and self._link[0].open:
                raise
            return do()

    def marks(self, owner: str) -> Mapping[Lane, Mark]:
        return self._linked()[2].marks(owner)

    def apply(self, target: Target, change: SchemaChange, ticket: Ticket) -> None:
        placed = self._placed(target)
        self._connected(lambda: self._apply(placed, change, ticket))

    def _apply(self, target: Target, change: SchemaChange, ticket: Ticket) -> None:
        if change.kind is Ddl.CREATE:
            of = self._made(target)
            if not target.own:
                self._compare(of)
        of = self._layout(target)
        connection, _, book = self._linked()

        def act() -> None:
            book.look(target.database, ticket)
            Acts(connection, book).act(of, change)
            if ticket.marks:
                book.mark(target, ticket)

        self._registered(target, ticket, act)
        if change.kind in {Ddl.DROP, Ddl.RENAME}:
            self._context.log("target_kept", table=full_name(target), statement=change.statement)
        if change.kind is Ddl.ALTER or (change.kind is Ddl.CREATE and target.own):
            self._compare(of)

    def swap(self, shadow: Target, target: Target, seq: int, ticket: Ticket) -> None:
        shadow, target = self._placed(shadow), self._placed(target)
        self._connected(lambda: self._swap(shadow, target, ticket))

    def _swap(self, shadow: Target, target: Target, ticket: Ticket) -> None:
        connection, _, book = self._linked()
        of = self._made(target) if target.own else self._layout(target)
        self._registered(target, ticket, lambda: Acts(connection, book).swap(shadow, of, ticket.owner))
        self._fits.clear()

    def _registered(self, target: Target, ticket: Ticket, do: Callable[[], None]) -> None:
        """Do what no transaction can hold; a fence ends the connection that does it."""
        _, _, book = self._linked()
        while True:
            book.register(target.database, ticket)
            try:
                book.admit(target.database, ticket)
            except Unregistered:
                continue
            do()
            return

    def scan(self, target: Target, lower: Bound | None, upper: Bound | None) -> Iterator[pa.RecordBatch]:
        of = self._layout(self._placed(target))
        return scan(self._linked()[0], of, of.key_of(lower), of.key_of(upper), _PAGE_ROWS)

    def expire(self, target: Target, below: int) -> None:
        """Nothing to do: a deleted row leaves no tombstone."""

    # -- what the table is

    def _placed(self, target: Target) -> Target:
        return target if target.database else replace(target, database=self._options.database)

    def _layout(self, target: Target) -> Layout:
        """FatalError: the table cannot be held."""
        of = layout(target, self._linked()[1])
        refused = refusals(of)
        if refused:
            text = "; ".join(f.text for f in refused)
            raise FatalError(f"{target.schema.table}: {text}", table=str(target.schema.table), hint=refused[0].todo)
        return of

    def _still_fits(self, of: Layout) -> Present:
        """A column altered by hand would take other values without an error: look before every write."""
        target = of.target
        known = self._fits.get((target.database, target.name, target.part))
        if known is not None and known[0] == target and fingerprint(self._linked()[0], target) == known[1]:
            return known[2]
        return self._compare(of)[1]

    def _compare(self, of: Layout) -> tuple[str, Present]:
        """The table's own statement, and what it is, once it is seen to fit."""
        connection, target = self._linked()[0], of.target
        there = describe(connection, target)
        if there is None:
            raise self._changed(target, ["it is gone"])
        # Taken before it is compared: a change in between is seen by the next write.
        seen = fingerprint(connection, target)
        there = describe(connection, target) or there
        wrong = differences(of, there)
        if wrong:
            raise self._changed(target, wrong)
        self._fits[target.database, target.name, target.part] = (target, seen, there)
        return seen, there

    def _changed(self, target: Target, wrong: Sequence[str]) -> FatalError:
        self._fits.pop((target.database, target.name, target.part), None)
        return FatalError(
            f"{full_name(target)} does not fit {target.schema.table}: {'; '.join(wrong)}",
            table=str(target.schema.table),
            hint="mend the table, give the target another name, or drop it and resync",
        )


class OceanBaseSink(MySQLSink):
    """A tenant in MySQL's mode, reached directly or through its proxy."""

    Options: ClassVar[type[MySQLOptions]] = OceanBaseOptions
    name: ClassVar[str] = "oceanbase"
