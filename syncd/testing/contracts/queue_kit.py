"""What the conformance suite of queues writes with: messages, and child processes that are killed and frozen."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Protocol, TypeVar

from syncd.errors import FencedError, TransientError
from syncd.model import Kind, Lane, Message, TableId
from syncd.spi import Lease, Queue

TOPIC = "job"
GROUP = "job/sink"
A0 = Lane("shop.a", 0)
A1 = Lane("shop.a", 1)
B0 = Lane("shop.b", 0)
TTL = 30.0
T = TypeVar("T")
_spawn = multiprocessing.get_context("spawn")


class Factory(Protocol):
    """Makes a new, closed instance on the same queue each time. Picklable (functools.partial).

    `max_bytes`: the limit of the queue, where the test needs a small one; the same in all its calls.
    """

    def __call__(self, max_bytes: int | None = None) -> Queue: ...


def message(seq: int, lane: Lane = A0, body: bytes = b"body", kind: Kind = Kind.ROWS) -> Message:
    database, name = lane.tag.split(".")
    return Message(
        lane=lane,
        kind=kind,
        table=TableId(database, name),
        schema_version=1,
        rows=1,
        first_seq=seq,
        last_seq=seq,
        trace=seq,
        time=0,
        captured=0,
        body=body,
    )


def leased(queue: Queue, name: str = "capture", owner: str = "one", ttl: float = TTL) -> Lease:
    lease = queue.acquire(name, owner, ttl)
    assert lease is not None, f"lease {name!r} is not free"
    return lease


def seqs(queue: Queue, lane: Lane = A0, offset: int = 0, max_bytes: int = 1 << 20) -> list[int]:
    """The seqs of all messages of the lane from `offset` on, read page by page."""
    found = []
    while page := queue.poll(TOPIC, lane, offset, max_bytes):
        assert page[0].offset >= offset, "poll gave a message again that lies before its offset"
        found += [item.message.first_seq for item in page]
        offset = page[-1].offset + 1
    return found


@contextlib.contextmanager
def opened(factory: Factory, max_bytes: int | None = None) -> Iterator[Queue]:
    queue = factory(max_bytes)
    queue.open()
    try:
        yield queue
    finally:
        queue.close()


@contextlib.contextmanager
def child(target: Callable[..., None], *args: object) -> Iterator[tuple[BaseProcess, Connection]]:
    """A spawned process, with our end of a pipe whose other end is `target`'s first argument."""
    ours, theirs = _spawn.Pipe()
    process = _spawn.Process(target=target, args=(theirs, *args))
    process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        ours.close()


def heard(connection: Connection, seconds: float = 60.0) -> object:
    assert connection.poll(seconds), f"the child process said nothing for {seconds} s"
    return connection.recv()


# -------------------------------------------------------------------------------------------- run in child processes


def publish_some(pipe: Connection, factory: Factory, name: str, first: int, count: int) -> None:
    """Publish `count` messages to A0, one a call, under a lease of its own."""
    with opened(factory) as queue:
        lease = leased(queue, name, name)
        for seq in range(first, first + count):
            queue.publish(lease, TOPIC, [message(seq)], {f"at/{name}": str(seq).encode()})
    pipe.send("done")


def publish_for_ever(pipe: Connection, factory: Factory, ttl: float, messages: int = 3) -> None:
    """Publish seq 1, 2, ... to A0, A1 and B0 in one call each, tell each acknowledgement; tell the FencedError."""
    with opened(factory) as queue:
        lease = leased(queue, "capture", "child", ttl)
        for seq in range(1, 1_000_000_000):
            try:
                queue.publish(
                    lease,
                    TOPIC,
                    [message(seq, lane, os.urandom(2000)) for lane in (A0, A1, B0)[:messages]],
                    {"position": str(seq).encode()},
                )
            except FencedError as error:
                pipe.send(error)
                return
            pipe.send(seq)


def commit_for_ever(pipe: Connection, factory: Factory) -> None:
    """Commit offset and state 1, 2, ... of lane A0, telling each; the lane has messages enough."""
    with opened(factory) as queue:
        lease = leased(queue, "sink", "child")
        end = queue.lanes(GROUP)[A0][1]
        for offset in range(1, end + 1):
            queue.commit(lease, GROUP, {A0: offset}, {"applied": str(offset).encode()}, [])
            pipe.send(offset)
        pipe.send("end")


def tell_wakes(pipe: Connection, factory: Factory) -> None:
    """Answer each request with the time at which `wait` came back, in seconds of the machine's monotonic clock."""
    with opened(factory) as queue:
        offset = 0
        while True:
            page = queue.poll(TOPIC, A0, offset, 1 << 20)
            if page:
                offset = page[-1].offset + 1
                continue
            pipe.send("waiting")
            woken = queue.wait(TOPIC, 30.0)
            pipe.send((woken, time.monotonic()))


def patiently(call: Callable[[], T], seconds: float = 60.0) -> T:
    """The call's answer, called again after each TransientError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except TransientError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
