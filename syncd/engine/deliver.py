"""The delivery operator: lanes in order, merged by key, written to the sink, then committed.

A table's lanes always belong to one `Deliverer`; `deliver_process` runs them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import structlog

from syncd.engine import counts
from syncd.engine.batches import refuse_rows, refused
from syncd.engine.build import IDLE_SECONDS, Parts, clock
from syncd.engine.case import Namesakes, by_place
from syncd.engine.collect import Act, Collector, Swap, Work, Write
from syncd.engine.fan_in import Shared, Siblings, Turns, Waits
from syncd.engine.foreign import Watch
from syncd.engine.indexes import Indexes
from syncd.engine.opening import Lanes, Opening
from syncd.engine.others import Others
from syncd.engine.refresh import Refresher
from syncd.engine.writers import Inline, Writers
from syncd.errors import BatchError, FencedError, MovedError, SyncdError, TransientError
from syncd.failpoints import failpoint
from syncd.model import ChangeBatch, Ddl, Hop, Lane, Message, SchemaChange, TableId, Target
from syncd.spi import Foreign, Lease, Queue, Sink
from syncd.state import DELIVERED, Items, Phase, SourceRecord, State, Stranger, TableRecord

log = structlog.get_logger()

EXPIRE_SECONDS = 3600.0
"""How often the tombstones of a table that stands still are purged."""
LOOK_SECONDS = 60.0
"""How often the marks of tables that stand still are compared with what is known of them."""
FLYING_SECONDS = 0.05
"""While writes are under way, lanes that are idle are looked at this often."""
TURN_SECONDS = 0.1
"""How often a table asks whether others with the same target have come as far as it must wait for."""
MOVED_SECONDS = 1.0
"""A target that is put back takes its time."""


class Done(NamedTuple):
    """When a call began and how long it took, in microseconds; what a write has found (`Sink.write`)."""

    began: int
    took: int
    found: Foreign | None = None


@dataclass
class Unit:
    """One table's place in the delivery, and when to go on (monotonic seconds).

    `pending`: ready to be done; `flying`: given to the sink. `error`: one of them has failed; handled once all others
    have come back, since what they have written must be known. `goal`: where a table's lanes in CATCH_UP ended when
    capture had come near.
    """

    tag: str
    pending: list[Work] = field(default_factory=list)
    flying: list[tuple[Work, Future[Done]]] = field(default_factory=list)
    error: Exception | None = None
    not_before: float = 0.0
    attempts: int = 0
    expire_at: float = field(default_factory=lambda: time.monotonic() + EXPIRE_SECONDS)
    goal: dict[Lane, int] = field(default_factory=dict)
    handed_over: int = 0


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
        count: counts.Count = counts.nothing,
        writers: Writers | None = None,
        turns: Turns | None = None,
    ) -> None:
        """`numbers`: of this deliverer's writes, unlike those of any other of the lease. `writers`: who writes rows and
        acts at barriers, by default this thread with `sink`. `turns`: of all deliverers of the process.

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
        self._traits = sink.traits()
        self._config = parts.job.sinks[sink_name]
        numbers = numbers or itertools.count(1)
        self._opening = Opening(parts, sink_name, queue, sink, lease, numbers)
        self._refresher = Refresher(parts, queue)
        refresh = partial(self._refresh, doing)
        self._namesakes: Namesakes | None = None
        self._others: Others | None = None
        self._watch = Watch(parts, sink_name, self._traits, count, self._save_stranger)
        self._collector = Collector(
            parts, sink_name, queue, self._traits, lease, self._opening, numbers, refresh, self._watch
        )
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._units: dict[str, Unit] = {}
        self._waits = waits
        self._doing = doing
        self._in_hand = in_hand
        self._writers = writers or Inline(sink)
        siblings = Siblings(parts, sink_name, queue, self._state)
        self._shared = Shared(parts, turns or Turns(), siblings, unique=self._traits.unique)
        self._indexes = Indexes(parts, self._collector, siblings)
        self._count = count
        self._worker = parts.owner()
        self._unproven: set[tuple[str, TableId]] = set()

    def step(self) -> float:
        """One pass over all lanes. Answers how long there will be nothing to do unless something is published: seconds.

        0: go on at once.
        """
        for unit in self._units.values():
            if unit.flying:  # also of a table that was paused, or halted by another
                self._settle(unit)
        self._look()
        self._namesakes = self._others = None
        records = {record.table: record for record in self._state.tables(self._sink_name)}
        wish = self._state.wish()
        source = self._state.source()
        by_tag: dict[str, dict[Lane, tuple[int, int]]] = {}
        for lane, borders in self._queue.lanes(self._group).items():
            if self._mine(lane.tag):
                by_tag.setdefault(lane.tag, {})[lane] = borders
        due = time.monotonic() + IDLE_SECONDS
        catching_up = any(record.phase is Phase.CATCH_UP for record in records.values())
        self._unproven = {*self._state.repairs(self._sink_name)} if catching_up else set()
        for record in records.values():
            tag = self._parts.tag(record.table)
            if not self._mine(tag) or wish.pauses(self._sink_name, record.table):
                continue
            unit = self._units.setdefault(tag, Unit(tag))
            self._watch.look(record, source, by_tag.get(tag, {}))
            if record.phase is Phase.NEW or (record.shadow and record.phase in DELIVERED):
                begin = self._prepare if record.phase is Phase.NEW else self._swap
                due = min(due, self._guarded(unit, record, partial(begin, unit, record)))
            elif record.phase in DELIVERED:
                due = min(due, self._delivered(unit, record, by_tag.get(tag, {}), source))
        self._refresher.rest()
        return max(0.0, due - time.monotonic())

    def _delivered(self, unit: Unit, record: TableRecord, lanes: Lanes, source: SourceRecord | None) -> float:
        """What is next for a table whose lanes run, done. When to look again: monotonic."""
        behind = any(start < end for start, end in lanes.values())
        to_open = self._to_open(record)
        waits = record.phase is Phase.CATCH_UP and (self._sink_name, record.table) not in self._unproven
        catching_up = waits and source is not None and self._parts.caught_up(source, record)
        if not waits or unit.handed_over != record.since:
            unit.handed_over, unit.goal = record.since, {}
        # Capture has to come near once: under a load that does not end it is so now and then only.
        if (catching_up or unit.goal) and behind and not to_open and self._has_arrived(unit, lanes):
            return self._guarded(unit, record, partial(self._arrive, unit, record, lanes))
        idle = not (unit.pending or unit.flying or to_open)
        if behind or not idle:
            return self._guarded(unit, record, partial(self._deliver, unit, record, lanes))
        if catching_up:
            return self._guarded(unit, record, partial(self._go_live, unit, record))
        if record.phase is Phase.LIVE and source is not None and time.monotonic() > unit.expire_at:
            return self._guarded(unit, record, partial(self._expire, unit, record, source.seq))
        return time.monotonic() + IDLE_SECONDS

    def idle(self, seconds: float) -> None:
        """Until something is published, or a write that is under way comes back; `seconds` at most."""
        flying = [future for unit in self._units.values() for _, future in unit.flying]
        if flying:
            wait(flying, min(seconds, FLYING_SECONDS) if seconds else FLYING_SECONDS, FIRST_COMPLETED)
        elif seconds:
            self._queue.wait(self._parts.topic, seconds)

    def finish(self) -> None:
        """What is under way is waited for, and saved; nothing is begun."""
        for unit in self._units.values():
            wait([future for _, future in unit.flying])
            self._settle(unit)

    def close(self) -> None:
        """Give back what was opened here."""
        self._refresher.close()

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
            if not unit.flying:
                unit.attempts = 0
                self._waits("", unit.tag)
            unit.not_before = time.monotonic() + (0.0 if more else self._config.batch.seconds)
            return unit.not_before if more else unit.not_before + IDLE_SECONDS
        except Waits as error:
            unit.not_before = now + TURN_SECONDS
            self._waits(str(error), unit.tag)
            return unit.not_before
        except TransientError as error:
            unit.attempts += 1
            unit.not_before = now + max(error.retry_after, min(30.0, 0.1 * 2**unit.attempts))
            log.warning("sink_waits", sink=self._group, tag=unit.tag, attempt=unit.attempts, error=str(error))
            self._waits(f"{error}; attempt {unit.attempts}", unit.tag)
            self._count("retries", self._sink_name)
            return unit.not_before
        except FencedError:
            raise
        except MovedError as error:
            log.warning("sink_moved", sink=self._group, tag=unit.tag, error=str(error))
            unit.pending = []
            unit.not_before = now + MOVED_SECONDS
            self._opening.close(unit.tag)
            self._look_at = now  # so may be the marks of others
            return unit.not_before
        except SyncdError as error:
            self._halt(unit, record, str(error), anew=self._parts.reloads(error))
        except Exception as error:
            log.exception("delivery_crashed", sink=self._group, tag=unit.tag)
            self._halt(unit, record, f"{type(error).__name__}: {error} [E159]")
        return now

    def _prepare(self, unit: Unit, record: TableRecord) -> bool:
        """NEW: the target table is made, or seen to fit and to hold nothing of another load; then it can be loaded."""
        unit.pending = []
        self._refuse_taken(record)
        target = self._loaded(record)
        self._collector.sink_filter(record.table, target.schema.version)  # found out before the first row
        if target.own and not record.shadow:
            self._take_in(record, target)
        self._sink.prepare(target, max(record.newest, record.head.seq))
        if self._parts.loads:
            refuse_rows(self._sink, target, record)
        failpoint("snapshot.prepared")
        phase = Phase.SNAPSHOT if self._parts.loads else Phase.CATCH_UP
        self._save(replace(record, phase=phase, since=clock()))
        return True

    def _refuse_taken(self, record: TableRecord) -> None:
        """ConfigError (C127): the sink takes the target for that of another table, or another job has it."""
        if self._namesakes is None or self._others is None:  # once in a step
            self._namesakes = Namesakes(self._parts, by_place(self._state.tables(self._sink_name)))
            self._others = Others(self._parts, self._queue, self._sink_name)
        self._namesakes.refuse(record.table, self._sink_name, self._sink.folds)
        if taken := self._others.refusal(record.table, record, self._sink.folds):
            raise taken

    def _take_in(self, record: TableRecord, target: Target) -> None:
        """A target that other tables may have is there, and takes the rows of this one, too. Waits."""
        change = SchemaChange(Ddl.CREATE, target.schema, target.schema.version, "its rows come")
        with self._shared.turn(record.table):
            self._sink.apply(target, change, self._collector.ticket())

    def _loaded(self, record: TableRecord) -> Target:
        """The table that the load writes to."""
        published = self._parts.schema_at(self._state, record).published
        return self._parts.target(self._sink_name, published, record.shadow)

    def _swap(self, unit: Unit, record: TableRecord) -> bool:
        """The lanes of a table that was loaded anew stand still until it has taken the place of the one before."""
        self._settle(unit)
        if unit.error is None and not unit.flying:
            known = [work for work in unit.pending if isinstance(work, Swap)]
            unit.pending = [*(known or [self._swapping(record)])]
            self._launch(unit, record.table)
            self._settle(unit)
        self._raise_error(unit)
        return bool(unit.flying)

    def _swapping(self, record: TableRecord) -> Swap:
        def swapped() -> None:
            now = self._state.table(self._sink_name, record.table)
            if now is not None and (now.epoch, now.shadow) == (record.epoch, record.shadow):
                self._save(replace(now, shadow=""))
            log.info("table_swapped", sink=self._group, table=str(record.table))

        shadow = self._loaded(record)
        target = self._loaded(replace(record, shadow=""))
        loader = self._parts.chunk_owner(record), record.epoch
        return Swap(shadow, target, record.head.seq, loader, self._collector.ticket(), swapped)

    def _expire(self, unit: Unit, record: TableRecord, seq: int) -> bool:
        """Tombstones that nobody needs: the lanes are empty, so all before the saved position is applied; a capture
        that starts anew publishes nothing older."""
        versions = self._state.schemas(record.table)[record.table]
        self._sink.expire(self._collector.target(record.table, max(versions)), seq)
        unit.expire_at = time.monotonic() + EXPIRE_SECONDS
        return False

    def _halt(self, unit: Unit, record: TableRecord, reason: str, *, anew: bool = False) -> None:
        """`anew`: the table is then loaded beside its copies."""
        unit.pending = []
        self._watch.doubt(record.table)  # refused rows leave those beside them written, and no mark
        self._waits("", unit.tag)
        log.error("table_halted", sink=self._group, table=str(record.table), error=reason)
        wish = self._state.resync_item(record.table, wanted=True) if anew else {}
        self._queue.put(self._lease, self._state.table_item(record.halted(reason, clock())) | wish)
        self._count("table_halts", self._sink_name, str(record.table))

    def _save_stranger(self, table: TableId, found: Stranger) -> None:
        """With what was told before, since the table is LIVE."""
        record = self._state.table(self._sink_name, table)
        before = self._state.strangers().get((self._sink_name, table))
        if before is not None and record is not None and before.at > record.since:
            found = Stranger(before.missing + found.missing, before.extra + found.extra, found.at)
        self._queue.put(self._lease, self._state.stranger_item(self._sink_name, table, found))

    def _save(self, record: TableRecord) -> None:
        self._queue.put(self._lease, self._state.table_item(record))

    # -- from CATCH_UP to LIVE

    def _has_arrived(self, unit: Unit, lanes: Lanes) -> bool:
        """Of a table that never stands still: all is applied that was there when capture had come near."""
        unit.goal = unit.goal or {lane: end for lane, (_, end) in lanes.items()}
        return all(lanes[lane][0] >= end for lane, end in unit.goal.items() if lane in lanes)

    def _arrive(self, unit: Unit, record: TableRecord, lanes: Lanes) -> bool:
        """Nothing new is begun until all has come back: in one lane or another there is always something."""
        if unit.pending or unit.flying or unit.error:
            return self._deliver(unit, record, {})
        try:
            return self._go_live(unit, record)
        except Waits:  # for others at the same target, which may take long
            return self._deliver(unit, record, lanes)

    def _go_live(self, unit: Unit, record: TableRecord) -> bool:
        """Unique indexes hold: the lanes are empty, or all that the load has left is applied in the one lane that such
        a table has, which is at one place of the log after each write."""

        def live() -> None:
            now = self._state.table(self._sink_name, record.table)
            if now is not None and now.phase is Phase.CATCH_UP:
                self._save(now.live(clock()))

        with self._shared.turn(record.table):
            unit.pending = self._indexes.plain(record) or self._indexes.unique(record, live)
            if not unit.pending:
                self._save(record.live(clock()))
                return True
        return self._deliver(unit, record, {})

    # -- where the lanes are

    def _look(self) -> None:
        """Every now and then: whether the marks of tables that are at rest are still what they were."""
        if not self._traits.transactional or time.monotonic() < self._look_at:
            return
        self._doing("looking at the sink's marks")
        began = time.monotonic()
        try:
            self._opening.look({tag for tag, unit in self._units.items() if not unit.flying and not unit.pending})
        except TransientError as error:
            log.warning("sink_waits", sink=self._group, error=str(error))
        now = time.monotonic()
        self._look_at = now + max(LOOK_SECONDS, 100 * (now - began))

    def _to_open(self, record: TableRecord) -> bool:
        """Others are opened when they have something to write."""
        return self._traits.transactional and not self._opening.is_open(record)

    def _open(self, unit: Unit, record: TableRecord, lanes: Mapping[Lane, tuple[int, int]]) -> None:
        self._doing(f"opening the lanes of {record.table}")
        unit.pending = []
        self._watch.doubt(record.table)
        self._indexes.doubt(record)
        if not record.opened:  # it may have been created while the job runs
            self._refuse_taken(record)
        target = self._loaded(record)
        if target.own and self._traits.transactional and record.opened != record.epoch:
            self._take_in(record, target)
        self._opening.open(record, lanes)

    # -- rounds

    def _deliver(self, unit: Unit, record: TableRecord, lanes: Mapping[Lane, tuple[int, int]]) -> bool:
        taken = self._settle(unit)
        if unit.error is None and not self._opening.is_open(record):
            if not unit.flying and not taken:
                self._open(unit, record, lanes)
            return True
        if unit.error is None:
            unit.pending = unit.pending or ([] if unit.flying else self._indexes.plain(record))
            self._launch(unit, record.table)
            taken |= self._settle(unit)
        if unit.error is None and all(isinstance(work, Write) for work, _ in unit.flying):
            try:
                idle = _idle(unit, lanes, taken)
                unit.pending = [*self._collector.collect(record, idle, set(lanes), flying=bool(unit.flying))]
            except SyncdError as refusal:
                unit.error = refusal
            self._launch(unit, record.table)
            taken |= self._settle(unit)
        self._raise_error(unit)
        return bool(unit.flying) or any(taken.get(lane, start) < end for lane, (start, end) in lanes.items())

    def _raise_error(self, unit: Unit) -> None:
        if unit.error is not None and not unit.flying:
            error, unit.error = unit.error, None
            raise error

    def _launch(self, unit: Unit, table: TableId) -> None:
        for ready in [*unit.pending]:
            self._doing(f"delivering {table}")
            work = self._shared.in_turn(ready) if ready.target.own else ready
            lane = min(work.offsets, default=Lane(unit.tag, 0))
            do = partial(self._write, work) if isinstance(work, Write) else partial(self._act, work)
            unit.flying.append((work, self._writers.submit(lane, table, do, long=not isinstance(work, Write))))
            unit.pending.remove(ready)

    def _settle(self, unit: Unit) -> dict[Lane, int]:
        """What has come back: offsets and hops of what was done in one commit (1). The offsets that are taken."""
        done = [(work, future) for work, future in unit.flying if future.done()]
        unit.flying = [(work, future) for work, future in unit.flying if not future.done()]
        offsets: dict[Lane, int] = {}
        items: Items = {}
        hops: list[Hop] = []
        written: list[tuple[Write, float, Foreign | None]] = []
        for work, future in done:
            error = future.exception()
            if error is not None:
                self._failed(unit, work, error)
                continue
            offsets |= work.offsets
            if isinstance(work, Write):
                began, took, found = future.result()
                hops += [Hop(t, self._group, lane, at, began, took, self._worker) for t, lane, at in work.traces]
                items |= work.items
                written.append((work, took / 1e6, found))
            if self._traits.transactional:
                self._opening.marks |= work.ticket.marks
        if offsets:
            self._queue.commit(self._lease, self._group, offsets, items, hops)
            failpoint("deliver.committed")
        for work, _ in done:
            if not isinstance(work, Write) and work.target.own:
                self._shared.give(work.target.schema.table)
        for write, seconds, found in written:
            self._counted(write, seconds)
            if found is not None:
                self._watch.saw(write.target.schema.table, found)
        for work, future in done:
            if not isinstance(work, Write) and future.exception() is None:
                self._passed(work)
        return offsets

    def _failed(self, unit: Unit, work: Work, error: BaseException) -> None:
        """What may pass is tried again as it is: a repeated call is the same call."""
        if not isinstance(error, Exception):
            raise error
        if isinstance(error, BatchError) and isinstance(work, Write):
            failpoint("deliver.refused")
            self._count("refused_rows", self._sink_name, str(work.target.schema.table), by=len(error.rows))
            error = refused(work.batch, work.target.schema.key, error)
        if isinstance(error, TransientError) and not (isinstance(work, Act) and work.target.own):
            unit.pending.append(work)  # others may act in between: then the act may have become another one
        if unit.error is None or isinstance(unit.error, TransientError):
            unit.error = error

    def _counted(self, write: Write, seconds: float) -> None:
        at = self._sink_name, str(write.target.schema.table)
        self._count("delivered_rows", *at, by=write.changes)
        self._count("delivered_bytes", *at, by=write.batch.nbytes)
        if len(write.batch):
            self._count("sink_writes", *at)
            self._count("sink_write_seconds", *at, by=seconds)

    def _passed(self, act: Act | Swap) -> None:
        act.after()
        if isinstance(act, Swap):
            return
        change = act.standing.change
        if change.kind is not Ddl.INDEX:
            failpoint("barrier.passed")
        kind, table = change.kind.value, str(change.table)
        event = "indexes_made" if change.kind is Ddl.INDEX else "barrier_passed"
        log.info(event, sink=self._group, table=table, kind=kind, seq=change.seq)

    def _refresh(self, doing: Callable[[str], None], message: Message) -> ChangeBatch:
        doing(f"reading rows of {message.table} at the source")
        return self._refresher.rows(message)

    # -- in the writers' threads

    def _write(self, write: Write, sink: Sink) -> Done:
        began, found = clock(), None
        failpoint("deliver.merged")
        if len(write.batch) or self._traits.transactional:
            found = sink.write(write.target, write.batch, write.ticket)
            failpoint("deliver.written")
        return Done(began, clock() - began, found)

    def _act(self, act: Act | Swap, sink: Sink) -> Done:
        began = clock()
        act.do(sink)
        return Done(began, clock() - began)


def _idle(unit: Unit, lanes: Mapping[Lane, tuple[int, int]], taken: Mapping[Lane, int]) -> dict[Lane, tuple[int, int]]:
    """The lanes of which nothing is ready or under way; `taken`: how far they have got since `lanes` was read."""
    busy: set[Lane] = set()
    for work in [*unit.pending, *(work for work, _ in unit.flying)]:
        busy |= work.offsets.keys()
    return {lane: (taken.get(lane, start), end) for lane, (start, end) in lanes.items() if lane not in busy}
