"""A file that holds some disk back: when the disk is full it is deleted, so that offsets, state and retention can still
be written. Capture's publish waits until it is there again.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from syncd.mq.embedded.faults import while_open

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Reserve:
    def __init__(self, directory: Path, size: int) -> None:
        self._path = directory / "reserve"
        self._size = size

    def give_up(self) -> None:
        """The disk is full: let the next write have it."""
        self._path.unlink(missing_ok=True)

    def restore(self) -> bool:
        """Take it (again), or say that there is no room for it. TransientError, FatalError: it cannot be made."""
        if not self._size or (self._path.exists() and self._path.stat().st_size == self._size):
            return True
        try:
            self._allocate()
        except OSError as error:
            self.give_up()
            if error.errno in _NO_ROOM:
                return False
            raise while_open(error, self._path.parent) from error
        return True

    def _allocate(self) -> None:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, self._size)
            else:
                os.pwrite(fd, bytes(self._size), 0)
        finally:
            os.close(fd)
