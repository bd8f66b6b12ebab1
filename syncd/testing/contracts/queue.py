"""The conformance suite of queues. A plugin's test is a subclass with one fixture, and a hook where it can be had:

def make(path: Path, max_bytes: int | None = None) -> MyQueue:
    return MyQueue(MyQueue.Options(...), Context("job", path))

class TestMyQueue(QueueContract):
    @pytest.fixture
    def factory(self, tmp_path: Path) -> Factory:
        return partial(make, tmp_path)

    def later(self, queue: Queue, seconds: float) -> None: ...  # by the clock that its leases are counted in
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from syncd.spi import Queue
from syncd.testing.contracts.queue_groups import Groups, Limits, State
from syncd.testing.contracts.queue_kit import Factory
from syncd.testing.contracts.queue_leases import Leases, Processes, Waits
from syncd.testing.contracts.queue_messages import Messages


class QueueContract(Messages, Groups, Limits, State, Leases, Waits, Processes):
    """Subclass it under a name that pytest collects."""

    @pytest.fixture
    def factory(self) -> Factory:
        """Makes a new, closed instance on the same, at first empty, queue each time; picklable."""
        raise NotImplementedError

    @pytest.fixture
    def queue(self, factory: Factory) -> Iterator[Queue]:
        """An open instance."""
        made = factory()
        made.open()
        yield made
        made.close()

    def later(self, queue: Queue, seconds: float) -> None:
        """Let the time pass. Without a clock that can be moved, it does by itself."""
        time.sleep(seconds)
