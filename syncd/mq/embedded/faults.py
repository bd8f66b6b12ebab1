"""SQLite's and the system's exceptions, named by the caller's next move. The only place that looks at them."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

from syncd.errors import FatalError, StateError, SyncdError, TransientError

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_REFUSED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def from_sqlite(error: sqlite3.Error, path: Path) -> SyncdError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _BUSY:
        return TransientError(f"{path}: another process is writing ({error})", hint="call again")
    if code == sqlite3.SQLITE_FULL:
        return no_room(path, str(error))
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM):
        return TransientError(
            f"{path}: {error}; nothing was stored", hint="look at the disk and the kernel's log", retry_after=5.0
        )
    if code in _DAMAGED:
        return damaged(path, str(error))
    if code in _REFUSED:
        return FatalError(f"{path}: {error}", hint="the directory and its files must be writable by this user")
    return FatalError(f"{path}: {error}")


def from_system(error: OSError, path: Path) -> SyncdError:
    if error.errno in _NO_ROOM:
        return no_room(path, error.strerror or str(error))
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST):
        return FatalError(
            f"{path}: {error.strerror}", hint="the directory above must exist, and be writable by this user"
        )
    return TransientError(
        f"{path}: {error.strerror or error}; nothing was stored",
        hint="look at the disk and the kernel's log",
        retry_after=5.0,
    )


def while_open(error: OSError, path: Path) -> SyncdError:
    """The same of a queue that is open: its directory was there, and is called away while it is not."""
    return away(path) if isinstance(error, FileNotFoundError) and not path.exists() else from_system(error, path)


def away(path: Path) -> TransientError:
    return TransientError(f"{path} is not there", hint="put the data directory back where it was")


def no_room(path: Path, why: str) -> TransientError:
    return TransientError(
        f"{path}: the disk is full ({why}); nothing of the call was stored",
        hint="free some space on that file system, or lower the queue's max_bytes; work goes on by itself",
        retry_after=5.0,
    )


def damaged(path: Path, why: str) -> StateError:
    return StateError(
        f"{path}: damaged: {why}",
        hint="stop all processes of this queue, keep the directory aside for inspection and resync the tables",
    )
