"""The sinks of one reader, each in a thread of its own, and the way of a chunk into several of them at once.

What one scan reads is written to all sinks of a copy side by side. One that fails, or keeps the others waiting, is left
out, and they go on without it.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar

import structlog

from syncd.engine.batches import refused
from syncd.engine.build import Parts
from syncd.engine.process import Link
from syncd.engine.words import Copy, GivenBack, LeftOut, Records, Refused, Slow
from syncd.errors import BatchError, FencedError, MovedError, SyncdError, TransientError
from syncd.model import ChangeBatch, Target
from syncd.spi import Sink, Ticket
from syncd.state import TableRecord

log = structlog.get_logger()
T = TypeVar("T")

LATE_SECONDS = 5.0
"""So long may a sink keep the others of its copies waiting: at one write; or in all, if it makes them twice as slow."""
SLOWER = 0.5
"""Part of the time that the others stand still."""
HANGS_SECONDS = 30.0
"""A write of a chunk that takes longer is told, also where nobody waits for it: others may want for readers."""


class OneThread:
    """Makes calls one after the other. One that hangs does not keep the process from ending."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, do: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._calls.put((future, do))
        return future

    def _run(self) -> None:
        while True:
            future, do = self._calls.get()
            try:
                answer = do()
            except BaseException as error:  # noqa: BLE001 - raised where the answer is asked for
                future.set_exception(error)
            else:
                future.set_result(answer)


@dataclass
class Outlet:
    """The way to one sink. `over`: nobody waits for its writes any more. `ended`: the last one, monotonic seconds."""

    record: TableRecord
    over: threading.Event = field(default_factory=threading.Event)
    writing: Future[None] | None = None
    ended: float = 0.0


class ReaderSinks:
    """A sink is used in its own thread only."""

    def __init__(self, parts: Parts, link: Link) -> None:
        self._parts = parts
        self._link = link
        self._sinks: dict[str, Sink] = {}
        self._threads: dict[str, OneThread] = {}

    def submit(self, name: str, do: Callable[[], T]) -> Future[T]:
        """Called in the sink's thread, when what was submitted before is done."""
        if name not in self._threads:
            self._threads[name] = OneThread(f"write {name}")
        return self._threads[name].submit(do)

    def sink(self, name: str) -> Sink:
        """Open. For its thread."""
        if name not in self._sinks:
            sink = self._parts.reach_sink(name)
            try:
                sink.open()
            except BaseException:
                sink.close()
                raise
            self._sinks[name] = sink
        return self._sinks[name]

    def write(self, outlet: Outlet, target: Target, batch: ChangeBatch, ticket: Ticket, doing: str) -> None:
        """`doing`: for people, while it takes too long."""

        def do() -> None:
            try:
                self._write(outlet, target, batch, ticket, f"{doing} to {outlet.record.sink}")
            finally:
                self._link.step("")
                outlet.ended = time.monotonic()

        outlet.writing = self.submit(outlet.record.sink, do)

    def _write(self, outlet: Outlet, target: Target, batch: ChangeBatch, ticket: Ticket, doing: str) -> None:
        """The same call again until the sink has taken it, or nobody waits for it."""
        name = outlet.record.sink
        at = name, str(target.schema.table)

        def write() -> None:
            self._link.step(doing)
            sink, began = self.sink(name), time.monotonic()
            sink.write(target, batch, ticket)
            self._link.count("sink_writes", *at)
            self._link.count("sink_write_seconds", *at, by=time.monotonic() - began)

        try:
            until_done(self._link, write, name, outlet.over.is_set)
        except BatchError as error:
            self._link.count("refused_rows", *at, by=len(error.rows))
            raise refused(batch, target.schema.key, error) from error
        except MovedError as error:
            raise TransientError(f"{error.what}; the chunk is read again", code=error.code) from error

    def close(self) -> None:
        for name, sink in [*self._sinks.items()]:
            self.submit(name, sink.close).result()


class Pace:
    """How long each sink has kept others waiting, of how long it was in copies with them: seconds."""

    def __init__(self) -> None:
        self._late: defaultdict[str, float] = defaultdict(float)
        self._shared: defaultdict[str, float] = defaultdict(float)

    def note(self, sink: str, late: float, shared: float) -> bool:
        """Whether the others are better off without it."""
        self._late[sink] += late
        self._shared[sink] += shared
        return self._late[sink] > max(LATE_SECONDS, SLOWER * self._shared[sink])

    def forget(self, sink: str) -> None:
        self._late.pop(sink, None)
        self._shared.pop(sink, None)


class Fan:
    """One chunk on its way into several sinks; `outlets`: those that are still with it."""

    def __init__(self, link: Link, pace: Pace, task: Copy) -> None:
        self.chunk = task.chunk
        self.outlets = [Outlet(record) for record in task.records]
        self._link = link
        self._pace = pace
        self._since = time.monotonic()
        self._told_slow = False

    @property
    def records(self) -> Records:
        return tuple(outlet.record for outlet in self.outlets)

    def begin_again(self) -> None:
        """Writes that are under way come first in their threads, and what becomes of them is found again."""
        self._since = time.monotonic()
        for outlet in self.outlets:
            outlet.writing = None

    def settle(self) -> None:
        """The last write has ended at every sink that is still with the copy.

        FencedError: this process has no say any more. TransientError: of the one sink, where there are no others.
        """
        writes = {outlet.writing: outlet for outlet in self.outlets if outlet.writing is not None}
        pending, shared = self._until_one_has_written(writes), len(self.outlets) > 1
        first = time.monotonic()
        done, pending = wait(pending, LATE_SECONDS)
        for future in done:
            self._take(writes[future])
        for future in pending:
            self._leave_out(writes[future], f"its write takes {LATE_SECONDS:g} s longer than that of another sink")
        if shared:
            self._judge(first)
        self._since = time.monotonic()

    def _until_one_has_written(self, writes: dict[Future[None], Outlet]) -> set[Future[None]]:
        """Until then no sink is slower than the others; one with nothing to write has. What is still under way."""
        pending, written = {*writes}, len(writes) < len(self.outlets)
        while pending and not written:
            done, pending = wait(pending, HANGS_SECONDS, FIRST_COMPLETED)
            written = sum(self._take(writes[future]) for future in done) > 0
            if not done and not self._told_slow:
                self._told_slow = True
                for future in pending:
                    reason = f"a write takes more than {HANGS_SECONDS:g} s"
                    self._link.send(Slow(writes[future].record.sink, reason))
        return pending

    def _take(self, outlet: Outlet) -> bool:
        """What became of its write: whether it is done."""
        assert outlet.writing is not None
        try:
            outlet.writing.result()
        except FencedError:
            raise
        except TransientError as error:
            if len(self.outlets) == 1:
                raise
            self._leave_out(outlet, str(error))
        except SyncdError as error:
            self.refuse(outlet, error)
        else:
            return True
        return False

    def refuse(self, outlet: Outlet, error: SyncdError) -> None:
        """The table cannot go on at this sink, to which nothing of it is being written."""
        self.outlets.remove(outlet)
        self._link.send(Refused((outlet.record,), error))

    def _judge(self, first: float) -> None:
        """`first`: when one of them had written, and this thread had more for it."""
        shared = time.monotonic() - self._since
        wrote = [outlet for outlet in self.outlets if outlet.writing is not None]
        late = {outlet.record.sink: max(0.0, outlet.ended - first) for outlet in wrote}
        for outlet in wrote:
            sink = outlet.record.sink
            if self._pace.note(sink, late[sink], shared) and len(self.outlets) > 1:
                self._leave_out(outlet, f"others have waited for it {LATE_SECONDS:g} s, and most of the time")

    def _leave_out(self, outlet: Outlet, reason: str) -> None:
        """The chunk is given back when nothing writes to it any more."""
        outlet.over.set()
        self.outlets.remove(outlet)
        self._pace.forget(outlet.record.sink)
        self._link.send(LeftOut(outlet.record, self.chunk, reason))
        given_back = GivenBack(outlet.record, self.chunk)
        assert outlet.writing is not None
        outlet.writing.add_done_callback(lambda _: self._link.send(given_back))


def until_done(link: Link, do: Callable[[], None], sink: str = "", over: Callable[[], bool] = lambda: False) -> bool:
    """The same call again while it fails for a while; False when told to stop first, or when it is `over`."""
    what = f"writing to {sink}" if sink else "writing"
    while not (link.stop.is_set() or over()):
        try:
            do()
        except TransientError as error:
            log.warning("snapshot_waits", error=str(error))
            link.waits(str(error), what)
            link.count("retries", sink)
            link.stop.wait(error.retry_after)
        else:
            link.waits("", what)
            return True
    link.waits("", what)
    return False
