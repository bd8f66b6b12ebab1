"""Who calls the sink: the delivery's own thread, or a pool of threads that have an instance each.

A lane always goes to the same instance: one lane, one connection, one order.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from syncd.errors import TransientError
from syncd.model import Lane, TableId
from syncd.spi import Sink

T = TypeVar("T")

Task = tuple[Future[Any], TableId, Callable[[Sink], Any], bool]


class Writers(Protocol):
    def submit(self, lane: Lane, table: TableId, do: Callable[[Sink], T], *, long: bool = False) -> Future[T]:
        """Calls for one lane are made in the order in which they are given. `long`: it may take hours, and be well."""


class Inline:
    """For sinks whose lanes share writes: every call is done when `submit` returns."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def submit(self, lane: Lane, table: TableId, do: Callable[[Sink], T], *, long: bool = False) -> Future[T]:
        future: Future[T] = Future()
        _fulfil(future, do, self._sink)
        return future


class Pool:
    """`count` threads. `opened`: gives each its open instance, or None when told to stop before there is one.

    `around` is held in the thread while something, maybe long, is done for a table.
    """

    def __init__(
        self,
        count: int,
        opened: Callable[[], AbstractContextManager[Sink | None]],
        around: Callable[[TableId, bool], AbstractContextManager[None]],
    ) -> None:
        self._opened, self._around = opened, around
        self._tasks: list[SimpleQueue[Task | None]] = [SimpleQueue() for _ in range(count)]
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"write {number}") for number in range(count)
        ]

    @contextmanager
    def running(self) -> Iterator[Pool]:
        """What is submitted inside is done when it ends."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            for tasks in self._tasks:
                tasks.put(None)
            for thread in self._threads:
                thread.join()

    def submit(self, lane: Lane, table: TableId, do: Callable[[Sink], T], *, long: bool = False) -> Future[T]:
        future: Future[T] = Future()
        self._tasks[(zlib.crc32(lane.tag.encode()) + lane.queue) % len(self._tasks)].put((future, table, do, long))
        return future

    def _run(self, number: int) -> None:
        tasks = self._tasks[number]
        try:
            with self._opened() as sink:
                while sink is not None:
                    task = tasks.get()
                    if task is None:
                        return
                    future, table, do, long = task
                    with self._around(table, long):
                        _fulfil(future, do, sink)
            failure: BaseException = TransientError("the delivery ends")
        except BaseException as error:  # noqa: BLE001 - told to all who ask for something
            failure = error
        while (task := tasks.get()) is not None:
            task[0].set_exception(failure)


def _fulfil(future: Future[T], do: Callable[[Sink], T], sink: Sink) -> None:
    try:
        answer = do(sink)
    except BaseException as error:  # noqa: BLE001 - raised where the answer is asked for
        future.set_exception(error)
    else:
        future.set_result(answer)
