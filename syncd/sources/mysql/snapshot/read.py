"""The rows of a chunk, or of given keys, as batches with op READ."""

# ruff: noqa: S608 - names are quoted, values are literals of ours

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from syncd.drivers.mysql.faults import mapped
from syncd.errors import TransientError, Unfollowed
from syncd.model import ChangeBatch, Chunk, Column, Head, Op, TableSchema, plain_rows
from syncd.sources.mysql import types
from syncd.sources.mysql.connect import Connection, close, quoted, rows
from syncd.sources.mysql.indexes import Indexes, indexes
from syncd.sources.mysql.snapshot.consistent import consistent, defined
from syncd.sources.mysql.snapshot.decode import Decoder, Normalise, Rules, columns_of, expression
from syncd.sources.mysql.snapshot.literal import between, equal
from syncd.sources.mysql.snapshot.protocol import Statement

MOST_ROWS = 65_536
KEYS_AT_ONCE = 500


class Reader:
    """One connection for reading rows, opened when first needed and dropped when a result was left half read."""

    def __init__(self, connect: Callable[[], Connection], rules: Rules, throttle: Callable[[int], None]) -> None:
        self._connect = connect
        self._rules = rules
        self._throttle = throttle
        self._connection: Connection | None = None
        # stands for the consistent read that is open on the connection and still to be read
        self._begun: object = None

    def close(self) -> None:
        self._begun = None
        close(self._connection)
        self._connection = None

    def scan(self, schema: TableSchema, chunk: Chunk, seq: int) -> Iterator[ChangeBatch]:
        """The chunk's rows. FatalError: the table is gone or altered, by name."""
        where = between(schema.key, chunk.lower, chunk.upper)
        for rows_ in self.select(schema, where):
            yield batch_of(schema, rows_, Op.READ, seq)

    def scan_once(
        self, schema: TableSchema, begin: Callable[[Connection], Head], seq: int
    ) -> tuple[Head, Iterator[ChangeBatch]]:
        """The whole table as a transaction sees it that `begin` opens on the reader's connection."""
        with self._kept() as connection:
            rows(connection, "ROLLBACK")  # of a read that was given up
            head = begin(connection)
            consistent(connection, schema)
            self._unaltered(connection, schema)
            self._begun = begun = object()
        return head, self._seen(begun, schema, seq)

    def _seen(self, begun: object, schema: TableSchema, seq: int) -> Iterator[ChangeBatch]:
        with self._kept() as connection, defined(schema.table):
            if begun is not self._begun:
                raise TransientError(f"the consistent read of {schema.table} has ended before its rows were read")
            self._begun = None
            for rows_ in self._rows(connection, schema, ""):
                yield batch_of(schema, rows_, Op.READ, seq)

    def select(self, schema: TableSchema, where: str) -> Iterator[pa.RecordBatch]:
        """The rows that satisfy `where` (SQL; "" for all)."""
        with self._kept() as connection:
            self._begun = None
            rows(connection, "START TRANSACTION READ ONLY")
            self._unaltered(connection, schema)
            yield from self._rows(connection, schema, where)

    @contextmanager
    def _kept(self) -> Iterator[Connection]:
        """The reader's connection, opened when it is not; closed when what is done with it does not end well."""
        if self._connection is None:
            self._connection = self._connect()
        try:
            yield self._connection
        except BaseException:
            # also when the caller stops in the middle: what the server still sends belongs to nobody
            self.close()
            raise

    def _rows(self, connection: Connection, schema: TableSchema, where: str) -> Iterator[pa.RecordBatch]:
        table = str(schema.table)
        names = ", ".join(expression(column) for column in columns_of(schema))
        index = _index(connection, schema) if where else ""
        sql = f"SELECT {names} FROM {quoted(*schema.table)}{index}{' WHERE ' + where if where else ''}"
        with mapped(f"mysql source at {connection.host}:{connection.port}", table):
            statement = Statement(connection, sql)
            decoder = Decoder(schema, statement.fields, self._rules)
            for window in statement.windows(MOST_ROWS):
                found = decoder.batch(window)
                self._throttle(found.num_rows)
                yield found
        rows(connection, "ROLLBACK")

    @staticmethod
    def _unaltered(connection: Connection, schema: TableSchema) -> None:
        """Open the table, which holds off DDL until the transaction ends, and compare its columns."""
        table = str(schema.table)
        rows(connection, f"SELECT 1 FROM {quoted(*schema.table)} LIMIT 0", table=table)
        sql = "SELECT column_name, column_type FROM information_schema.columns "
        sql += "WHERE table_schema = %s AND table_name = %s"
        now: dict[str, str] = dict(rows(connection, sql, schema.table))
        for column in columns_of(schema):
            kind = now.get(column.name)
            if kind is None or not _same(column, kind):
                what = "is gone" if kind is None else f"is now {kind}, no longer {column.source_type}"
                hint = "resync the table if it was changed on purpose"
                raise Unfollowed(f"table {table}: column {column.name} {what}", table=table, hint=hint, code="E183")

    def read(self, schema: TableSchema, keys: pa.RecordBatch, seq: int) -> ChangeBatch:
        """The rows with these keys, op READ, and a DELETE for each key without a row; each key once."""
        wanted = _by_identity(_named(schema, keys, self._rules.normalise), schema)
        parts = [pa.RecordBatch.from_pylist([], schema=schema.arrow())]
        texts = list(wanted)
        for start in range(0, len(texts), KEYS_AT_ONCE):
            places = pa.array([wanted[text] for text in texts[start : start + KEYS_AT_ONCE]], pa.int64())
            some = plain_rows([keys.column(name).take(places) for name in schema.key])
            where = " OR ".join(f"({equal(schema.key, row)})" for row in some)
            parts += self.select(schema, where)
        found = _one(parts)
        there = _by_identity(found, schema)
        absent = [row for text, row in wanted.items() if text not in there]
        gone = _absent(schema, _named(schema, keys.take(pa.array(absent, pa.int64())), self._rules.normalise))
        op = np.repeat(np.array([Op.READ, Op.DELETE], np.uint8), [found.num_rows, gone.num_rows])
        return ChangeBatch(schema, _one([found, gone]), op, np.full(len(op), seq, np.uint64))


def _same(column: Column, kind: str) -> bool:
    """Whether a column that is now of type `kind` still gives the values that the schema promises."""
    listed = types.base_type(kind) in {"enum", "set"} or types.base_type(column.source_type) in {"enum", "set"}
    if listed and types.members(kind) != types.members(column.source_type):
        return False
    return bool(types.arrow_type(kind, column.charset) == column.type)


def _named(schema: TableSchema, keys: pa.RecordBatch, normalise: Normalise) -> pa.RecordBatch:
    """The key columns with their twins."""
    made = {name: keys.column(name) for name in schema.key}
    for column in schema.columns:
        if column.normal_of:
            made[column.name] = normalise(schema.column(column.normal_of), made[column.normal_of])
    return pa.RecordBatch.from_pydict(made)


def _by_identity(rows_: pa.RecordBatch, schema: TableSchema) -> dict[tuple[object, ...], int]:
    """Identity -> number of its (last) row. An object a key is bearable: a refresh is small."""
    return {key: number for number, key in enumerate(plain_rows([rows_.column(name) for name in schema.identity]))}


def _absent(schema: TableSchema, keys: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of which only the key is known."""
    known = set(keys.schema.names)
    arrays = [
        keys.column(c.name).cast(c.type) if c.name in known else pa.nulls(keys.num_rows, c.type) for c in schema.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema.arrow())


def _one(parts: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    table = pa.Table.from_batches(parts).unify_dictionaries().combine_chunks()
    return next(iter(table.to_batches()), parts[0])


def _index(connection: Connection, schema: TableSchema) -> str:
    known = indexes(connection, [schema.table]).get(schema.table, Indexes())
    found = next((key for key in known.keys if key.columns == schema.key), None)
    return f" FORCE INDEX ({quoted(found.name)})" if found else ""


def batch_of(schema: TableSchema, found: pa.RecordBatch, op: Op, seq: int) -> ChangeBatch:
    """`found` with one op and one seq for all rows."""
    count = found.num_rows
    return ChangeBatch(schema, found, np.full(count, op, np.uint8), np.full(count, seq, np.uint64))
