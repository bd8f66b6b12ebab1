"""The write lock: one process at a time writes to the database, in the order in which they came.

SQLite's own lock is waited for by sleeping (up to 100 ms a turn, in no order), so a busy writer starves the others. Two
`flock`s mend that: who holds `next.lock` alone waits for `write.lock`. The kernel gives both back when a process dies.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from syncd.errors import TransientError
from syncd.mq.embedded.clock import Clock

_FIRST_NAP = 0.00005
_LONGEST_NAP = 0.002


class WriteLock:
    def __init__(self, directory: Path, timeout: float, clock: Clock) -> None:
        self._paths = (directory / "next.lock", directory / "write.lock")
        self._timeout = timeout
        self._clock = clock
        self._fds: list[int] = []

    def open(self) -> None:
        self._fds = [os.open(path, os.O_RDWR | os.O_CREAT, 0o600) for path in self._paths]

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    @contextmanager
    def held(self) -> Iterator[None]:
        """TransientError, with the holder's process id, when it is not free in time."""
        deadline = self._clock.now() + self._timeout
        ahead, main = self._fds
        self._take(ahead, 0, deadline)
        try:
            self._take(main, 1, deadline)
        finally:
            fcntl.flock(ahead, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(main, fcntl.LOCK_UN)

    def _take(self, fd: int, which: int, deadline: float) -> None:
        nap = _FIRST_NAP
        while not try_lock(fd):
            if self._clock.now() >= deadline:
                raise self._late(which)
            self._clock.sleep(nap)
            nap = min(nap * 2, _LONGEST_NAP)

    def _late(self, which: int) -> TransientError:
        path = self._paths[which]
        who = ", ".join(str(pid) for pid in holders(path, 0, 0)) or "unknown"
        return TransientError(
            f"{path}: not free for {self._timeout:g} s, held by process {who}",
            hint="if that process is frozen, continue it (kill -CONT) or end it (kill -KILL)",
        )


def try_lock(fd: int) -> bool:
    """An exclusive lock of the open file, or False at once while another one has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holders(path: Path, first: int, last: int) -> list[int]:
    """Process ids that hold a lock on bytes first..last of the file, as the kernel lists them; [] where it does not.

    The file is not opened: closing it would drop the locks that SQLite holds on it in this process.
    """
    try:
        inode = path.stat().st_ino
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    found = set()
    for line in lines:
        fields = line.split()
        if len(fields) != 8 or fields[5].rpartition(":")[2] != str(inode):
            continue
        end = last if fields[7] == "EOF" else int(fields[7])
        if int(fields[6]) <= last and end >= first and fields[4] != "-1":
            found.add(int(fields[4]))
    return sorted(found)
