"""The snapshot operators: a planner that finds tables and chunk borders, and readers that copy one chunk at a time.

Both are told what to do by the supervisor, word by word, and answer with words; what counts is saved before it is said.
Words to the planner: `Discover`, then one `Plan` at a time, each answered by `Planned`s and a `PlanEnded`. To a reader:
`Copy`, answered by `Copied`. Instead of an end: `Refused`.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import structlog

from syncd.engine import queue_used
from syncd.engine.batches import join, refuse_rows, refused
from syncd.engine.build import Parts, clock
from syncd.engine.discover import discover
from syncd.engine.process import Link, reach
from syncd.engine.relocate import relocate
from syncd.errors import BatchError, FatalError, FencedError, MovedError, SyncdError, TransientError
from syncd.failpoints import failpoint
from syncd.model import ChangeBatch, Chunk, Ddl, Lane, SchemaChange, TableSchema, Target
from syncd.spi import Lease, Mark, Queue, Sink, Source, Ticket
from syncd.state import Done, Phase, SchemaPair, State, TableRecord

log = structlog.get_logger()
T = TypeVar("T")

SHARE_SECONDS = 1.0

WRITE_ROWS = 60_000
"""Rows in one write of a chunk: what ClickHouse takes best, and what a reader holds twice."""


@dataclass(frozen=True, slots=True)
class Discover:
    """Look at the source, and save the head, schemas and NEW records of tables that are not known yet."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """`chunks`: about how many the tables that were found will have; 0 where they had been found before."""

    chunks: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Find the chunks of a table that are not saved yet."""

    record: TableRecord


@dataclass(frozen=True, slots=True)
class Planned:
    """One more chunk, saved."""

    record: TableRecord
    chunk: Chunk


@dataclass(frozen=True, slots=True)
class PlanEnded:
    """Every chunk of the table that `Plan` asked for is saved and said, or the planner was told to stop."""

    record: TableRecord


@dataclass(frozen=True, slots=True)
class Copy:
    record: TableRecord
    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Copied:
    record: TableRecord
    chunk: Chunk
    done: Done


@dataclass(frozen=True, slots=True)
class Began:
    """The one read of an append table is open, its place saved."""

    record: TableRecord


@dataclass(frozen=True, slots=True)
class Deferred:
    """The table cannot be read for now; to be tried again after `seconds`."""

    record: TableRecord
    chunk: Chunk
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The table cannot go on."""

    record: TableRecord
    error: SyncdError


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
                            link.send(PlanEnded(task.record))
                        except FencedError:
                            raise
                        except SyncdError as error:
                            link.send(Refused(task.record, error))
        finally:
            source.close()


def _plan_table(link: Link, parts: Parts, queue: Queue, source: Source, lease: Lease, task: Plan) -> None:
    state = State(queue, parts.job.name)
    record = task.record
    schema = parts.schema_at(state, record).source
    known = state.chunks(record.sink, record.table)
    after = known[-1] if known else None
    if after is not None and after.upper is None:
        return
    doing = f"finding the chunks of {record.table} at the source"
    link.step(doing)
    for chunk in source.chunks(schema, parts.job.snapshot.chunk_bytes, after):
        link.waits("")
        failpoint("snapshot.border_found")
        queue.put(lease, state.chunk_item(record.sink, chunk))
        failpoint("snapshot.chunk_saved")
        link.send(Planned(record, chunk))
        link.step(doing)
        if link.stop.is_set():
            return


# -- readers


def read(link: Link, parts: Parts, lease: Lease) -> None:
    """A reader process: chunks are read in this thread and written in a second one, so that both go on at once."""
    with queue_used.opened(parts.make_queue(), parts.service) as queue:
        source = parts.make_source(share=_share(State(queue, parts.job.name)), waits=partial(_throttled, link))
        try:
            reach("source", source.open, link)
            link.waits("")
            with ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
                reader = Reader(parts, queue, source, lease, link, writer)
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


class Reader:
    """Copies chunks. Its sinks are used in the writer thread only."""

    def __init__(
        self, parts: Parts, queue: Queue, source: Source, lease: Lease, link: Link, writer: ThreadPoolExecutor
    ) -> None:
        self._parts = parts
        self._queue = queue
        self._source = source
        self._lease = lease
        self._link = link
        self._writer = writer
        self._state = State(queue, parts.job.name)
        self._sinks: dict[str, Sink] = {}
        self._log_known = False
        self._transactional: dict[str, bool] = {}

    def copy(self, task: Copy) -> None:
        """One chunk, whole; then its mark; then the word to the supervisor."""
        try:
            appends = _patiently(self._link, self._source, partial(self._appends, task.record))
            if appends is None:
                return
            done = self._once(task) if appends else self._again(task)
            if done is None or self._link.stop.is_set():
                return
            failpoint("snapshot.chunk_written")
            mark = self._state.done_item(task.record.sink, task.chunk, done)
            if _until_done(self._link, lambda: self._queue.put(self._lease, mark)):
                failpoint("snapshot.chunk_marked")
                at = task.record.sink, str(task.record.table)
                self._link.count("loaded_rows", *at, by=done.rows)
                self._link.count("loaded_bytes", *at, by=done.bytes)
                self._link.send(Copied(task.record, task.chunk, done))
        except FencedError:
            raise
        except SyncdError as error:
            self._link.send(Refused(task.record, error))
        finally:
            self._link.step("")

    def close(self) -> None:
        for sink in self._sinks.values():
            self._writer.submit(sink.close).result()

    def _again(self, task: Copy) -> Done | None:
        """A chunk of a keyed table, from its beginning while the source is in trouble."""

        def copy() -> Done:
            self._in_this_log()
            pair = self._parts.schema_at(self._state, task.record)
            batches = self._source.scan(pair.source, task.chunk, task.record.head.seq)
            return self._copy(task.record, pair, task.chunk, batches, task.chunk.number << 20)

        def copy_here() -> Done:
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
        self, record: TableRecord, pair: SchemaPair, chunk: Chunk, batches: Iterator[ChangeBatch], number: int
    ) -> Done:
        """The next batch is read while the last one is written. `number`: of the first write."""
        transform = self._parts.transform_of(pair)
        target = self._parts.target(record.sink, pair.published, record.shadow)
        rows = size = written = 0
        writing = None
        name = f"chunk {chunk.number} of {record.table}"
        self._link.step(f"reading {name} from the source")
        for batch in _grouped(pair.published, (transform.apply(b) for b in batches), WRITE_ROWS):
            if self._link.stop.is_set():
                break  # nothing is written any more, and the rest may be a whole table
            rows, size = rows + len(batch), size + batch.nbytes
            self._link.waits("")
            if writing is not None:
                self._link.step(f"writing {name} to {record.sink}")
                writing.result()
                failpoint("snapshot.chunk_part")
            self._link.step(f"reading {name} from the source")
            written += 1
            ticket = self._ticket(record, chunk, number, written)
            writing = self._writer.submit(self._write, record.sink, target, batch, ticket)
        if writing is not None:
            self._link.step(f"writing {name} to {record.sink}")
            writing.result()
        marked = written if self._keeps_marks(record.sink) else 0
        return Done(rows, size, clock(), marked, _attempt(record, number) if marked else "")

    def _ticket(self, record: TableRecord, chunk: Chunk, number: int, written: int) -> Ticket:
        """Of a chunk's `written`-th write. Sinks that keep marks keep one of each chunk, which counts them: a target
        that is put back from a copy is noticed at the next write, or at the hand-over."""
        owner, numbered = self._parts.chunk_owner(record), number + max(written - 1, 0)
        if not self._keeps_marks(record.sink):
            return Ticket(owner, record.epoch, numbered)
        lane = Lane(self._parts.tag(record.table), chunk.number)
        target = self._parts.target(record.sink, self._parts.schema_at(self._state, record).published, record.shadow)
        first = 1 if target.append else 2  # an append table was emptied before
        behind = {lane: written - 1} if written >= first else {}
        return Ticket(owner, record.epoch, numbered, {lane: Mark(written, _attempt(record, number), {})}, behind)

    def _keeps_marks(self, sink: str) -> bool:
        if sink not in self._transactional:
            self._transactional[sink] = self._parts.make_sink(sink).traits().transactional
        return self._transactional[sink]

    # -- append tables

    def _appends(self, record: TableRecord) -> bool:
        return self._parts.target(
            record.sink, self._parts.schema_at(self._state, record).published, record.shadow
        ).append

    def _once(self, task: Copy) -> Done | None:
        """The table in one read whose place is known exactly; None when that cannot be for now."""
        try:
            # No sink may take a write for one of a job that has been forgotten, whose rows were removed by hand.
            number = secrets.randbits(60)
            record, pair, batches = self._attempt(task.record, task.chunk, number)
            return self._copy(record, pair, task.chunk, batches, number)
        except TransientError as error:
            log.warning("table_waits", job=self._parts.job.name, table=str(task.record.table), error=str(error))
            self._writer.submit(lambda: None).result()  # what is being written comes to its end
            self._log_known = False
            self._source.close()
            reach("source", self._source.open, self._link)
            self._link.waits("")
            self._link.send(Deferred(task.record, task.chunk, str(error), error.retry_after))
            return None

    def _attempt(
        self, told: TableRecord, chunk: Chunk, number: int
    ) -> tuple[TableRecord, SchemaPair, Iterator[ChangeBatch]]:
        """Begin the read, save its place under a larger epoch, and remove what earlier attempts have written.

        Nothing tells two rows apart, so that no attempt can go on from another one. Its rows carry its epoch as their
        seq: the sink is closed to smaller ones, however late their writer wakes up (7).
        """
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
        failpoint("snapshot.attempt_saved")
        self._link.step(f"emptying {told.table} at {told.sink}")
        self._writer.submit(self._empty, record, first, last, self._ticket(record, chunk, number, 0)).result()
        failpoint("snapshot.attempt_begun")
        self._link.send(Began(record))
        return record, last, batches

    def _empty(self, record: TableRecord, first: SchemaPair, last: SchemaPair, ticket: Ticket) -> None:
        """The sink's table: there, with the columns of now, without a row, and closed to earlier attempts."""
        base = self._parts.target(record.sink, first.published, record.shadow)
        # Whatever becomes of deletes at the source: these rows must go.
        target = replace(self._parts.target(record.sink, last.published, record.shadow), deletes="apply")
        seq, published = last.published.version, last.published

        def empty() -> None:
            sink = self._sink(record.sink)
            sink.prepare(base)
            sink.fence(self._parts.chunk_owner(record), record.epoch)
            sink.apply(target, SchemaChange(Ddl.TRUNCATE, published, record.epoch, "the load begins"), ticket)
            if first is not last:
                sink.apply(target, SchemaChange(Ddl.ALTER, published, seq, "columns added before the load"), ticket)
            refuse_rows(sink, target, record)

        _until_done(self._link, empty, record.sink)

    # -- the writer's thread

    def _write(self, name: str, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        """The same call again until the sink has taken it."""
        at = name, str(target.schema.table)

        def write() -> None:
            sink, began = self._sink(name), time.monotonic()
            sink.write(target, batch, ticket)
            self._link.count("sink_writes", *at)
            self._link.count("sink_write_seconds", *at, by=time.monotonic() - began)

        try:
            _until_done(self._link, write, name)
        except BatchError as error:
            self._link.count("refused_rows", *at, by=len(error.rows))
            raise refused(batch, target.schema.key, error) from error
        except MovedError as error:
            raise TransientError(f"{error.what}; the chunk is read again", code=error.code) from error

    def _sink(self, name: str) -> Sink:
        if name not in self._sinks:
            sink = self._parts.reach_sink(name)
            try:
                sink.open()
            except BaseException:
                sink.close()
                raise
            self._sinks[name] = sink
        return self._sinks[name]


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


def _until_done(link: Link, do: Callable[[], None], sink: str = "") -> bool:
    """The same call again while it fails for a while; False when told to stop first."""
    while not link.stop.is_set():
        try:
            do()
        except TransientError as error:
            log.warning("snapshot_waits", error=str(error))
            link.waits(str(error), "writing")
            link.count("retries", sink)
            link.stop.wait(error.retry_after)
        else:
            link.waits("", "writing")
            return True
    return False


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
