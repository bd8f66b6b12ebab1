"""The snapshot operators: a planner that finds tables and chunk borders, and readers that copy one chunk at a time.

Both are told what to do by the supervisor (`words`).
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import structlog

from syncd.engine import queue_used
from syncd.engine.batches import join, refuse_rows
from syncd.engine.build import Parts, clock
from syncd.engine.discover import discover
from syncd.engine.outlets import Fan, Outlet, Pace, ReaderSinks, until_done
from syncd.engine.process import Link, reach
from syncd.engine.relocate import relocate
from syncd.engine.words import (
    Began,
    Copied,
    Copy,
    Deferred,
    Discover,
    Discovered,
    Plan,
    PlanEnded,
    Planned,
    Records,
    Refused,
)
from syncd.errors import FatalError, FencedError, SyncdError, TransientError
from syncd.failpoints import failpoint
from syncd.model import ChangeBatch, Chunk, Ddl, Lane, SchemaChange, TableSchema, Target
from syncd.spi import Lease, Mark, Queue, Source, Ticket
from syncd.state import Done, Items, Phase, SchemaPair, State, TableRecord
from syncd.transforms import SinkFilter

log = structlog.get_logger()
T = TypeVar("T")

SHARE_SECONDS = 1.0
JOIN_SECONDS = 1.0
"""How often the search for a table's chunks looks for sinks that have begun to load it, too."""

WRITE_ROWS = 60_000
"""Rows in one write of a chunk: what ClickHouse takes best, and what a reader holds twice."""


# -- the planner


def plan(link: Link, parts: Parts, lease: Lease) -> None:
    """The planner process."""
    with queue_used.opened(parts.make_queue(), parts.service) as queue:
        source = parts.make_source()
        try:
            reach("source", source.open, link)
            link.waits("")
            link.send("ready")
            while not link.stop.is_set():
                match link.receive(0.2):
                    case Discover():
                        link.step("reading the tables and the head of the log at the source")
                        _patiently(link, source, partial(relocate, parts, queue, source, lease))
                        chunks = _patiently(link, source, partial(discover, parts, queue, source, lease))
                        link.send(Discovered(chunks or 0))
                    case Plan() as task:
                        try:
                            _patiently(link, source, partial(_plan_table, link, parts, queue, source, lease, task))
                            link.send(PlanEnded(task.records))
                        except FencedError:
                            raise
                        except SyncdError as error:
                            link.send(Refused(task.records, error))
        finally:
            source.close()


def _plan_table(link: Link, parts: Parts, queue: Queue, source: Source, lease: Lease, task: Plan) -> None:
    borders = Borders(link, parts, queue, lease, task.records)
    if borders.complete:
        return
    schema = parts.schema_at(State(queue, parts.job.name), task.records[0]).source
    doing = f"finding the chunks of {schema.table} at the source"
    link.step(doing)
    for chunk in source.chunks(schema, parts.job.snapshot.chunk_bytes, borders.last):
        link.waits("")
        failpoint("snapshot.border_found")
        if link.stop.is_set():
            return  # another planner may be at work already, and find other borders
        borders.add(chunk)
        link.step(doing)


class Borders:
    """The chunks of a table. Who loads it from the same head has the same ones, whoever began first: then one scan is
    enough for all."""

    def __init__(self, link: Link, parts: Parts, queue: Queue, lease: Lease, records: Records) -> None:
        self._link = link
        self._sinks = parts.job.sinks
        self._queue = queue
        self._lease = lease
        self._state = State(queue, parts.job.name)
        self._first = records[0]
        found = {r.sink: self._state.chunks(r.sink, r.table) for r in [*self._same_head(), *records]}
        own = found[self._first.sink]
        self._known = max((chunks for chunks in found.values() if chunks[: len(own)] == own), key=len)
        self.records: Records = ()
        self._join(records)

    @property
    def last(self) -> Chunk | None:
        return self._known[-1] if self._known else None

    @property
    def complete(self) -> bool:
        return self.last is not None and self.last.upper is None

    def add(self, chunk: Chunk) -> None:
        """Also for those that have begun to load the table meanwhile."""
        if time.monotonic() > self._looked + JOIN_SECONDS:
            mine = {record.sink for record in self.records}
            self._join(tuple(r for r in self._same_head() if r.phase is Phase.SNAPSHOT and r.sink not in mine))
        self._known.append(chunk)
        self._save(self.records, [chunk])

    def _same_head(self) -> list[TableRecord]:
        there = (self._state.table(sink, self._first.table) for sink in self._sinks)
        return [record for record in there if record is not None and record.head == self._first.head]

    def _join(self, records: Records) -> None:
        """Those whose chunks are the first of these get the others, too."""
        self._looked = time.monotonic()
        for record in records:
            found = self._state.chunks(record.sink, record.table)
            if found == self._known[: len(found)]:
                self._save((record,), self._known[len(found) :])
                self.records += (record,)

    def _save(self, records: Records, chunks: list[Chunk]) -> None:
        """For all of them at once; then it is said."""
        items: Items = {}
        for chunk in chunks:
            for record in records:
                items |= self._state.chunk_item(record.sink, chunk)
        if items:
            self._queue.put(self._lease, items)
            failpoint("snapshot.chunk_saved")
        for chunk in chunks:
            self._link.send(Planned(records, chunk))


# -- readers


def read(link: Link, parts: Parts, lease: Lease) -> None:
    """A reader process: chunks are read in this thread and written in one for each sink, so that all go on at once."""
    with queue_used.opened(parts.make_queue(), parts.service) as queue:
        source = parts.make_source(share=_share(State(queue, parts.job.name)), waits=partial(_throttled, link))
        try:
            reach("source", source.open, link)
            link.waits("")
            reader = Reader(parts, queue, source, lease, link)
            while not link.stop.is_set():
                match link.receive(0.2):
                    case Copy() as task:
                        reader.copy(task)
            reader.close()
        finally:
            source.close()


def _share(state: State) -> Callable[[], float]:
    """This reader's part of the job's rates: all that have a chunk now have the same. Known for a second."""
    known = [1.0, -math.inf]

    def share() -> float:
        if time.monotonic() - known[1] > SHARE_SECONDS:
            known[:] = 1.0 / max(1, state.readers()), time.monotonic()
        return known[0]

    return share


def _throttled(link: Link, reason: str) -> None:
    link.waits(reason, "throttle")
    if not reason:
        link.beat()


@dataclass
class Share:
    """What one sink is given of a chunk: so many rows and bytes, in so many writes."""

    target: Target
    sink_filter: SinkFilter
    rows: int = 0
    bytes: int = 0
    written: int = 0

    def add(self, batch: ChangeBatch) -> None:
        self.rows, self.bytes, self.written = self.rows + len(batch), self.bytes + batch.nbytes, self.written + 1


class Reader:
    """Copies chunks."""

    def __init__(self, parts: Parts, queue: Queue, source: Source, lease: Lease, link: Link) -> None:
        self._parts = parts
        self._queue = queue
        self._source = source
        self._lease = lease
        self._link = link
        self._state = State(queue, parts.job.name)
        self._sinks = ReaderSinks(parts, link)
        self._pace = Pace()
        self._log_known = False
        self._transactional: dict[str, bool] = {}

    def copy(self, task: Copy) -> None:
        """One chunk, whole, at all sinks that keep pace; then its marks; then the words to the supervisor."""
        fan = Fan(self._link, self._pace, task)
        try:
            appends = _patiently(self._link, self._source, partial(self._parts.appends, self._state, task.records[0]))
            if appends is None:
                return
            done = self._once(fan) if appends else self._again(fan)
            if done and not self._link.stop.is_set():
                self._mark(task.chunk, done)
        except FencedError:
            raise
        except SyncdError as error:
            self._link.send(Refused(fan.records, error))
        finally:
            self._link.step("")

    def _mark(self, chunk: Chunk, done: list[tuple[TableRecord, Done]]) -> None:
        """Each sink has written all of it (1)."""
        failpoint("snapshot.chunk_written")
        marks: Items = {}
        for record, its in done:
            marks |= self._state.done_item(record.sink, chunk, its)
        if until_done(self._link, lambda: self._queue.put(self._lease, marks)):
            failpoint("snapshot.chunk_marked")
            for record, its in done:
                at = record.sink, str(record.table)
                self._link.count("loaded_rows", *at, by=its.rows)
                self._link.count("loaded_bytes", *at, by=its.bytes)
                self._link.send(Copied(record, chunk, its))

    def close(self) -> None:
        self._sinks.close()

    def _again(self, fan: Fan) -> list[tuple[TableRecord, Done]] | None:
        """A chunk of a keyed table, from its beginning while the source is in trouble."""

        def copy() -> list[tuple[TableRecord, Done]]:
            self._in_this_log()
            fan.begin_again()
            record, chunk = fan.records[0], fan.chunk
            pair = self._parts.schema_at(self._state, record)
            return self._copy(fan, pair, self._source.scan(pair.source, chunk, record.head.seq), _any_number())

        def copy_here() -> list[tuple[TableRecord, Done]]:
            try:
                return copy()
            except TransientError:
                self._log_known = False  # the source is opened anew
                raise

        return _patiently(self._link, self._source, copy_here)

    def _in_this_log(self) -> None:
        """TransientError: capture does not follow the log that the source reads now. Another server may be behind the
        heads, so that what is read there would lack changes that no lane holds (3)."""
        source = self._state.source()
        if self._log_known or not self._parts.captures or source is None:
            return
        try:
            log_now = self._source.identity(source.position)
        except FatalError as error:  # of the whole job, and for capture to settle
            raise TransientError(error.what, hint=error.hint, code=error.code, retry_after=5.0) from error
        if log_now != source.log:
            raise TransientError(f"{log_now} answers now, and capture has not seen it yet: it follows {source.log}")
        self._log_known = True

    def _copy(
        self, fan: Fan, pair: SchemaPair, batches: Iterator[ChangeBatch], number: int
    ) -> list[tuple[TableRecord, Done]]:
        """The next batch is read while the last one is written. `number`: of the first write. Who has all of it."""
        transform = self._parts.transform_of(pair)
        shares = self._shares(fan, pair)
        if not fan.outlets:
            return []
        begun = False
        name = f"chunk {fan.chunk.number} of {pair.source.table}"
        self._link.step(f"reading {name} from the source")
        for batch in _grouped(pair.published, (transform.apply(b) for b in batches), WRITE_ROWS):
            if self._link.stop.is_set():
                break  # nothing is written any more, and the rest may be a whole table
            self._link.waits("")
            if begun:
                self._settle(fan)
                failpoint("snapshot.chunk_part")
            if not fan.outlets:
                break
            self._link.step(f"reading {name} from the source")
            begun = True
            for outlet in [*fan.outlets]:
                self._write(fan, outlet, shares[outlet.record.sink], batch, number, f"writing {name}")
        self._settle(fan)
        return [(record, self._done(record, shares[record.sink], number)) for record in fan.records]

    def _shares(self, fan: Fan, pair: SchemaPair) -> dict[str, Share]:
        """By sink. One whose own filter does not fit the table is with the copy no more."""
        shares = {}
        for outlet in [*fan.outlets]:
            sink = outlet.record.sink
            try:
                sink_filter = self._parts.sink_filter(sink, pair.published)
            except SyncdError as error:
                fan.refuse(outlet, error)
            else:
                shares[sink] = Share(self._target(outlet.record, pair), sink_filter)
        return shares

    def _write(self, fan: Fan, outlet: Outlet, share: Share, batch: ChangeBatch, number: int, doing: str) -> None:
        """What its own filter lets through; a sink that this leaves nothing of has nothing to wait for."""
        outlet.writing = None
        try:
            batch = share.sink_filter.matching(batch)
        except SyncdError as error:
            fan.refuse(outlet, error)
            return
        if not len(batch):
            return
        share.add(batch)
        ticket = self._ticket(outlet.record, fan.chunk, number, share.written, append=share.target.append)
        self._sinks.write(outlet, share.target, batch, ticket, doing)

    def _settle(self, fan: Fan) -> None:
        self._link.step("")  # the sinks' own threads tell what takes long
        fan.settle()

    def _done(self, record: TableRecord, share: Share, number: int) -> Done:
        marked = share.written if self._keeps_marks(record.sink) else 0
        return Done(share.rows, share.bytes, clock(), marked, _attempt(record, number) if marked else "")

    def _target(self, record: TableRecord, pair: SchemaPair) -> Target:
        return self._parts.target(record.sink, pair.published, record.shadow)

    def _ticket(self, record: TableRecord, chunk: Chunk, number: int, written: int, *, append: bool) -> Ticket:
        """Of a chunk's `written`-th write. Sinks that keep marks keep one of each chunk, which counts them: a target
        that is put back from a copy is noticed at the next write, or at the hand-over."""
        owner, numbered = self._parts.chunk_owner(record), number + max(written - 1, 0)
        if not self._keeps_marks(record.sink):
            return Ticket(owner, record.epoch, numbered)
        lane = Lane(self._parts.tag(record.table), chunk.number)
        first = 1 if append else 2  # an append table was emptied before
        behind = {lane: written - 1} if written >= first else {}
        return Ticket(owner, record.epoch, numbered, {lane: Mark(written, _attempt(record, number), {})}, behind)

    def _keeps_marks(self, sink: str) -> bool:
        if sink not in self._transactional:
            self._transactional[sink] = self._parts.make_sink(sink).traits().transactional
        return self._transactional[sink]

    # -- append tables

    def _once(self, fan: Fan) -> list[tuple[TableRecord, Done]] | None:
        """The table in one read whose place is known exactly; None when that cannot be for now.

        That place is the sink's own: no other one shares the read.
        """
        (outlet,) = fan.outlets
        told = outlet.record
        try:
            number = _any_number()
            pair, batches = self._attempt(outlet, fan.chunk, number)
            return self._copy(fan, pair, batches, number)
        except TransientError as error:
            log.warning("table_waits", job=self._parts.job.name, table=str(told.table), error=str(error))
            self._sinks.submit(told.sink, lambda: None).result()  # what is being written comes to its end
            self._log_known = False
            self._source.close()
            reach("source", self._source.open, self._link)
            self._link.waits("")
            self._link.send(Deferred(told, fan.chunk, str(error), error.retry_after))
            return None

    def _attempt(self, outlet: Outlet, chunk: Chunk, number: int) -> tuple[SchemaPair, Iterator[ChangeBatch]]:
        """Begin the read, save its place under a larger epoch, and remove what earlier attempts have written.

        Nothing tells two rows apart, so that no attempt can go on from another one. Its rows carry its epoch as their
        seq: the sink is closed to smaller ones, however late their writer wakes up (7).
        """
        told = outlet.record
        record, source = self._state.table(told.sink, told.table), self._state.source()
        if record is None or source is None or record.phase is not Phase.SNAPSHOT:
            raise FencedError(f"{told.table} is not to be loaded any more")
        halt = self._state.halts().get(told.table)
        if halt is not None:
            raise FatalError(f"{told.table} is halted at capture: {halt.reason}", table=str(told.table), code="E155")
        versions = self._state.schemas(told.table)[told.table]
        first, last = versions[min(versions)], versions[max(versions)]
        self._link.step(f"beginning the one read of {told.table} at the source")
        head, batches = self._source.scan_once(last.source, source.epoch, record.epoch + 1)
        if self._parts.captures and self._source.identity(source.position) != source.log:
            raise TransientError(f"{told.table}: another log answers now, and capture has not seen it yet")
        record = replace(record, epoch=record.epoch + 1, head=head)
        self._queue.put(self._lease, self._state.table_item(record))
        outlet.record = record
        failpoint("snapshot.attempt_saved")
        self._link.step(f"emptying {told.table} at {told.sink}")
        ticket = self._ticket(record, chunk, number, 0, append=True)
        self._sinks.submit(told.sink, partial(self._empty, record, first, last, ticket)).result()
        failpoint("snapshot.attempt_begun")
        self._link.send(Began(record))
        return last, batches

    def _empty(self, record: TableRecord, first: SchemaPair, last: SchemaPair, ticket: Ticket) -> None:
        """The sink's table: there, with the columns of now, without a row, and closed to earlier attempts."""
        base = self._parts.target(record.sink, first.published, record.shadow)
        # Whatever becomes of deletes at the source: these rows must go.
        target = replace(self._parts.target(record.sink, last.published, record.shadow), deletes="apply")
        seq, published = last.published.version, last.published

        def empty() -> None:
            sink = self._sinks.sink(record.sink)
            sink.prepare(base)
            sink.fence(self._parts.chunk_owner(record), record.epoch)
            sink.apply(target, SchemaChange(Ddl.TRUNCATE, published, record.epoch, "the load begins"), ticket)
            if first is not last:
                sink.apply(target, SchemaChange(Ddl.ALTER, published, seq, "columns added before the load"), ticket)
            refuse_rows(sink, target, record)

        until_done(self._link, empty, record.sink)


def _any_number() -> int:
    """Of an attempt's first write. No sink may take a write for one of another attempt, which may have had other rows,
    nor for one of a job that has been forgotten, whose rows were removed by hand."""
    return secrets.randbits(60)


def _attempt(record: TableRecord, number: int) -> str:
    """Names the writes of a chunk that belong together."""
    return f"{record.epoch}/{number}"


def _grouped(schema: TableSchema, batches: Iterator[ChangeBatch], rows: int) -> Iterator[ChangeBatch]:
    """The same rows in batches of at least `rows` rows, but for the last."""
    held: list[ChangeBatch] = []
    count = 0
    for batch in batches:
        if len(batch):
            held.append(batch)
            count += len(batch)
        if count >= rows:
            yield join(schema, held)
            held, count = [], 0
    if held:
        yield join(schema, held)


def _patiently(link: Link, source: Source, do: Callable[[], T]) -> T | None:
    """Do it again from its beginning while the source is in trouble; None when told to stop first."""
    while not link.stop.is_set():
        try:
            answer = do()
        except TransientError as error:
            log.warning("snapshot_waits", error=str(error))
            link.waits(str(error))
            link.count("retries", "")
            source.close()
            link.stop.wait(error.retry_after)
            reach("source", source.open, link)
        else:
            link.step("")
            link.waits("")
            return answer
    return None
