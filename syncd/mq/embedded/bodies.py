"""Body files: message bodies one behind the other. What they hold is decided by the database alone.

A body is written and synced before the commit that names its place, so every named body is whole; bytes that no row
names are garbage. Each file has one writer, which holds a `flock` on it; when the process dies the kernel frees it,
and nobody writes to that file again.
"""

from __future__ import annotations

import os
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from syncd.mq.embedded.lock import try_lock

_AT_ONCE = 512  # buffers of one system call (the kernel's limit is 1,024)


class Disk:
    """The system calls that the power loss tests must see; everything that changes a body file goes through here."""

    def create(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)

    def write(self, fd: int, buffers: Sequence[bytes], at: int) -> int:
        return os.pwritev(fd, buffers, at)

    def push(self, fd: int, at: int, length: int) -> None:
        """Ask the kernel to begin writing those bytes to the disk, where it can be asked; promises nothing."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, at, length, os.POSIX_FADV_DONTNEED)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)

    def sync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def unlink(self, path: Path) -> None:
        path.unlink()


class Placed(NamedTuple):
    """Where bodies were put: file name, (place, length, checksum) of each, and the file's length with them."""

    name: str
    bodies: list[tuple[int, int, int]]
    end: int


class BodyWriter:
    """Appends bodies to a file of its own; a new file when `segment_bytes` are full."""

    def __init__(self, directory: Path, segment_bytes: int, disk: Disk) -> None:
        self._directory = directory
        self._limit = segment_bytes
        self._disk = disk
        self._fd = -1
        self._name = ""
        self._end = 0

    @property
    def name(self) -> str:
        """The file being written to, "" without one."""
        return self._name if self._fd >= 0 else ""

    def append(self, bodies: Sequence[bytes]) -> Placed:
        """Durable on return, but nothing until `keep`. OSError: nothing is kept."""
        if self._fd < 0:
            self._create()
        try:
            end = self._write_all(bodies)
            self._disk.push(self._fd, self._end, end - self._end)
            places = _places(bodies, self._end)  # while the disk is at work
            self._disk.sync(self._fd)
        except OSError:
            # No row names anything behind `_end`: the failed write's space goes back at once.
            self._disk.truncate(self._fd, self._end)
            self.abandon()
            raise
        return Placed(self._name, places, end)

    def keep(self, placed: Placed) -> None:
        """The commit that names the bodies is durable."""
        self._end = placed.end
        if self._end >= self._limit:
            self.close()

    def abandon(self) -> None:
        """The commit failed, or its end is unknown: the file is given up where the last good commit left it.

        Nothing is ever written over bodies that a commit of unknown end may name.
        """
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _create(self) -> None:
        while True:
            name = f"{uuid.uuid4().hex}.seg"
            path = self._directory / name
            fd = self._disk.create(path)
            # Between the two calls a trim may have taken the file for a dead process's leaving.
            if try_lock(fd) and os.fstat(fd).st_nlink:
                break
            os.close(fd)
        self._fd, self._name, self._end = fd, name, 0
        self._disk.sync_directory(self._directory)

    def _write_all(self, bodies: Sequence[bytes]) -> int:
        at = self._end
        for first in range(0, len(bodies), _AT_ONCE):
            at = self._write_some(bodies[first : first + _AT_ONCE], at)
        return at

    def _write_some(self, bodies: Sequence[bytes], at: int) -> int:
        total = sum(map(len, bodies))
        done = self._disk.write(self._fd, bodies, at)
        if done < total:
            rest = memoryview(b"".join(bodies))
            while done < total:
                done += self._disk.write(self._fd, [bytes(rest[done : done + (1 << 24)])], at + done)
        return at + total


def _places(bodies: Sequence[bytes], at: int) -> list[tuple[int, int, int]]:
    places = []
    for body in bodies:
        places.append((at, len(body), zlib.crc32(body)))
        at += len(body)
    return places


def read_body(fd: int, at: int, length: int, checksum: int) -> bytes | None:
    """The body, or None when the file does not hold what was written."""
    parts = []
    while length:
        part = os.pread(fd, length, at)
        if not part:
            return None
        parts.append(part)
        at, length = at + len(part), length - len(part)
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    return body if zlib.crc32(body) == checksum else None
