"""The embedded queue under the conformance suite."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from syncd.mq.embedded import EmbeddedQueue, Options
from syncd.spi import Context, Queue
from syncd.testing.contracts.queue import QueueContract
from syncd.testing.contracts.queue_kit import Factory


def make(path: Path, sync: str, max_bytes: int | None = None) -> EmbeddedQueue:
    values = {"sync": sync, "segment_bytes": 1 << 20, "lock_seconds": 5.0}
    if max_bytes is not None:
        values |= {"max_bytes": max_bytes, "keep_bytes": 0}
    return EmbeddedQueue(Options.model_validate(values), Context("job", path))


class EmbeddedContract(QueueContract):
    def later(self, queue: Queue, seconds: float) -> None:
        assert isinstance(queue, EmbeddedQueue)
        clock = queue._clock
        queue._clock = replace(clock, now=lambda: clock.now() + seconds)


class TestEmbeddedQueue(EmbeddedContract):
    @pytest.fixture
    def factory(self, tmp_path: Path) -> Factory:
        return partial(make, tmp_path, "FULL")


class TestEmbeddedQueueUnsynced(EmbeddedContract):
    @pytest.fixture
    def factory(self, tmp_path: Path) -> Factory:
        return partial(make, tmp_path, "NORMAL")
