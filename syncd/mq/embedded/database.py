"""queue.db: opening, short reads, writes under the write lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from syncd.errors import StateError, TransientError
from syncd.mq.embedded.clock import Clock
from syncd.mq.embedded.faults import damaged, from_sqlite
from syncd.mq.embedded.lock import WriteLock, holders
from syncd.mq.embedded.options import Options
from syncd.mq.embedded.reserve import Reserve
from syncd.mq.embedded.schema import APPLICATION, TABLES, UPGRADES, VERSION

Row = tuple[Any, ...]
Values = Sequence[object] | Mapping[str, object]
Connect = Callable[[Path], sqlite3.Connection]

_READ_MARKS = (123, 127)  # bytes of queue.db-shm that readers lock, as SQLite's WAL format says
CHECKPOINT_PAGES = 500
_CHECK_BYTES = 256 << 20
_CHECK_SECONDS = 5.0


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=10.0, isolation_level=None, cached_statements=256)


class Database:
    def __init__(self, directory: Path, options: Options, clock: Clock, connector: Connect) -> None:
        self.path = directory / "queue.db"
        self.lock = WriteLock(directory, options.lock_seconds, clock)
        self.reserve = Reserve(directory, options.reserve_bytes)
        self._sync = options.sync
        self._clock = clock
        self._connector = connector
        self._connection: sqlite3.Connection | None = None
        self._member = -1

    # ------------------------------------------------------------------------------------------------ open and close

    def open(self) -> bool:
        """Make or join; whether no other instance has it open. Two cannot both find it empty: the lock is held."""
        self.lock.open()
        with self.lock.held(), self._mapped():
            alone = self._join()
            unclean = _size(self._wal) > 0
            # SQLite gives -wal and -shm the rights of the database file.
            # Made only when absent: closing a file that SQLite has open elsewhere in this process drops its locks.
            if not self.path.exists():
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            self._connection = self._connector(self.path)
            self._set_up()
            if alone and unclean:
                self._quick_check()
        return alone

    def close(self) -> None:
        if self._connection is not None:
            # The last one to close moves the log into the database: a write, so it is done under the lock. Whoever
            # holds the lock for too long has the queue open too, so that this one is not the last.
            with contextlib.ExitStack() as stack:
                with contextlib.suppress(TransientError):
                    stack.enter_context(self.lock.held())
                with self._mapped():
                    self._connection.close()
                self._connection = None
        self.lock.close()
        if self._member >= 0:
            os.close(self._member)
            self._member = -1

    def _join(self) -> bool:
        """Note that this process has the queue open; whether it is the only one."""
        self._member = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(self._member, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            alone = False
        else:
            alone = True
        fcntl.flock(self._member, fcntl.LOCK_SH)
        return alone

    def _set_up(self) -> None:
        c = self._c
        application, version = self._pragma("application_id"), self._pragma("user_version")
        fresh = application == 0 and version == 0 and not c.execute("SELECT 1 FROM sqlite_master").fetchone()
        if fresh:
            c.execute("PRAGMA auto_vacuum = INCREMENTAL")
        elif application != APPLICATION:
            raise StateError(f"{self.path}: not a queue of syncd", hint="give the queue a directory of its own")
        elif version > VERSION:
            raise StateError(
                f"{self.path}: written by a newer syncd (format {version}, this one knows {VERSION})",
                hint="run that version or a newer one",
            )
        if c.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise StateError(f"{self.path}: no write-ahead log here", hint="use a local disk, not a network one")
        c.execute("PRAGMA synchronous = FULL")
        if fresh:
            self._create()
        elif version < VERSION:
            self._upgrade(version)
        c.execute(f"PRAGMA synchronous = {self._sync}")
        c.execute("PRAGMA secure_delete = OFF")  # some builds overwrite with zeros what is deleted
        c.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        c.execute(f"PRAGMA journal_size_limit = {CHECKPOINT_PAGES * 4096 * 4}")

    def _create(self) -> None:
        with self._transaction() as c:
            for statement in TABLES.split(";\n")[:-1]:
                c.execute(statement)
            c.execute("INSERT INTO meta VALUES ('incarnation', ?)", (uuid.uuid4().hex,))
            c.execute(f"PRAGMA application_id = {APPLICATION}")
            c.execute(f"PRAGMA user_version = {VERSION}")

    def _upgrade(self, version: int) -> None:
        """What an older syncd wrote: all of it or, where this process dies, nothing."""
        with self._transaction() as c:
            for step in range(version, VERSION):
                for statement in UPGRADES[step].split(";\n")[:-1]:
                    c.execute(statement)
            c.execute(f"PRAGMA user_version = {VERSION}")

    def _quick_check(self) -> None:
        """After a crash, when no other process has the queue open: is the file whole? Cut short after some seconds."""
        if _size(self.path) > _CHECK_BYTES:
            return
        deadline = self._clock.now() + _CHECK_SECONDS
        self._c.set_progress_handler(lambda: self._clock.now() > deadline, 100_000)
        try:
            (answer,) = self._c.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
        else:
            if answer != "ok":
                raise damaged(self.path, answer)
        finally:
            self._c.set_progress_handler(None, 0)

    # ---------------------------------------------------------------------------------------------- reads and writes

    def read(self, sql: str, values: Values = ()) -> list[Row]:
        """All rows of one statement. No read stays open, so none holds the write-ahead log back."""
        with self._mapped():
            return self._c.execute(sql, values).fetchall()

    def read_until(self, sql: str, values: Sequence[object], enough: Callable[[Row], bool]) -> list[Row]:
        """Rows up to and without the first that `enough` is true for."""
        found = []
        with self._mapped():
            cursor = self._c.execute(sql, values)
            try:
                for row in cursor:
                    if enough(row):
                        break
                    found.append(row)
            finally:
                cursor.close()
        return found

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction under the write lock; durable when the block has been left without an error."""
        with self.lock.held(), self._mapped(), self._transaction() as c:
            yield c

    @contextmanager
    def write_synced(self) -> Iterator[sqlite3.Connection]:
        """The same, durable also under `sync: NORMAL`."""
        with self._mapped():
            self._c.execute("PRAGMA synchronous = FULL")
            try:
                with self.write() as c:
                    yield c
            finally:
                self._c.execute(f"PRAGMA synchronous = {self._sync}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        c = self._c
        c.execute("BEGIN IMMEDIATE")
        try:
            yield c
            c.execute("COMMIT")
        except BaseException:
            if c.in_transaction:
                c.execute("ROLLBACK")
            raise

    # ------------------------------------------------------------------------------------------ write-ahead log, size

    @property
    def _wal(self) -> Path:
        return self.path.with_name(self.path.name + "-wal")

    def log_bytes(self) -> int:
        """Size of the write-ahead log."""
        return _size(self._wal)

    def file_bytes(self) -> int:
        return _size(self.path) + self.log_bytes()

    def checkpoint(self) -> bool:
        """Move the write-ahead log into the database and cut it off; False while a reader is in the way."""
        with self.lock.held(), self._mapped():
            self._c.execute("PRAGMA busy_timeout = 200")
            try:
                (busy, _, _) = self._c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self._c.execute("PRAGMA busy_timeout = 10000")
        return not busy

    def shrink(self, pages: int) -> int:
        """Give up to `pages` free pages back, keeping as many for new rows; bytes given back."""
        free = self._pragma("freelist_count")
        spare = max(256, self._pragma("page_count") // 10)
        if free <= spare:
            return 0
        with self.lock.held(), self._mapped():
            before = self._pragma("page_count")
            self._c.execute(f"PRAGMA incremental_vacuum({min(pages, free - spare)})").fetchall()
            return (before - self._pragma("page_count")) * 4096

    def readers(self) -> list[int]:
        """Processes that are reading at this moment (this one does not count)."""
        shm = self.path.with_name(self.path.name + "-shm")
        return [pid for pid in holders(shm, *_READ_MARKS) if pid != os.getpid()]

    # ---------------------------------------------------------------------------------------------------------------

    @property
    def _c(self) -> sqlite3.Connection:
        assert self._connection is not None, "the queue is not open"
        return self._connection

    def _pragma(self, name: str) -> int:
        return int(self._c.execute(f"PRAGMA {name}").fetchone()[0])

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
                self.reserve.give_up()
            raise from_sqlite(error, self.path) from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
