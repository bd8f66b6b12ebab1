"""What the fork server of the workers imports once, for all of them.

It dies with the daemon that has started it, and its children, the workers, die with it. Nothing that is imported here
may start a thread, open a file or connect.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
from pathlib import Path

from syncd.engine import capture, deliver_process, snapshot

__all__ = ["SERVER", "call_process", "capture", "deliver_process", "die_with_parent", "snapshot"]

SERVER = os.getpid()
"""The process that has imported this module: in a worker, its parent."""
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """The kernel ends this process as soon as the thread that has started it is gone."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def call_process(name: str) -> None:
    """What `ps` and `top` call this process; the kernel keeps 15 bytes."""
    _libc.prctl(_PR_SET_NAME, name.encode())


if b"multiprocessing.forkserver" in Path("/proc/self/cmdline").read_bytes():
    die_with_parent()
    call_process("syncd workers")
    gc.freeze()  # what is here now is looked at no more, so that workers go on sharing its memory
