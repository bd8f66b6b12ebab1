"""A thread that looks at the queue's files for others, who get its answer or, when the disk hangs, none in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType

import structlog

from syncd.errors import SyncdError
from syncd.ops.metrics import Look
from syncd.spi import Queue

log = structlog.get_logger()

FRESH_SECONDS = 1.0
COST = 10.0
"""A look that took a second is good for so many: looking takes a tenth of one processor at most."""
PATIENCE_SECONDS = 5.0
"""Half of what Prometheus gives a scrape."""


class Looker:
    """Open while the block lasts. `opened` gives a queue that this thread alone uses, open as long as it answers."""

    def __init__(self, opened: Callable[[], AbstractContextManager[Queue]], look: Callable[[Queue], Look]) -> None:
        self._opened = opened
        self._look = look
        self._changed = threading.Condition()
        self._wanted = threading.Event()
        self._ending = False
        self._told = ""
        self._answer: Look | None = None
        self._looked = self._good_until = float("-inf")
        self._thread = threading.Thread(target=self._work, name="look", daemon=True)

    def __enter__(self) -> Looker:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending = True
        self._wanted.set()
        self._thread.join(PATIENCE_SECONDS)  # one that hangs in a dead disk ends with the process

    def latest(self) -> Look | None:
        """A look that is fresh enough; None: the queue is in trouble, or does not answer in time. Any thread asks."""
        asked = time.monotonic()
        with self._changed:
            if asked >= self._good_until:
                self._wanted.set()
                if not self._changed.wait_for(lambda: self._looked >= asked, PATIENCE_SECONDS):
                    return None
            return self._answer

    def _work(self) -> None:
        with ExitStack() as stack:
            queue: Queue | None = None
            while True:
                self._wanted.wait()
                self._wanted.clear()
                if self._ending:
                    return
                began, answer = time.monotonic(), None
                try:
                    if queue is None:
                        queue = stack.enter_context(self._opened())
                    answer = self._look(queue)
                    self._told = ""
                except (SyncdError, OSError) as error:
                    self._tell(str(error))
                except Exception:
                    log.exception("metrics_crashed")  # whatever it is, it must not be the daemon's end
                self._put(answer, time.monotonic() - began)

    def _tell(self, error: str) -> None:
        """Once, until it changes."""
        if error != self._told:
            self._told = error
            log.warning("metrics_wait", error=error)

    def _put(self, answer: Look | None, took: float) -> None:
        with self._changed:
            self._answer, self._looked = answer, time.monotonic()
            self._good_until = self._looked + max(FRESH_SECONDS, COST * took)
            self._changed.notify_all()
