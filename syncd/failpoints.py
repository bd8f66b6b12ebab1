"""Places where a test may let a process die: one for each step of the crash table (docs/architecture.md).

`SYNCD_FAILPOINTS` names a folder. A file `NAME` in it, holding a number n, kills the process with SIGKILL at the n-th
time that it passes the failpoint NAME; the file is removed first, so that each fires once, whichever process comes by.
Without the variable, as in every real run, a failpoint does nothing.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

ALL = (
    "change.saved",
    "change.forgotten",
    "change.cleared",
    "snapshot.head_taken",
    "snapshot.head_saved",
    "snapshot.added",
    "snapshot.relocated",
    "snapshot.prepared",
    "snapshot.border_found",
    "snapshot.chunk_saved",
    "snapshot.attempt_saved",
    "snapshot.attempt_begun",
    "snapshot.chunk_part",
    "snapshot.chunk_written",
    "snapshot.chunk_marked",
    "snapshot.all_marked",
    "snapshot.handed_over",
    "capture.joined",
    "capture.transformed",
    "capture.part_published",
    "capture.published",
    "capture.halt_saved",
    "capture.epoch_raised",
    "capture.share_given_up",
    "deliver.swapped",
    "deliver.opened",
    "deliver.set_back",
    "deliver.intended",
    "refresh.read",
    "repair.asked",
    "repair.compared",
    "deliver.merged",
    "deliver.refused",
    "deliver.written",
    "deliver.committed",
    "barrier.reached",
    "barrier.acted",
    "barrier.passed",
)

_passed: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Die here if a test has asked for it."""
    folder = os.environ.get("SYNCD_FAILPOINTS")
    if folder is None:
        return
    order = Path(folder) / name
    _passed[name] += 1
    try:
        wanted = int(order.read_text())
    except FileNotFoundError:
        return
    if _passed[name] < wanted:
        return
    try:
        order.unlink()
    except FileNotFoundError:  # another process came by at the same moment
        return
    os.kill(os.getpid(), signal.SIGKILL)


def arm(folder: Path, name: str, times: int = 1) -> None:
    """Ask for a death at the `times`-th passing of `name`: the file is there whole or not at all."""
    if name not in ALL:
        raise KeyError(name)
    unfinished = folder / f".{name}"
    unfinished.write_text(str(times))
    unfinished.replace(folder / name)
