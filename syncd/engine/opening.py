"""Where a sink itself says that a table's lanes are, asked before anything is delivered to it.

A transactional sink keeps a mark of each lane beside the rows. When a table is handed over, the marks of its lanes are
set to where they begin, with one more mark that says so; that this was done is saved. From then on a mark that is
behind its lane's offset, or is missing, says that the target was put back from a copy: the lane goes back to its mark,
as far as the queue still holds the messages from there, and else the table halts. A sink that is put back while it is
written to refuses the next write (`Ticket.behind`), and the table is opened anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import structlog

from syncd.engine.batches import join
from syncd.engine.build import Parts, clock
from syncd.errors import FatalError
from syncd.failpoints import failpoint
from syncd.model import Kind, Lane
from syncd.spi import Lease, Mark, Queue, Sink, Ticket
from syncd.state import Phase, State, TableRecord

log = structlog.get_logger()

LOADED = -1
"""In place of a queue's number, in the mark of a table that was handed over. Its offset is the table's epoch."""

Lanes = Mapping[Lane, tuple[int, int]]
"""As `Queue.lanes` tells them."""


class Opening:
    """The marks of one sink, and the tables whose lanes go on from them. `numbers`: of writes."""

    def __init__(
        self, parts: Parts, sink_name: str, queue: Queue, sink: Sink, lease: Lease, numbers: Iterator[int]
    ) -> None:
        self._parts = parts
        self._sink_name = sink_name
        self._queue = queue
        self._sink = sink
        self._lease = lease
        self._numbers = numbers
        self._state = State(queue, parts.job.name)
        self._group = parts.group(sink_name)
        self._open: dict[str, int] = {}
        """Tag -> epoch of its table."""
        self._stale: set[str] = set()
        self._known = False
        self.transactional = sink.traits().transactional
        self.incarnation = queue.incarnation()
        self.marks: dict[Lane, Mark] = {}

    def is_open(self, record: TableRecord) -> bool:
        return self._open.get(self._parts.tag(record.table)) == record.epoch

    def open(self, record: TableRecord, lanes: Lanes) -> None:
        """Nothing of the table is under way. Lanes may be set back. FatalError (E156): the table must be loaded anew.

        Above all, a chunk writer that was frozen over the hand-over can do nothing from here on (7).
        """
        if not self.transactional:
            self._sink.fence(self._parts.chunk_owner(record), record.epoch)
        else:
            self._read(self._parts.tag(record.table))
            if record.opened == record.epoch:
                self._go_on(record, lanes)
            elif not self._begin(record, lanes):
                return
        self._open[self._parts.tag(record.table)] = record.epoch

    def close(self, tag: str) -> None:
        """A write has met other marks: they are read again."""
        self._open.pop(tag, None)
        self._stale.add(tag)

    def look(self, tags: Collection[str]) -> None:
        """Close those of these tags, of which nothing is under way, whose marks are other ones by now."""
        found = self._sink.marks(self._group)
        there, known = _offsets(found, tags), _offsets(self.marks, tags)
        for tag in self._open.keys() & {tag for tag in tags if there.get(tag) != known.get(tag)}:
            self._open.pop(tag)
            self._take(tag, found)

    def behind(self, lanes: Collection[Lane]) -> dict[Lane, int | None]:
        """What a write of these lanes goes on from: for its ticket."""
        known = {lane: self.marks.get(lane) for lane in lanes}
        return {lane: None if mark is None else mark.offset for lane, mark in known.items()}

    def check_ahead(self, lane: Lane, end: int) -> None:
        """A sink that has written more than the queue holds belongs to another queue, or this one was restored."""
        mark = self.marks.get(lane)
        if mark is not None and (mark.incarnation != self.incarnation or mark.offset > end):
            raise FatalError(
                f"lane {lane.tag}/{lane.queue}: the sink was written up to offset {mark.offset} of queue "
                f"{mark.incarnation}, this is {self.incarnation} with {end}; the queue was restored or replaced",
                hint="resync the table",
                code="E156",
            )

    def _read(self, tag: str) -> None:
        if not self._known:
            self.marks = dict(self._sink.marks(self._group))
            self._known = True
        elif tag in self._stale:  # of this tag alone: by theirs, others are to notice for themselves
            self._take(tag, self._sink.marks(self._group))
        self._stale.discard(tag)

    def _take(self, tag: str, found: Mapping[Lane, Mark]) -> None:
        for lane in [lane for lane in self.marks if lane.tag == tag]:
            del self.marks[lane]
        self.marks |= {lane: mark for lane, mark in found.items() if lane.tag == tag}

    # -- handed over

    def _begin(self, record: TableRecord, lanes: Lanes) -> bool:
        """The first time: the marks say where the lanes begin, whatever an earlier life of the job has left there.

        False: the target was put back while it was loaded, and what it lacks is to be loaded again.

        Done again after a death, with the same end: nothing is delivered before it is saved.
        """
        target = self._parts.target(self._sink_name, self._parts.schema_at(self._state, record).published)
        self._sink.prepare(target)  # a table that was created while the job runs is not there yet
        self._sink.fence(self._parts.chunk_owner(record), record.epoch)
        if lost := self._lost_chunks(record):
            items = self._state.undone_items(self._sink_name, record.table, lost)
            again = replace(record, phase=Phase.SNAPSHOT, since=clock())
            self._queue.put(self._lease, items | self._state.table_item(again))
            log.warning("sink_lost_chunks", sink=self._group, table=str(record.table), chunks=len(lost))
            return False
        marks = {lane: self._first(lane, start) for lane, (start, _) in lanes.items()}
        marks[self._loaded(record)] = Mark(record.epoch, self.incarnation, {})
        ticket = Ticket(self._group, self._lease.epoch, next(self._numbers), marks)
        self._sink.write(target, join(target.schema, []), ticket)
        failpoint("deliver.opened")
        self.marks |= marks
        self._queue.put(self._lease, self._state.table_item(replace(record, opened=record.epoch)))
        return True

    def _lost_chunks(self, record: TableRecord) -> list[int]:
        """Numbers of chunks that were written, and whose marks at the sink do not say so."""
        done = {n: mark for n, mark in self._state.done(self._sink_name, record.table).items() if mark.writes}
        there = self._sink.marks(self._parts.chunk_owner(record)) if done else {}
        tag = self._parts.tag(record.table)
        found = {lane.queue: (mark.offset, mark.incarnation) for lane, mark in there.items() if lane.tag == tag}
        return [n for n, mark in done.items() if found.get(n) != (mark.writes, mark.attempt)]

    def _first(self, lane: Lane, start: int) -> Mark:
        known = self.marks.get(lane)
        there = known is not None and known.incarnation == self.incarnation and known.offset >= start
        return known if known is not None and there else Mark(start, self.incarnation, {})

    def _loaded(self, record: TableRecord) -> Lane:
        return Lane(self._parts.tag(record.table), LOADED)

    # -- opened before

    def _go_on(self, record: TableRecord, lanes: Lanes) -> None:
        loaded = self.marks.get(self._loaded(record))
        if loaded is None or loaded.offset != record.epoch:
            why = "was put back from a copy that was taken before the table was loaded, or has lost its marks"
            raise self._lost(record, why)
        for lane, (_, end) in lanes.items():
            self.check_ahead(lane, end)
        back = {lane: at for lane, (start, _) in lanes.items() if (at := self._mark(lane).offset) < start}
        for lane, at in back.items():
            self._check_kept(record, lane, at)
        if back:
            # CATCH_UP: indexes that were made after the copy was taken are made again.
            again = replace(record, phase=Phase.CATCH_UP, since=clock())
            self._queue.commit(self._lease, self._group, back, self._state.table_item(again), [])
            failpoint("deliver.set_back")
            messages = sum(lanes[lane][0] - at for lane, at in back.items())
            log.warning("sink_set_back", sink=self._group, table=str(record.table), lanes=len(back), messages=messages)

    def _mark(self, lane: Lane) -> Mark:
        """A lane without a mark was born after the hand-over, and nothing of it is at the sink."""
        return self.marks.get(lane) or Mark(0, self.incarnation, {})

    def _check_kept(self, record: TableRecord, lane: Lane, at: int) -> None:
        kept = self._queue.kept(self._parts.topic, lane)
        if kept > at:
            name = f"lane {lane.tag}/{lane.queue}"
            why = f"was put back from a copy with {name} at offset {at}, and the queue holds it from {kept} on"
            raise self._lost(record, why)
        if kept < at:
            self._check_follows(record, lane, at)

    def _check_follows(self, record: TableRecord, lane: Lane, at: int) -> None:
        """The messages in front of the mark are those that the sink had: the queue was not put back meanwhile, too."""
        applied = self._mark(lane).seqs
        for item in self._queue.poll(self._parts.topic, lane, at - 1, 1):
            message = item.message
            last = applied.get(message.source, message.last_seq)
            if item.offset < at and message.kind is Kind.ROWS and message.last_seq > last:
                name = f"lane {lane.tag}/{lane.queue}"
                why = f"was put back from a copy, with {name} at offset {at} of another life of the queue"
                raise self._lost(record, why)

    def _lost(self, record: TableRecord, why: str) -> FatalError:
        return FatalError(
            f"{record.table}: the target at {self._sink_name} {why}",
            table=str(record.table),
            hint="resync the table",
            code="E156",
        )


def _offsets(marks: Mapping[Lane, Mark], tags: Collection[str]) -> dict[str, dict[int, int]]:
    """Tag -> queue -> offset."""
    found: dict[str, dict[int, int]] = {}
    for lane, mark in marks.items():
        if lane.tag in tags:
            found.setdefault(lane.tag, {})[lane.queue] = mark.offset
    return found
