"""Tables on their way from SNAPSHOT to the hand-over: chunks planned, dealt out to readers, marked, counted.

What is saved decides, never what was said: a worker may have died between the two.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from syncd.engine.build import Parts, clock
from syncd.engine.snapshot import Began, Copied, Copy, Deferred, Plan
from syncd.errors import FatalError, SyncdError
from syncd.failpoints import failpoint
from syncd.model import Chunk, TableId
from syncd.spi import Queue
from syncd.state import Items, Phase, State, TableRecord, Wait

log = structlog.get_logger()

POISON = 3
"""A chunk whose readers have died so often halts its table, and so does the search for its next chunk."""
PLANNING = -1
"""Stands in `Load.deaths` for the search for the next chunk."""

Key = tuple[str, TableId]


@dataclass
class Load:
    """One table that is being loaded. `rows`: written; `estimate`: rows of the chunks found so far.

    `known`: the largest number among those chunks. `not_before` (monotonic seconds), `waits`: a table that cannot be
    read for now, and why.
    """

    record: TableRecord
    waiting: list[Chunk] = field(default_factory=list)
    running: set[int] = field(default_factory=set)
    planned: bool = False
    known: int = -1
    rows: int = 0
    estimate: int = 0
    not_before: float = 0.0
    waits: Wait | None = None
    deaths: Counter[int] = field(default_factory=Counter)


class Loader:
    """All loads of one job. `put` saves items; `halt` is called with a table that cannot go on.

    `parts` may be others from one step to the next.
    """

    def __init__(
        self,
        parts: Parts,
        queue: Queue,
        put: Callable[[Items], None],
        halt: Callable[[TableRecord, SyncdError], None],
    ) -> None:
        self.parts = parts
        self._put = put
        self._halt = halt
        self._state = State(queue, parts.job.name)
        self._planning: Key | None = None
        self._loaded: dict[Key, int] = {}
        """Rows of the tables that are not being loaded; those of former runs are among them."""
        self.loads: dict[Key, Load] = {}
        self.tasks: dict[str, Copy] = {}

    # -- tables

    def look(self, records: list[TableRecord]) -> None:
        """Take up tables that are to be loaded, hand over those that are, drop those that halted."""
        for record in records:
            key = (record.sink, record.table)
            if record.phase is not Phase.SNAPSHOT:
                self.loads.pop(key, None)
                if key not in self._loaded:
                    self._loaded[key] = sum(mark.rows for mark in self._state.done(*key).values())
            elif key not in self.loads:
                self._loaded.pop(key, None)
                # A table that was halted and goes on may still be with readers that were told of it before.
                self.loads[key] = Load(record, running=self._with_readers(key))
                self._refresh(self.loads[key])
        for load in [*self.loads.values()]:
            if load.planned and not load.waiting and not load.running:
                self._refresh(load)
                if load.planned and not load.waiting:
                    self._hand_over(load)

    def _with_readers(self, key: Key) -> set[int]:
        tasks = self.tasks.values()
        return {task.chunk.number for task in tasks if (task.record.sink, task.record.table) == key}

    def _refresh(self, load: Load) -> None:
        """Everything that is not saved as done, and not with a reader, is to be done."""
        record = load.record
        chunks = self._state.chunks(record.sink, record.table)
        done = self._state.done(record.sink, record.table)
        load.rows = sum(mark.rows for number, mark in done.items() if number not in load.running)
        load.estimate = sum(chunk.rows for chunk in chunks)
        load.known = chunks[-1].number if chunks else -1
        load.waiting = [c for c in chunks if c.number not in done and c.number not in load.running]
        load.planned = bool(chunks) and chunks[-1].upper is None

    def _hand_over(self, load: Load) -> None:
        """All chunks are written: from this commit on the lanes run, and no late chunk writer is heard (3, 7)."""
        # Its head and epoch may have grown since the load began.
        record = self._state.table(load.record.sink, load.record.table) or load.record
        phase = Phase.CATCH_UP if self.parts.captures else Phase.DONE
        after = replace(record, phase=phase, epoch=record.epoch + 1, since=clock())
        failpoint("snapshot.all_marked")
        self._put(self._state.table_item(after))
        failpoint("snapshot.handed_over")
        self._loaded[record.sink, record.table] = load.rows
        del self.loads[record.sink, record.table]
        log.info("table_loaded", job=self.parts.job.name, table=str(record.table), sink=record.sink, rows=load.rows)

    # -- planning: one table at a time

    def next_plan(self) -> Plan | None:
        """What the idle planner is to do next."""
        if self._planning is not None or self._state.wish().pauses_source:
            return None
        for key, load in self.loads.items():
            if not load.planned:
                self._planning = key
                return Plan(load.record)
        return None

    def planned(self, record: TableRecord, chunk: Chunk) -> None:
        """A chunk that `_refresh` has found saved before its word was read is known: it may be copied already."""
        load = self.loads.get((record.sink, record.table))
        if load is None:
            return
        load.deaths[PLANNING] = 0
        if chunk.number > load.known:
            load.waiting.append(chunk)
            load.known = chunk.number
            load.estimate += chunk.rows

    def plan_ended(self) -> None:
        """The planner has answered, or died: what it has saved is there, whatever it has said."""
        key, self._planning = self._planning, None
        if key in self.loads:
            self._refresh(self.loads[key])

    def planner_lost(self, why: str, *, crash: bool = True) -> bool:
        """Whether it was finding a table's chunks: then a crash is laid to that."""
        load = None if self._planning is None else self.loads.get(self._planning)
        self.plan_ended()
        if load is not None and crash:
            self._died(load, PLANNING, f"planners died while they looked for chunks of {load.record.table}: {why}")
        return load is not None

    # -- chunks

    def next_chunk(self, reader: str) -> Copy | None:
        """What the idle reader is to do next."""
        wish = self._state.wish()
        if wish.pauses_source:
            return None
        for load in self.loads.values():
            if time.monotonic() < load.not_before:
                continue
            if load.waiting and not wish.pauses(load.record.sink, load.record.table):
                chunk = load.waiting.pop(0)
                load.running.add(chunk.number)
                self.tasks[reader] = Copy(load.record, chunk)
                return self.tasks[reader]
        return None

    def copied(self, reader: str, word: Copied) -> None:
        self.tasks.pop(reader, None)
        load = self.loads.get((word.record.sink, word.record.table))
        if load is not None:
            load.running.discard(word.chunk.number)
            load.rows += word.done.rows

    def began(self, word: Began) -> None:
        load = self.loads.get((word.record.sink, word.record.table))
        if load is not None:
            load.waits = None

    def deferred(self, reader: str, word: Deferred) -> None:
        """The table cannot be read for now: the reader is free for others meanwhile (8)."""
        self.tasks.pop(reader, None)
        load = self.loads.get((word.record.sink, word.record.table))
        if load is not None:
            load.running.discard(word.chunk.number)
            load.waits = Wait(word.reason, load.waits.since if load.waits else clock())
            load.not_before = time.monotonic() + word.seconds
            self._refresh(load)

    def reader_lost(self, reader: str, why: str, *, crash: bool = True) -> bool:
        """Its chunk is for another one, unless its mark was saved; three crashes of readers are the chunk's fault.

        Whether it had a chunk.
        """
        task = self.tasks.pop(reader, None)
        if task is None:
            return False
        load = self.loads.get((task.record.sink, task.record.table))
        if load is not None:
            load.running.discard(task.chunk.number)
            self._refresh(load)
            number = task.chunk.number
            if crash:
                self._died(load, number, f"readers died at chunk {number} of {task.record.table}: {why}")
        return True

    def _died(self, load: Load, number: int, what: str) -> None:
        load.deaths[number] += 1
        if load.deaths[number] >= POISON:
            table = str(load.record.table)
            self._halt(load.record, FatalError(f"{POISON} {what}", table=table, hint="see the log", code="E162"))

    def refused(self, reader: str) -> None:
        """The reader has said that its table cannot go on; the reader itself is well."""
        self.tasks.pop(reader, None)

    def chunks_open(self) -> int:
        """Chunks that are found and not written."""
        return sum(len(load.waiting) + len(load.running) for load in self.loads.values())

    # -- for people

    def waits(self) -> dict[str, Wait]:
        """Table -> why it cannot be read for now, and since when."""
        return {f"table {load.record.table}": load.waits for load in self.loads.values() if load.waits}

    def progress(self) -> dict[Key, tuple[int, int]]:
        """(sink, table) -> rows written, and expected by the chunks found so far. Any thread may ask."""
        loaded, loads = self._loaded.copy(), self.loads.copy()
        return {key: (rows, rows) for key, rows in loaded.items()} | {
            key: (load.rows, max(load.rows, load.estimate)) for key, load in loads.items()
        }

    def rows(self) -> tuple[int, int]:
        """(written, expected by the chunks found so far)."""
        loaded = sum(self._loaded.values())
        return (
            loaded + sum(load.rows for load in self.loads.values()),
            loaded + sum(load.estimate for load in self.loads.values()),
        )
