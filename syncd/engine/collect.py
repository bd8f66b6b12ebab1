"""What a table's lanes hold next, made ready for the sink: polled, freed of what was applied, merged by key."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from syncd import codec, partition
from syncd.engine import barrier
from syncd.engine.batches import join
from syncd.engine.build import Parts
from syncd.engine.foreign import Watch
from syncd.engine.opening import Opening
from syncd.errors import FatalError
from syncd.failpoints import failpoint
from syncd.model import ChangeBatch, Kind, Lane, Message, Op, Stored, TableId, Target
from syncd.spi import Lease, Mark, Queue, Sink, Ticket, Traits
from syncd.state import Appending, Items, Phase, State, TableRecord
from syncd.transforms import SinkFilter


@dataclass(frozen=True, slots=True)
class Write:
    """One write, made ready: kept as it is while the sink is in trouble, so that a repeated call is the same call.

    `changes`: how many row changes became the batch; `items`: what is saved with its offsets.
    """

    target: Target
    batch: ChangeBatch
    ticket: Ticket
    offsets: Mapping[Lane, int]
    traces: tuple[tuple[int, Lane, int], ...]
    changes: int = 0
    items: Items = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Act:
    """A barrier's act, made ready, for which the whole table waits. `after`: what follows when it is done."""

    standing: barrier.Standing
    target: Target
    ticket: Ticket
    after: Callable[[], None] = lambda: None

    @property
    def offsets(self) -> Mapping[Lane, int]:
        return self.standing.offsets

    def do(self, sink: Sink) -> None:
        self.standing.act(sink, self.target, self.ticket)


@dataclass(frozen=True, slots=True)
class Swap:
    """A table that was loaded anew takes the place of the one before; its lanes stand still until then.

    `loader`: the owner of its chunks, and the epoch from which on none is written any more.
    """

    shadow: Target
    target: Target
    seq: int
    loader: tuple[str, int]
    ticket: Ticket
    after: Callable[[], None]

    @property
    def offsets(self) -> Mapping[Lane, int]:
        return {}

    def do(self, sink: Sink) -> None:
        sink.fence(*self.loader)
        sink.swap(self.shadow, self.target, self.seq, self.ticket)
        failpoint("deliver.swapped")


Work = Write | Act | Swap


class Collector:
    """Of one sink. `opening`: its marks; `numbers`: of writes; `refresh` reads rows at the source; `watch` is told what
    may put the rows there ahead of their lanes."""

    def __init__(
        self,
        parts: Parts,
        sink_name: str,
        queue: Queue,
        traits: Traits,
        lease: Lease,
        opening: Opening,
        numbers: Iterator[int],
        refresh: Callable[[Message], ChangeBatch],
        watch: Watch,
    ) -> None:
        self._parts = parts
        self._sink_name = sink_name
        self._queue = queue
        self._traits = traits
        self._lease = lease
        self._opening = opening
        self._numbers = numbers
        self._refresh = refresh
        self._watch = watch
        self._state = State(queue, parts.job.name)
        self._owner = parts.group(sink_name)
        self._config = parts.job.sinks[sink_name]
        self._targets: dict[tuple[TableId, int], Target] = {}
        self._filters: dict[tuple[TableId, int], SinkFilter] = {}

    def target(self, table: TableId, version: int) -> Target:
        key = (table, version)
        if key not in self._targets:
            self._targets[key] = self._parts.target(self._sink_name, self._state.schema(table, version).published)
        return self._targets[key]

    def sink_filter(self, table: TableId, version: int) -> SinkFilter:
        """ConfigError: the sink's own filter does not fit this version, of which it can take nothing then."""
        key = (table, version)
        if key not in self._filters:
            self._filters[key] = self._parts.sink_filter(self._sink_name, self._state.schema(table, version).published)
        return self._filters[key]

    def ticket(
        self, marks: Mapping[Lane, Mark] = MappingProxyType({}), there: NDArray[np.bool_] | None = None
    ) -> Ticket:
        """The next one. `marks` go on from those that the sink is known to have; `there`: see `Ticket`."""
        behind = self._opening.behind(marks) if self._traits.transactional else {}
        return Ticket(self._owner, self._lease.epoch, next(self._numbers), marks, behind, there)

    def collect(
        self, record: TableRecord, idle: Mapping[Lane, tuple[int, int]], lanes: set[Lane], *, flying: bool
    ) -> list[Act] | list[Write]:
        """The next writes of a table's idle lanes, or its barrier's act, once nothing is in front of it any more.

        `flying`: something of the table is under way.
        """
        behind = {lane: start for lane, (start, end) in idle.items() if start < end}
        share = max(self._config.batch.bytes // max(len(behind), 1), 1 << 16)
        # Lanes that share no write may each fill one: the more rows, the nearer their keys. Bytes bound what is held.
        sharing = len(behind) if self._traits.versioned else 1
        rows_share = max(self._config.batch.rows // max(sharing, 1), 1)
        polled = {}
        for lane, start in behind.items():
            self._opening.check_ahead(lane, idle[lane][1])
            polled[lane] = _first_rows(self._poll(lane, start, share), rows_share)
        waiting = {lane: stored for lane, stored in polled.items() if stored}
        rows = {lane: front for lane, stored in waiting.items() if (front := _rows_in_front(stored))}
        fresh = [self._refreshed(lane, one[0]) for lane, one in waiting.items() if one[0].message.kind is Kind.REFRESH]
        if fresh and not rows:
            return [*fresh]
        if not rows:  # while an act is under way, no lane is idle
            return [self._barrier(record, lanes, waiting)] if waiting and not flying else []
        version = min(front[0].message.schema_version for front in rows.values())
        same = {
            lane: list(itertools.takewhile(lambda s: s.message.schema_version == version, front))
            for lane, front in rows.items()
            if front[0].message.schema_version == version
        }
        if self.target(record.table, version).append and not self._traits.transactional:
            return [*fresh, *(self._appended(record, version, lane, stored) for lane, stored in same.items())]
        groups: Iterable[dict[Lane, list[Stored]]] = (
            [same] if self._traits.versioned else [{lane: stored} for lane, stored in same.items()]
        )
        return [*fresh, *(self._ready(record, version, group) for group in groups)]

    def _refreshed(self, lane: Lane, item: Stored) -> Write:
        """What a REFRESH asks for, read when the lane is there; it is exempt from what was applied before."""
        message = item.message
        self._watch.doubt(message.table)
        batch = self._refresh(message)
        mark = Mark(item.offset + 1, self._opening.incarnation, self._applied(lane, {}))
        target = self.target(message.table, message.schema_version)
        batch = self.sink_filter(message.table, message.schema_version).changed(batch)
        traces = ((message.trace, lane, item.offset),)
        return Write(target, batch, self.ticket({lane: mark}), {lane: mark.offset}, traces, len(batch))

    def _poll(self, lane: Lane, start: int, size: int) -> Sequence[Stored]:
        """FatalError: messages that were to be read are gone; a lane that was set back may meet that."""
        stored = self._queue.poll(self._parts.topic, lane, start, size)
        if not stored or stored[0].offset > start:
            kept = self._queue.kept(self._parts.topic, lane)
            if kept > start:
                raise FatalError(
                    f"lane {lane.tag}/{lane.queue} is at offset {start}, and the queue holds it from {kept} on",
                    hint="resync the table",
                    code="E156",
                )
        return stored

    def _barrier(self, record: TableRecord, lanes: set[Lane], waiting: Mapping[Lane, Sequence[Stored]]) -> Act:
        self._watch.doubt(record.table)
        standing = barrier.standing(record, lanes, waiting)
        marks = {}
        for lane, offset in standing.offsets.items() if self._traits.transactional else ():
            known = self._opening.marks.get(lane)
            marks[lane] = Mark(offset, self._opening.incarnation, known.seqs if known is not None else {})
        change = standing.change
        loaded = self._parts.schema_at(self._state, record).published.version
        version = loaded if standing.old else change.schema.version
        target = self.target(change.table, version)
        self.sink_filter(change.table, version)  # a table that it does not fit any more halts in front of the change
        return Act(standing, replace(target, settled=record.phase is Phase.LIVE), self.ticket(marks))

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
        target = self.target(record.table, version)
        parts: list[ChangeBatch] = []
        marks: dict[Lane, Mark] = {}
        for lane, stored in group.items():
            applied = dict(self._applied(lane, last))
            for item in stored:
                batch = codec.decode(item.message, target.schema)
                floor = max(record.head.seq, applied.get(item.message.source, 0))
                if int(batch.seq[0]) <= floor:
                    batch = batch.take(np.flatnonzero(batch.seq > floor))
                if len(batch):
                    parts.append(batch)
                applied[item.message.source] = max(floor, item.message.last_seq)
            marks[lane] = Mark(stored[-1].offset + 1, self._opening.incarnation, applied)
        batch = join(target.schema, parts)
        changes = len(batch)
        if target.append:
            _only_added(target, batch)
        there = None
        if len(batch) and not target.append:
            first, ends = partition.ends_per_key(target.schema, batch)
            (lane, stored), *others = group.items()
            there = None if others else self._watch.there(target, lane, stored[0].offset, batch.op[first])
            batch = batch.take(ends)
        if len(batch):  # versions of before the load may be ones that the filter does not fit
            sink_filter = self.sink_filter(record.table, version)
            batch = sink_filter.matching(batch) if target.append else sink_filter.changed(batch)
        traces = tuple((s.message.trace, lane, s.offset) for lane, stored in group.items() for s in stored)
        offsets = {lane: mark.offset for lane, mark in marks.items()}
        return Write(target, batch, self.ticket(marks, there), offsets, traces, changes)

    def _applied(self, lane: Lane, last: Mapping[str, int]) -> Mapping[str, int]:
        mark = self._opening.marks.get(lane)
        return last if mark is None else mark.seqs


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
