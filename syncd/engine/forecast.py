"""What is coming: when the source may purge its log at the saved position, and when the queue will be full.

Both are told from how it stands now and how fast that has changed in the last minutes, of which samples are saved. What
the source keeps and has not been read is never asked of it in bytes: lag is time, and so is what is left of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import structlog

from syncd.engine.build import clock
from syncd.spi import Queue
from syncd.state import Items, Sample, SourceRecord, State

log = structlog.get_logger()

LOOK_SECONDS = 5.0
NAMED = 3
PURGE_HINT = "see what capture waits for, and let the source keep its log for longer: a log that is gone is a new load"
LEAST_SECONDS = 20.0
"""A pace is not told from less than this."""
SAMPLE_SECONDS = 120.0
"""How old a sample is when the next one is taken; two are kept."""
BEHIND_SECONDS = 60.0
"""Less lag than this is no lag: what grows within it does not go on growing."""
EMPTY = 0.1
"""The part of the queue's limit below which it is not said to fill: finished messages are kept for a while."""
OVER = 1.2
"""A warning is over when what is left is more than this many times what it was given at."""


def purged_in(source: SourceRecord | None, kept: float | None, now: int) -> float | None:
    """Seconds until the source may purge its log at the saved position (below 0: it may have), None while not known.

    `kept`: `State.log_kept`. It counts from when the position was current, so that it shrinks while capture stands
    still; the server purges whole files, and so rather later.
    """
    if source is None or kept is None or not source.time:
        return None
    return kept - (now - source.time) / 1e6


def purge_forecast(
    source: SourceRecord | None, kept: float | None, samples: Sequence[Sample], now: int
) -> float | None:
    """Seconds until then at the pace of the last minutes. None: never, since capture keeps up, or not known."""
    left, since = purged_in(source, kept, now), _oldest(samples, now)
    if left is None or source is None or since is None or not since.time:
        return None
    lag, growth = (now - source.time) / 1e6, 1 - (source.time - since.time) / (now - since.at)
    return max(0.0, left) / growth if lag > BEHIND_SECONDS and growth > 0 else None


def full_in(used: int, limit: int, samples: Sequence[Sample], now: int) -> float | None:
    """Seconds until the queue is full at the pace of the last minutes; 0: it is. None: never, or not known."""
    if used >= limit:
        return 0.0
    since = _oldest(samples, now)
    if since is None or used < EMPTY * limit or used <= since.used:
        return None
    return (limit - used) / (used - since.used) * (now - since.at) / 1e6


def sampled(samples: Sequence[Sample], source: SourceRecord | None, used: int, now: int) -> tuple[Sample, ...]:
    """The samples to keep: the same ones, or with one of now in the place of the older one."""
    if samples and samples[-1].at <= now < samples[-1].at + SAMPLE_SECONDS * 1e6:
        return tuple(samples)
    fresh = Sample(now, 0 if source is None else source.time, used)
    older = [sample for sample in samples[-1:] if sample.at <= now < sample.at + 2 * SAMPLE_SECONDS * 1e6]
    return (*older, fresh)


def purge_limit(warning: float, kept: float) -> float:
    """What is left when it is warned of: a log that is kept for a short time is always near its end."""
    return min(warning, kept / 2)


def _oldest(samples: Sequence[Sample], now: int) -> Sample | None:
    return next((sample for sample in samples if now - sample.at >= LEAST_SECONDS * 1e6), None)


class Alarm:
    """Says once that something is near, and once that it is over."""

    def __init__(self, near: str, far: str) -> None:
        """The names of the two events."""
        self._near, self._far = near, far
        self._rung = False

    def look(self, left: float | None, limit: float, facts: Callable[[], Mapping[str, object]]) -> None:
        """`left`: seconds; None: it does not come. `facts`: asked for when it is said."""
        if not self._rung and left is not None and left < limit:
            self._rung = True
            log.warning(self._near, seconds=round(max(0.0, left)), **facts())
        elif self._rung and (left is None or left > OVER * limit):
            self._rung = False
            log.info(self._far, seconds=None if left is None else round(left), **facts())


class PurgeWatch:
    """Of one job, in the daemon: so it also sees a capture that stands still. `warning`: seconds."""

    def __init__(self, queue: Queue, job: str, warning: float) -> None:
        self._queue, self._job, self._warning = queue, job, warning
        self._state = State(queue, job)
        self._alarm = Alarm("log_purge_near", "log_purge_far")
        self._looked = float("-inf")

    def look(self) -> Items:
        """What is to be saved, for `syncd status` and the next start. Looks at its own pace."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return {}
        self._looked, now = time.monotonic(), clock()
        source, kept = self._state.source(), self._state.log_kept()
        left = purged_in(source, kept, now)
        if kept is not None and left is not None:
            facts = {"job": self._job, "kept": kept, "lag": round(kept - left), "hint": PURGE_HINT}
            self._alarm.look(left, purge_limit(self._warning, kept), lambda: facts)
        samples = self._state.samples()
        keep = sampled(samples, source, self._queue.usage()[0], now)
        return {} if keep == samples else self._state.samples_item(keep)


class QueueWatch:
    """Of the queue that all jobs of the daemon share. `warning`: seconds."""

    def __init__(self, queue: Queue, warning: float) -> None:
        self._queue, self._warning = queue, warning
        self._samples: tuple[Sample, ...] = ()
        self._alarm = Alarm("queue_full_near", "queue_full_far")

    def look(self) -> None:
        """TransientError: the queue is in trouble."""
        now, (used, limit) = clock(), self._queue.usage()
        self._samples = sampled(self._samples, None, used, now)
        left = full_in(used, limit, self._samples, now)
        self._alarm.look(left, self._warning, lambda: {"bytes": used, "limit": limit, "held": self._held()})

    def _held(self) -> dict[str, int]:
        """Group -> bytes that it has not finished, the largest ones."""
        sums = Counter({group: sum(of.bytes for of in lanes.values()) for group, lanes in self._queue.held().items()})
        return dict(sums.most_common(NAMED))
