"""A source's log and tables in one SQLite file: a test writes it, `sources.LogSource` reads it, in any process.

    log = Log(tmp_path / "source.db")
    log.create(schema)                                       a table; text keys with a twin get its values by themselves
    with log.transaction() as tx:                            one transaction of the log
        tx.put(table, (1, "a"))                              INSERT, or UPDATE where the key is there
        tx.change(table, (1,), (2, "b"))                     UPDATE that may change the key
        tx.delete(table, (2,))
    log.add_column(table, Column(...)); log.truncate(table); log.drop(table); log.garble(table)
    log.fail_over()                                          another server goes on, with a log of its own
    log.rows(table)                                          the rows as they are now

Each entry has a place, counted from 1 without a gap, and a time that is its place: the same calls make the same log.
"""

from __future__ import annotations

import marshal
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from syncd.model import Column, Ddl, KeyValue, Op, TableId, TableSchema
from syncd.testing.sink_rows import arrow, plain

GARBLED = "garbled"
"""Kind of an entry that the source does not understand."""

_TABLES = """
CREATE TABLE IF NOT EXISTS entries (place INTEGER PRIMARY KEY, tx INTEGER NOT NULL, kind TEXT NOT NULL,
                                    db TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_tx ON entries (tx);
CREATE TABLE IF NOT EXISTS tables (db TEXT, name TEXT, schema BLOB NOT NULL, PRIMARY KEY (db, name));
CREATE TABLE IF NOT EXISTS rows (db TEXT, name TEXT, key BLOB, data BLOB NOT NULL, PRIMARY KEY (db, name, key));
CREATE TABLE IF NOT EXISTS facts (what TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""

Values = tuple[Any, ...]
"""A row's plain values (`sink_rows.plain`), in the order of its schema's columns."""


class Entry(NamedTuple):
    """`data`: of a row change (op, names of the columns, values before or None, values after or None); of a statement
    (its schema after it, columns that got another name)."""

    place: int
    tx: int
    kind: str
    table: TableId
    data: bytes

    def row(self) -> tuple[Op, tuple[str, ...], Values | None, Values | None]:
        op, names, before, after = marshal.loads(self.data)
        return Op(op), names, before, after

    def statement(self) -> tuple[TableSchema, tuple[tuple[str, str], ...]]:
        schema, renamed = marshal.loads(self.data)
        return TableSchema.load(schema), renamed


def normal(column: Column, value: Any) -> bytes:
    """The value of a key column's twin: without regard to case and spaces at the end."""
    return str(value).casefold().rstrip(" ").encode()


def to_plain(schema: TableSchema, row: Sequence[Any]) -> Values:
    """A row as a test gives it, without twins, as plain values with them."""
    own = [c for c in schema.columns if not c.normal_of]
    given = {c.name: plain(pa.array([v], c.type))[0] for c, v in zip(own, row, strict=True)}
    twins = {c.name: normal(c, given[c.normal_of]) for c in schema.columns if c.normal_of}
    return tuple({**given, **twins}[c.name] for c in schema.columns)


def key_of(schema: TableSchema, values: Values) -> Values:
    """The identity of a row."""
    named = dict(zip((c.name for c in schema.columns), values, strict=True))
    return tuple(named[name] for name in schema.identity)


def normal_key(schema: TableSchema, key: Sequence[KeyValue]) -> Values:
    """A key as a test or a chunk gives it, as identity."""
    twins = {c.normal_of: c for c in schema.columns if c.normal_of}
    plains = [plain(pa.array([v], schema.column(n).type))[0] for n, v in zip(schema.key, key, strict=True)]
    return tuple(normal(twins[n], v) if n in twins else v for n, v in zip(schema.key, plains, strict=True))


def typed(column: Column, values: Sequence[Any]) -> pa.Array:
    """Plain values as the column's Arrow values."""
    return arrow(values, column.type)


def default_of(column: Column) -> Any:
    """What a row holds that was there before the column."""
    if column.default is not None:
        return plain(pa.array([column.default]).cast(column.type))[0]
    return None if column.nullable else plain(pa.array([0]).cast(column.type))[0]


def fitted(schema: TableSchema, names: Sequence[str], values: Values) -> Values:
    """A row of an older or newer schema with `schema`'s columns; those that it lacks have their default."""
    named = dict(zip(names, values, strict=True))
    return tuple(named[c.name] if c.name in named else default_of(c) for c in schema.columns)


class Log:
    """One instance a thread; any number of processes."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        for statement in filter(str.strip, _TABLES.split(";")):
            self._db.execute(statement)

    def close(self) -> None:
        self._db.close()

    # -- writing

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Entries that become visible, in the log and in the tables, together; none of them when it raises."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield Transaction(self, self._db, self.end()[0] + 1)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def create(self, schema: TableSchema) -> None:
        self._statement(Ddl.CREATE, schema)

    def add_column(self, table: TableId, column: Column) -> None:
        """As the last one; rows that are there get its default."""
        self.alter(table, (*self.schema(table).columns, column))

    def alter(self, table: TableId, columns: Sequence[Column], renamed: Mapping[str, str] | None = None) -> None:
        """The table has these columns from here on, of which some had other names (old: new); rows keep their values,
        and get the defaults of columns that they lack."""
        old, names = self.schema(table), renamed or {}
        new = replace(old, columns=tuple(columns))
        with self.transaction() as tx:
            tx.statement(Ddl.ALTER, new, tuple(names.items()))
            tx.refit([names.get(c.name, c.name) for c in old.columns], new)

    def truncate(self, table: TableId) -> None:
        self._statement(Ddl.TRUNCATE, self.schema(table))

    def drop(self, table: TableId) -> None:
        self._statement(Ddl.DROP, self.schema(table))

    def other(self, table: TableId) -> None:
        """A statement that no sink may follow blindly."""
        self._statement(Ddl.OTHER, self.schema(table))

    def garble(self, table: TableId) -> None:
        """An entry that the source does not understand."""
        self._statement(GARBLED, self.schema(table))

    def purge(self, before: int) -> None:
        """The transactions up to number `before` are no longer in the log."""
        with self.transaction():
            self._db.execute("REPLACE INTO facts VALUES ('purged', ?)", (before,))
            self._db.execute("DELETE FROM entries WHERE tx <= ? AND tx < (SELECT max(tx) FROM entries)", (before,))

    def fail_over(self) -> None:
        """Another log answers: it has the transactions that are not purged, and counts its places anew."""
        with self.transaction():
            self._db.execute("REPLACE INTO facts VALUES ('log', ?)", (self.number() + 1,))
            self._db.execute("REPLACE INTO facts VALUES ('base', ?)", (self.place_of(self.purged()),))

    def _statement(self, kind: str, schema: TableSchema) -> None:
        with self.transaction() as tx:
            tx.statement(kind, schema)

    # -- reading

    def end(self) -> tuple[int, int]:
        """(number of the last transaction, place of its last entry); 0 where there is none."""
        tx, place = self._db.execute("SELECT max(tx), max(place) FROM entries").fetchone()
        return tx or 0, place or 0

    def purged(self) -> int:
        return self._fact("purged")

    def number(self) -> int:
        """Which log answers now."""
        return self._fact("log")

    def base(self) -> int:
        """The place before the first of the log that answers now."""
        return self._fact("base")

    def _fact(self, what: str) -> int:
        found = self._db.execute("SELECT value FROM facts WHERE what = ?", (what,)).fetchone()
        return int(found[0]) if found else 0

    def place_of(self, tx: int) -> int:
        """The last place of the transactions up to number `tx`."""
        return int(self._db.execute("SELECT ifnull(max(place), 0) FROM entries WHERE tx <= ?", (tx,)).fetchone()[0])

    def last_statement(self) -> int:
        """Number of the last transaction that is no row change."""
        rows = "SELECT ifnull(max(tx), 0) FROM entries WHERE kind != 'row'"
        return int(self._db.execute(rows).fetchone()[0])

    def entries(self, tx: int) -> list[Entry]:
        """Those of one transaction."""
        sql = "SELECT place, tx, kind, db, name, data FROM entries WHERE tx = ? ORDER BY place"
        found = self._db.execute(sql, (tx,)).fetchall()
        return [Entry(place, tx, kind, TableId(db, name), data) for place, tx, kind, db, name, data in found]

    def tables(self) -> list[TableSchema]:
        found = self._db.execute("SELECT schema FROM tables ORDER BY db, name").fetchall()
        return [TableSchema.load(data) for (data,) in found]

    def find(self, table: TableId) -> TableSchema | None:
        found = self._db.execute("SELECT schema FROM tables WHERE db = ? AND name = ?", table).fetchone()
        return None if found is None else TableSchema.load(found[0])

    def schema(self, table: TableId) -> TableSchema:
        """KeyError: no such table."""
        found = self.find(table)
        if found is None:
            raise KeyError(str(table))
        return found

    def plain_rows(self, table: TableId) -> list[Values]:
        """In the order of their identity."""
        schema = self.schema(table)
        found = self._db.execute("SELECT data FROM rows WHERE db = ? AND name = ?", table).fetchall()
        return sorted((marshal.loads(data) for (data,) in found), key=lambda row: key_of(schema, row))

    def moment(self, table: TableId) -> tuple[int, TableSchema | None, list[Values]]:
        """(number of the last transaction, the table, its rows), all of one moment; None: no such table."""
        self._db.execute("BEGIN")
        try:
            schema = self.find(table)
            return self.end()[0], schema, [] if schema is None else self.plain_rows(table)
        finally:
            self._db.execute("COMMIT")

    def rows(self, table: TableId) -> list[dict[str, Any]]:
        """The rows as Arrow gives them to Python."""
        schema = self.schema(table)
        found = self.plain_rows(table)
        columns = list(zip(*found, strict=True)) if found else [()] * len(schema.columns)
        arrays = [typed(c, values) for c, values in zip(schema.columns, columns, strict=True)]
        listed: list[dict[str, Any]] = pa.RecordBatch.from_arrays(arrays, schema=schema.arrow()).to_pylist()
        return listed


class Transaction:
    """One transaction that is being written."""

    def __init__(self, log: Log, db: sqlite3.Connection, number: int) -> None:
        self._log = log
        self._db = db
        self._number = number

    def put(self, table: TableId, row: Sequence[Any]) -> None:
        """Of a table without a key: always another row."""
        schema = self._log.schema(table)
        after = to_plain(schema, row)
        before = self._row(schema, key_of(schema, after)) if schema.key else None
        self._change(schema, Op.INSERT if before is None else Op.UPDATE, before, after)

    def change(self, table: TableId, key: Sequence[KeyValue], row: Sequence[Any]) -> None:
        """KeyError: no row has the key, or another one has the new key."""
        schema = self._log.schema(table)
        before, after = self._row(schema, normal_key(schema, key)), to_plain(schema, row)
        moved = before is not None and key_of(schema, before) != key_of(schema, after)
        if before is None or (moved and self._row(schema, key_of(schema, after)) is not None):
            raise KeyError(f"{table}: {key} -> {row}")
        self._change(schema, Op.UPDATE, before, after)

    def delete(self, table: TableId, key: Sequence[KeyValue]) -> None:
        """KeyError: no row has the key."""
        schema = self._log.schema(table)
        before = self._row(schema, normal_key(schema, key))
        if before is None:
            raise KeyError(f"{table}: {key}")
        self._change(schema, Op.DELETE, before, None)

    def statement(self, kind: str, schema: TableSchema, renamed: Sequence[tuple[str, str]] = ()) -> None:
        data = marshal.dumps((replace(schema, version=0).dump(), tuple(renamed)), 2)
        place = self._append(kind, schema.table, data)
        if kind in {Ddl.CREATE, Ddl.ALTER}:
            self._db.execute(
                "REPLACE INTO tables VALUES (?, ?, ?)", (*schema.table, replace(schema, version=place).dump())
            )
        if kind in {Ddl.TRUNCATE, Ddl.DROP}:
            self._db.execute("DELETE FROM rows WHERE db = ? AND name = ?", schema.table)
        if kind == Ddl.DROP:
            self._db.execute("DELETE FROM tables WHERE db = ? AND name = ?", schema.table)

    def refit(self, names: Sequence[str], new: TableSchema) -> None:
        """Every row of the table, whose values have these names, gets the columns that it lacks; nothing of that is in
        the log."""
        found = self._db.execute("SELECT key, data FROM rows WHERE db = ? AND name = ?", new.table).fetchall()
        fresh = [(marshal.dumps(fitted(new, names, marshal.loads(data)), 2), *new.table, key) for key, data in found]
        self._db.executemany("UPDATE rows SET data = ? WHERE db = ? AND name = ? AND key = ?", fresh)

    def _row(self, schema: TableSchema, key: Values) -> Values | None:
        sql = "SELECT data FROM rows WHERE db = ? AND name = ? AND key = ?"
        found = self._db.execute(sql, (*schema.table, marshal.dumps(key, 2))).fetchone()
        return None if found is None else marshal.loads(found[0])

    def _change(self, schema: TableSchema, op: Op, before: Values | None, after: Values | None) -> None:
        names = tuple(c.name for c in schema.columns)
        place = self._append("row", schema.table, marshal.dumps((int(op), names, before, after), 2))
        if not schema.key:
            assert before is None, f"{schema.table} has no key: rows are only added"
            stored = marshal.dumps(place, 2), marshal.dumps(after, 2)
            self._db.execute("INSERT INTO rows VALUES (?, ?, ?, ?)", (*schema.table, *stored))
            return
        if before is not None:
            gone = marshal.dumps(key_of(schema, before), 2)
            self._db.execute("DELETE FROM rows WHERE db = ? AND name = ? AND key = ?", (*schema.table, gone))
        if after is not None:
            key, data = marshal.dumps(key_of(schema, after), 2), marshal.dumps(after, 2)
            self._db.execute("INSERT INTO rows VALUES (?, ?, ?, ?)", (*schema.table, key, data))

    def _append(self, kind: str, table: TableId, data: bytes) -> int:
        sql = "INSERT INTO entries (tx, kind, db, name, data) VALUES (?, ?, ?, ?, ?)"
        return int(self._db.execute(sql, (self._number, kind, *table, data)).lastrowid or 0)
