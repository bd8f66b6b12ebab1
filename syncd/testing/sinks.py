"""Two sinks for tests, each one SQLite file that any number of processes may write, with faults to order.

ArrivalSink     keeps what arrived last, whatever its seq; marks in the transaction of the rows. It hides no disorder.
VersionedSink   keeps the largest seq; deletes leave tombstones; remembers no marks.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from syncd.errors import BatchError, FatalError, FencedError, TransientError, Unsupported
from syncd.model import (
    Bound,
    ChangeBatch,
    Ddl,
    Finding,
    Lane,
    Op,
    SchemaChange,
    TableId,
    TableSchema,
    Target,
    TargetPlan,
)
from syncd.spi import Context, Foreign, Mark, Ticket, Traits
from syncd.testing.sink_faults import Faults
from syncd.testing.sink_rows import decode, default, dump_mark, encode, load_mark, signed, widened

_TABLES = """
CREATE TABLE IF NOT EXISTS tables (name TEXT PRIMARY KEY, schema BLOB NOT NULL, floor INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS shapes (id INTEGER PRIMARY KEY, columns TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS rows (name TEXT, key BLOB, seq INTEGER, deleted INTEGER, shape INTEGER, data BLOB,
                                 PRIMARY KEY (name, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fences (owner TEXT PRIMARY KEY, epoch INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS marks (owner TEXT, tag TEXT, queue INTEGER, mark TEXT NOT NULL,
                                  PRIMARY KEY (owner, tag, queue)) WITHOUT ROWID;
"""


class SqliteOptions(BaseModel):
    """Where the file is, and what goes wrong."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path = Field(description="The SQLite file; made when absent.")
    faults: Faults = Field(default=Faults(), description="Faults that hold from the start.")
    faults_file: Path | None = Field(default=None, description="JSON of `Faults`, read at each write while it exists.")


class SqliteSink:
    """What both sinks share; see `spi.Sink` for each method."""

    Options: ClassVar[type[SqliteOptions]] = SqliteOptions
    versioned: ClassVar[bool]

    def __init__(self, options: SqliteOptions, context: Context) -> None:
        self._options = options
        self._context = context
        self._db: sqlite3.Connection | None = None
        self._writes = 0

    def traits(self) -> Traits:
        target = str(self._options.path)
        return Traits(
            "any process", versioned=self.versioned, transactional=not self.versioned, target=target, shares=True
        )

    def open(self) -> None:
        self._options.path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(self._options.path, timeout=60, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        with self._transaction() as db:
            for statement in filter(str.strip, _TABLES.split(";")):
                db.execute(statement)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def check(self) -> Sequence[Finding]:
        return [Finding("ok", str(self._options.path), f"SQLite {sqlite3.sqlite_version}")]

    def folds(self) -> str:
        return ""

    def plan(self, target: Target) -> TargetPlan:
        columns = tuple((c.name, c.source_type, str(c.type), "") for c in target.schema.columns)
        if target.schema.key or target.append:
            return TargetPlan((), columns)
        refused = Finding("error", _name(target), "no key: rows cannot be told apart", "declare a key, or append")
        return TargetPlan((), columns, (refused,))

    def prepare(self, target: Target, newest: int | None = None) -> None:
        with self._transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO tables VALUES (?, ?, ?)", (_name(target), target.schema.dump(), signed(0))
            )
            self._fits(db, target)
            if newest is not None and self.versioned and not target.append:
                self._refuse_newer(db, target, signed(newest))

    def _refuse_newer(self, db: sqlite3.Connection, target: Target, newest: int) -> None:
        floor = db.execute("SELECT floor FROM tables WHERE name = ?", (_name(target),)).fetchone()[0]
        there = db.execute("SELECT max(seq) FROM rows WHERE name = ?", (_name(target),)).fetchone()[0]
        if max(floor, floor if there is None else there) > newest:
            what = f"{_name(target)} holds rows newer than the log, or is closed to rows as old"
            raise FatalError(what, table=str(target.schema.table), hint="drop the table", code="E192")

    def _fits(self, db: sqlite3.Connection, target: Target) -> None:
        found = db.execute("SELECT schema FROM tables WHERE name = ?", (_name(target),)).fetchone()
        if found is None:
            raise _misfit(target, "it is gone")
        held = {c.name: c.type for c in TableSchema.load(found[0]).columns}
        for column in target.schema.columns:
            if column.name not in held:
                raise _misfit(target, f"column {column.name} is missing")
            if held[column.name] != column.type:
                raise _misfit(target, f"column {column.name} is {held[column.name]}, {column.type} is wanted")

    def fence(self, owner: str, epoch: int) -> None:
        with self._transaction() as db:
            self._raise_fence(db, owner, epoch)

    def _raise_fence(self, db: sqlite3.Connection, owner: str, epoch: int) -> None:
        db.execute(
            "INSERT INTO fences VALUES (?, ?) ON CONFLICT (owner) DO UPDATE SET epoch = max(epoch, excluded.epoch)",
            (owner, epoch),
        )

    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> Foreign | None:
        self._writes += 1
        faults = Faults.now(self._options.faults, self._options.faults_file)
        time.sleep(faults.delay)
        faults.before(self._writes)
        refused = faults.refused(batch)
        with self._transaction() as db:
            self._admit(db, ticket)
            first_time = self._look(db, ticket)
            self._fits(db, target)
            found = self._foreign(db, target, batch, ticket) if first_time else None
            if not (refused and target.append):
                self._store(db, target, batch, ticket, refused)
            if not self.versioned and not refused:
                self._mark(db, ticket)
        faults.after(self._writes)
        if refused:
            raise BatchError(f"{_name(target)}: {len(refused)} of {len(batch)} rows refused", refused)
        return found

    def _foreign(self, db: sqlite3.Connection, target: Target, batch: ChangeBatch, ticket: Ticket) -> Foreign | None:
        if ticket.there is None:
            return None
        sql, missing, extra = "SELECT 1 FROM rows WHERE name = ? AND key = ?", 0, 0
        for key, there in zip(encode(batch.rows, _identity(target)), ticket.there.tolist(), strict=True):
            found = db.execute(sql, (_name(target), key)).fetchone() is not None
            missing, extra = missing + (there and not found), extra + (found and not there)
        return Foreign(missing, extra)

    def _look(self, db: sqlite3.Connection, ticket: Ticket) -> bool:
        sql = "SELECT mark FROM marks WHERE owner = ? AND tag = ? AND queue = ?"
        if self.versioned:
            return False
        found = {lane: db.execute(sql, (ticket.owner, *lane)).fetchone() for lane in ticket.behind}
        return ticket.check_behind({lane: load_mark(row[0]).offset for lane, row in found.items() if row})

    def _mark(self, db: sqlite3.Connection, ticket: Ticket) -> None:
        values = ((ticket.owner, lane.tag, lane.queue, dump_mark(m)) for lane, m in ticket.marks.items())
        db.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?)", values)

    def _admit(self, db: sqlite3.Connection, ticket: Ticket) -> None:
        """In the transaction of the rows: nobody can take over between this look and the commit."""
        found = db.execute("SELECT epoch FROM fences WHERE owner = ?", (ticket.owner,)).fetchone()
        if found is not None and found[0] > ticket.epoch:
            raise FencedError(f"{ticket.owner}: epoch {ticket.epoch} is over, {found[0]} writes now")
        self._raise_fence(db, ticket.owner, ticket.epoch)

    def _store(
        self, db: sqlite3.Connection, target: Target, batch: ChangeBatch, ticket: Ticket, refused: Mapping[int, str]
    ) -> None:
        """Rows one by one in their order, as `_change` of the sink does it."""
        shape = self._shape(db, batch.schema)
        name, keys, data = _name(target), encode(batch.rows, _identity(target)), encode(batch.rows, None)
        if target.append:
            keys = _append_keys(ticket, len(batch))
        for i, (op, seq) in enumerate(zip(batch.op.tolist(), batch.seq.tolist(), strict=True)):
            if i in refused or (op == Op.DELETE and target.deletes == "ignore"):
                continue
            gone = op == Op.DELETE
            self._change(db, target, (name, keys[i], signed(seq), int(gone), shape, data[i]), gone)

    def _change(self, db: sqlite3.Connection, target: Target, row: tuple[object, ...], gone: bool) -> None:
        raise NotImplementedError

    def _shape(self, db: sqlite3.Connection, schema: TableSchema) -> int:
        """Number of a list of columns: rows are stored as values in the order of the columns of their time."""
        return self._shape_of(db, [c.name for c in schema.columns])

    def _shape_of(self, db: sqlite3.Connection, names: Sequence[str]) -> int:
        columns = "\0".join(names)
        db.execute("INSERT OR IGNORE INTO shapes (columns) VALUES (?)", (columns,))
        return int(db.execute("SELECT id FROM shapes WHERE columns = ?", (columns,)).fetchone()[0])

    def marks(self, owner: str) -> Mapping[Lane, Mark]:
        with self._transaction() as db:
            found = db.execute("SELECT tag, queue, mark FROM marks WHERE owner = ?", (owner,)).fetchall()
        return {Lane(tag, queue): load_mark(mark) for tag, queue, mark in found}

    def apply(self, target: Target, change: SchemaChange, ticket: Ticket) -> None:
        if change.kind is Ddl.OTHER:
            raise Unsupported(f"{change.table}: cannot follow `{change.statement}`", table=str(change.table))
        if change.kind is Ddl.CREATE:
            self.prepare(target)
        with self._transaction() as db:
            if not self.versioned:
                self._admit(db, ticket)
                self._look(db, ticket)
                self._mark(db, ticket)
            if change.kind is Ddl.ALTER:
                self._alter(db, target, change)
            if change.kind is Ddl.TRUNCATE:
                self._truncate(db, target, signed(change.seq))

    def _alter(self, db: sqlite3.Connection, target: Target, change: SchemaChange) -> None:
        """Once: rows lose their columns and get other names for them, which a second time would be other ones."""
        held = db.execute("SELECT schema FROM tables WHERE name = ?", (_name(target),)).fetchone()
        if held is None or TableSchema.load(held[0]).version >= target.schema.version:
            return
        self._refuse_other_kinds(target, TableSchema.load(held[0]), change)
        names = dict(change.renamed)
        shapes = "SELECT DISTINCT shape, columns FROM rows JOIN shapes ON id = shape WHERE name = ?"
        for shape, columns in db.execute(shapes, (_name(target),)).fetchall():
            now = ["" if name in change.gone else names.get(name, name) for name in columns.split("\0")]
            new = [column for column in target.schema.columns if column.name not in now]
            found = db.execute("SELECT data, key FROM rows WHERE name = ? AND shape = ?", (_name(target), shape))
            # The default of today: a later change may give the column another one, or none.
            values = [default(column) for column in new]
            to = self._shape_of(db, [*now, *(column.name for column in new)])
            moved = [(to, widened(data, values), _name(target), key) for data, key in found.fetchall()]
            db.executemany("UPDATE rows SET shape = ?, data = ? WHERE name = ? AND key = ?", moved)
        db.execute("UPDATE tables SET schema = ? WHERE name = ?", (target.schema.dump(), _name(target)))

    def _refuse_other_kinds(self, target: Target, held: TableSchema, change: SchemaChange) -> None:
        """A column that several tables have in common holds the values of all of them."""
        kinds = {column.name: column.type for column in held.columns}
        for column in target.schema.columns if target.own else ():
            old = change.former(column.name)
            kind = kinds.get(old.name if old else "", column.type)
            if pa.types.is_integer(kind) != pa.types.is_integer(column.type):
                raise _misfit(target, f"column {column.name} is {kind}, {column.type} is wanted")

    def _truncate(self, db: sqlite3.Connection, target: Target, seq: int) -> None:
        older = (_name(target), seq)
        if target.deletes != "ignore":
            db.execute("UPDATE tables SET floor = max(floor, ?) WHERE name = ?", older[::-1])
        if target.deletes == "soft":
            sql = "UPDATE rows SET deleted = 1, seq = ? WHERE name = ? AND seq < ? AND deleted = 0"
            db.execute(sql, (seq, *older))
        elif target.deletes == "apply":
            db.execute("DELETE FROM rows WHERE name = ? AND seq < ?", older)

    def swap(self, shadow: Target, target: Target, seq: int, ticket: Ticket) -> None:
        with self._transaction() as db:
            if not self.versioned:
                self._admit(db, ticket)
            new, old = _name(shadow), _name(target)
            if db.execute("SELECT 1 FROM tables WHERE name = ?", (new,)).fetchone() is None:
                return
            for table in ("rows", "tables"):
                db.execute(f"DELETE FROM {table} WHERE name = ?", (old,))
                db.execute(f"UPDATE {table} SET name = ? WHERE name = ?", (old, new))
            db.execute("UPDATE tables SET floor = max(floor, ?) WHERE name = ?", (signed(seq), old))

    def scan(self, target: Target, lower: Bound | None, upper: Bound | None) -> Iterator[pa.RecordBatch]:
        sql = "SELECT columns, data FROM rows JOIN shapes ON id = shape WHERE name = ? AND deleted = 0"
        with self._transaction() as db:
            found = db.execute(sql, (_name(target),)).fetchall()
        yield from decode(target, found, lower and lower.normal, upper and upper.normal)

    def expire(self, target: Target, below: int) -> None:
        if target.deletes != "apply":
            return
        with self._transaction() as db:
            sql = "DELETE FROM rows WHERE name = ? AND deleted = 1 AND seq < ?"
            db.execute(sql, (_name(target), signed(below)))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        assert self._db is not None, "open() comes first"
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise TransientError(f"{self._options.path}: {error}", retry_after=0.1) from error


class ArrivalSink(SqliteSink):
    """Transactional; an older row that arrives later wins."""

    versioned = False

    def _change(self, db: sqlite3.Connection, target: Target, row: tuple[object, ...], gone: bool) -> None:
        if gone and target.deletes == "apply" and not target.append:
            db.execute("DELETE FROM rows WHERE name = ? AND key = ?", row[:2])
        else:
            verb = "IGNORE" if target.append else "REPLACE"
            db.execute(f"INSERT OR {verb} INTO rows VALUES (?, ?, ?, ?, ?, ?)", row)


class VersionedSink(SqliteSink):
    """An older seq never replaces a newer one; a delete stays as a tombstone."""

    versioned = True

    def _change(self, db: sqlite3.Connection, target: Target, row: tuple[object, ...], gone: bool) -> None:
        # Rows older than a TRUNCATE that has been done never come back.
        floor = db.execute("SELECT floor FROM tables WHERE name = ?", row[:1]).fetchone()[0]
        if target.append and int(str(row[2])) < floor:
            what = f"{_name(target)} was closed to rows as old: a later load of it has begun"
            raise FatalError(what, table=str(target.schema.table), hint="drop the table", code="E192")
        db.execute(
            "INSERT INTO rows SELECT ?1, ?2, ?3, ?4, ?5, ?6 FROM tables WHERE name = ?1 AND floor <= ?3 "
            "ON CONFLICT (name, key) DO UPDATE SET seq = excluded.seq, "
            "deleted = excluded.deleted, shape = excluded.shape, data = excluded.data WHERE excluded.seq >= rows.seq",
            row,
        )


def _name(target: Target) -> str:
    """Of several tables in one target, each has its rows and columns for itself."""
    return str(TableId(target.database, target.name)) + (f"/{target.part}" if target.own else "")


def _identity(target: Target) -> Sequence[str]:
    return () if target.append else target.schema.identity


def _append_keys(ticket: Ticket, rows: int) -> list[bytes]:
    """A repeated call gives the same keys; two rows never share one."""
    places = sorted((lane, mark.offset, mark.incarnation) for lane, mark in ticket.marks.items())
    call = repr((ticket.owner, places or (ticket.epoch, ticket.number)))
    return [f"{call} {i}".encode() for i in range(rows)]


def _misfit(target: Target, why: str) -> FatalError:
    return FatalError(f"{_name(target)} does not fit: {why}", table=str(target.schema.table), hint="resync the table")
