"""What the conformance suite of sources works with: hands at the source, and a stream read up to a marker."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from syncd.model import ChangeBatch, Checkpoint, Chunk, Op, Position, SchemaChange, TableId, TableSchema
from syncd.spi import Event, Source

Factory = Callable[[], Source]
"""Makes a new, closed instance of the source under test, on the same server each time."""

EPOCH = 3
ITEMS, WORDS, MARKER, VISITS = "items", "words", "marker", "visits"
PATIENCE = 60.0


class Transaction(Protocol):
    """One transaction at the source. A key and a row are given as tuples, a row in the order of the columns."""

    def put(self, table: str, row: Sequence[Any]) -> None:
        """INSERT; an UPDATE of all other columns where the key is there. Of `visits` always an INSERT."""

    def change(self, table: str, key: Sequence[Any], row: Sequence[Any]) -> None:
        """UPDATE of the row with this key, which may change the key."""

    def delete(self, table: str, key: Sequence[Any]) -> None: ...


class Hands(Protocol):
    """A user of the source: creates and changes tables in `database`, behind the plugin's back.

    Tables have the columns (id bigint not null, name text null, qty bigint null) and the key id; `words` has (word text
    not null, qty bigint null) and the key word, whose collation takes "a" and "A" for the same; `visits` has the
    columns of the others, and no key.
    """

    database: str

    def create(self, table: str) -> None: ...

    def transaction(self) -> AbstractContextManager[Transaction]: ...

    def add_column(self, table: str) -> None:
        """`added`: bigint not null default 7, as the last one."""

    def change_type(self, table: str) -> None:
        """`qty` holds text from now on."""

    def truncate(self, table: str) -> None: ...

    def drop(self, table: str) -> None: ...

    def cut(self) -> None:
        """Break every connection that an instance has now; the next ones are well."""


@dataclass
class Read:
    """What a stream gave, without the marker's rows."""

    events: list[Event] = field(default_factory=list)

    def batches(self, table: str) -> list[ChangeBatch]:
        return [e for e in self.events if isinstance(e, ChangeBatch) and e.table.name == table]

    def statements(self, table: str) -> list[SchemaChange]:
        return [e for e in self.events if isinstance(e, SchemaChange) and e.table.name == table]

    def statement(self, table: str) -> SchemaChange:
        """The only one."""
        found = self.statements(table)
        assert len(found) == 1, f"{table}: one statement, not {[change.kind.value for change in found]}"
        return found[0]

    def checkpoints(self) -> list[Checkpoint]:
        return [e for e in self.events if isinstance(e, Checkpoint)]

    def changes(self, table: str) -> list[tuple[Op, int, tuple[Any, ...]]]:
        """(op, seq, row without twins) of each change of a table."""
        return [change for batch in self.batches(table) for change in changes_of(batch)]

    def all_changes(self) -> dict[str, list[tuple[Op, int, tuple[Any, ...]]]]:
        names = {e.table.name for e in self.events if isinstance(e, ChangeBatch)}
        return {name: self.changes(name) for name in names}

    def behind(self, checkpoint: Checkpoint) -> Read:
        return Read(self.events[self.events.index(checkpoint) + 1 :])


def own(schema: TableSchema) -> list[str]:
    """The columns without twins."""
    return [c.name for c in schema.columns if not c.normal_of]


def changes_of(batch: ChangeBatch) -> list[tuple[Op, int, tuple[Any, ...]]]:
    batch.rows.validate(full=True)
    rows = rows_of(batch)
    assert len(rows) == len(batch.op) == len(batch.seq)
    return [(Op(int(op)), int(seq), row) for op, seq, row in zip(batch.op, batch.seq, rows, strict=True)]


def rows_of(batch: ChangeBatch) -> list[tuple[Any, ...]]:
    names = own(batch.schema)
    assert batch.rows.schema.names == [c.name for c in batch.schema.columns]
    return [tuple(row[name] for name in names) for row in batch.rows.to_pylist()]


@dataclass
class Bench:
    """An open instance, and the hands at its server."""

    source: Source
    hands: Hands
    marks: int = 0

    def table(self, name: str) -> TableId:
        return TableId(self.hands.database, name)

    def wanted(self, *names: str) -> Callable[[TableId], bool]:
        return {self.table(name) for name in (*names, MARKER)}.__contains__

    def schemas(self, *names: str) -> dict[TableId, TableSchema]:
        found = self.source.tables(self.wanted(*names))
        return {one.schema.table: one.schema for one in found}

    def schema(self, name: str) -> TableSchema:
        return self.schemas(name)[self.table(name)]

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        """The whole table, as a scan gives it."""
        return self.scanned(self.schema(name), Chunk(self.table(name), 0))

    def scanned(self, schema: TableSchema, chunk: Chunk) -> list[tuple[Any, ...]]:
        return [row for batch in self.source.scan(schema, chunk, 1) for row in rows_of(batch)]

    def put(self, name: str, *rows: Sequence[Any]) -> None:
        """One transaction."""
        with self.hands.transaction() as tx:
            for row in rows:
                tx.put(name, row)

    def mark(self) -> int:
        """A row of the marker's table, behind everything that was done before."""
        self.marks += 1
        self.put(MARKER, (self.marks, None, None))
        return self.marks

    def read(
        self,
        position: Position,
        known: Mapping[TableId, TableSchema],
        *names: str,
        mark: int | None = None,
        source: Source | None = None,
        before: Callable[[TableId], Collection[str]] = lambda table: (),
    ) -> Read:
        """From `position` to the checkpoint behind the marker (a new one, unless `mark` says which).

        Wanted are `names`, or the tables of `known`.
        """
        until = self.mark() if mark is None else mark
        wanted = self.wanted(*(names or (table.name for table in known)))
        with self.streaming(position, known, wanted, source, before) as events:
            return self.until(events, until)

    @contextmanager
    def streaming(
        self,
        position: Position,
        known: Mapping[TableId, TableSchema],
        wanted: Callable[[TableId], bool],
        source: Source | None = None,
        before: Callable[[TableId], Collection[str]] = lambda table: (),
    ) -> Iterator[Iterator[Event]]:
        events = (source or self.source).stream(position, EPOCH, known, wanted, before)
        with closing(cast(Any, events)):
            yield events

    def until(self, events: Iterator[Event], mark: int, read: Read | None = None) -> Read:
        found = read or Read()
        deadline = time.monotonic() + PATIENCE
        seen = False
        for event in events:
            assert time.monotonic() < deadline, f"marker {mark} did not come within {PATIENCE:g} s"
            if isinstance(event, ChangeBatch) and event.table.name == MARKER:
                seen = seen or mark in event.rows.column("id").to_pylist()
            else:
                found.events.append(event)
            if seen and isinstance(event, Checkpoint):
                return found
        raise AssertionError("the stream ended")


def applied(read: Read, name: str) -> dict[Any, tuple[Any, ...]]:
    """Key -> row after all changes of a table with one key column, by the rules of `ChangeBatch`."""
    table: dict[Any, tuple[Any, ...]] = {}
    for batch in read.batches(name):
        (key,) = batch.schema.identity
        keys = batch.rows.column(key).to_pylist()
        before = [None] * len(batch) if batch.before is None else batch.before.column(key).to_pylist()
        for (op, _, row), at, old in zip(changes_of(batch), keys, before, strict=True):
            if op is Op.DELETE or (op is Op.UPDATE and old != at):
                assert table.pop(at if op is Op.DELETE else old, None) is not None
            if op is not Op.DELETE:
                table[at] = row
    return table


def between(read: Read, marks: Callable[[Event], bool]) -> dict[bool, list[Event]]:
    """The events before (False) and behind (True) the first for which `marks` holds."""
    parts: dict[bool, list[Event]] = defaultdict(list)
    behind = False
    for event in read.events:
        if marks(event):
            behind = True
        else:
            parts[behind].append(event)
    return parts
