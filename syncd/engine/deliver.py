"""The delivery operator: lanes in order, merged by key, written to the sink, then committed.

A table's lanes always belong to one `Deliverer`; `deliver_process` runs them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType

import numpy as np
import structlog

from syncd import codec, partition
from syncd.engine import barrier
from syncd.engine.batches import join, refuse_rows, refused
from syncd.engine.build import IDLE_SECONDS, Parts, clock
from syncd.errors import BatchError, FatalError, FencedError, SyncdError, TransientError
from syncd.failpoints import failpoint
from syncd.model import ChangeBatch, Hop, Kind, Lane, Op, Stored, TableId, Target
from syncd.spi import Lease, Mark, Queue, Sink, Ticket
from syncd.state import DELIVERED, Appending, Items, Phase, State, TableRecord

log = structlog.get_logger()

EXPIRE_SECONDS = 3600.0
"""How often the tombstones of a table that stands still are purged."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write, made ready: kept as it is while the sink is in trouble, so that a repeated call is the same call.

    `items`: what is saved with its offsets.
    """

    target: Target
    batch: ChangeBatch
    ticket: Ticket
    offsets: Mapping[Lane, int]
    traces: tuple[tuple[int, Lane, int], ...]
    items: Items = field(default_factory=dict)


@dataclass
class Unit:
    """One table's place in the delivery: what is ready to be written, and when to go on (monotonic seconds)."""

    tag: str
    pending: list[Write] = field(default_factory=list)
    not_before: float = 0.0
    attempts: int = 0
    expire_at: float = field(default_factory=lambda: time.monotonic() + EXPIRE_SECONDS)


class Deliverer:
    """Delivers the tags for which `mine` holds. Everything that it knows is in the queue or, for marks, in the sink."""

    def __init__(
        self,
        parts: Parts,
        sink_name: str,
        queue: Queue,
        sink: Sink,
        lease: Lease,
        mine: Callable[[str], bool],
        numbers: Iterator[int] | None = None,
        waits: Callable[[str, str], None] = lambda reason, tag: None,
        doing: Callable[[str], None] = lambda step: None,
        in_hand: Callable[[TableId], AbstractContextManager[None]] = lambda table: nullcontext(),
    ) -> None:
        """`numbers`: of this deliverer's writes, unlike those of any other of the lease.

        `waits` hears (why, tag), `doing` each step before it is made, `in_hand` is held while a table is worked on: see
        `engine.process.Link`.
        """
        self._parts = parts
        self._sink_name = sink_name
        self._queue = queue
        self._sink = sink
        self._lease = lease
        self._mine = mine
        self._state = State(queue, parts.job.name)
        self._group = parts.group(sink_name)
        self._owner = self._group
        self._traits = sink.traits()
        self._config = parts.job.sinks[sink_name]
        self._incarnation = queue.incarnation()
        self._marks: dict[Lane, Mark] = dict(sink.marks(self._owner)) if self._traits.transactional else {}
        self._units: dict[str, Unit] = {}
        self._numbers = numbers or itertools.count(1)
        self._waits = waits
        self._doing = doing
        self._in_hand = in_hand
        self._targets: dict[tuple[TableId, int], Target] = {}
        self._worker = parts.owner()
        self._fenced: set[tuple[TableId, int]] = set()

    def step(self) -> float:
        """One pass over all lanes. Answers how long there will be nothing to do unless something is published: seconds.

        0: go on at once.
        """
        records = {record.table: record for record in self._state.tables(self._sink_name)}
        wish = self._state.wish()
        source = self._state.source()
        by_tag: dict[str, dict[Lane, tuple[int, int]]] = {}
        for lane, borders in self._queue.lanes(self._group).items():
            if self._mine(lane.tag):
                by_tag.setdefault(lane.tag, {})[lane] = borders
        due = time.monotonic() + IDLE_SECONDS
        for record in records.values():
            tag = self._parts.tag(record.table)
            if not self._mine(tag) or wish.pauses(self._sink_name, record.table):
                continue
            unit = self._units.setdefault(tag, Unit(tag))
            if record.phase is Phase.NEW:
                due = min(due, self._guarded(unit, record, partial(self._prepare, record)))
            elif record.phase in DELIVERED:
                lanes = by_tag.get(tag, {})
                behind = any(start < end for start, end in lanes.values())
                if behind or unit.pending:
                    due = min(due, self._guarded(unit, record, partial(self._deliver, unit, record, lanes)))
                elif record.phase is Phase.CATCH_UP and source is not None and self._parts.caught_up(source, record):
                    self._save(replace(record, phase=Phase.LIVE, since=clock()))
                elif record.phase is Phase.LIVE and source is not None and time.monotonic() > unit.expire_at:
                    due = min(due, self._guarded(unit, record, partial(self._expire, unit, record, source.seq)))
        return max(0.0, due - time.monotonic())

    def _guarded(self, unit: Unit, record: TableRecord, do: Callable[[], bool]) -> float:
        """Do it when it is due, and answer every error for this table alone (8). When to look again: monotonic.

        `do` answers whether it has left something: then there is no pause, since the next write will be a full one.
        """
        now = time.monotonic()
        if now < unit.not_before:
            return unit.not_before
        try:
            self._doing(f"{'preparing' if record.phase is Phase.NEW else 'delivering'} {record.table}")
            with self._in_hand(record.table):
                more = do()
            unit.attempts = 0
            self._waits("", unit.tag)
            unit.not_before = time.monotonic() + (0.0 if more else self._config.batch.seconds)
            return unit.not_before if more else unit.not_before + IDLE_SECONDS
        except TransientError as error:
            unit.attempts += 1
            unit.not_before = now + max(error.retry_after, min(30.0, 0.1 * 2**unit.attempts))
            log.warning("sink_waits", sink=self._group, tag=unit.tag, attempt=unit.attempts, error=str(error))
            self._waits(f"{error}; attempt {unit.attempts}", unit.tag)
            return unit.not_before
        except FencedError:
            raise
        except BatchError as error:
            failpoint("deliver.refused")
            self._halt(unit, record, str(refused(unit.pending[0].batch, unit.pending[0].target.schema.key, error)))
        except SyncdError as error:
            self._halt(unit, record, str(error))
        except Exception as error:
            log.exception("delivery_crashed", sink=self._group, tag=unit.tag)
            self._halt(unit, record, f"{type(error).__name__}: {error} [E159]")
        return now

    def _prepare(self, record: TableRecord) -> bool:
        """NEW: the target table is made, or seen to fit and to hold nothing of another load; then it can be loaded."""
        target = self._parts.target(self._sink_name, self._parts.schema_at(self._state, record).published)
        self._sink.prepare(target, max(record.newest, record.head.seq))
        if self._parts.loads:
            refuse_rows(self._sink, target, record)
        failpoint("snapshot.prepared")
        phase = Phase.SNAPSHOT if self._parts.loads else Phase.CATCH_UP
        self._save(replace(record, phase=phase, since=clock()))
        return True

    def _expire(self, unit: Unit, record: TableRecord, seq: int) -> bool:
        """Tombstones that nobody needs: the lanes are empty, so all before the saved position is applied; a capture
        that starts anew publishes nothing older."""
        versions = self._state.schemas(record.table)[record.table]
        self._sink.expire(self._target(record.table, max(versions)), seq)
        unit.expire_at = time.monotonic() + EXPIRE_SECONDS
        return False

    def _halt(self, unit: Unit, record: TableRecord, reason: str) -> None:
        unit.pending = []
        self._waits("", unit.tag)
        log.error("table_halted", sink=self._group, table=str(record.table), error=reason)
        self._save(record.halted(reason, clock()))

    def _save(self, record: TableRecord) -> None:
        self._queue.put(self._lease, self._state.table_item(record))

    # -- collecting

    def _deliver(self, unit: Unit, record: TableRecord, lanes: Mapping[Lane, tuple[int, int]]) -> bool:
        if (record.table, record.epoch) not in self._fenced:
            # A chunk writer that was frozen over the hand-over can do nothing from here on (7).
            self._sink.fence(self._parts.chunk_owner(record), record.epoch)
            self._fenced.add((record.table, record.epoch))
        if not unit.pending:
            unit.pending = self._collect(record, lanes)
        if not unit.pending:
            return True  # a barrier was passed
        taken: dict[Lane, int] = {}
        for write in [*unit.pending]:
            self._doing(f"delivering {record.table}")
            self._write(write)
            taken |= write.offsets
            unit.pending.remove(write)
        return any(taken.get(lane, start) < end for lane, (start, end) in lanes.items())

    def _collect(self, record: TableRecord, lanes: Mapping[Lane, tuple[int, int]]) -> list[Write]:
        """The next writes of a table; empty after a barrier was passed."""
        behind = {lane: start for lane, (start, end) in lanes.items() if start < end}
        share = max(self._config.batch.bytes // max(len(behind), 1), 1 << 16)
        rows_share = max(self._config.batch.rows // max(len(behind), 1), 1)
        polled = {}
        for lane, start in behind.items():
            self._check_mark(lane, lanes[lane][1])
            polled[lane] = _first_rows(self._queue.poll(self._parts.topic, lane, start, share), rows_share)
        waiting = {lane: stored for lane, stored in polled.items() if stored}
        rows = {lane: front for lane, stored in waiting.items() if (front := _rows_in_front(stored))}
        if not rows:
            barrier.pass_one(self._barrier_context(), record, set(lanes), waiting)
            return []
        version = min(front[0].message.schema_version for front in rows.values())
        same = {
            lane: list(itertools.takewhile(lambda s: s.message.schema_version == version, front))
            for lane, front in rows.items()
            if front[0].message.schema_version == version
        }
        if self._target(record.table, version).append and not self._traits.transactional:
            return [self._appended(record, version, lane, stored) for lane, stored in same.items()]
        groups: Iterable[dict[Lane, list[Stored]]] = (
            [same] if self._traits.versioned else [{lane: stored} for lane, stored in same.items()]
        )
        return [self._ready(record, version, group) for group in groups]

    def _barrier_context(self) -> barrier.Owner:
        return barrier.Owner(self._queue, self._sink, self._lease, self._group, self._target)

    def _appended(self, record: TableRecord, version: int, lane: Lane, stored: Sequence[Stored]) -> Write:
        """The next rows of an append table whose sink keeps no marks; all of them are in one lane.

        What is about to be written is saved before, so that after a death the same write is made again, from the same
        messages: the sink knows it, and adds nothing. So is the last seq applied, for what was published twice (2).
        """
        known = self._state.appending(self._sink_name, record.table)
        if known.offset == stored[0].offset and known.end > known.offset:
            stored = self._up_to(lane, known.offset, known.end)
        else:
            known = Appending(known.seqs, stored[0].offset, stored[-1].offset + 1)
            self._queue.put(self._lease, self._state.appending_item(self._sink_name, record.table, known))
            failpoint("deliver.intended")
        write = self._ready(record, version, {lane: stored}, known.seqs)
        done = Appending(write.ticket.marks[lane].seqs)
        return replace(write, items=self._state.appending_item(self._sink_name, record.table, done))

    def _up_to(self, lane: Lane, offset: int, end: int) -> list[Stored]:
        """The messages from `offset` to before `end`: they have been polled before, and are kept until committed."""
        found: list[Stored] = []
        while offset < end:
            stored = self._queue.poll(self._parts.topic, lane, offset, self._config.batch.bytes)
            found += [item for item in stored if item.offset < end]
            offset = stored[-1].offset + 1
        return found

    def _ready(
        self,
        record: TableRecord,
        version: int,
        group: Mapping[Lane, Sequence[Stored]],
        last: Mapping[str, int] = MappingProxyType({}),
    ) -> Write:
        """`last`: source -> last seq applied, where the sink keeps no marks that say so."""
        target = self._target(record.table, version)
        parts: list[ChangeBatch] = []
        marks: dict[Lane, Mark] = {}
        for lane, stored in group.items():
            mark = self._marks.get(lane)
            applied = dict(mark.seqs if mark is not None else last)
            for item in stored:
                batch = codec.decode(item.message, target.schema)
                floor = max(record.head.seq, applied.get(item.message.source, 0))
                if int(batch.seq[0]) <= floor:
                    batch = batch.take(np.flatnonzero(batch.seq > floor))
                if len(batch):
                    parts.append(batch)
                applied[item.message.source] = max(floor, item.message.last_seq)
            marks[lane] = Mark(stored[-1].offset + 1, self._incarnation, applied)
        batch = join(target.schema, parts)
        if target.append:
            _only_added(target, batch)
        elif len(batch):
            batch = batch.take(partition.last_per_key(target.schema, batch))
        ticket = Ticket(self._owner, self._lease.epoch, next(self._numbers), marks)
        traces = tuple((s.message.trace, lane, s.offset) for lane, stored in group.items() for s in stored)
        return Write(target, batch, ticket, {lane: mark.offset for lane, mark in marks.items()}, traces)

    def _check_mark(self, lane: Lane, end: int) -> None:
        """A sink that has written more than the queue holds belongs to another queue, or this one was restored."""
        mark = self._marks.get(lane)
        if mark is not None and (mark.incarnation != self._incarnation or mark.offset > end):
            raise FatalError(
                f"lane {lane.tag}/{lane.queue}: the sink was written up to offset {mark.offset} of queue "
                f"{mark.incarnation}, this is {self._incarnation} with {end}; the queue was restored or replaced",
                hint="resync the table",
                code="E156",
            )

    def _target(self, table: TableId, version: int) -> Target:
        key = (table, version)
        if key not in self._targets:
            self._targets[key] = self._parts.target(self._sink_name, self._state.schema(table, version).published)
        return self._targets[key]

    # -- writing

    def _write(self, write: Write) -> None:
        """Rows first, then offsets and hops in one commit (1)."""
        began = clock()
        failpoint("deliver.merged")
        if len(write.batch):
            self._sink.write(write.target, write.batch, write.ticket)
            failpoint("deliver.written")
        took = clock() - began
        hops = [Hop(trace, self._group, lane, at, began, took, self._worker) for trace, lane, at in write.traces]
        self._queue.commit(self._lease, self._group, write.offsets, write.items, hops)
        failpoint("deliver.committed")
        if self._traits.transactional:
            self._marks |= write.ticket.marks


def _only_added(target: Target, batch: ChangeBatch) -> None:
    """FatalError: a change of a row that nothing tells from others, before anything of the batch is written (6)."""
    wrong = (batch.op == Op.UPDATE) | ((batch.op == Op.DELETE) & (target.deletes != "ignore"))
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        table, what = target.schema.table, Op(int(batch.op[at])).name
        raise FatalError(
            f"{table}: {what} at seq {int(batch.seq[at])} of a table without a key, whose rows can only be added",
            table=str(table),
            hint="give the table a primary key and load it anew; `syncd explain E191` says more",
            code="E191",
        )


def _first_rows(stored: Sequence[Stored], rows: int) -> list[Stored]:
    """Messages from the front that hold about `rows` rows; at least one, if there is one."""
    taken: list[Stored] = []
    for item in stored:
        if taken and rows < item.message.rows:
            break
        rows -= item.message.rows
        taken.append(item)
    return taken


def _rows_in_front(stored: Sequence[Stored]) -> list[Stored]:
    """The messages before the first barrier."""
    for place, item in enumerate(stored):
        if item.message.kind is not Kind.ROWS:
            return list(stored[:place])
    return list(stored)
