"""Finds what a test run leaves behind: processes, listening ports, files.

Every process that a run starts inherits a mark in its environment, so that a runaway is found however it detached
itself, and never one of another run on the same machine.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

MARK = "SYNCD_TEST_RUN"
_LISTENING = "0A"
PATIENCE = "SYNCD_TEST_PATIENCE"
"""Seconds to wait for what is just ending, 60 unless told otherwise."""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended meanwhile, or belongs to another user
        return b""


def marked_processes(mark: str) -> list[str]:
    """The running processes that carry `mark`, apart from this one, as `pid: command line`."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) == os.getpid() or wanted not in _read(folder / "environ").split(b"\0"):
            continue
        words = _read(folder / "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
        # it ends by itself with the Python process that it serves
        if words and "multiprocessing.resource_tracker" not in words:
            found.append(f"{folder.name}: {words[:160]}")
    return found


def own_listeners() -> list[str]:
    """The TCP ports that this very process listens on."""
    inodes = set()
    for fd in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(fd)
        except OSError:  # the descriptor of this very listing
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in _read(Path("/proc/self/net") / table).decode().splitlines()[1:]:
            words = line.split()
            if words[3] == _LISTENING and words[9] in inodes:
                found.append(f"port {int(words[1].rpartition(':')[2], 16)}")
    return found


def end_fork_server() -> None:
    """That of this very process, and the folder of its socket; both would go when the process ends."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # what the tests of Python itself call
    temp = multiprocessing.current_process()._config.pop("tempdir", None)  # type: ignore[attr-defined]
    if temp is not None:
        shutil.rmtree(temp, ignore_errors=True)


def settle(find: Callable[[], list[str]]) -> list[str]:
    """What `find` still finds after some patience with what is just ending."""
    deadline = time.monotonic() + float(os.environ.get(PATIENCE, "60"))
    while (found := find()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found
