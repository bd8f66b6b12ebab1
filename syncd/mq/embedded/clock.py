"""Time that all processes of the machine share and that no one can set: leases are counted in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        # Without a boot id, a lease whose renewal lies in the future tells that the machine was restarted.
        return "unknown"


def _since_boot() -> float:
    # CLOCK_BOOTTIME goes on while the machine sleeps: a lease runs out in a suspended laptop too.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class Clock:
    """`now`: seconds since boot. `wall`: seconds since 1970, only for how long finished messages stay."""

    boot: str
    now: Callable[[], float] = _since_boot
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


def machine_clock() -> Clock:
    return Clock(_boot())
