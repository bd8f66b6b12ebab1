"""The fork server of the workers: what is imported here is imported once, for all of them.

It dies with the daemon that has started it, and its children, the workers, die with it. Nothing that is imported here
may start a thread, open a file or connect.
"""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import signal
import socket
from contextlib import suppress
from pathlib import Path

from syncd import without_pandas

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_libc = ctypes.CDLL(None, use_errno=True)
SERVER = os.getpid()
"""The process that has imported this module: in a worker, its parent."""


def die_with_parent(of: signal.Signals = signal.SIGKILL) -> None:
    """The kernel sends this process the signal as soon as the thread that has started it is gone."""
    _libc.prctl(_PR_SET_PDEATHSIG, of)


def call_process(name: str) -> None:
    """What `ps` and `top` call this process; the kernel keeps 15 bytes."""
    _libc.prctl(_PR_SET_NAME, name.encode())


def _serve() -> None:
    signal.signal(signal.SIGTERM, _end)
    die_with_parent(signal.SIGTERM)
    call_process("syncd workers")
    without_pandas.go()
    from syncd.engine import capture, deliver_process, snapshot  # noqa: F401 - here, for all workers

    gc.freeze()  # what is here now is looked at no more, so that workers go on sharing its memory


def _end(*_: object) -> None:
    """What a killed daemon can remove no more: the folder of the socket that the server listens on."""
    if os.getpid() == SERVER:
        for fd in Path("/proc/self/fd").iterdir():
            with suppress(OSError), socket.socket(fileno=int(fd.name)) as listener:
                if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    shutil.rmtree(Path(listener.getsockname()).parent, ignore_errors=True)
    os._exit(0)


if b"multiprocessing.forkserver" in Path("/proc/self/cmdline").read_bytes():
    _serve()
