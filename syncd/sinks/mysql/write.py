"""One write: a transaction with the rows, and with the marks of the lanes that it moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pymysql
from numpy.typing import NDArray

from syncd.drivers.mysql.connection import Connection, place, rows
from syncd.drivers.mysql.faults import code_of, text_of, translate
from syncd.errors import BatchError
from syncd.model import ChangeBatch, Op, Target
from syncd.sinks.mysql.book import Book, Unregistered
from syncd.sinks.mysql.foreign import Tally
from syncd.sinks.mysql.layout import Layout
from syncd.sinks.mysql.statements import Statement, Writing
from syncd.spi import Foreign, Ticket

_REFUSED = {1048, 1138, 1171, 1263, 1264, 1265, 1292, 1364, 1365, 1366, 1367, 1406, 1411, 1416, 1452, 1644, 1690}
_REFUSED |= {3140, 3141, 3144, 3819, 4025, 4161, 1118, 1062, 1586, 1526}
"""The row's own fault: a value that the column does not take, or a rule of the table that it breaks."""
_THERE = {1062, 1586}
_DEADLOCK = 1213
_TOO_LARGE = 1153
_COMMAND = 16
"""Bytes of a packet that are not the statement's, and some."""
_TRIES = 5

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Work:
    """The rows of a batch, one for each key, in key order: all of them, those that go, and those that come.

    `fresh`: none is likely there yet.
    """

    batch: ChangeBatch
    rows: Index
    gone: Index
    there: Index
    fresh: bool


def work_of(target: Target, batch: ChangeBatch, *, fresh: bool) -> Work:
    """`fresh`: rows of a chunk."""
    kept = np.flatnonzero(batch.op != Op.DELETE) if target.deletes == "ignore" else np.arange(len(batch))
    last = kept if target.append else _last_of_each_key(batch, kept)
    deleted = batch.op[last] == Op.DELETE
    return Work(batch, last, last[deleted], last[~deleted], fresh)


def _last_of_each_key(batch: ChangeBatch, index: Index) -> Index:
    """In key order, since neighbours in a table are in one page of it."""
    if len(index) < 2:
        return index
    columns = [_plain(batch.rows.column(batch.rows.schema.get_field_index(n))) for n in batch.schema.identity]
    names = [str(place) for place in range(len(columns))]
    table = pa.table([*columns, np.arange(len(batch))], names=[*names, "at"])
    table = table if len(index) == len(batch) else table.take(pa.array(index))
    found = table.group_by(names).aggregate([("at", "max")]).sort_by([(name, "ascending") for name in names])
    last: Index = found.column("at_max").to_numpy()
    return last


def _plain(values: pa.Array) -> pa.Array:
    return values.dictionary_decode() if isinstance(values, pa.DictionaryArray) else values


class _There(Exception):
    """A row of a chunk was written before: its writer died then."""


class Writer:
    """Writes over one connection. `fits` is called in each transaction, before the rows."""

    def __init__(self, connection: Connection, book: Book, most_rows: int, most_bytes: int) -> None:
        self._connection, self._book = connection, book
        self._most_rows, self._most_bytes = most_rows, most_bytes

    def write(self, of: Layout, work: Work, ticket: Ticket, fits: Callable[[], bool]) -> Foreign | None:
        """`fits` answers whether the table has a unique index beside its key. See `spi.Sink.write`."""
        writing = Writing(of, work.batch.rows, self._most_rows, self._most_bytes)
        refused: dict[int, str] = {}
        tries = 0
        while True:
            try:
                more = self._transaction(of, work, ticket, fits, writing, refused)
            except _There:
                work = replace(work, fresh=False)
                continue
            except Unregistered:
                continue
            except pymysql.err.Error as error:
                tries += 1
                if code_of(error) == _DEADLOCK and tries < _TRIES:
                    continue
                raise translate(error, place(self._connection), str(of.target.schema.table)) from error
            refused |= more
            if not more or of.target.append or not self._deletes_first:
                break
        if refused:
            name = of.target.schema.table
            raise BatchError(f"{name}: {len(refused)} of {len(work.batch)} rows refused", refused)
        return self._tally.foreign()

    too_large = False
    """A row was refused since no packet holds it."""
    _deletes_first = False
    """Of the last transaction: rows were written as a delete and an insert."""
    _tally = Tally(None)
    """Of the last transaction."""

    def _transaction(
        self,
        of: Layout,
        work: Work,
        ticket: Ticket,
        fits: Callable[[], bool],
        writing: Writing,
        refused: dict[int, str],
    ) -> dict[int, str]:
        """Writes all but the refused, and answers which more were refused. Marks move when none is."""
        database = of.target.database
        self._book.register(database, ticket)
        with self._begun() as commit:
            self._book.admit(database, ticket)
            first_time = self._book.look(database, ticket)
            self._tally = Tally(ticket.there if first_time and not of.soft else None)
            if not of.key and self._book.done_before(of.target, ticket):
                return {}
            unique = fits()
            self._deletes_first = unique and bool(of.key)
            touched, gone, there = (_without(index, refused) for index in (work.rows, work.gone, work.there))
            if of.soft and len(gone):
                self._run(writing.mark_deleted(gone))
            elif len(gone) or self._deletes_first:
                self._delete(writing.delete(touched if self._deletes_first else gone))
            more = self._insert(of, writing, there, fresh=work.fresh and not unique)
            if more and (self._deletes_first or of.target.append):
                return more  # what was deleted for them comes back: all of it is done anew without them
            if not more and not refused:
                self._book.mark(of.target, ticket)
            commit()
            return more

    def _insert(self, of: Layout, writing: Writing, index: Index, *, fresh: bool) -> dict[int, str]:
        """Answers the rows that the server refuses, found by halving the statement that holds them."""
        over = bool(of.key) and not fresh and not self._deletes_first
        refused: dict[int, str] = {}

        def insert(statements: Iterator[Statement]) -> None:
            for statement in statements:
                error = self._refusal(statement, of.limits.packet)
                if error is None:
                    if over:
                        self._tally.upserted(statement.index, self._connection.affected_rows())
                    continue
                if fresh and of.key and code_of(error) in _THERE:
                    raise _There
                if len(statement.index) == 1:
                    refused[int(statement.index[0])] = f"{text_of(error)} ({code_of(error)})"
                else:
                    for half in np.array_split(statement.index, 2):
                        insert(writing.insert(half, over=over))

        insert(writing.insert(index, over=over))
        return refused

    def _refusal(self, statement: Statement, packet: int) -> pymysql.err.Error | None:
        """A statement beyond `packet` is not sent: servers drop the connection over it, often without a word."""
        if len(statement.sql) + _COMMAND > packet:
            self.too_large = True
            text = f"it takes a statement of {len(statement.sql):,} bytes, and max_allowed_packet is {packet:,}"
            return pymysql.err.OperationalError(_TOO_LARGE, text)
        try:
            self._connection.query(statement.sql)
        except pymysql.err.Error as error:
            if code_of(error) in _REFUSED:
                return error
            raise
        return None

    def _delete(self, statements: Iterator[Statement]) -> None:
        for statement in statements:
            self._tally.deleted(statement.index, self._connection.query(statement.sql))

    def _run(self, statements: Iterator[Statement]) -> None:
        for statement in statements:
            self._connection.query(statement.sql)

    @contextmanager
    def _begun(self) -> Iterator[Callable[[], None]]:
        """A transaction that is rolled back unless what is given was called."""
        committed = False

        def commit() -> None:
            nonlocal committed
            rows(self._connection, "COMMIT")
            committed = True

        rows(self._connection, "BEGIN")
        try:
            yield commit
        finally:
            if not committed and self._connection.open:
                self._roll_back()

    def _roll_back(self) -> None:
        """A connection that cannot even do that is dropped, and the server rolls back."""
        try:
            self._connection.query("ROLLBACK")
        except (pymysql.err.Error, OSError):
            self._connection._force_close()


def _without(index: Index, refused: dict[int, str]) -> Index:
    return index[~np.isin(index, [*refused])] if refused else index
