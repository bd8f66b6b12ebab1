"""A source without a server: `LogSource` reads the log and the tables of a `source_log.Log`, with faults to order.

Positions are numbers of transactions, `log:12`: twelve of them have been given out. A seq is the epoch and the place of
the entry. Nothing depends on a clock or on chance; two instances on one file see the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from syncd.errors import FatalError, PositionLost, TransientError, Unsupported
from syncd.model import (
    ChangeBatch,
    Checkpoint,
    Chunk,
    Column,
    Ddl,
    Finding,
    Head,
    Op,
    Position,
    SchemaChange,
    TableId,
    TableSchema,
)
from syncd.spi import Context, Event, Found
from syncd.testing.source_log import (
    GARBLED,
    Entry,
    Log,
    Values,
    default_of,
    fitted,
    key_of,
    normal,
    normal_key,
    typed,
)

ROW_BYTES = 100


class SourceFaults(BaseModel):
    """What goes wrong. Calls, pages of a scan and transactions of a stream count as steps, per instance, from 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    delay: float = Field(default=0, description="Seconds that every step takes at least.")
    fail_every: int = Field(default=0, description="Every n-th step fails with TransientError.")
    fatal: str = Field(default="", description="A table whose scan fails with FatalError.")


class LogOptions(BaseModel):
    """Where the file is, how it is cut into batches, and what goes wrong."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path = Field(description="The SQLite file, as `source_log.Log` writes it.")
    batch_rows: int = Field(default=1000, ge=1, description="Rows of a batch at most.")
    group: int = Field(default=10, ge=1, description="Transactions between two checkpoints at most.")
    page_rows: int = Field(default=1000, ge=1, description="Rows that a scan reads at one moment.")
    head_lag: int = Field(default=0, ge=0, description="Transactions by which head() is behind the log's end.")
    heartbeat: float = Field(default=0.2, gt=0, description="Seconds between two checkpoints of an idle log.")
    faults: SourceFaults = Field(default=SourceFaults(), description="Faults that hold from the start.")
    faults_file: Path | None = Field(
        default=None, description="JSON of `SourceFaults`, read at each step while it exists."
    )


def seq_of(epoch: int, place: int) -> int:
    return epoch << 56 | max(place, 0)


class LogSource:
    """See `spi.Source` for each method."""

    Options: ClassVar[type[LogOptions]] = LogOptions

    def __init__(self, options: LogOptions, context: Context) -> None:
        self._options = options
        self._context = context
        self._log: Log | None = None
        self._steps = 0

    def open(self) -> None:
        self._step("open")
        self._log = self._log or Log(self._options.path)

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    @property
    def log(self) -> Log:
        assert self._log is not None, "open() comes first"
        return self._log

    def _step(self, what: str) -> None:
        """Called before each step, by its name."""
        self._steps += 1
        faults = self._faults()
        time.sleep(faults.delay)
        if faults.fail_every and self._steps % faults.fail_every == 0:
            raise TransientError(f"{self._options.path}: step {self._steps} ({what}) fails by order", retry_after=0.05)

    def _faults(self) -> SourceFaults:
        try:
            file = self._options.faults_file
            return SourceFaults.model_validate_json(file.read_bytes()) if file else self._options.faults
        except FileNotFoundError:
            return self._options.faults

    def _idle(self) -> None:
        """Called when the log's end was given out."""
        time.sleep(self._options.heartbeat)

    def check(self) -> Sequence[Finding]:
        return [Finding("ok", str(self._options.path), f"{self.log.end()[0]} transactions")]

    def folds(self) -> str:
        return ""

    def log_kept(self) -> float | None:
        return None

    def tables(self, wanted: Callable[[TableId], bool]) -> Sequence[Found]:
        self._step("tables")
        now = self.head(0).seq
        found = []
        for schema in self.log.tables():
            if wanted(schema.table):
                rows = len(self.log.plain_rows(schema.table))
                found.append(Found(replace(schema, version=now), rows, rows * ROW_BYTES))
        return found

    def place(self, text: str, epoch: int) -> Head:
        number = int(text.removeprefix("log:"))
        return Head(Position(f"log:{number}"), self._seq(epoch, number))

    def identity(self, position: Position) -> str:
        return f"log {self.log.number()}"

    def _seq(self, epoch: int, tx: int) -> int:
        """Of the end of transaction number `tx`."""
        return seq_of(epoch, self.log.place_of(tx) - self.log.base())

    def head(self, epoch: int) -> Head:
        self._step("head")
        end, _ = self.log.end()
        # The tables are as after the last statement: what is before it cannot be read with their schemas.
        tx = max(end - self._options.head_lag, self.log.last_statement(), self.log.purged())
        return Head(Position(f"log:{tx}"), self._seq(epoch, tx))

    # -- rows

    def chunks(self, schema: TableSchema, chunk_bytes: int, after: Chunk | None) -> Iterator[Chunk]:
        size = max(1, chunk_bytes // ROW_BYTES)
        number = 0 if after is None else after.number + 1
        lower = None if after is None else after.upper
        normal_lower = None if after is None else after.normal_upper
        places = [schema.columns.index(schema.column(name)) for name in schema.key]
        while True:
            self._step("chunks")
            rows = self._page(schema, normal_lower, None, size + 1) if schema.key else []
            if len(rows) <= size:
                yield Chunk(schema.table, number, lower, None, normal_lower, None, len(rows))
                return
            last = rows[size - 1]
            upper = tuple(typed(schema.columns[at], [last[at]])[0].as_py() for at in places)
            yield Chunk(schema.table, number, lower, upper, normal_lower, key_of(schema, last), size)
            number, lower, normal_lower = number + 1, upper, key_of(schema, last)

    def scan(self, schema: TableSchema, chunk: Chunk, seq: int) -> Iterator[ChangeBatch]:
        lower = chunk.normal_lower
        while True:
            self._step("scan")
            if self._faults().fatal == str(schema.table):
                raise FatalError(f"{schema.table} cannot be read, by order", table=str(schema.table))
            rows = self._page(schema, lower, chunk.normal_upper, self._options.page_rows)
            if rows:
                yield _batch(schema, [(Op.READ, seq, None, row) for row in rows])
            if len(rows) < self._options.page_rows:
                return
            lower = key_of(schema, rows[-1])

    def scan_once(self, schema: TableSchema, epoch: int, seq: int) -> tuple[Head, Iterator[ChangeBatch]]:
        self._step("scan_once")
        if self._faults().fatal == str(schema.table):
            raise FatalError(f"{schema.table} cannot be read, by order", table=str(schema.table))
        tx, now, rows = self.log.moment(schema.table)
        if now is None:
            raise FatalError(f"{schema.table} is gone", table=str(schema.table), hint="resync it")
        if now.columns != schema.columns:
            raise TransientError(f"{schema.table} has other columns by now", retry_after=0.1)
        head = Head(Position(f"log:{tx}"), self._seq(epoch, tx))
        return head, self._pages(schema, rows, seq)

    def _pages(self, schema: TableSchema, rows: Sequence[Values], seq: int) -> Iterator[ChangeBatch]:
        for start in range(0, len(rows), self._options.page_rows):
            self._step("scan")
            page = rows[start : start + self._options.page_rows]
            yield _batch(schema, [(Op.READ, seq, None, row) for row in page])

    def _page(self, schema: TableSchema, lower: Values | None, upper: Values | None, size: int) -> list[Values]:
        """The next rows in key order, as they are now, as rows of `schema`."""
        now = self.log.find(schema.table)
        held = {c.name: c.type for c in now.columns} if now else {}
        if now is None or any(held.get(c.name) != c.type for c in schema.columns):
            raise FatalError(
                f"{schema.table} is gone, or has other columns than before", table=str(schema.table), hint="resync it"
            )
        keyed = ((key_of(now, row), row) for row in self.log.plain_rows(schema.table))
        rows = [r for k, r in keyed if (not lower or k > tuple(lower)) and (not upper or k <= tuple(upper))]
        names = [c.name for c in now.columns]
        return [fitted(schema, names, row) for row in rows[:size]]

    def read(self, schema: TableSchema, keys: pa.RecordBatch, epoch: int) -> ChangeBatch:
        seq = self.head(epoch).seq
        now = {key_of(schema, row): row for row in self._page(schema, None, None, 1 << 60)}
        changes: list[_Change] = []
        for key in zip(*(keys.column(name).to_pylist() for name in schema.key), strict=True):
            row = now.get(normal_key(schema, key))
            changes.append((Op.DELETE, seq, None, _key_only(schema, key)) if row is None else (Op.READ, seq, None, row))
        return _batch(schema, changes)

    # -- log

    def holds_all(self, wide: Column, narrow: Column) -> bool:
        """Whole numbers by their bits, all else only in its own type."""
        one, other = wide.type, narrow.type
        if pa.types.is_signed_integer(one) and pa.types.is_signed_integer(other):
            return bool(one.bit_width >= other.bit_width)
        return bool(one == other)

    def stream(
        self,
        position: Position,
        epoch: int,
        schemas: Mapping[TableId, TableSchema],
        wanted: Callable[[TableId], bool],
        before: Callable[[TableId], Collection[str]],
    ) -> Iterator[Event]:
        done = int(position.removeprefix("log:"))
        if done < self.log.purged() or done > self.log.end()[0]:
            raise PositionLost(f"{position} is not in the log any more", hint="load the job anew")
        group = _Group(epoch, self.log.base(), dict(schemas), wanted, before, self._options.batch_rows)
        waiting = 0
        while True:
            self._step("stream")
            if entries := self.log.entries(done + 1):
                for entry in entries:
                    yield from group.take(entry)
                done, waiting = done + 1, waiting + 1
                if waiting < self._options.group and done < self.log.end()[0]:
                    continue
            else:
                self._idle()
            yield from group.flush()
            yield Checkpoint(Position(f"log:{done}"), self._seq(epoch, done), time.time_ns() // 1000)
            waiting = 0

    def ack(self, position: Position) -> None:
        """Nothing to let go of."""


_Change = tuple[Op, int, Values | None, Values]


@dataclass
class _Group:
    """Changes of several transactions on their way into batches."""

    epoch: int
    base: int
    schemas: dict[TableId, TableSchema]
    wanted: Callable[[TableId], bool]
    before: Callable[[TableId], Collection[str]]
    batch_rows: int
    held: dict[TableId, list[_Change]] = field(default_factory=dict)

    def take(self, entry: Entry) -> Iterator[Event]:
        if not self.wanted(entry.table):
            return
        if entry.kind != "row":
            yield from self._statement(entry)
            return
        schema = self.schemas.get(entry.table)
        if schema is None:
            raise Unsupported(f"{entry.table}: rows of a table that was not there before", table=str(entry.table))
        op, names, before, after = entry.row()
        old = None if before is None else fitted(schema, names, before)
        new = None if after is None else fitted(schema, names, after)
        row = old if new is None else new
        assert row is not None
        held = self.held.setdefault(entry.table, [])
        held.append((op, seq_of(self.epoch, entry.place - self.base), old if op is Op.UPDATE else None, row))
        if len(held) >= self.batch_rows:
            yield self._given(entry.table)

    def flush(self) -> Iterator[Event]:
        # The last table first: there is no promise between tables.
        for table in sorted(self.held, reverse=True):
            yield self._given(table)

    def _given(self, table: TableId) -> ChangeBatch:
        return _batch(self.schemas[table], self.held.pop(table), self.before(table))

    def _statement(self, entry: Entry) -> Iterator[Event]:
        if entry.kind == GARBLED:
            raise Unsupported(f"{entry.table}: an event that is not understood", table=str(entry.table))
        yield from self.flush()
        seq, kind = seq_of(self.epoch, entry.place - self.base), Ddl(entry.kind)
        schema, renamed = entry.statement()
        schema = replace(schema, version=seq)
        before = self.schemas.get(entry.table) if kind is Ddl.ALTER else None
        if kind in {Ddl.CREATE, Ddl.ALTER}:
            self.schemas[entry.table] = schema
        known = self.schemas.get(entry.table, schema)
        if kind in {Ddl.DROP, Ddl.RENAME}:
            self.schemas.pop(entry.table, None)
        text = f"{kind.value} {entry.table}"
        yield SchemaChange(kind, known, seq, text, entry.place, before, renamed)


def _batch(schema: TableSchema, changes: Sequence[_Change], old_columns: Collection[str] = ()) -> ChangeBatch:
    seqs = np.array([seq for _, seq, _, _ in changes], np.uint64)
    before = None
    if any(old is not None for _, _, old, _ in changes):
        keys = [schema.column(name) for name in dict.fromkeys((*schema.key, *schema.identity, *old_columns))]
        places = [schema.columns.index(c) for c in keys]
        arrays = [typed(c, [old and old[at] for _, _, old, _ in changes]) for c, at in zip(keys, places, strict=True)]
        before = pa.RecordBatch.from_arrays(arrays, schema=pa.schema([pa.field(c.name, c.type) for c in keys]))
    return ChangeBatch(
        schema,
        _rows(schema, [row for _, _, _, row in changes]),
        np.array([op for op, _, _, _ in changes], np.uint8),
        seqs,
        before,
        int(seqs[-1]) & (1 << 56) - 1 if len(seqs) else 0,
        int(seqs[0]) if len(seqs) else 0,
    )


def _rows(schema: TableSchema, rows: Sequence[Values]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema.columns)
    arrays = [typed(c, values) for c, values in zip(schema.columns, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema.arrow())


def _key_only(schema: TableSchema, key: Sequence[object]) -> Values:
    """A row that is not there: its key as it was asked for, the other columns empty."""
    named = dict(zip(schema.key, key, strict=True))

    def value(column: Column) -> object:
        if column.normal_of:
            return normal(column, named[column.normal_of])
        return named.get(column.name, None if column.nullable else default_of(column))

    return tuple(value(c) for c in schema.columns)
