"""What is asked beside a daemon that may run: its sinks, and whether what was committed at the source has arrived."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from syncd.engine.build import Parts
from syncd.errors import TransientError
from syncd.model import Head, Lane
from syncd.spi import Queue, Sink, Source
from syncd.state import STANDING, State, TableRecord

START_SECONDS = 20.0
"""Beyond a lease that has to run out first: how long a process that hosts a sink may take to begin."""


def daemon_runs(queue: Queue, job: str) -> bool:
    return any(state.live for state in queue.leases(f"job/{job}/run"))


@contextmanager
def opened_sink(parts: Parts, queue: Queue, name: str) -> Iterator[Sink]:
    """The sink, through the process that hosts it where a daemon runs. One that has just been started is waited for."""
    end = time.monotonic() + parts.service.lease + START_SECONDS
    while True:
        runs = daemon_runs(queue, parts.job.name)
        sink = parts.reach_sink(name) if runs else parts.make_sink(name)
        with closing(sink):
            try:
                sink.open()
            except TransientError as error:
                if not runs or sink.traits().scope == "any process" or time.monotonic() > end:
                    raise
                time.sleep(error.retry_after)
                continue
            yield sink
            return


def stands(state: State, record: TableRecord) -> str:
    """Why the table's changes are not applied at the sink as they come; "" when they are."""
    table, sink = record.table, record.sink
    now = next((each for each in state.tables(sink) if each.table == table), record)
    if now.phase in STANDING:
        return f"it is {now.phase}: {now.reason}"
    if (halt := state.halts().get(table)) is not None:
        return f"it is HALTED at capture: {halt.reason}"
    return "it is paused" if state.wish().pauses(sink, table) else ""


def lanes_of(parts: Parts, queue: Queue, record: TableRecord) -> list[tuple[Lane, tuple[int, int]]]:
    """The table's lanes at the sink, with their borders as `Queue.lanes` tells them."""
    tag, lanes = parts.tag(record.table), queue.lanes(parts.group(record.sink))
    return [(lane, borders) for lane, borders in lanes.items() if lane.tag == tag]


@dataclass(frozen=True, slots=True)
class End:
    """The end of a table's changes at one sink, for whoever waits for it. No other table or sink is looked at."""

    queue: Queue
    state: State
    parts: Parts
    source: Source
    record: TableRecord

    def stands(self) -> str:
        """Why its changes are not applied as they come; "" when they are."""
        return stands(self.state, self.record)

    def settled(self, seconds: float) -> str:
        """Wait until everything committed at the source by now is applied. Why that cannot be, or ""."""
        saved = self.state.source()
        if saved is None:
            return "capture has not begun"
        runs = daemon_runs(self.queue, self.parts.job.name)
        head, deadline = self.source.head(saved.epoch), time.monotonic() + seconds
        ends: dict[Lane, int] | None = None
        while True:
            if reason := self.stands():
                return reason
            if ends is None and published(self.state, head):
                ends = {lane: end for lane, (_, end) in self._lanes()}
            # A busy table's lanes may never all be empty at once.
            if ends is not None and all(start >= ends.get(lane, 0) for lane, (start, _) in self._lanes()):
                return ""
            if not runs:
                return "no daemon runs the job"
            if time.monotonic() > deadline:
                return f"its changes were not applied within {seconds:g} s"
            time.sleep(0.1)

    def _lanes(self) -> list[tuple[Lane, tuple[int, int]]]:
        return lanes_of(self.parts, self.queue, self.record)


def source_head(parts: Parts, queue: Queue) -> Head:
    """The source's low watermark now, in the epoch of the job's saved state."""
    record = State(queue, parts.job.name).source()
    source = parts.make_source()
    source.open()
    try:
        return source.head(1 if record is None else record.epoch)
    finally:
        source.close()


def applied(parts: Parts, queue: Queue, head: Head) -> bool:
    """Everything before `head` is at every sink. The lanes are looked at after the record: see `SourceRecord`."""
    groups = [parts.group(sink) for sink in parts.job.sinks]
    return published(State(queue, parts.job.name), head) and all(
        start >= end for group in groups for start, end in queue.lanes(group).values()
    )


def published(state: State, head: Head) -> bool:
    """Everything before `head` is in the queue."""
    record = state.source()
    return record is not None and record.seq >= head.seq
