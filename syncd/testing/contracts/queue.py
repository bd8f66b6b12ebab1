"""The conformance suite of queues. A plugin's test is a subclass with one fixture:

def make(path: Path, max_bytes: int | None = None) -> MyQueue:
    return MyQueue(MyQueue.Options(...), Context("job", path))

class TestMyQueue(QueueContract):
    @pytest.fixture
    def factory(self, tmp_path: Path) -> Factory:
        return partial(make, tmp_path)
"""

from __future__ import annotations

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
