"""A sink that can live in one process only, and the way to it from all others.

`SinkHost` owns the instance and its thread: callers in the same process queue their calls. `SinkServer` lets other
processes of the same user in through a local socket; `RemoteSink` is the sink that they see.
"""

from __future__ import annotations

import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from syncd.engine.passing import receive, send
from syncd.errors import FatalError, SyncdError, TransientError
from syncd.model import Bound, ChangeBatch, Finding, Lane, SchemaChange, TableId, Target, TargetPlan
from syncd.spi import Mark, Sink, Ticket, Traits

_END = "end of scan"
_LONGEST_ADDRESS = 107
"""Bytes of a socket's name, as unix(7) says."""
_CALLS = frozenset({"check", "folds", "plan", "prepare", "fence", "write", "marks", "apply", "swap", "scan", "expire"})


class SinkHost:
    """Runs every call of one sink instance in one thread, in the order of their arrival."""

    def __init__(self, make: Callable[[], Sink]) -> None:
        self._make = make
        self._calls: queue.SimpleQueue[tuple[Callable[[Sink], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)
        self._opened: Future[None] = Future()

    def open(self) -> None:
        self._thread.start()
        self._opened.result()

    def close(self) -> None:
        self._calls.put(None)
        self._thread.join()

    def call(self, do: Callable[[Sink], Any]) -> Any:
        future: Future[Any] = Future()
        self._calls.put((do, future))
        return future.result()

    def _open(self) -> Sink:
        sink = self._make()
        try:
            sink.open()
        except BaseException:
            sink.close()
            raise
        return sink

    def _run(self) -> None:
        try:
            sink = self._open()
        except BaseException as error:  # noqa: BLE001 - handed to the caller of open(), whatever it is
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        while (item := self._calls.get()) is not None:
            do, future = item
            try:
                future.set_result(do(sink))
            except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
                future.set_exception(error)
        sink.close()


class _Proxy:
    """A sink whose calls go elsewhere. `_ask` carries one call; `_rows` the answers of a scan."""

    Options: ClassVar[type[Any]] = object

    def __init__(self, traits: Traits) -> None:
        self._traits = traits

    def _ask(self, call: str, *args: object) -> Any:
        raise NotImplementedError

    def _rows(self, *args: object) -> Iterator[pa.RecordBatch]:
        raise NotImplementedError

    def traits(self) -> Traits:
        return self._traits

    def open(self) -> None:
        """Nothing to do: the host has opened the sink."""

    def close(self) -> None:
        """Nothing to do: the host closes the sink."""

    def check(self) -> Sequence[Finding]:
        answer: Sequence[Finding] = self._ask("check")
        return answer

    def folds(self) -> str:
        return str(self._ask("folds"))

    def plan(self, target: Target) -> TargetPlan:
        answer: TargetPlan = self._ask("plan", target)
        return answer

    def prepare(self, target: Target, newest: int | None = None) -> None:
        self._ask("prepare", target, newest)

    def fence(self, owner: str, epoch: int) -> None:
        self._ask("fence", owner, epoch)

    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        self._ask("write", target, batch, ticket)

    def marks(self, owner: str) -> Mapping[Lane, Mark]:
        answer: Mapping[Lane, Mark] = self._ask("marks", owner)
        return answer

    def apply(self, target: Target, change: SchemaChange, ticket: Ticket) -> None:
        self._ask("apply", target, change, ticket)

    def swap(self, shadow: Target, target: Target, seq: int, ticket: Ticket) -> None:
        self._ask("swap", shadow, target, seq, ticket)

    def scan(self, target: Target, lower: Bound | None, upper: Bound | None) -> Iterator[pa.RecordBatch]:
        return self._rows(target, lower, upper)

    def expire(self, target: Target, below: int) -> None:
        self._ask("expire", target, below)


class HostedSink(_Proxy):
    """The hosted sink for another thread of the host's process."""

    def __init__(self, host: SinkHost, traits: Traits) -> None:
        super().__init__(traits)
        self._host = host

    def _ask(self, call: str, *args: object) -> Any:
        return self._host.call(lambda sink: getattr(sink, call)(*args))

    def _rows(self, *args: object) -> Iterator[pa.RecordBatch]:
        rows = self._ask("scan", *args)
        while (batch := self._host.call(lambda _: next(rows, None))) is not None:
            yield batch


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """A name of the socket that the kernel takes; where the path is too long for it, by way of the open folder."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class SinkServer:
    """Serves a hosted sink on `path`, a socket in a directory that only its user can enter."""

    def __init__(
        self,
        path: Path,
        host: SinkHost,
        traits: Traits,
        in_hand: Callable[[TableId], AbstractContextManager[None]] = lambda table: nullcontext(),
    ) -> None:
        """`in_hand` is held during a write: see `Link`."""
        self._path = path
        self._in_hand = in_hand
        self._sink = HostedSink(host, traits)
        self._key = secrets.token_bytes(32)
        self._open = ExitStack()

    def start(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.parent.chmod(0o700)
        self._path.unlink(missing_ok=True)
        self._listener = Listener(self._open.enter_context(_address(self._path)), family="AF_UNIX", backlog=16)
        self._path.chmod(0o600)
        key_file = _key_file(self._path)
        key_file.unlink(missing_ok=True)
        with os.fdopen(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(self._key)
        threading.Thread(target=self._accept, name="sink server", daemon=True).start()

    def stop(self) -> None:
        self._listener.close()
        self._open.close()
        self._path.unlink(missing_ok=True)
        _key_file(self._path).unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:
                return  # stopped
            threading.Thread(target=self._serve, args=(connection,), name="sink client", daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        """Asks for the key in this client's own thread: one that is frozen here holds up nobody else (8)."""
        with connection:
            try:
                deliver_challenge(connection, self._key)
                answer_challenge(connection, self._key)
                while True:
                    call, *args = receive(connection)
                    self._answer(connection, call, args)
            except (EOFError, OSError, AuthenticationError):
                return  # the client has gone, or does not know the key

    def _answer(self, connection: Connection, call: str, args: Sequence[Any]) -> None:
        try:
            if call == "scan":
                for batch in self._sink.scan(*args):
                    send(connection, (True, batch))
                answer: object = _END
            elif call == "write":
                answer = None
                with self._in_hand(args[0].schema.table):
                    self._sink.write(*args)
            else:
                answer = getattr(self._sink, call)(*args) if call in _CALLS else None
        except SyncdError as error:
            send(connection, (False, error))
        except Exception as error:  # noqa: BLE001 - a plugin's unmapped error is fatal for the caller's table
            send(connection, (False, FatalError(f"the sink failed: {type(error).__name__}: {error}", code="E159")))
        else:
            send(connection, (True, answer))


class RemoteSink(_Proxy):
    """The hosted sink for another process: the one behind the socket at `path`."""

    def __init__(self, path: Path, traits: Traits) -> None:
        super().__init__(traits)
        self._path = path
        self._connection: Connection | None = None

    def open(self) -> None:
        """TransientError while the process that hosts the sink is not there (yet)."""
        try:
            with _address(self._path) as address:
                self._connection = Client(address, family="AF_UNIX", authkey=_key_file(self._path).read_bytes())
        except (OSError, EOFError, AuthenticationError) as error:
            raise TransientError(
                f"the process that hosts the sink does not answer at {self._path}: {error}",
                retry_after=0.2,
                code="E122",
            ) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, call: str, *args: object) -> Any:
        connection = self._send(call, *args)
        return self._receive(connection)

    def _rows(self, *args: object) -> Iterator[pa.RecordBatch]:
        connection = self._send("scan", *args)
        ended = False
        try:
            while not isinstance(answer := self._receive(connection), str):
                yield answer
            ended = True
        finally:
            if not ended:
                self.close()  # the rest of the answers is still on its way: this connection cannot be used again

    def _send(self, call: str, *args: object) -> Connection:
        if self._connection is None:
            self.open()
        assert self._connection is not None
        try:
            send(self._connection, (call, *args))
        except OSError as error:
            raise self._gone(error) from error
        return self._connection

    def _receive(self, connection: Connection) -> Any:
        try:
            good, answer = receive(connection)
        except (OSError, EOFError) as error:
            raise self._gone(error) from error
        if not good:
            raise answer
        return answer

    def _gone(self, error: Exception) -> TransientError:
        self.close()
        return TransientError(
            f"the process that hosts the sink went away: {error or type(error).__name__}", retry_after=0.5, code="E122"
        )


def _key_file(path: Path) -> Path:
    return path.with_suffix(".key")
