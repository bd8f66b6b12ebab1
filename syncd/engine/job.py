"""One job's supervisor: starts its processes, deals out chunks, hands tables over, restarts what died.

It runs in the parent's main thread (a child dies with the thread that spawned it) and does nothing that can block.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import structlog

from syncd.engine import capture, deliver, snapshot
from syncd.engine.build import Parts, clock
from syncd.engine.lease import Keeper
from syncd.engine.process import Failed, Worker
from syncd.engine.snapshot import Copied, Copy, Discover, Discovered, Plan, Planned, Refused
from syncd.errors import FatalError, FencedError, SyncdError
from syncd.failpoints import failpoint
from syncd.model import Chunk, TableId
from syncd.spi import Lease, Queue
from syncd.state import Phase, State, TableRecord

log = structlog.get_logger()

DEATHS = 5  # in a row, each before STEADY seconds of life: a crash loop
STEADY = 30.0


@dataclass
class Slot:
    """One place in the process tree: its present worker, and how often it has died."""

    name: str
    start: Callable[[], Worker]
    worker: Worker | None = None
    born: float = 0.0
    deaths: int = 0
    not_before: float = 0.0
    task: Copy | None = None
    ready: bool = False


@dataclass
class Load:
    """A table that is being loaded."""

    record: TableRecord
    waiting: list[Chunk] = field(default_factory=list)
    running: set[int] = field(default_factory=set)
    planned: bool = False
    chunks: int = 0
    copied: int = 0
    rows: int = 0
    bytes: int = 0
    estimate: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """Where a job stands, for a terminal. `total_rows` is an estimate; `lag` in seconds, None while unknown."""

    rows: int
    total_rows: int
    loading: bool
    phases: dict[str, int]
    lag: float | None


class JobRunner:
    """Call `start`, then `step` again and again, then `stop`. `failed` says why the job stands still."""

    def __init__(self, parts: Parts, queue: Queue) -> None:
        self.parts = parts
        self.failed: SyncdError | None = None
        self.loads: dict[tuple[str, TableId], Load] = {}
        self.discovered = False
        self.halted_by_wish = False
        self.refused: dict[str, str] = {}
        self.queue = queue
        self._state = State(queue, parts.job.name)
        self._slots: dict[str, Slot] = {}
        self._leases = ExitStack()
        self._keepers: list[Keeper] = []
        self._run_lease: Lease | None = None
        self._stopping = threading.Event()
        self._last_look = 0.0
        self._loaded = 0

    @property
    def name(self) -> str:
        return self.parts.job.name

    @property
    def ended(self) -> bool:
        """Nothing is left to do: the job failed, or it only loads and every table is loaded or halted."""
        if self.failed is not None or self.halted_by_wish:
            return True
        over = {Phase.DONE, Phase.HALTED}
        return not self.parts.captures and self.discovered and all(r.phase in over for r in self._state.tables())

    def picture(self) -> Picture:
        phases: dict[str, int] = {}
        for record in self._state.tables():
            phases[record.phase] = phases.get(record.phase, 0) + 1
        source = self._state.source()
        lag = None if source is None or not source.time else max(0.0, (clock() - source.time) / 1e6)
        rows = self._loaded + sum(load.rows for load in self.loads.values())
        total = self._loaded + sum(load.estimate for load in self.loads.values())
        return Picture(rows, total, bool(self.loads), phases, lag)

    def pipes(self) -> list[Connection]:
        """To wait on: one of them is readable when a worker has said something."""
        return [slot.worker.pipe for slot in self._slots.values() if slot.worker is not None]

    # -- life

    def start(self) -> None:
        """Take the job's leases and start what it needs. FatalError: the saved state contradicts the job file."""
        self.parts.check_state(self._state)
        self._run_lease = self._take(f"job/{self.name}/run")
        if self._state.meta() is None:
            self.queue.put(self._run_lease, self._state.meta_item(**self.parts.facts()))
        lease = self._take(f"job/{self.name}/snapshot")
        parts = self.parts
        self._add("planner", partial(Worker, f"planner {self.name}", parts, snapshot.plan, lease))
        for sink in parts.job.sinks:
            self._add(f"deliver/{sink}", partial(Worker, f"deliver {self.name}/{sink}", parts, deliver.work, sink))
        self._snapshot_lease = lease

    def _take(self, name: str) -> Lease:
        lease = self.queue.acquire(name, self.parts.owner(), self.parts.service.lease)
        if lease is None:
            raise FatalError(
                f"job {self.name} is run by another process",
                hint="end it, or wait until its lease has run out",
                code="E161",
            )
        keeper = Keeper(self.parts.make_queue, lease, 60.0, self._stopping.set)
        self._leases.enter_context(keeper)
        self._keepers.append(keeper)
        return lease

    def _add(self, name: str, start: Callable[[], Worker]) -> None:
        self._slots[name] = Slot(name, start)

    def stop(self) -> None:
        """Drain: every worker finishes what is in flight; who has not ended in time is killed."""
        self._stopping.set()
        timeout = self.parts.service.drain
        workers = [slot.worker for slot in self._slots.values() if slot.worker is not None]
        # Readers and capture first: the sink of a deliver process may be theirs too.
        first = [slot.worker for name, slot in self._slots.items() if slot.worker and not name.startswith("deliver/")]
        for group in (first, workers):
            for worker in group:
                worker.stop()
            end = time.monotonic() + timeout
            for worker in group:
                if not worker.join(max(0.0, end - time.monotonic())):
                    log.warning("worker_killed", worker=worker.name)
                    worker.kill()
        for worker in workers:
            worker.close()
        self._slots.clear()
        self._leases.close()

    # -- one step

    def step(self) -> None:
        for keeper in self._keepers:
            keeper.beat()
        if self._stopping.is_set() and not self.ended:
            self.failed = FencedError(f"job {self.name} was taken over by another process", code="E161")
        if self.failed is not None or self.halted_by_wish:
            return
        for slot in [*self._slots.values()]:
            self._tend(slot)
        if self._state.wish().stopped:
            self.halted_by_wish = True
            self.stop()
            return
        if self.discovered and time.monotonic() - self._last_look > 0.2:
            self._last_look = time.monotonic()
            self._look_at_tables()
        self._deal_out()

    def _tend(self, slot: Slot) -> None:
        if slot.worker is None:
            if time.monotonic() >= slot.not_before:
                slot.worker = slot.start()
                slot.born = time.monotonic()
                log.info("worker_started", job=self.name, worker=slot.name, pid=slot.worker.pid)
                self._begin(slot)
            return
        for word in slot.worker.words():
            self._hear(slot, word)
        if not slot.worker.alive:
            for word in slot.worker.words():
                self._hear(slot, word)
            self._bury(slot)

    def _begin(self, slot: Slot) -> None:
        """What a new worker has to be told."""
        if slot.name == "planner" and slot.worker is not None:
            slot.worker.send(Discover())
            for load in self.loads.values():
                if not load.planned:
                    slot.worker.send(Plan(load.record, None))

    def _bury(self, slot: Slot) -> None:
        assert slot.worker is not None
        code, lived = slot.worker.exitcode, time.monotonic() - slot.born
        self._free_leases(slot.worker.pid)
        slot.worker.close()
        slot.worker = None
        slot.ready = False
        if slot.task is not None:
            self._give_back(slot.task)
        slot.deaths = slot.deaths + 1 if lived < STEADY else 1
        pause = min(10.0, 0.1 * 2**slot.deaths)
        slot.not_before = time.monotonic() + pause
        log.warning("worker_died", job=self.name, worker=slot.name, exitcode=code, deaths=slot.deaths, restart_in=pause)
        if slot.deaths >= DEATHS:
            self._crash_loop(slot)
        slot.task = None

    def _free_leases(self, pid: int) -> None:
        """Of a child that is dead for certain: the next one need not wait until they have run out."""
        for state in self.queue.leases(f"job/{self.name}/"):
            if state.live and state.lease.owner == self.parts.owner(pid):
                self.queue.release(state.lease)

    def _crash_loop(self, slot: Slot) -> None:
        error = FatalError(
            f"{slot.name} of job {self.name} died {slot.deaths} times in a row", hint="see the log", code="E162"
        )
        if slot.task is not None:
            self._halt(slot.task.record, error)
            slot.deaths = 0
        else:
            self.failed = error

    # -- words

    def _hear(self, slot: Slot, word: Any) -> None:
        match word:
            case "ready":
                slot.ready = True
            case Discovered(refused):
                self.discovered = True
                self.refused = refused
                if self.parts.captures and "capture" not in self._slots:
                    self._add("capture", partial(Worker, f"capture {self.name}", self.parts, capture.work))
            case Planned(record, chunk):
                load = self._load(record)
                load.waiting.append(chunk)
                load.chunks += 1
                load.estimate += chunk.rows
                load.planned = chunk.upper is None
            case Copied(record, chunk, done):
                slot.task = None
                slot.deaths = 0
                load = self._load(record)
                load.running.discard(chunk.number)
                load.copied, load.rows, load.bytes = load.copied + 1, load.rows + done.rows, load.bytes + done.bytes
            case Refused(record, error):
                slot.task = None
                self._halt(record, error)
            case Failed(FencedError()):
                log.warning("worker_fenced", job=self.name, worker=slot.name)
            case Failed(FatalError() as error):
                self._fatal(slot, error)
            case ("waiting", reason):
                log.info("worker_waits", job=self.name, worker=slot.name, reason=reason)

    def _fatal(self, slot: Slot, error: FatalError) -> None:
        """A worker's last word. A crash (E159) is tried again; anything else is for a person."""
        if error.code == "E159":
            return
        if slot.task is not None:
            self._halt(slot.task.record, error)
            slot.task = None
        else:
            self.failed = error
            log.error("job_halted", job=self.name, worker=slot.name, error=str(error))

    # -- tables

    def _load(self, record: TableRecord) -> Load:
        return self.loads.setdefault((record.sink, record.table), Load(record))

    def _look_at_tables(self) -> None:
        """Take up tables that are to be loaded, hand over those that are."""
        for record in self._state.tables():
            key = (record.sink, record.table)
            if record.phase is Phase.SNAPSHOT and key not in self.loads:
                self._take_up(record)
            elif record.phase is not Phase.SNAPSHOT:
                self.loads.pop(key, None)
        for load in [*self.loads.values()]:
            if load.planned and not load.waiting and not load.running:
                self._hand_over(load)

    def _take_up(self, record: TableRecord) -> None:
        """Go on where the saved chunks and marks say; nothing done is done again."""
        load = self._load(record)
        chunks = self._state.chunks(record.sink, record.table)
        done = self._state.done(record.sink, record.table)
        load.chunks, load.copied = len(chunks), len(done)
        load.rows, load.bytes = sum(d.rows for d in done.values()), sum(d.bytes for d in done.values())
        load.estimate = sum(chunk.rows for chunk in chunks)
        load.waiting = [chunk for chunk in chunks if chunk.number not in done]
        load.planned = bool(chunks) and chunks[-1].upper is None
        planner = self._slots["planner"].worker
        if not load.planned and planner is not None:
            planner.send(Plan(record, chunks[-1] if chunks else None))
        for number in range(1, self.parts.readers + 1):
            if f"reader/{number}" not in self._slots:
                name = f"reader {self.name}/{number}"
                self._add(f"reader/{number}", partial(Worker, name, self.parts, snapshot.read, self._snapshot_lease))

    def _hand_over(self, load: Load) -> None:
        """All chunks are written: from this commit on the lanes run, and no late chunk writer is heard (3, 7)."""
        assert self._run_lease is not None
        record = load.record
        if not self._all_done(load):
            return
        phase = Phase.CATCH_UP if self.parts.captures else Phase.DONE
        after = replace(record, phase=phase, epoch=record.epoch + 1, since=clock())
        failpoint("snapshot.all_marked")
        self.queue.put(self._run_lease, self._state.table_item(after))
        failpoint("snapshot.handed_over")
        self._loaded += load.rows
        del self.loads[record.sink, record.table]
        log.info("table_loaded", job=self.name, table=str(record.table), sink=record.sink, rows=load.rows)
        if not self.loads:
            self._end_readers()

    def _all_done(self, load: Load) -> bool:
        """By what is saved, not by what was said: a worker may have died between the two."""
        record = load.record
        chunks = self._state.chunks(record.sink, record.table)
        done = self._state.done(record.sink, record.table)
        load.waiting = [chunk for chunk in chunks if chunk.number not in done]
        load.planned = bool(chunks) and chunks[-1].upper is None
        return load.planned and not load.waiting

    def _end_readers(self) -> None:
        for name in [name for name in self._slots if name.startswith("reader/")]:
            worker = self._slots.pop(name).worker
            if worker is not None:
                worker.stop()
                self._leases.callback(worker.close)

    def _halt(self, record: TableRecord, error: SyncdError) -> None:
        assert self._run_lease is not None
        log.error("table_halted", job=self.name, table=str(record.table), sink=record.sink, error=str(error))
        self.queue.put(self._run_lease, self._state.table_item(record.halted(str(error), clock())))
        self.loads.pop((record.sink, record.table), None)

    # -- chunks

    def _deal_out(self) -> None:
        wish = self._state.wish() if self.loads else None
        for slot in self._slots.values():
            if not slot.name.startswith("reader/") or slot.worker is None or slot.task is not None:
                continue
            for load in self.loads.values():
                if wish is not None and self.parts.paused(wish, load.record.sink)(load.record.table):
                    continue
                if load.waiting:
                    chunk = load.waiting.pop(0)
                    load.running.add(chunk.number)
                    slot.task = Copy(load.record, chunk)
                    slot.worker.send(slot.task)
                    break

    def _give_back(self, task: Copy) -> None:
        """The reader died: its chunk is for another one, unless its mark was saved."""
        load = self.loads.get((task.record.sink, task.record.table))
        if load is None:
            return
        load.running.discard(task.chunk.number)
        if task.chunk.number not in self._state.done(task.record.sink, task.record.table):
            load.waiting.insert(0, task.chunk)
