"""Worker processes: started by a fork server, bound to the daemon's life, heard and told through one pipe.

The fork server (`syncd.engine.forked`) is a spawned process that has imported what workers need and does nothing else:
it has one thread and has opened nothing, so that a fork of it is as clean as a new process, and takes milliseconds.

In the child a worker is a function `work(link, parts, *args)`. It ends by returning, or by raising: the error travels
to the parent as it is. In the parent, `Worker` is the handle.
"""

from __future__ import annotations

import errno
import math
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog

from syncd import logs
from syncd.engine import forked, queue_used
from syncd.engine.build import HANG_SECONDS, Parts
from syncd.engine.counts import Tally
from syncd.engine.lease import Keeper, acquire
from syncd.errors import FatalError, SyncdError, TransientError
from syncd.model import TableId
from syncd.spi import Lease, Queue

log = structlog.get_logger()

_servers = multiprocessing.get_context("forkserver")

ALIVE_SECONDS = 1.0
_KILL_SECONDS = 10.0
_FILES = 16
"""A worker's start opens fewer. One that stops in the middle is the end of the server, and of all workers."""
_LONGEST = 85
"""Bytes of a folder's path: with a name in it, a socket's path has at most 107."""
PATIENCE = 2.5
"""Heartbeats that a step may take: so what hangs is named within three of them."""
STEADY = 120.0
"""A worker that has lived for so many seconds is well, whatever its predecessors died of."""
ALONE_SECONDS = 5.0
"""A table waits so long for the one in hand; a write that hangs holds up no neighbour."""


@dataclass(frozen=True, slots=True)
class Alive:
    """Said every second by a thread of its own: a process that does not is frozen."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """`what` of a worker ("" for all of it) waits for a reason; an empty reason: it goes on. `seconds`: since when."""

    what: str
    reason: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class InHand:
    """The table that is worked on from now on, alone; None: none is. Said by a worker that follows a dead one."""

    table: TableId | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The last word of a worker that raised."""

    error: SyncdError


class Link:
    """The child's end: `stop` is set when the worker is to drain and return.

    What waits is said by `waits`; what hangs, and so can say nothing, is told by the thread that says "alive": the
    work names each of its steps by `step` before it is made.
    """

    def __init__(self, pipe: Connection, patience: float = math.inf, careful: bool = False) -> None:
        """`patience`: seconds that a step may take before it is said to wait. `careful`: one before it has died."""
        self._pipe = pipe
        self._sending = threading.Lock()
        self._patience = patience
        self._steps: dict[int, tuple[str, float, float]] = {}
        self._told: dict[str, str] = {}
        self._one = threading.Lock()
        self._careful_until = time.monotonic() + STEADY if careful else -math.inf
        self._tally = Tally()
        self.count = self._tally.count
        self.stop = threading.Event()

    def send(self, word: object) -> None:
        """A parent that is gone hears nothing, and sets `stop`: that is no fault of the table that is in hand."""
        try:
            with self._sending:
                self._pipe.send(word)
        except (BrokenPipeError, ConnectionResetError):
            self.stop.set()

    def waits(self, reason: str, what: str = "") -> None:
        """The work (or `what` of it) waits for this reason; "": it goes on. Said again only when it changes."""
        if reason:
            self.step("")
        if self._told.get(what, "") != reason:
            self._told[what] = reason
            self.send(Waiting(what, reason))

    def step(self, doing: str, every: float = 0.0) -> None:
        """What this thread does from now on; "": nothing that could hang.

        `every`: seconds between two signs of life that it may get while it does, if more than a heartbeat.
        """
        patience = max(self._patience, PATIENCE * every)
        self._steps[threading.get_ident()] = doing, time.monotonic(), patience

    @contextmanager
    def in_hand(self, table: TableId) -> Iterator[None]:
        """Work on this table. After a death it is said before, and one table at a time, so that the one is known that
        the next death is to be laid to; a process that dies of a signal has no last word."""
        if time.monotonic() > self._careful_until or not self._one.acquire(timeout=ALONE_SECONDS):
            yield
            return
        try:
            self.send(InHand(table))
            yield
        finally:
            self.send(InHand(None))  # an error is an answer, too, not a death
            self._one.release()

    def beat(self) -> None:
        """This thread's step takes its time, and is well."""
        doing, _, patience = self._steps.get(threading.get_ident(), ("", 0.0, self._patience))
        self._steps[threading.get_ident()] = doing, time.monotonic(), patience

    def die(self) -> None:
        """End this process at once, whatever its threads hang in: its lease has passed on."""
        os._exit(70)

    def keep_saying_alive(self) -> None:
        threading.Thread(target=self._say_alive, name="alive", daemon=True).start()

    def _say_alive(self) -> None:
        hanging: set[str] = set()
        while True:
            try:
                self.tell_counts()
                self.send(Alive())
                hanging = self._tell_hanging(hanging)
            except OSError:
                return  # the parent has gone, and this process goes with it
            time.sleep(min(ALIVE_SECONDS, self._patience / 4))

    def tell_counts(self) -> None:
        """What was counted since this was called last."""
        counted = self._tally.take()
        if counted is not None:
            self.send(counted)

    def _tell_hanging(self, before: set[str]) -> set[str]:
        """The steps that take too long, each said once; those that were said and are over are taken back."""
        now = time.monotonic()
        slow = {
            doing: now - since for doing, since, patience in [*self._steps.values()] if doing and now - since > patience
        }
        for doing in before - set(slow):
            self.send(Waiting(doing, ""))
        for doing in set(slow) - before:
            self.send(Waiting(doing, "no answer yet", slow[doing]))
        return set(slow)

    def receive(self, timeout: float) -> Any | None:
        """The parent's next word, or None after `timeout` seconds. A parent that is gone sets `stop`."""
        try:
            return self._pipe.recv() if self._pipe.poll(timeout) else None
        except (EOFError, OSError):
            self.stop.set()
            return None


def reach(
    end: str, open_: Callable[[], None], link: Link, beat: Callable[[], None] = lambda: None, what: str = ""
) -> bool:
    """Open the "source" or the "sink", waiting as long as it cannot be reached; False when told to stop before it was.

    That it waits (`what` of the worker, "" for all of it) is not taken back: the work does that.
    """
    while not link.stop.is_set():
        beat()
        link.step(f"connecting to the {end}")
        try:
            open_()
        except TransientError as error:
            log.warning("unreachable", end=end, error=str(error))
            link.waits(str(error), what)
            link.stop.wait(error.retry_after)
        else:
            link.step("")
            return True
    return False


@contextmanager
def leased(link: Link, parts: Parts, name: str) -> Iterator[tuple[Queue, Lease, Keeper] | None]:
    """The worker's queue and its lease, kept alive while it works; None when told to stop before it had the lease."""
    with queue_used.opened(parts.make_queue(), parts.service) as queue:
        lease = acquire(queue, name, parts.owner(), parts.service.lease, link.stop)
        if lease is None:
            yield None
            return
        with Keeper(parts.make_queue, lease, HANG_SECONDS, link.die, parts.service.heartbeat) as keeper:
            yield queue, lease, keeper


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """What is started here has Ctrl-C blocked from its first moment on; for this thread it comes when it is over."""
    resource_tracker.ensure_running()  # started on the way, it would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def fork_server() -> Iterator[None]:
    """For a daemon's life. Its server is made with the first worker, and ends here, with all that it has started."""
    before = _settings().pop("tempdir", None)
    with suppress(FileNotFoundError):  # see `_socket_folder`
        tempfile.gettempdir()  # kept from here on: the daemon's is soon a folder of long name
    try:
        yield
    finally:
        _end_server()
        if folder := _settings().pop("tempdir", None):
            shutil.rmtree(folder, ignore_errors=True)
        _settings()["tempdir"] = before


def _settings() -> dict[str, Any]:
    """Where `multiprocessing` looks for the folder ("tempdir") of the server's socket."""
    found: dict[str, Any] = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    return found


def _socket_folder(data: Path) -> str:
    """One of its own where temporary ones are, or else in `data`, of which the path may be too long for a socket.

    FatalError: there is none.
    """
    made = None
    with suppress(OSError):
        made = tempfile.mkdtemp(prefix="syncd-")
    if made is None or len(os.fsencode(made)) > _LONGEST:
        if made is not None:
            os.rmdir(made)
        made = tempfile.mkdtemp(prefix="socket-", dir=data)
    if len(os.fsencode(made)) > _LONGEST:
        os.rmdir(made)
        what = f"no folder is there for a socket: neither one for temporary files, nor is {data} short enough"
        raise FatalError(what, hint=f"set TMPDIR to a writable folder of at most {_LONGEST - 15} bytes")
    return made


def _end_server() -> None:
    server: Any = forkserver._forkserver  # there is no other way to end it
    if server._forkserver_pid is not None:
        os.kill(server._forkserver_pid, signal.SIGKILL)
        with suppress(FileNotFoundError):  # of its socket
            server._stop()
        server._forkserver_address = None


def _ready(parts: Parts) -> None:
    """What the fork server imports, where it is not there yet; what other jobs need beside is imported by workers."""
    # Neither of the two may have a thread in the server.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    os.environ[forked.DAEMON] = str(os.getpid())
    _servers.set_forkserver_preload(["syncd.engine.forked", *sorted(parts.plugin_modules)])
    if _settings().get("tempdir") is None:
        _settings()["tempdir"] = _socket_folder(parts.service.data)
    os.makedirs(_settings()["tempdir"], mode=0o700, exist_ok=True)
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if pid is not None and _is_stopped(pid):
        _end_server()  # it would answer nobody, and hold up all jobs


def _is_stopped(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"T", "t"}
    return False


def _check_files() -> None:
    """OSError: this process may not open as many as a start needs."""
    opened: list[int] = []
    try:
        for _ in range(_FILES):
            opened.append(os.open(os.devnull, os.O_RDONLY))  # noqa: PERF401 - those that were opened are closed
    finally:
        for fd in opened:
            os.close(fd)


class Worker:
    """The parent's end of one worker process."""

    def __init__(
        self, name: str, parts: Parts, work: Callable[..., None], *args: object, careful: bool = False
    ) -> None:
        """`careful`: see `Link.in_hand`."""
        self.name = name
        try:
            _check_files()
            _ready(parts)
            self._pipe, child = _servers.Pipe()
            self._process = _servers.Process(
                target=_main, args=(name, parts, child, careful, work, args), name=f"syncd {name}", daemon=True
            )
            self._start(child)
        except (OSError, EOFError) as error:
            if getattr(error, "errno", None) != errno.EMFILE:
                _end_server()
            hint = "see memory, open files and TMPDIR"
            raise TransientError(f"{name} could not be started: {error!r}", hint=hint) from error

    def _start(self, child: Connection) -> None:
        try:
            with _without_interrupts():
                self._process.start()
        except BaseException:
            self._pipe.close()
            raise
        finally:
            child.close()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    @property
    def exitcode(self) -> int | None:
        return self._process.exitcode

    def send(self, word: object) -> None:
        """A word to a child that has just died is lost; its death is seen by `alive`."""
        try:
            self._pipe.send(word)
        except (BrokenPipeError, ConnectionResetError):
            self._process.join(0.1)

    def words(self) -> Iterator[Any]:
        """Everything the child has said since the last call, without waiting."""
        try:
            while self._pipe.poll():
                yield self._pipe.recv()
        except (EOFError, OSError):
            return

    @property
    def pipe(self) -> Connection:
        """To wait on with `multiprocessing.connection.wait`."""
        return self._pipe

    def stop(self) -> None:
        """Ask it to drain."""
        if self._process.is_alive():
            self._process.terminate()

    def kill(self) -> None:
        """Its end is seen by `alive`."""
        self._process.kill()
        self._process.join(_KILL_SECONDS)

    def close(self) -> None:
        self._pipe.close()


def _check_server() -> None:
    if os.getpid() == forked.SERVER:
        raise FatalError("the fork server could not import syncd", hint="see how the daemon finds it", code="E159")


def _main(
    name: str,
    parts: Parts,
    pipe: Connection,
    careful: bool,
    work: Callable[..., None],
    args: tuple[object, ...],
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C by draining its children
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see `_without_interrupts`
    forked.die_with_parent()
    if os.getppid() != forked.SERVER != os.getpid():
        return
    forked.call_process(name)
    logs.configure(hide=parts.job.secrets.hide_in)
    link = Link(pipe, PATIENCE * parts.service.heartbeat, careful)
    link.keep_saying_alive()
    signal.signal(signal.SIGTERM, lambda *_: link.stop.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    log = structlog.get_logger().bind(worker=name, pid=os.getpid())
    try:
        _check_server()
        try:
            work(link, parts, *args)
        finally:
            link.tell_counts()
    except SyncdError as error:
        # Its text says what, where and what to do; a stack trace would say nothing more.
        log.error("worker_failed", error=str(error), code=error.code)  # noqa: TRY400
        link.send(Failed(error))
        sys.exit(1)
    except BaseException as error:
        log.exception("worker_crashed")
        link.send(
            Failed(FatalError(f"{name} crashed: {type(error).__name__}: {error}", hint="see the log", code="E159"))
        )
        sys.exit(1)
