"""`syncd run`: one process that owns a data directory and supervises every job in it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType

import structlog

from syncd.engine import apply, queue_used
from syncd.engine.build import Parts, data_directory
from syncd.engine.counts import Sums
from syncd.engine.forecast import QueueWatch
from syncd.engine.job import JobRunner
from syncd.engine.process import fork_server
from syncd.errors import StateError, SyncdError, TransientError
from syncd.spi import Queue
from syncd.state import State

log = structlog.get_logger()

TRIM_SECONDS = 5.0
WATCH_SECONDS = 0.2
DRAIN_SECONDS = 0.05


class DirectoryLock:
    """Held for the life of the daemon; the kernel gives it back whatever the process dies of."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "syncd.lock"
        with data_directory(directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(self._file, 32).decode().strip()
            os.close(self._file)
            raise StateError(
                f"{directory} is in use by the syncd process {owner or 'that holds its lock'}",
                hint="end that process, or give this one another data directory",
                code="E163",
            ) from error
        with data_directory(self._path):
            os.ftruncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        os.ftruncate(self._file, 0)
        os.close(self._file)


class Daemon:
    """Runs `jobs`, which share one queue, until they have ended or it is told to stop.

    `repair`: see `JobRunner`. `watch` is called about five times a second; `draining` once, when a signal has asked for
    the end. `serve` is open as long as jobs run or drain. `sums` and `stepped`, the time (monotonic) of the last step,
    are for other threads.
    """

    def __init__(
        self,
        jobs: Sequence[Parts],
        repair: Callable[..., None],
        watch: Callable[[Sequence[JobRunner]], None] = lambda _: None,
        draining: Callable[[], None] = lambda: None,
        serve: Callable[[Daemon], AbstractContextManager[None]] = lambda _: nullcontext(),
    ) -> None:
        self.jobs = jobs
        self._repair = repair
        self._watch = watch
        self._draining = draining
        self._stop = False
        self._told: set[str] = set()
        self._serve = serve
        self.runners: list[JobRunner] = []
        self.sums = Sums()
        self.stepped = time.monotonic()

    def stop(self) -> None:
        self._stop = True

    def run(self, until: Callable[[Sequence[JobRunner]], bool] = lambda _: False) -> None:
        """Returns when `until` holds, all jobs have ended, or a signal came; every process has ended then."""
        service = self.jobs[0].service
        lock = DirectoryLock(service.data)
        try:
            with _Signals(self.stop), fork_server(), _scratch(service.data / "tmp"):
                queue = self.jobs[0].make_queue()
                queue.open()
                try:
                    queue_used.settle(self.jobs[0], queue)
                    with self._serve(self):
                        self._run_and_drain(queue, until)
                finally:
                    queue.close()
        finally:
            lock.release()

    def _run_and_drain(self, queue: Queue, until: Callable[[Sequence[JobRunner]], bool]) -> None:
        try:
            self._run(queue, until)
        finally:
            self._drain()

    def _run(self, queue: Queue, until: Callable[[Sequence[JobRunner]], bool]) -> None:
        self.runners += [self._runner(parts, queue) for parts in self.jobs]
        full = QueueWatch(queue, self.jobs[0].service.queue_warning)
        trimmed = watched = time.monotonic()
        while not self._stop:
            for place, runner in enumerate(self.runners):
                self._step(runner)
                if runner.stopped and (follower := self._follower(runner)) is not None:
                    self._told.discard(runner.name)
                    self.runners[place] = follower
            now = time.monotonic()
            if now - watched > WATCH_SECONDS:
                watched = now
                if self._over(until):
                    return
            if now - trimmed > TRIM_SECONDS:
                trimmed = now
                _tend(queue, full)
            pipes = [pipe for runner in self.runners for pipe in runner.pipes()]
            if pipes:
                wait(pipes, 0.1)
            else:
                time.sleep(0.1)

    def _over(self, until: Callable[[Sequence[JobRunner]], bool]) -> bool:
        """Show how it stands, and ask whether to go on. A queue in trouble is no reason to end."""
        try:
            self._watch(self.runners)
            return until(self.runners) or all(r.ended and not r.stopped_by_wish for r in self.runners)
        except TransientError as error:
            log.warning("watch_waits", error=str(error))
            return False

    def _runner(self, parts: Parts, queue: Queue) -> JobRunner:
        """Of a job as its file says, or as one says that was applied since."""
        state = State(queue, parts.job.name)
        at = state.wish().applied
        return JobRunner(apply.at_start(parts, state), queue, self._repair, self.sums, at)

    def _follower(self, runner: JobRunner) -> JobRunner | None:
        """Who goes on with a job that has ended: it was resumed, or another file was applied to it."""
        state = State(runner.queue, runner.name)
        try:
            return self._next(runner, state)
        except TransientError as error:
            log.warning("job_waits", job=runner.name, error=str(error))
        except SyncdError as error:
            runner.applied = state.wish().applied
            lease = runner.queue.acquire(f"job/{runner.name}/run", runner.parts.owner(), runner.parts.service.lease)
            if lease is not None:
                runner.queue.put(lease, apply.refused(runner.parts, state, runner.applied, error))
                runner.queue.release(lease)
        return None

    def _next(self, runner: JobRunner, state: State) -> JobRunner | None:
        wish, parts = state.wish(), runner.next or runner.parts
        # A job that was forgotten begins anew with the next daemon, not with this one.
        if wish.stopped or state.meta() is None:
            return None
        applied = state.applied() if wish.applied > runner.applied else None
        if applied is not None:
            parts = apply.made(parts, applied)
        elif runner.next is None and not runner.stopped_by_wish:
            return None
        return JobRunner(parts, runner.queue, self._repair, self.sums, max(wish.applied, runner.applied))

    def _step(self, runner: JobRunner) -> None:
        """A job's failure is its own: the others go on (8)."""
        self.stepped = time.monotonic()
        if runner.stopped:
            return
        try:
            runner.step()
        except TransientError as error:
            log.warning("job_waits", job=runner.name, error=str(error))
        except SyncdError as error:
            runner.failed = error
        if runner.failed is not None and runner.name not in self._told:
            self._told.add(runner.name)
            log.error("job_halted", job=runner.name, error=str(runner.failed))
        if runner.failed is not None or runner.stopped_by_wish or runner.next is not None:
            runner.stop()

    def _drain(self) -> None:
        """All jobs at the same time. What the queue does not take once all have ended is not saved."""
        if self._stop:
            self._draining()
        for runner in self.runners:
            runner.stop()
        while True:
            for runner in self.runners:
                self._step(runner)
            if all(runner.drained for runner in self.runners):
                return
            time.sleep(DRAIN_SECONDS)


def _tend(queue: Queue, full: QueueWatch) -> None:
    try:
        queue.trim()
        full.look()
    except TransientError as error:
        log.warning("trim_waits", error=str(error))


@contextmanager
def _scratch(folder: Path) -> Iterator[None]:
    """Temporary files of the workers go into `folder`: what a killed driver leaves is gone with the next start."""
    shutil.rmtree(folder, ignore_errors=True)
    with data_directory(folder.parent):
        folder.mkdir(mode=0o700)
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
        shutil.rmtree(folder, ignore_errors=True)


class _Signals:
    """SIGTERM and SIGINT ask for a drain; a second one in a row is the default again."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop

    def __enter__(self) -> None:
        self._old = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._stop()
        signal.signal(number, signal.SIG_DFL)
