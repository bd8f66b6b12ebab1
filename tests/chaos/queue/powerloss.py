"""A power loss, simulated: every write and sync of the queue's files is put on a tape, and the disk as it may look
after a cut at any place of the tape is made from it.

What was synced is there. Of what was written since, each 512-byte sector of each write is there or not, by chance; a
new body file's name, and a deletion, need a sync of the directory. That is more than a real disk and file system do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import apsw

from syncd.mq.embedded.bodies import Disk

SECTOR = 512


@dataclass(frozen=True)
class Event:
    kind: Literal["create", "write", "truncate", "sync", "unlink", "sync-directory", "acknowledged"]
    name: str = ""
    at: int = 0
    data: bytes = b""


@dataclass
class Tape:
    root: Path
    events: list[Event] = field(default_factory=list)

    def add(self, kind: Any, path: str | Path = "", at: int = 0, data: bytes = b"") -> None:
        self.events.append(Event(kind, str(Path(path).relative_to(self.root)) if path else "", at, data))

    def disk_after(self, cut: int, rng: random.Random, target: Path) -> None:
        """The files as they may be found when the power went before `events[cut]`."""
        files: dict[str, _File] = {}
        for event in self.events[:cut]:
            _play(files, event)
        survival = rng.choice([0.0, 0.5, 0.9, 1.0])
        for name, file in files.items():
            content = file.after_loss(rng, survival)
            if content is not None:
                path = target / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)


@dataclass
class _File:
    named: bool = True  # its name is durable
    gone: bool = False  # it was deleted, and the directory not synced since
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Event] = field(default_factory=list)

    def after_loss(self, rng: random.Random, survival: float) -> bytes | None:
        if (self.gone or not self.named) and rng.random() < 0.5:
            return None
        content = bytearray(self.durable)
        for event in self.pending:
            if event.kind == "truncate":
                if rng.random() < survival:
                    _truncate(content, event.at)
                continue
            for start in range(0, len(event.data), SECTOR):
                if rng.random() < survival:
                    _write(content, event.at + start, event.data[start : start + SECTOR])
        return bytes(content)


def _play(files: dict[str, _File], event: Event) -> None:
    file = files.setdefault(event.name, _File()) if event.name else _File()
    match event.kind:
        case "create":
            files[event.name] = _File(named=False)
        case "write" | "truncate":
            file.pending.append(event)
        case "sync":
            for done in file.pending:
                _truncate(file.durable, done.at) if done.kind == "truncate" else _write(
                    file.durable, done.at, done.data
                )
            file.pending.clear()
        case "unlink":
            file.gone = True
        case "sync-directory":
            for name in [name for name, one in files.items() if one.gone]:
                del files[name]
            for one in files.values():
                one.named = True


def _write(content: bytearray, at: int, data: bytes) -> None:
    if len(content) < at:
        content.extend(bytes(at - len(content)))
    content[at : at + len(data)] = data


def _truncate(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


class TapeDisk(Disk):
    """The body files' side of the tape."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._paths: dict[int, Path] = {}

    def create(self, path: Path) -> int:
        fd = super().create(path)
        self._paths[fd] = path
        self._tape.add("create", path)
        return fd

    def write(self, fd: int, buffers: Sequence[bytes], at: int) -> int:
        done = super().write(fd, buffers, at)
        self._tape.add("write", self._paths[fd], at, b"".join(buffers)[:done])
        return done

    def truncate(self, fd: int, size: int) -> None:
        super().truncate(fd, size)
        if fd in self._paths:
            self._tape.add("truncate", self._paths[fd], size)

    def sync(self, fd: int) -> None:
        self._tape.add("sync", self._paths[fd])

    def sync_directory(self, path: Path) -> None:
        self._tape.add("sync-directory")

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self._tape.add("unlink", path)


class ForgetfulDisk(TapeDisk):
    """A mistake that the harness must find: bodies are not synced before the commit."""

    def sync(self, fd: int) -> None:
        pass


# ------------------------------------------------------------------------------------------------ SQLite's side of it


class _TapeFile(apsw.VFSFile):
    def __init__(self, tape: Tape, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._tape = tape
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._tape.add("write", self._path, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._tape.add("truncate", self._path, newsize)

    def xSync(self, flags: int) -> None:
        self._tape.add("sync", self._path)


class _TapeVFS(apsw.VFS):
    def __init__(self, name: str, tape: Tape) -> None:
        self._tape = tape
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        return _TapeFile(self._tape, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self._tape.add("unlink", filename)
        if syncdir:
            self._tape.add("sync-directory")


class _Cursor:
    def __init__(self, connection: apsw.Connection, cursor: Any) -> None:
        self._cursor = cursor
        self.rowcount = connection.changes()
        self.lastrowid = connection.last_insert_rowid()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __iter__(self) -> Any:
        return iter(self._cursor)


class _Connection:
    """What the queue uses of `sqlite3.Connection`, on apsw, whose files can be watched."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Any = ()) -> _Cursor:
        return _Cursor(self._connection, self._connection.execute(sql, values))

    def executemany(self, sql: str, rows: Any) -> _Cursor:
        return _Cursor(self._connection, self._connection.executemany(sql, rows))

    @property
    def in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)

    def close(self) -> None:
        self._connection.close()


def taped(tape: Tape, name: str) -> tuple[Callable[[Path], Any], _TapeVFS]:
    """A connector for `EmbeddedQueue`, and the VFS, which must be kept as long as it is used."""
    vfs = _TapeVFS(name, tape)
    return lambda path: _Connection(apsw.Connection(str(path), vfs=name)), vfs
