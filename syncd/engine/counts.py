"""What the workers of a daemon have done, counted: by each worker since its last word, summed up by the daemon.

A worker tells what it has counted every second and at its end. One that is killed takes its last second with it; what
was summed up never goes down while the daemon lives.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Kind(NamedTuple):
    """`labels`: beside the job."""

    help: str
    labels: tuple[str, ...]


_TABLE, _AT_SINK = ("table",), ("sink", "table")

COUNTERS = {
    "captured_rows": Kind("Row changes read from the source's log; again where a stream began anew.", _TABLE),
    "captured_bytes": Kind("The same in bytes of Arrow columns.", _TABLE),
    "published_rows": Kind("Row changes stored in the queue, after transforms; a changed key is two.", _TABLE),
    "published_bytes": Kind("The same in bytes of message bodies, compressed.", _TABLE),
    "delivered_rows": Kind("Row changes applied at the sink, their offset committed.", _AT_SINK),
    "delivered_bytes": Kind("Bytes of Arrow columns written for them; changes of one key are merged first.", _AT_SINK),
    "loaded_rows": Kind("Rows of snapshot chunks that were written and marked done.", _AT_SINK),
    "loaded_bytes": Kind("The same in bytes of Arrow columns.", _AT_SINK),
    "refused_rows": Kind("Rows that the sink refused; each halts its table.", _AT_SINK),
    "sink_writes": Kind("Writes that the sink has taken, of chunks and of changes.", _AT_SINK),
    "sink_missing_rows": Kind(
        "Rows that a change found gone at the sink, at least: somebody else has removed them there.", _AT_SINK
    ),
    "sink_unexpected_rows": Kind(
        "Rows that an INSERT found at the sink already, at least: somebody else has written them there.", _AT_SINK
    ),
    "sink_write_seconds": Kind("Seconds that these writes took.", _AT_SINK),
    "retries": Kind("Steps made again after a passing fault at the sink; no sink: at the source or queue.", ("sink",)),
    "table_halts": Kind("Times that the table was halted; no sink: at capture, for all sinks.", _AT_SINK),
    "waits": Kind("Times that a worker, or a part of its work, began to wait.", ("worker",)),
    "worker_restarts": Kind("Times that a worker was started again after it had died or been killed.", ("worker",)),
}
"""Name -> what it counts, in the unit of its last word."""

Key = tuple[str, ...]
"""Name, then the values of the labels."""


class Count(Protocol):
    def __call__(self, name: str, *labels: str, by: float = 1) -> None:
        """`name`: of `COUNTERS`, with as many labels as that says."""


def nothing(name: str, *labels: str, by: float = 1) -> None:
    """For work that nobody counts."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Word of a worker: what it has done since the last one."""

    sums: Mapping[Key, float]


class Tally:
    """The worker's side. Any thread counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: Counter[Key] = Counter()

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """See `Count`."""
        assert len(labels) == len(COUNTERS[name].labels)
        with self._lock:
            self._sums[name, *labels] += by  # type: ignore[assignment]  # a Counter's values may be any numbers

    def take(self) -> Counted | None:
        """What is not said yet."""
        with self._lock:
            sums, self._sums = self._sums, Counter()
        return Counted(sums) if sums else None


class Sums:
    """The daemon's side: added to by its main thread, read by any. Name, job and labels -> sum since the start."""

    def __init__(self) -> None:
        self._sums: dict[Key, float] = {}

    def add(self, job: str, word: Counted) -> None:
        for (name, *labels), value in word.sums.items():
            self.count(name, job, *labels, by=value)

    def count(self, name: str, job: str, *labels: str, by: float = 1) -> None:
        key = (name, job, *labels)
        self._sums[key] = self._sums.get(key, 0) + by

    def now(self) -> dict[Key, float]:
        return self._sums.copy()
