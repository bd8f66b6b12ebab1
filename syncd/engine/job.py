"""One job: its leases, its processes, its tables.

It runs in the parent's main thread (a child dies with the thread that spawned it). A step does nothing that can block,
so that no job waits for another one: also what is in flight at the end drains beside everything else.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import structlog

from syncd.engine import apply, capture, change, deliver_process, snapshot
from syncd.engine.build import Parts, clock
from syncd.engine.counts import Sums
from syncd.engine.diff import diff, effect_of, started_anew
from syncd.engine.forecast import PurgeWatch
from syncd.engine.lease import Keeper
from syncd.engine.load import Loader
from syncd.engine.process import Worker
from syncd.engine.supervise import Slot, Supervisor
from syncd.engine.words import Discover, Discovered, PlanEnded, Planned, Records, Refused
from syncd.errors import FatalError, FencedError, StateError, SyncdError, TransientError
from syncd.model import TableId
from syncd.spi import Lease, Queue
from syncd.state import STANDING, Answer, Failure, Items, Phase, State, TableRecord, Wait, left_by_capture

log = structlog.get_logger()

LOOK_SECONDS = 0.2
DRAINS = "it drains: what is in flight is finished"
"""What the daemon itself is said to wait for from the word to stop until every worker has ended."""
_AGAIN = "; it was loaded anew for this already, and that load met the same"


@dataclass(frozen=True, slots=True)
class Picture:
    """Where a job stands, for a terminal. `total_rows` is an estimate; `lag` in seconds, None while unknown.

    `waits`: what cannot go on for now -> why.
    """

    rows: int
    total_rows: int
    loading: bool
    phases: Mapping[str, int]
    lag: float | None
    waits: Mapping[str, Wait]


class JobRunner:
    """Call `step` again and again; to end it `stop`, and `step` on until `stopped`.

    `failed` says why the job stands still; `halted`, once it is `stopped`, which tables do and why. `next`: another job
    file was applied, and this one ends for it. `applied`: when the one that this runs was (`Wish.applied`).
    """

    def __init__(
        self, parts: Parts, queue: Queue, repair: Callable[..., None], sums: Sums | None = None, applied: int = 0
    ) -> None:
        """`repair`: the work of the process that mends copies whose log was lost. `sums`: where what the workers count
        is added up."""
        self.parts = parts
        self._repair = repair
        self.applied = applied
        self.next: Parts | None = None
        self.queue = queue
        self.failed: SyncdError | None = None
        self.stopped_by_wish = False
        self.stopped = False
        self._begun = False
        self._stopping = False
        self._failure_saved = False
        self.halted: list[str] = []
        self._discovered = False
        self._expected = 0
        self._to_halt: list[tuple[TableRecord, str, bool]] = []
        self._state = State(queue, parts.job.name)
        self._sums = Sums() if sums is None else sums
        self._supervisor = Supervisor(parts, queue, self._hear, self._lost, self._fatal, self._sums)
        self._loader = Loader(parts, queue, self._put, self._halt)
        self._purge = PurgeWatch(queue, parts.job.name, parts.service.purge_warning)
        self._run_lease: Lease | None = None
        self._leases = ExitStack()
        self._taken_over = threading.Event()
        self._last_look = 0.0
        self._saved_readers = -1
        self._saved_waits: dict[str, Wait] | None = None
        self._drains: dict[str, Wait] = {}

    @property
    def name(self) -> str:
        return self.parts.job.name

    @property
    def ended(self) -> bool:
        """Nothing is left to do: the job failed, was stopped, or only loads and every table is loaded or halted."""
        if self.next is not None:
            return False
        if self.failed is not None or self.stopped_by_wish:
            return True
        over = {Phase.DONE, *STANDING}
        return not self.parts.captures and self._discovered and all(r.phase in over for r in self._state.tables())

    def _halted_tables(self) -> list[str]:
        try:
            records = [record for record in self._state.tables() if record.phase in STANDING]
            reasons = [f"{record.table} at {record.sink}: {record.reason}" for record in records]
            return [*reasons, *(f"{table}: {halt.reason}" for table, halt in self._state.halts().items())]
        except StateError as error:
            return [str(error)]

    def picture(self) -> Picture:
        phases: dict[str, int] = {}
        halts, records = self._state.halts(), self._state.tables()
        for record in records:
            phase = f"{Phase.HALTED} at capture" if left_by_capture(record, halts) else str(record.phase)
            phases[phase] = phases.get(phase, 0) + 1
        if refused := halts.keys() - {record.table for record in records}:  # before any sink was given them
            phases[Phase.HALTED] = phases.get(Phase.HALTED, 0) + len(refused)
        source = self._state.source()
        lag = None if source is None or not source.time else max(0.0, (clock() - source.time) / 1e6)
        rows, total = self._loader.rows()
        return Picture(rows, total, bool(self._loader.loads), phases, lag, self._saved_waits or {})

    def workers(self) -> dict[str, bool]:
        """Worker -> whether it lives and is heard. Any thread may ask."""
        return self._supervisor.up()

    def loaded(self) -> dict[tuple[str, TableId], tuple[int, int]]:
        """(sink, table) -> rows loaded, and expected. Any thread may ask."""
        return self._loader.progress()

    def pipes(self) -> list[Connection]:
        """To wait on: one of them is readable when a worker has said something."""
        return self._supervisor.pipes()

    # -- life

    def start(self) -> None:
        """Take the job's leases and start its processes. ConfigError: the saved state contradicts the job file.

        The caller holds the data directory: who held these leases is dead, or dies with its parent. TransientError: the
        queue is in trouble; the next step begins again.
        """
        try:
            self._begin()
        except TransientError:
            self._leases.close()
            raise
        self._begun = True

    def _begin(self) -> None:
        for state in self.queue.leases(f"job/{self.name}/"):
            if state.live and state.lease.name != f"job/{self.name}/wish":
                self.queue.release(state.lease)
        self._run_lease = self._take(f"job/{self.name}/run")
        change.take_over(self.parts, self.queue, self._state, self._put)
        self._snapshot_lease = self._take(f"job/{self.name}/snapshot")
        if self._state.source() is None or self._state.added() or self._state.lost():
            self._add("planner", snapshot.plan, self._snapshot_lease)
        else:
            self._tables_known()
        for sink in self.parts.job.sinks:
            self._add(f"deliver/{sink}", deliver_process.work, sink)

    def _take(self, name: str) -> Lease:
        lease = self.queue.acquire(name, self.parts.owner(), self.parts.service.lease)
        if lease is None:
            raise FatalError(f"job {self.name} is run by another process", hint="end that process", code="E161")
        # Without a deadline: the directory's lock says that nobody else can run this job.
        keeper = Keeper(self.parts.make_queue, lease, math.inf, self._taken_over.set, self.parts.service.heartbeat)
        self._leases.enter_context(keeper)
        return lease

    def _put(self, items: Items) -> None:
        assert self._run_lease is not None
        self.queue.put(self._run_lease, items)

    def _add(self, name: str, work: Any, *args: object) -> None:
        self._supervisor.add(name, partial(self._worker, name, work, *args))

    def _worker(self, name: str, work: Any, *args: object, careful: bool = False) -> Worker:
        return Worker(f"{name} {self.name}", self.parts, work, *args, careful=careful)

    def stop(self) -> None:
        """Drain: every worker finishes what is in flight, for the service's `drain` at most. Once is enough."""
        if not self._stopping:
            self._stopping = True
            self._drains = {"run": Wait(DRAINS, clock())}
            self._supervisor.stop()

    @property
    def drained(self) -> bool:
        """After `stop`: every worker has ended."""
        return self._stopping and self._supervisor.ended

    def _drain(self) -> None:
        """The leases are held until nobody works under them, and until what is known at the end is saved."""
        self._supervisor.step()
        self._save_end()
        if self.drained and not self.stopped:
            self.halted = self._halted_tables()
            self._leases.close()
            self.stopped = True

    def _save_end(self) -> None:
        """For `syncd status`: that the job drains, until it has, and why it failed.

        The lease ends with this runner, and a log line is gone with its file.
        """
        waits = {} if self.drained else self._drains
        items = {} if waits == self._saved_waits else self._state.waits_item(waits)
        if self.failed is not None and not self._failure_saved:
            items |= self._state.failure_item(Failure(str(self.failed), clock()))
        if not items or self._run_lease is None:
            return
        try:
            self._put(items)
        except FencedError:
            log.warning("end_not_saved", job=self.name, reason="another process runs the job now")
        self._saved_waits, self._failure_saved = waits, self.failed is not None

    # -- one step

    def step(self) -> None:
        """TransientError: the queue is in trouble; call again."""
        if self._stopping:
            self._drain()
            return
        if self.failed is not None or self.stopped_by_wish or self.next is not None:
            return
        if not self._begun:
            self.start()
        if self._taken_over.is_set():
            self.failed = FencedError(f"job {self.name} was taken over by another process", code="E161")
            return
        resyncs, wish = self._state.resyncs(), self._state.wish()  # in this order: a file that wants them comes first
        if wish.stopped:
            self.stopped_by_wish = True
            return
        if wish.applied > self.applied and self._take_over(wish.applied):
            return
        if self._discovered and not self._state.added() and (resyncs or self._state.anew()):
            self.next = self.parts  # begins anew, and with these tables as with new ones
            return
        self._supervisor.step()
        self._save_halts()  # before anything of such a table could be dealt out again
        if self._discovered and time.monotonic() - self._last_look > LOOK_SECONDS:
            self._last_look = time.monotonic()
            records = self._state.tables()
            self._loader.look(records)
            loading = self.parts.loads and any(r.phase in {Phase.NEW, Phase.SNAPSHOT} for r in records)
            self._staff(loading=loading)
            self._staff_repair()
        self._deal_out()
        self._save_readers()
        self._save_waits()
        if samples := self._purge.look():
            self._put(samples)

    # -- another job file

    def _take_over(self, at: int) -> bool:
        """A file was applied: what it changes starts anew, or all of the job; a wrong one changes nothing.

        Whether the job is to end for it.
        """
        applied = self._state.applied()
        try:
            if applied is None:
                raise StateError("what was applied is not in the saved state", hint="apply it again")
            parts = apply.made(self.parts, applied)
            changes = diff(parts, self._state)
            for fault in change.contradictions(parts, self._state):
                raise fault
        except TransientError:
            raise
        except SyncdError as error:
            self._put(apply.refused(self.parts, self._state, at, error))
            self.applied = at
            return False
        live = effect_of(changes) == "live"
        started = {"started": (self._state.meta() or {}).get("started", 0)}
        items = self._state.meta_item(**parts.facts(), **started) if live else {}
        self._put(items | self._state.answer_item(Answer(at, "")))
        log.info("job_applied", job=self.name, changes=[*map(str, changes)])
        self.applied = at
        if live:
            self._replace(parts, started_anew(changes, [*self._supervisor.slots]))
            return False
        self.next = parts
        return True

    def _replace(self, parts: Parts, workers: list[str]) -> None:
        """Others take the places of these workers, which drain meanwhile; those that load come as they are needed."""
        self.parts = self._supervisor.parts = self._loader.parts = parts
        self._end(workers)
        for name in workers:
            kind, _, sink = name.partition("/")
            if kind == "deliver":
                self._add(name, deliver_process.work, sink)

    def _end(self, workers: list[str]) -> None:
        """They drain, and are heard no more: what those that load have in hand is for others."""
        self._supervisor.end(workers)
        for name in workers:
            if name.startswith("reader/"):
                self._loader.reader_lost(name, "", crash=False)
            elif name == "planner":
                self._loader.planner_lost("", crash=False)

    def _staff(self, *, loading: bool) -> None:
        """While tables are loaded a planner, and as many readers as there are chunks, up to what the job wants.

        At the first start they start before the first chunk is found, so that they are ready when it is.
        """
        if not loading:
            here = [name for name in self._supervisor.slots if name == "planner" or name.startswith("reader/")]
            self._end(here)
            return
        self._add("planner", snapshot.plan, self._snapshot_lease)
        for number in range(1, self._loader.readers_wanted(self._expected) + 1):
            self._add(f"reader/{number}", snapshot.read, self._snapshot_lease)

    def _staff_repair(self) -> None:
        """As long as a table is not known to be what the source has."""
        if self._state.repairs():
            self._add("repair", self._repair)
        elif "repair" in self._supervisor.slots:
            self._supervisor.end(["repair"])

    def _deal_out(self) -> None:
        for name, slot in self._supervisor.slots.items():
            if slot.worker is None or slot.heard is None:
                continue
            task: object = None
            if name == "planner":
                task = self._loader.next_plan() if self._discovered else None
            elif name.startswith("reader/") and name not in self._loader.tasks:
                task = self._loader.next_chunk(name)
            if task is not None:
                slot.worker.send(task)

    def _save_readers(self) -> None:
        """They divide the job's rates among them."""
        count = len(self._loader.tasks)
        if count != self._saved_readers:
            self._put(self._state.readers_item(count))
            self._saved_readers = count

    def _save_waits(self) -> None:
        waits = self._supervisor.waits() | self._loader.waits()
        if waits != self._saved_waits:
            self._put(self._state.waits_item(waits))
            self._saved_waits = waits

    # -- words of workers

    def _hear(self, slot: Slot, word: Any) -> None:
        match word:
            case "ready":
                if slot.name == "planner" and slot.worker is not None:
                    slot.worker.send(Discover())
            case Discovered(chunks):
                self._expected = chunks
                self._tables_known()
            case Planned(records, chunk):
                for record in records:
                    self._loader.planned(record, chunk)
            case PlanEnded():
                self._loader.plan_ended()
            case Refused(records, error):
                self._refused(slot, records, error)
            case _:
                self._loader.hear(slot.name, word)

    def _refused(self, slot: Slot, records: Records, error: SyncdError) -> None:
        if slot.name == "planner":
            self._loader.plan_ended()
        for record in records:
            self._loader.refused(slot.name, record)
            self._halt(record, error)

    def _tables_known(self) -> None:
        self._discovered = True
        for finding in self.parts.unmatched_tags([*self._state.schemas(), *self._state.halts()]):
            log.warning("tag_unmatched", job=self.name, at=finding.subject, what=finding.text, hint=finding.todo)
        if self.parts.captures:
            self._add("capture", capture.work)

    def _lost(self, slot: Slot) -> bool:
        """Whether it had a table's chunk, or was finding a table's chunks: then the death is laid to that."""
        why, crash = slot.last_error or "no last word", not slot.passing
        if slot.name == "planner":
            return self._loader.planner_lost(why, crash=crash)
        return self._loader.reader_lost(slot.name, why, crash=crash)

    def _fatal(self, slot: Slot, error: SyncdError) -> None:
        """With a table in hand it is the table's fault; otherwise the job halts."""
        task = self._loader.tasks.get(slot.name)
        records = task.records if task is not None else self._delivered(slot, error)
        if records:
            for record in records:
                self._halt(record, error)
        elif way := self.parts.goes_on(error):
            log.error("position_lost", job=self.name, error=str(error))
            self._put(self._state.lost_item(wanted=True) if way == "mended" else self._state.anew_item())
            self.next = self.parts
        elif self.failed is None:
            self.failed = error

    def _delivered(self, slot: Slot, error: SyncdError) -> Records:
        """The table that the error names, if it does: at the slot's sink, or at one where it is being mended."""
        kind, _, sink = slot.name.partition("/")
        if kind not in {"deliver", "repair"} or not isinstance(error, FatalError) or error.table is None:
            return ()
        mended = self._state.repairs()
        named = (record for record in self._state.tables(sink) if str(record.table) == error.table)
        return tuple(r for r in named if kind == "deliver" or (r.sink, r.table) in mended)[:1]

    def _halt(self, record: TableRecord, error: SyncdError) -> None:
        """Saved at the end of this step, or of the first one in which the queue takes it."""
        log.error("table_halted", job=self.name, table=str(record.table), sink=record.sink, error=str(error))
        self._to_halt.append((record, str(error), self.parts.reloads(error)))
        self._loader.loads.pop((record.sink, record.table), None)

    def _save_halts(self) -> None:
        while self._to_halt:
            record, reason, anew = self._to_halt[0]
            again, wish = self._loaded_anew(record, reason) if anew else ("", {})
            # Its head and epoch may have grown since the worker was told of it.
            now = self._state.table(record.sink, record.table) or record
            halted = replace(record, head=now.head, epoch=now.epoch, opened=now.opened).halted(reason + again, clock())
            self._put(self._state.table_item(halted) | wish)
            self._sums.count("table_halts", self.name, record.sink, str(record.table))
            del self._to_halt[0]

    def _loaded_anew(self, record: TableRecord, reason: str) -> tuple[str, Items]:
        """That the table is to be loaded anew. A load that was begun for a reason, and meets the same one, is not begun
        again, since that would never end: what is added to the reason then."""
        met = self._state.reloaded(record.sink, record.table) == reason
        if met and record.table not in self._state.resyncs():  # else another reader of this load has said it just now
            return _AGAIN, {}
        wanted = self._state.resync_item(record.table, wanted=True)
        return "", wanted | self._state.reloaded_item(record.sink, record.table, reason)
