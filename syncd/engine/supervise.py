"""Worker processes kept running: started, heard, restarted when they die, killed when they freeze."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import structlog

from syncd.engine.build import Parts, clock
from syncd.engine.counts import Counted, Sums
from syncd.engine.process import PATIENCE, STEADY, Alive, Failed, InHand, Waiting, Worker
from syncd.errors import FatalError, FencedError, SyncdError, TransientError
from syncd.model import TableId
from syncd.spi import Queue
from syncd.state import Wait

log = structlog.get_logger()

DEATHS = 5
"""So many deaths in a row, each within STEADY seconds of life, are a crash loop."""
BLAMED = 3
"""It is a table's, if that was in hand at so many of them."""
FIRST_SIGN = 60.0
"""A worker may take this long to say anything at all: on a loaded machine its imports alone take seconds."""
SILENT = 10.0
"""A worker that says "alive" every second and has not for so long is frozen, and is killed."""


@dataclass
class Slot:
    """One place in the process tree: its present worker, and how it went with it and the ones before. Monotonic s.

    `unknown`: deaths with no table in hand; `blamed`: those with one. `passing`: the worker's last word was a
    TransientError, so that its end is no crash, and counts as neither. `sign`: when anything was heard from here last,
    from this worker or one before it; `silence` is told to people.
    """

    name: str
    start: Callable[..., Worker]
    worker: Worker | None = None
    died: bool = False
    born: float = 0.0
    heard: float | None = None
    deaths: int = 0
    unknown: int = 0
    in_hand: TableId | None = None
    blamed: Counter[TableId] = field(default_factory=Counter)
    not_before: float = 0.0
    last_error: str = ""
    passing: bool = False
    sign: float = field(default_factory=lambda: time.monotonic())
    silence: Wait | None = None


class Supervisor:
    """The slots of one job. `hear` gets every word that is not about life and death.

    `lost` gets a slot whose worker died, and answers whether it lays that to a table. `fatal` gets an error that a
    person must look at, with its table where that is known. `parts` may be others from one step to the next.
    """

    def __init__(
        self,
        parts: Parts,
        queue: Queue,
        hear: Callable[[Slot, Any], None],
        lost: Callable[[Slot], bool],
        fatal: Callable[[Slot, SyncdError], None],
        sums: Sums,
    ) -> None:
        self.parts = parts
        self._queue = queue
        self._hear = hear
        self._lost = lost
        self._fatal = fatal
        self._sums = sums
        self._ending: list[tuple[Worker, float]] = []
        self._last: list[Worker] = []
        self.slots: dict[str, Slot] = {}
        self._waits: dict[tuple[str, str], Wait] = {}

    def add(self, name: str, start: Callable[..., Worker]) -> None:
        if name not in self.slots:
            self.slots[name] = Slot(name, start)

    def end(self, names: list[str]) -> None:
        """These are not needed any more: they drain, beside everything else."""
        self._drain(self._without_slots(names))

    def stop(self) -> None:
        """All drain, beside everything else, and nobody is started any more: `step` sees to it until `ended`.

        Readers write through the process that hosts the sink, so that one is told when all others have ended.
        """
        hosts = [name for name in self.slots if name.startswith("deliver/")]
        self._last += self._without_slots(hosts)
        self.end([*self.slots])

    @property
    def ended(self) -> bool:
        """No worker is left."""
        return not (self.slots or self._ending or self._last)

    def _without_slots(self, names: list[str]) -> list[Worker]:
        """The workers that these slots had."""
        for name in names:
            self._forget_waits(name)
        return [worker for name in names if (worker := self.slots.pop(name).worker) is not None]

    def _drain(self, workers: list[Worker]) -> None:
        """Who has not ended in time is killed."""
        for worker in workers:
            worker.stop()
            self._ending.append((worker, time.monotonic() + self.parts.service.drain))

    def pipes(self) -> list[Connection]:
        """To wait on: one of them is readable when a worker has said something."""
        return [slot.worker.pipe for slot in self.slots.values() if slot.worker is not None]

    def step(self) -> None:
        for slot in [*self.slots.values()]:
            if slot.worker is None:
                if time.monotonic() >= slot.not_before:
                    self._start(slot)
            else:
                self._tend(slot, slot.worker)
            self._listen(slot)
        for ending in [*self._ending]:
            self._end(*ending)
        for worker in self._last:
            self._unheard(worker)
        if not self._ending:
            last, self._last = self._last, []
            self._drain(last)

    def _unheard(self, worker: Worker) -> None:
        """Nobody waits for its words any more, but what it has done counts, and a full pipe would hold it up."""
        for word in worker.words():
            if isinstance(word, Counted):
                self._sums.add(self.parts.job.name, word)

    def _end(self, worker: Worker, deadline: float) -> None:
        """One that was told to drain is closed when it has, and killed when it has not in time."""
        if worker.alive and time.monotonic() > deadline:
            log.warning("worker_killed", worker=worker.name)
            worker.kill()
        alive = worker.alive  # asked before the words are read, so that the last ones are not missed
        self._unheard(worker)
        if not alive:
            worker.close()
            self._ending.remove((worker, deadline))

    def _start(self, slot: Slot) -> None:
        if slot.died:
            self._sums.count("worker_restarts", self.parts.job.name, slot.name)
        slot.worker, slot.passing = slot.start(careful=slot.deaths > 0), False
        slot.born, slot.heard = time.monotonic(), None
        log.info("worker_started", job=self.parts.job.name, worker=slot.name, pid=slot.worker.pid)

    def _tend(self, slot: Slot, worker: Worker) -> None:
        alive = worker.alive  # asked before the words are read, so that the last ones are not missed
        for word in worker.words():
            self._word(slot, word)
        now = time.monotonic()
        if not alive:
            self._bury(slot, worker)
        elif now - (slot.heard or slot.born) > (FIRST_SIGN if slot.heard is None else SILENT):
            log.error("worker_frozen", job=self.parts.job.name, worker=slot.name, pid=worker.pid)
            worker.kill()

    def _listen(self, slot: Slot) -> None:
        """Who is not heard, frozen or dead, is named before a third heartbeat has passed."""
        quiet = time.monotonic() - slot.sign
        if quiet <= PATIENCE * self.parts.service.heartbeat:
            slot.silence = None
            return
        if slot.worker is not None:
            reason = "it is not heard" if slot.heard is not None else "it was started, and is not heard yet"
        else:
            reason = f"it died and is started again soon: {slot.last_error or 'it left no word'}"
        if slot.silence is None or slot.silence.reason != reason:
            since = slot.silence.since if slot.silence else clock() - int(quiet * 1e6)
            slot.silence = Wait(reason, since)

    def _word(self, slot: Slot, word: Any) -> None:
        match word:
            case Alive():
                slot.heard = slot.sign = time.monotonic()
            case Counted():
                self._sums.add(self.parts.job.name, word)
            case InHand(table):
                slot.in_hand = table
            case Waiting(what, ""):
                self._waits.pop((slot.name, what), None)
            case Waiting(what, reason, seconds):
                known = self._waits.get((slot.name, what))
                if known is None:
                    self._sums.count("waits", self.parts.job.name, slot.name)
                since = known.since if known else clock() - int(seconds * 1e6)
                self._waits[slot.name, what] = Wait(reason, since)
            case Failed(FencedError() | TransientError() as error):
                slot.last_error, slot.passing = str(error), isinstance(error, TransientError)
            case Failed(error):
                slot.last_error = str(error)
                if error.code != "E159":  # a crash is tried again
                    self._fatal(slot, error)
            case _:
                self._hear(slot, word)

    def _bury(self, slot: Slot, worker: Worker) -> None:
        lived = time.monotonic() - slot.born
        self._free_leases(worker.pid)
        worker.close()
        slot.worker = None
        self._forget_waits(slot.name)
        if lived >= STEADY:
            _forgive(slot)
        slot.died = True
        slot.deaths += 1
        pause = min(10.0, 0.1 * 2**slot.deaths)
        slot.not_before = time.monotonic() + pause
        log.warning(
            "worker_died",
            job=self.parts.job.name,
            worker=slot.name,
            exitcode=worker.exitcode,
            deaths=slot.deaths,
            restart_in=pause,
            reason=slot.last_error,
        )
        self._lay_to(slot)

    def _lay_to(self, slot: Slot) -> None:
        """A crash loop halts the table that was in hand; where none is known, the job."""
        table, slot.in_hand = slot.in_hand, None
        if not self._lost(slot) and table is None and not slot.passing:
            slot.unknown += 1
        if table is not None and not slot.passing:
            slot.blamed[table] += 1
        why = f": {slot.last_error}" if slot.last_error else ""
        died = f"{slot.name} of job {self.parts.job.name} died"
        if slot.unknown >= DEATHS:
            self._fatal(slot, FatalError(f"{died} {slot.unknown} times in a row{why}", hint="see the log", code="E162"))
        elif slot.deaths >= DEATHS and max(slot.blamed.values(), default=0) >= BLAMED:
            ((table, times),) = slot.blamed.most_common(1)
            what = f"{died} {times} times at {table}{why}"
            self._fatal(slot, FatalError(what, table=str(table), hint="see the log", code="E162"))
            _forgive(slot)

    def up(self) -> dict[str, bool]:
        """Worker -> whether it lives and is heard. Any thread may ask."""
        return {name: slot.worker is not None and slot.silence is None for name, slot in self.slots.copy().items()}

    def waits(self) -> dict[str, Wait]:
        """What waits, by worker and part of its work. What a silent worker had said before holds no longer."""
        silent = {slot.name: slot.silence for slot in self.slots.values() if slot.silence}
        said = {key: wait for key, wait in self._waits.items() if key[0] not in silent}
        return {f"{name}: {what}" if what else name: wait for (name, what), wait in said.items()} | silent

    def _forget_waits(self, name: str) -> None:
        self._waits = {key: wait for key, wait in self._waits.items() if key[0] != name}

    def _free_leases(self, pid: int) -> None:
        """Of a child that is dead for certain: the next one need not wait until they have run out."""
        for state in self._queue.leases(f"job/{self.parts.job.name}/"):
            if state.live and state.lease.owner == self.parts.owner(pid):
                self._queue.release(state.lease)


def _forgive(slot: Slot) -> None:
    """What its workers died of before counts no longer."""
    slot.deaths = slot.unknown = 0
    slot.blamed.clear()
