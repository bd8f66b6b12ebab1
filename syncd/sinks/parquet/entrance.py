"""How a file becomes part of a table, or never does (guarantee 7), without a lock that a frozen process could keep.

A writer   1. makes a file in the waiting room
           2. reads the fence of its owner, and the table's `_schema` with its floor
           3. fills the file, fsync
           4. links it into the table's folder: from here on it is part of the table
Whoever shuts the door on writers (a new epoch of their owner, a higher floor of the table)
           1. stores that, durable
           2. removes the files of those writers from the waiting room

Whatever wakes up late: either its file was made before the removal, then it is gone and cannot be linked; or after it,
and then what is read in step 2 of the writer says no.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from syncd.errors import FencedError, TransientError
from syncd.sinks.parquet import disk
from syncd.sinks.parquet.table import Table
from syncd.spi import Ticket

DAY = 86_400.0


class Entrance:
    """`life` tells the epochs of this data directory from those of an earlier one, which began at 1, too."""

    def __init__(self, root: Path, life: Path) -> None:
        self._fences = root / "_syncd" / "fences"
        self._waiting = root / "_syncd" / "waiting"
        self._life = life
        self._prefix = ""

    def make(self) -> None:
        disk.make_folder(self._fences)
        disk.make_folder(self._waiting)

    def fence(self, owner: str, epoch: int) -> None:
        """Older writes of `owner` have ended, or never will have been."""
        self.make()
        mine = self.name(owner)
        (self._fences / f"{mine}-{epoch}").touch()
        disk.fsync(self._fences)
        for file in self._waiting.glob(f"{mine}-*"):
            if int(file.name.split("-")[1]) < epoch:
                file.unlink(missing_ok=True)
        for file in self._waiting.iterdir():
            with suppress(FileNotFoundError):
                # Left by a data directory that is gone. If its writer is alive, it tries again.
                if file.stat().st_mtime < time.time() - DAY:
                    file.unlink()
        # Last, so that nobody who lists the fences now finds neither the old one nor the new one.
        for file in self._fences.glob(f"{mine}-*"):
            if int(file.name.split("-")[1]) < epoch:
                file.unlink(missing_ok=True)

    def shut(self, table: Table) -> None:
        """Nothing that was admitted under an older `_schema` gets in any more; its writers try again."""
        for file in self._waiting.glob(f"*-{_digest(str(table.folder))}-*"):
            file.unlink(missing_ok=True)

    @contextmanager
    def waiting(self, table: Table, ticket: Ticket) -> Iterator[BinaryIO]:
        """A new file in the waiting room, whose writer is admitted; it is gone from there afterwards.

        Written through the one handle: opened again by its name, a file that was removed would be there anew.
        """
        owner = self.name(ticket.owner)
        name = f"{owner}-{ticket.epoch}-{_digest(str(table.folder))}-{uuid.uuid4().hex}"
        path = self._waiting / name
        try:
            with path.open("xb") as file:
                self._admit(owner, ticket)
                yield file
        finally:
            path.unlink(missing_ok=True)

    def enter(self, file: BinaryIO, place: Path, ticket: Ticket) -> None:
        """Durable on return. A file that is there stays: it is that of the same call."""
        file.flush()
        os.fsync(file.fileno())
        try:
            place.hardlink_to(file.name)
        except FileExistsError:
            pass
        except FileNotFoundError:
            if Path(file.name).exists():
                raise  # the table is gone
            self._admit(self.name(ticket.owner), ticket)
            text = f"{place.parent} was closed to older rows meanwhile: they are left out of the next try"
            raise TransientError(text, retry_after=0.0) from None
        disk.fsync(place.parent)

    def _admit(self, owner: str, ticket: Ticket) -> None:
        epochs = [int(name.split("-")[1]) for name in os.listdir(self._fences) if name.startswith(f"{owner}-")]
        if ticket.epoch < max(epochs, default=0):
            raise FencedError(f"{ticket.owner}: epoch {ticket.epoch} is over, {max(epochs)} writes now")

    def name(self, owner: str) -> str:
        """Of an owner, in the names of files."""
        if not self._prefix:
            disk.make_folder(self._life.parent)
            if not self._life.exists():
                part = self._life.with_name(f"{self._life.name}-{uuid.uuid4().hex}")
                part.write_text(uuid.uuid4().hex)
                disk.fsync(part)
                with suppress(FileExistsError):
                    self._life.hardlink_to(part)
                part.unlink()
                disk.fsync(self._life.parent)
            self._prefix = self._life.read_text()
        return _digest(f"{self._prefix}/{owner}")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
