"""One table's folder: its data files, `_schema`, and the lock of whoever changes what is there.

    _schema          the table's Arrow schema; its metadata holds the key, the defaults of added columns and the floor
    _lock            locked (flock) by the one process that merges or removes files, or replaces `_schema`
    w-*.parquet      one write
    m-*.parquet      merged files
    _part-*          not finished; of a process that holds the lock, or has died

Writers take no lock: see `entrance`. Files never change; one that is rewritten is replaced by rename.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from syncd.errors import FatalError, TransientError
from syncd.model import TableSchema, Target
from syncd.sinks.parquet import disk
from syncd.sinks.parquet.types import holds, stored

VERSION, DELETED = "_version", "_deleted"
OWN = (pa.field(VERSION, pa.uint64(), nullable=False), pa.field(DELETED, pa.bool_(), nullable=False))
LOCK_SECONDS = 5.0
MERGED, WRITTEN = "m-", "w-"
_FLOOR, _APPEND, _ALTERED, _FORMER = b"syncd_floor", b"syncd_append", b"syncd_altered", b"syncd_former"
_PARTS = b"syncd_parts"


class Marks(NamedTuple):
    """What a source table has closed the target to, and its last schema change that the target follows."""

    floor: int = 0
    altered: int = 0


@dataclass(frozen=True)
class State:
    """What `_schema` says. No row with a seq below `floor` becomes part of the table any more.

    `altered`: the seq of the last schema change that the table follows; `former`: column -> the name that it had before
    that one, until every file has the new one. `parts`: of each of several source tables (`Target.part`) its own marks.
    """

    schema: TableSchema
    append: bool
    floor: int = 0
    altered: int = 0
    former: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, Marks] = field(default_factory=dict)

    def marks(self, target: Target) -> Marks:
        return self.parts.get(target.part, Marks()) if target.own else Marks(self.floor, self.altered)

    def marked(self, target: Target, *, floor: int = 0, altered: int = 0) -> State:
        """With these, where they are larger."""
        now = self.marks(target)
        marks = Marks(max(now.floor, floor), max(now.altered, altered))
        if target.own:
            return replace(self, parts={**self.parts, target.part: marks})
        return replace(self, floor=marks.floor, altered=marks.altered)

    @property
    def columns(self) -> pa.Schema:
        """Of the files. Tombstones hold their key alone, so that only the key is never null."""
        key = self.key
        fields = [pa.field(c.name, stored(c.type), c.name not in key) for c in self.schema.columns]
        return pa.schema([*fields, *OWN])

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that files are sorted by; empty where rows are only ever added."""
        return () if self.append else self.schema.identity

    def dump(self) -> bytes:
        schema = self.schema.arrow()
        own = {_FLOOR: str(self.floor).encode(), _APPEND: str(int(self.append)).encode()}
        own |= {_ALTERED: str(self.altered).encode(), _FORMER: json.dumps(dict(self.former)).encode()}
        own |= {_PARTS: json.dumps(dict(self.parts)).encode()}
        return bytes(schema.with_metadata({**schema.metadata, **own}).serialize())

    @classmethod
    def load(cls, data: bytes) -> State:
        schema = pa.ipc.read_schema(pa.py_buffer(data))
        append, floor = int(schema.metadata[_APPEND]), int(schema.metadata[_FLOOR])
        altered, former = int(schema.metadata[_ALTERED]), json.loads(schema.metadata[_FORMER])
        parts = {part: Marks(*marks) for part, marks in json.loads(schema.metadata.get(_PARTS, b"{}")).items()}
        return cls(TableSchema.from_arrow(schema), bool(append), floor, altered, former, parts)


@dataclass(frozen=True)
class Table:
    """`source` is the table's name for errors."""

    folder: Path
    source: str

    def state(self) -> State | None:
        """None when there is no such table."""
        path = self.folder / "_schema"
        try:
            return State.load(path.read_bytes())
        except FileNotFoundError:
            return None
        except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
            text = f"{path} is damaged: {error}"
            raise FatalError(text, table=self.source, hint="remove the folder and load the table anew") from error

    def known(self) -> State:
        state = self.state()
        if state is None:
            hint = "is the disk mounted? If it is, load the table anew"
            raise FatalError(f"{self.folder} is gone, or holds no _schema", table=self.source, hint=hint)
        return state

    def fitting(self, target: Target) -> State:
        """FatalError names each column that differs."""
        state = self.known()
        wrong = differences(target, state)
        if wrong:
            text = f"{self.folder} does not fit {self.source}: {'; '.join(wrong)}"
            hint = "give the target another name, or remove the folder and load the table anew"
            raise FatalError(text, table=self.source, hint=hint)
        return state

    def create(self, target: Target) -> None:
        if self.state() is not None:
            return
        disk.make_folder(self.folder)
        with self.locked():
            if self.state() is None:
                if self.files():
                    text = f"{self.folder} holds files and no _schema: syncd did not make it"
                    raise FatalError(text, table=self.source, hint="give the target another name, or an empty folder")
                self.save(State(target.schema, target.append))

    def save(self, state: State) -> None:
        """Durable on return; the lock is held."""
        disk.replace(self.folder / "_schema", state.dump())

    def files(self) -> list[Path]:
        """The data files, as of one moment for all that is not added or removed meanwhile."""
        with os.scandir(self.folder) as found:
            names = sorted(e.name for e in found if e.name.endswith(".parquet") and e.name[0] not in "._")
        return [self.folder / name for name in names]

    def remove(self, files: Sequence[Path]) -> None:
        """Durable on return; the lock is held."""
        for file in files:
            file.unlink(missing_ok=True)
        disk.fsync(self.folder)

    @contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[None]:
        """TransientError: another process has the lock, and keeps it. The lock goes with the process that holds it.

        A process that is frozen keeps it: nobody else can have changed the files when it wakes up (7).
        """
        handle = os.open(self.folder / "_lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._lock(handle, time.monotonic() + (LOCK_SECONDS if wait else 0.0))
            for left in self.folder.glob(f"{disk.PART}*"):
                left.unlink()
            yield
        finally:
            os.close(handle)

    def _lock(self, handle: int, end: float) -> None:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise Busy(f"{self.folder}: its files are being merged", retry_after=1.0) from None
                time.sleep(0.05)
            else:
                return


class Busy(TransientError):
    """Another process has the table's lock."""


def differences(target: Target, state: State) -> list[str]:
    """One line per difference that would lose or change something. Columns that were added since are none."""
    there = state.columns
    found = []
    for column in target.schema.columns:
        kind, at = stored(column.type), there.get_field_index(column.name)
        if at < 0:
            found.append(f"column {column.name} is missing, {kind} is wanted")
        elif there.field(at).type != kind and not (target.own and holds(there.field(at).type, kind)):
            found.append(f"column {column.name} is {there.field(at).type}, {kind} is wanted")
    key = () if target.append else target.schema.identity
    if key != state.key:
        found.append(f"the key is ({', '.join(state.key)}), ({', '.join(key)}) is wanted")
    return found
