"""The fork server of the workers: what is imported here is imported once, for all of them.

It dies with the daemon that has started it, and its children, the workers, die with it. Nothing that is imported here
may start a thread, open a file or connect.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import multiprocessing
import os
import shutil
import signal
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path

from syncd import without_pandas

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_THP_DISABLE = 1, 15, 41
_libc = ctypes.CDLL(None, use_errno=True)
DAEMON = "SYNCD_DAEMON_PID"
"""The daemon tells its server this way, and its server only, which of the processes it is."""
SERVER = os.getpid()
"""The process that has imported this module: in a worker, its parent."""


def die_with_parent(of: signal.Signals = signal.SIGKILL) -> None:
    """The kernel sends this process the signal as soon as the thread that has started it is gone."""
    _libc.prctl(_PR_SET_PDEATHSIG, of)


def without_huge_pages() -> None:
    """A huge page is cleared whole at its first byte; what workers take for a batch they soon give back, so that a
    quarter of their time could be that."""
    _libc.prctl(_PR_SET_THP_DISABLE, *map(ctypes.c_ulong, (1, 0, 0, 0)))


def call_process(name: str) -> None:
    """What `ps` and `top` call this process; the kernel keeps 15 bytes."""
    _libc.prctl(_PR_SET_NAME, name.encode())


def _serve() -> None:
    # It reaches all of a service's processes: workers have to drain, for which they need their parent. Each of them
    # lets it through when it can.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    end = partial(_end, _socket_folder())
    signal.signal(signal.SIGUSR1, lambda *_: end())
    atexit.register(end)  # it may find its daemon's end of a pipe closed before it gets the signal
    die_with_parent(signal.SIGUSR1)
    if os.getppid() != int(os.environ.get(DAEMON, "0")):
        end()  # it was gone before it could be told
    call_process("syncd workers")
    without_huge_pages()
    without_pandas.go()
    from syncd.engine import capture, deliver_process, snapshot  # noqa: F401 - here, for all workers

    gc.freeze()  # what is here now is looked at no more, so that workers go on sharing its memory


def _socket_folder() -> Path | None:
    """Of the socket that the server listens on, which it has been given."""
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            given = socket.socket(fileno=int(fd.name))
            try:
                if given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    return Path(given.getsockname()).parent
            finally:
                given.detach()
    return None


def _end(folder: Path | None) -> None:
    """What a killed daemon can remove no more: the folder of the socket."""
    if os.getpid() == SERVER and folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _is_server() -> bool:
    command = Path("/proc/self/cmdline").read_bytes()
    return multiprocessing.parent_process() is None and b"multiprocessing.forkserver" in command


if _is_server():
    _serve()
