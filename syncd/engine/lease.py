"""A lease kept alive beside the work, and lost when the work hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from syncd.errors import FencedError, TransientError
from syncd.spi import Lease, Queue


class Keeper:
    """Renews `lease` from its own thread and its own queue instance.

    The work calls `beat()` at each step. When it has not for `deadline` seconds the lease is no longer renewed, so that
    another process can take over from a write that hangs. Once lost, `on_lost` is called (once) and `lost` is set: the
    work must end; its writes are refused from now on in any case (guarantee 7).
    """

    def __init__(
        self, make_queue: Callable[[], Queue], lease: Lease, deadline: float, on_lost: Callable[[], None]
    ) -> None:
        self._make_queue = make_queue
        self._lease = lease
        self._deadline = deadline
        self._on_lost = on_lost
        self._last = time.monotonic()
        self._stop = threading.Event()
        self.lost = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"keep {lease.name}", daemon=True)

    def beat(self) -> None:
        self._last = time.monotonic()

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _keep(self) -> None:
        queue = self._make_queue()
        queue.open()
        try:
            while not self._stop.wait(self._lease.ttl / 3):
                if time.monotonic() - self._last > self._deadline:
                    break
                try:
                    queue.renew(self._lease)
                except TransientError:
                    continue  # tried again in a third of the ttl; the lease runs out by itself if that lasts
                except FencedError:
                    break
            else:
                queue.release(self._lease)
                return
            self.lost.set()
            self._on_lost()
        finally:
            queue.close()


def acquire(queue: Queue, name: str, owner: str, ttl: float, stop: threading.Event) -> Lease | None:
    """Wait for the lease; None when `stop` is set first."""
    while not stop.is_set():
        lease = queue.acquire(name, owner, ttl)
        if lease is not None:
            return lease
        stop.wait(min(ttl / 10, 0.5))
    return None
