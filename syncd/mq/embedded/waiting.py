"""`wait`: sleep until another process publishes, at no cost while nothing happens.

Each instance that waits has a named pipe in DIR/waiting; who publishes writes one byte to each. The byte is only a
hint: what was published is counted in the database, and is looked up there every half a second in any case, since a
process can die between its commit and the byte.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import uuid
from pathlib import Path

from syncd.mq.embedded.clock import Clock
from syncd.mq.embedded.database import Database

_LOOK_EVERY = 0.5
_LOOK_EVERY_WITHOUT_PIPE = 0.01
_DRAIN = 1 << 16


class Waiting:
    def __init__(self, db: Database, directory: Path, clock: Clock) -> None:
        self._db = db
        self._directory = directory
        self._clock = clock
        self._seen: dict[str, int] = {}
        self._woken: set[str] = set()
        self._pipe = _Pipe(directory / uuid.uuid4().hex)

    def open(self, *, alone: bool) -> None:
        """`alone`: no other instance has the queue open: pipes there, unfinished ones too, are of dead ones."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        for path in self._directory.iterdir() if alone else ():
            _ring(str(path))

    def close(self) -> None:
        self._pipe.close()

    def looked(self, topic: str) -> None:
        """Called before the topic is read. Only the first look after a wake-up counts: what is published between the
        reads of two lanes wakes the next `wait`, since the lane that was read first may have missed it.
        """
        if topic in self._woken or topic not in self._seen:
            self._seen[topic] = self._published(topic)
            self._woken.discard(topic)

    def wait(self, topic: str, timeout: float) -> bool:
        deadline = self._clock.now() + timeout
        known = self._seen.get(topic, 0)
        heard = self._pipe.open()
        while self._published(topic) == known:
            left = deadline - self._clock.now()
            if left <= 0:
                return False
            self._pipe.sleep(min(left, _LOOK_EVERY if heard else _LOOK_EVERY_WITHOUT_PIPE))
        self._woken.add(topic)
        return True

    def ring(self) -> None:
        """Wake whoever waits. Never fails, since what was published is published: a byte that is not delivered costs
        the waiter half a second.
        """
        with contextlib.suppress(OSError):
            for name in os.listdir(self._directory):
                if not name.startswith("."):
                    _ring(os.path.join(self._directory, name))

    def _published(self, topic: str) -> int:
        rows = self._db.read("SELECT published FROM topic WHERE name = ?", (topic,))
        return int(rows[0][0]) if rows else 0


def _ring(path: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nobody reads: its process is dead
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        return
    try:
        os.write(fd, b"!")
    except (BlockingIOError, BrokenPipeError):
        pass  # full: it has been rung often enough; broken: it has just died
    finally:
        os.close(fd)


class _Pipe:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._poll = select.poll()

    def open(self) -> bool:
        """False where the file system has no named pipes, or for want of descriptors: then `wait` looks more often."""
        if self._fd >= 0:
            return True
        # Under its name only once it is read: a pipe without a reader is taken for a dead process's.
        hidden = self._path.with_name("." + self._path.name)
        try:
            os.mkfifo(hidden, 0o600)
            self._fd = os.open(hidden, os.O_RDWR | os.O_NONBLOCK)
            hidden.rename(self._path)
        except OSError:
            self.close()
            return False
        self._poll.register(self._fd, select.POLLIN)
        return True

    def sleep(self, seconds: float) -> None:
        """Until a byte comes, or `seconds` have passed."""
        if self._poll.poll(seconds * 1000):
            os.read(self._fd, _DRAIN)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._path.unlink(missing_ok=True)
            self._fd = -1
