"""A lease kept alive beside the work, and lost when the work hangs."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from types import TracebackType

import structlog

from syncd.errors import SyncdError, TransientError
from syncd.spi import Lease, Queue

log = structlog.get_logger()


class Keeper:
    """Renews `lease` from its own thread and its own queue instance.

    Each thread of the work calls `beat()` at each of its steps. When one has not for `deadline` seconds the lease is no
    longer renewed, so that another process can take over from a write that hangs. Once lost, `lost` is set and
    `on_lost` is called: the work must end; its writes are refused from now on in any case (guarantee 7). The lease is
    renewed every `interval` seconds, and at least three times within its life.
    """

    def __init__(
        self,
        make_queue: Callable[[], Queue],
        lease: Lease,
        deadline: float,
        on_lost: Callable[[], None],
        interval: float = math.inf,
    ) -> None:
        self._make_queue = make_queue
        self._lease = lease
        self._deadline = deadline
        self._on_lost = on_lost
        self._interval = min(lease.ttl / 3, interval)
        self._beats: dict[int, float] = {}
        self._stop = threading.Event()
        self.lost = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"keep {lease.name}", daemon=True)

    def beat(self) -> None:
        self._beats[threading.get_ident()] = time.monotonic()

    def done(self) -> None:
        """This thread's part of the work has ended."""
        self._beats.pop(threading.get_ident(), None)

    def _hangs(self) -> bool:
        now = time.monotonic()
        return any(now - last > self._deadline for last in [*self._beats.values()])

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _keep(self) -> None:
        try:
            queue = self._make_queue()
            queue.open()
            try:
                if self._renew_until_stopped(queue):
                    queue.release(self._lease)
                    return
            finally:
                queue.close()
        except SyncdError as error:
            log.error("lease_not_renewed", lease=self._lease.name, error=str(error))  # noqa: TRY400
        except Exception:
            log.exception("lease_keeper_crashed", lease=self._lease.name)
        self.lost.set()
        self._on_lost()

    def _renew_until_stopped(self, queue: Queue) -> bool:
        """True when told to stop, False when the work hangs; FencedError when the lease has passed on."""
        while not self._stop.wait(self._interval):
            if self._hangs():
                log.error("work_hangs", lease=self._lease.name, seconds=self._deadline)
                return False
            try:
                queue.renew(self._lease)
            except TransientError as error:
                # Tried again soon; the lease runs out by itself if that lasts.
                log.warning("lease_renewal_waits", lease=self._lease.name, error=str(error))
        return True


def acquire(queue: Queue, name: str, owner: str, ttl: float, stop: threading.Event) -> Lease | None:
    """Wait for the lease; None when `stop` is set first."""
    while not stop.is_set():
        lease = queue.acquire(name, owner, ttl)
        if lease is not None:
            return lease
        stop.wait(min(ttl / 10, 0.5))
    return None
