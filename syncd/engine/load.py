"""Tables on their way from SNAPSHOT to the hand-over: chunks planned, dealt out to readers, marked, counted.

What is saved decides, never what was said: a worker may have died between the two.

Sinks that load a table from the same head have the same chunks, and one scan of a chunk is for all that wait for it. A
sink that keeps others waiting goes alone, until it has loaded what it has to: it may hold its share of the readers, and
there is one more of them as long.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import structlog

from syncd.engine.build import Parts, clock
from syncd.engine.words import Began, Copied, Copy, Deferred, GivenBack, LeftOut, Plan, Slow
from syncd.errors import FatalError, SyncdError
from syncd.failpoints import failpoint
from syncd.model import Chunk, TableId
from syncd.spi import Queue
from syncd.state import Items, Phase, State, TableRecord, Wait, Wish

log = structlog.get_logger()

POISON = 3
"""A chunk whose readers have died so often halts its table, and so does the search for its next chunk."""
PLANNING = -1
"""Stands in `Load.deaths` for the search for the next chunk."""

TOGETHER_SECONDS = 3.0
"""So long is a table that could be read held up for a sink that is still preparing it."""

Key = tuple[str, TableId]


@dataclass
class Load:
    """One table that is being loaded. `rows`: written; `estimate`: rows of the chunks found so far.

    `known`: the largest number among those chunks. `not_before` (monotonic seconds), `waits`: a table that cannot be
    read for now, and why. `held`: for another sink. `appends`: by one read, which no other sink shares.
    """

    record: TableRecord
    waiting: list[Chunk] = field(default_factory=list)
    running: set[int] = field(default_factory=set)
    planned: bool = False
    known: int = -1
    rows: int = 0
    estimate: int = 0
    appends: bool = False
    held: bool = False
    not_before: float = 0.0
    waits: Wait | None = None
    deaths: Counter[int] = field(default_factory=Counter)

    @property
    def key(self) -> Key:
        return self.record.sink, self.record.table

    def shares(self, other: Load) -> bool:
        """Whether one scan is enough for both."""
        return self.record.head == other.record.head and not (self.appends or other.appends)


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
        self._planning: tuple[Key, ...] = ()
        self._loaded: dict[Key, int] = {}
        """Rows of the tables that are not being loaded; those of former runs are among them."""
        self.loads: dict[Key, Load] = {}
        self.tasks: dict[str, Copy] = {}
        """Reader -> the chunk that it has, and the sinks that have not got it."""
        self._left_out: dict[str, list[tuple[Key, int]]] = {}
        """Reader -> chunks that it has left, and may still be writing."""
        self._alone: set[str] = set()
        self._awaited: dict[str, float] = {}
        """Sink -> since when loads are held for it: monotonic seconds."""

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
                appends = self.parts.appends(self._state, record)
                self.loads[key] = Load(record, running=self._with_readers(key), appends=appends)
                self._refresh(self.loads[key])
        for load in [*self.loads.values()]:
            if load.planned and not load.waiting and not load.running:
                self._refresh(load)
                if load.planned and not load.waiting:
                    self._hand_over(load)
        self._await_others(records)
        self._alone &= {sink for sink, _ in [*self.loads, *(key for key, _ in self._still_written())]}

    def _await_others(self, records: list[TableRecord]) -> None:
        """Loads are held for sinks that are about to begin with the same; for each of those once, and not for long."""
        new = [record for record in records if record.phase is Phase.NEW]
        self._awaited = {sink: self._awaited[sink] for sink in {r.sink for r in new} & self._awaited.keys()}
        for load in self.loads.values():
            load.held = False
        for record in new:
            for load in self._at_sinks(record.table):
                if load.record.head == record.head and not load.appends:
                    since = self._awaited.setdefault(record.sink, time.monotonic())
                    load.held |= time.monotonic() < since + TOGETHER_SECONDS

    def _at_sinks(self, table: TableId) -> Iterator[Load]:
        """The loads of a table."""
        for sink in self.parts.job.sinks:
            if (sink, table) in self.loads:
                yield self.loads[sink, table]

    def _with_readers(self, key: Key) -> set[int]:
        numbers = {task.chunk.number for task in self.tasks.values() if key in _keys(task)}
        return numbers | {number for other, number in self._still_written() if other == key}

    def _still_written(self) -> Iterator[tuple[Key, int]]:
        for left in self._left_out.values():
            yield from left

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
        self._put(self._state.table_item(after) | self._state.reloaded_item(record.sink, record.table, ""))
        failpoint("snapshot.handed_over")
        self._loaded[record.sink, record.table] = load.rows
        del self.loads[record.sink, record.table]
        log.info("table_loaded", job=self.parts.job.name, table=str(record.table), sink=record.sink, rows=load.rows)

    # -- planning: one table at a time

    def next_plan(self) -> Plan | None:
        """What the idle planner is to do next."""
        if self._planning or self._state.wish().pauses_source:
            return None
        for load in self.loads.values():
            if not load.planned:
                others = (o for o in self._at_sinks(load.record.table) if o.shares(load) and not o.planned)
                loads = {each.key: each for each in [load, *others]}
                self._planning = tuple(loads)
                return Plan(tuple(each.record for each in loads.values()))
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
        keys, self._planning = self._planning, ()
        for key in keys:
            if key in self.loads:
                self._refresh(self.loads[key])

    def planner_lost(self, why: str, *, crash: bool = True) -> bool:
        """Whether it was finding a table's chunks: then a crash is laid to that."""
        loads = [self.loads[key] for key in self._planning if key in self.loads]
        self.plan_ended()
        for load in loads if crash else []:
            self._died(load, PLANNING, f"planners died while they looked for chunks of {load.record.table}: {why}")
        return bool(loads)

    # -- chunks

    def readers_wanted(self, expected: int) -> int:
        """`expected`: about how many chunks there will be."""
        return min(self.parts.readers, max(self._chunks_open(), expected)) + len(self._alone)

    def _chunks_open(self) -> int:
        """Scans of chunks that are found and not written."""
        scans: dict[tuple[str, TableId], int] = {}
        for load in self.loads.values():
            by_itself = load.appends or load.record.sink in self._alone
            at = (load.record.sink if by_itself else "", load.record.table)
            scans[at] = max(scans.get(at, 0), len(load.waiting) + len(load.running))
        return sum(scans.values())

    def next_chunk(self, reader: str) -> Copy | None:
        """What the idle reader is to do next."""
        wish = self._state.wish()
        if wish.pauses_source:
            return None
        first = self._next_load(reader, wish)
        if first is None:
            return None
        chunk = first.waiting[0]
        loads = [first, *self._others(first, chunk, wish)]
        for load in loads:
            load.waiting.remove(chunk)
            load.running.add(chunk.number)
        self.tasks[reader] = Copy(tuple(load.record for load in loads), chunk)
        return self.tasks[reader]

    def _next_load(self, reader: str, wish: Wish) -> Load | None:
        """Who goes alone comes behind those who do not, but for a share of the readers."""
        busy = {key[0] for key, _ in self._left_out.get(reader, [])}
        others = self._others_ready(wish)
        if self._alone:
            counts = Counter(key[0] for task in self.tasks.values() for key in _keys(task) if key[0] in self._alone)
            for load in self.loads.values():
                sink = load.record.sink
                ready = sink in self._alone and sink not in busy and self._ready(load, wish)
                if ready and self._may_read_alone(sink, counts, wanted=others is not None):
                    return load
        return others

    def _others_ready(self, wish: Wish) -> Load | None:
        loads = (load for load in self.loads.values() if load.record.sink not in self._alone)
        return next((load for load in loads if self._ready(load, wish)), None)

    def _may_read_alone(self, sink: str, counts: Mapping[str, int], *, wanted: bool) -> bool:
        """`counts`: readers of those who go alone. `wanted`: others have something to read. One is left for each."""
        if counts.get(sink, 0) < max(1, self.parts.readers // len(self.parts.job.sinks)):
            return True
        free = self.parts.readers + len(self._alone) - len(self.tasks)
        return not wanted and free > 1 + len(self._alone - counts.keys())

    def _ready(self, load: Load, wish: Wish) -> bool:
        wanted = bool(load.waiting) and not load.held and time.monotonic() >= load.not_before
        return wanted and not wish.pauses(load.record.sink, load.record.table)

    def _others(self, first: Load, chunk: Chunk, wish: Wish) -> Iterator[Load]:
        """Who waits for the same scan. After a crash each goes by itself: the next one is known to be its fault."""
        if first.record.sink in self._alone or first.deaths[chunk.number]:
            return
        for load in [*self._at_sinks(first.record.table)]:
            together = load is not first and load.shares(first) and load.record.sink not in self._alone
            if together and self._ready(load, wish) and chunk in load.waiting and not load.deaths[chunk.number]:
                yield load

    def hear(self, reader: str, word: object) -> None:
        """A word about a chunk."""
        match word:
            case Copied():
                self.copied(reader, word)
            case Began():
                self.began(word)
            case Deferred():
                self.deferred(reader, word)
            case LeftOut():
                self.left_out(reader, word)
            case GivenBack():
                self.given_back(reader, word)
            case Slow():
                self.slow(word)

    def copied(self, reader: str, word: Copied) -> None:
        load = self._answered(reader, word.record)
        if load is not None:
            load.running.discard(word.chunk.number)
            load.rows += word.done.rows

    def _answered(self, reader: str, record: TableRecord) -> Load | None:
        """The reader has nothing more to say of this sink; when it has of none it is free."""
        key, task = (record.sink, record.table), self.tasks.get(reader)
        if task is not None:
            rest = tuple(r for r in task.records if (r.sink, r.table) != key)
            self.tasks[reader] = replace(task, records=rest)
            if not rest:
                del self.tasks[reader]
        return self.loads.get(key)

    def began(self, word: Began) -> None:
        load = self.loads.get((word.record.sink, word.record.table))
        if load is not None:
            load.waits = None

    def deferred(self, reader: str, word: Deferred) -> None:
        """The table cannot be read for now: the reader is free for others meanwhile (8)."""
        load = self._answered(reader, word.record)
        if load is not None:
            load.running.discard(word.chunk.number)
            load.waits = Wait(word.reason, load.waits.since if load.waits else clock())
            load.not_before = time.monotonic() + word.seconds
            self._refresh(load)

    def left_out(self, reader: str, word: LeftOut) -> None:
        """The chunk is nobody else's before it is given back."""
        self._answered(reader, word.record)
        key = word.record.sink, word.record.table
        self._left_out.setdefault(reader, []).append((key, word.chunk.number))
        self.slow(Slow(word.record.sink, word.reason))

    def given_back(self, reader: str, word: GivenBack) -> None:
        key = word.record.sink, word.record.table
        left = self._left_out.get(reader, [])
        if (key, word.chunk.number) in left:
            left.remove((key, word.chunk.number))
            self._free(key, word.chunk.number)

    def slow(self, word: Slow) -> None:
        """The sink keeps others waiting, or may: it goes alone from now on."""
        if word.sink not in self._alone and len(self.parts.job.sinks) > 1:
            self._alone.add(word.sink)
            log.warning("sink_loads_alone", job=self.parts.job.name, sink=word.sink, reason=word.reason)

    def _free(self, key: Key, number: int) -> Load | None:
        """No reader has the chunk any more: it is for another one, unless its mark was saved."""
        load = self.loads.get(key)
        if load is not None:
            load.running.discard(number)
            self._refresh(load)
        return load

    def reader_lost(self, reader: str, why: str, *, crash: bool = True) -> bool:
        """Its chunk is for another one, unless its mark was saved; three crashes of readers are the chunk's fault.

        Whether it had a chunk.
        """
        had = self._left_out.pop(reader, [])
        task = self.tasks.pop(reader, None)
        if task is not None:
            had += [(key, task.chunk.number) for key in _keys(task)]
        for key, number in had:
            load = self._free(key, number)
            if load is not None and crash:
                self._died(load, number, f"readers died at chunk {number} of {load.record.table}: {why}")
        return bool(had)

    def _died(self, load: Load, number: int, what: str) -> None:
        load.deaths[number] += 1
        if load.deaths[number] >= POISON:
            table = str(load.record.table)
            self._halt(load.record, FatalError(f"{POISON} {what}", table=table, hint="see the log", code="E162"))

    def refused(self, reader: str, record: TableRecord) -> None:
        """The reader has said that the table cannot go on there; the reader itself is well."""
        self._answered(reader, record)

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


def _keys(task: Copy) -> list[Key]:
    return [(record.sink, record.table) for record in task.records]
