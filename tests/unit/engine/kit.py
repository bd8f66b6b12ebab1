"""A small real queue for the tests of single parts of the engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from syncd.mq.embedded import EmbeddedQueue, Options
from syncd.mq.embedded.clock import Clock
from syncd.spi import Context, Lease, Queue


def make_queue(folder: Path, clock: Clock | None = None) -> EmbeddedQueue:
    """A new, closed instance on the queue in `folder`."""
    return EmbeddedQueue(Options.model_validate({"sync": "NORMAL"}), Context("job", folder), clock=clock)


@contextmanager
def opened_queue(folder: Path, clock: Clock | None = None) -> Iterator[EmbeddedQueue]:
    queue = make_queue(folder, clock)
    queue.open()
    try:
        yield queue
    finally:
        queue.close()


def leased(queue: Queue, name: str = "job/j/deliver/s", owner: str = "me", ttl: float = 30.0) -> Lease:
    lease = queue.acquire(name, owner, ttl)
    assert lease is not None
    return lease
