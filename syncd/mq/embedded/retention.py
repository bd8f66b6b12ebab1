"""Retention: what every group has finished goes, and the disk gets its space back.

Never touched: a message at or behind the offset of a registered group.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from syncd.mq.embedded.bodies import BodyWriter, Disk, Placed, read_body
from syncd.mq.embedded.clock import Clock
from syncd.mq.embedded.database import Database
from syncd.mq.embedded.faults import while_open
from syncd.mq.embedded.lock import try_lock
from syncd.mq.embedded.options import MIB, Options
from syncd.mq.embedded.subscriptions import HEADER_BYTES

_STEP_ROWS = 2000  # deleted in one transaction: others get the lock in between
_STEP_BYTES = 16 * MIB  # moved in one transaction
_SHRINK_PAGES = 2000
_HOPS = 1_000_000
_FOREVER = 1 << 62

# What all registered groups have finished in a lane; everything, where no group reads it.
_FINISHED = """
FROM message WHERE lane = :lane AND offset < (
    SELECT COALESCE(MIN(p.offset), l.tail) FROM lane l LEFT JOIN progress p ON p.lane = l.id WHERE l.id = :lane
)
"""
_BY_SECOND = "SELECT stored, SUM(length) + COUNT(*) * :header" + _FINISHED + "GROUP BY stored"
_DROPPABLE = "SELECT offset, segment, length" + _FINISHED + "AND stored <= :cut ORDER BY offset LIMIT :step"


class Retention:
    def __init__(
        self,
        db: Database,
        writer: BodyWriter,
        bodies: Path,
        disk: Disk,
        options: Options,
        clock: Clock,
        log: Callable[..., None],
    ) -> None:
        self._db = db
        self._writer = writer
        self._bodies = bodies
        self._disk = disk
        self._options = options
        self._clock = clock
        self._log = log
        self._damaged: set[str] = set()

    def extend(self, c: sqlite3.Connection, placed: Placed) -> int:
        """Note new bodies in their file's row; the file's number."""
        grown = sum(length for _, length, _ in placed.bodies)
        (number,) = c.execute(
            "INSERT INTO segment (name, size, live) VALUES (?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET size = excluded.size, live = live + excluded.live RETURNING id",
            (placed.name, placed.end, grown),
        ).fetchone()
        return int(number)

    def run(self, *, keep: bool) -> int:
        """One round; bytes given back. `keep` False: finished messages go whatever their age. 0 while another runs."""
        with self._alone() as alone:
            if not alone:
                return 0
            self._drop_messages(self._cut() if keep else _FOREVER)
            self._drop_hops()
            self._close_own()
            given = self._drop_segments()
            self._compact()
            given += self._drop_segments() + self._sweep()
            return given + self._shrink()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        fd = os.open(self._bodies, os.O_RDONLY)
        try:
            yield try_lock(fd)
        finally:
            os.close(fd)

    # ------------------------------------------------------------------------------------------------------ messages

    def _cut(self) -> int:
        """Finished messages stored in or before this second may go: too old, or behind `keep_bytes` newer ones."""
        by_second: Counter[int] = Counter()
        for (lane,) in self._db.read("SELECT id FROM lane"):
            by_second.update(dict(self._db.read(_BY_SECOND, {"lane": lane, "header": HEADER_BYTES})))
        kept = 0
        old = int(self._clock.wall() - self._options.keep_hours * 3600)
        for second in sorted(by_second, reverse=True):
            kept += by_second[second]
            if kept > self._options.keep_bytes:
                return max(old, second)
        return old

    def _drop_messages(self, cut: int) -> None:
        for (lane,) in self._db.read("SELECT id FROM lane"):
            while self._drop_some(lane, cut):
                pass

    def _drop_some(self, lane: int, cut: int) -> bool:
        if not self._db.read(_DROPPABLE, {"lane": lane, "cut": cut, "step": 1}):
            return False
        with self._db.write() as c:
            rows = c.execute(_DROPPABLE, {"lane": lane, "cut": cut, "step": _STEP_ROWS}).fetchall()
            freed: Counter[int] = Counter()
            for _, segment, length in rows:
                freed[segment] += length
            c.executemany("DELETE FROM message WHERE lane = ? AND offset = ?", [(lane, row[0]) for row in rows])
            _release(c, freed)
        return len(rows) == _STEP_ROWS

    def _drop_hops(self) -> None:
        before = (self._clock.wall() - self._options.keep_hours * 3600) * 1_000_000
        while True:
            rows = self._db.read("SELECT id, at FROM hop ORDER BY id LIMIT ?", (_STEP_ROWS,))
            ((newest,),) = self._db.read("SELECT COALESCE(MAX(id), 0) FROM hop")
            old = [number for number, at in rows if at < before or number <= newest - _HOPS]
            if not old:
                return
            with self._db.write() as c:
                c.executemany("DELETE FROM hop WHERE id = ?", [(number,) for number in old])
            if len(old) < _STEP_ROWS:
                return

    # -------------------------------------------------------------------------------------------------------- bodies

    def _close_own(self) -> None:
        """Let go of this instance's own file when nothing in it is needed, so that it can be deleted."""
        rows = self._db.read("SELECT size FROM segment WHERE name = ? AND live = 0", (self._writer.name,))
        if rows and rows[0][0] >= MIB:
            self._writer.close()

    def _drop_segments(self) -> int:
        """Delete files that no message names and nobody writes to. The row goes first, and durably: a file without a
        row is swept up later, a row without its file would be damage.
        """
        given = 0
        for number, name in self._db.read("SELECT id, name FROM segment WHERE live = 0"):
            with self._unowned(name) as (fd, _):
                if fd is None:
                    continue
                with self._db.write_synced() as c:
                    gone = c.execute("DELETE FROM segment WHERE id = ? AND live = 0", (number,)).rowcount
                if gone:
                    given += self._unlink(name)
        return given

    def _sweep(self) -> int:
        """Files, and ends of files, that a process left when it died before its commit."""
        given = 0
        for entry in list(os.scandir(self._bodies)):
            with self._unowned(entry.name) as (fd, length):
                if fd is None:
                    continue
                # Read under the file's lock: no one can add to it any more.
                rows = self._db.read("SELECT size FROM segment WHERE name = ?", (entry.name,))
                if not rows:
                    given += self._unlink(entry.name)
                elif length > rows[0][0]:
                    self._disk.truncate(fd, rows[0][0])
                    given += length - rows[0][0]
        return given

    @contextlib.contextmanager
    def _unowned(self, name: str) -> Iterator[tuple[int | None, int]]:
        """The file (open, locked) and its length; (None, 0) while a process writes to it or when it is gone."""
        try:
            fd = os.open(self._bodies / name, os.O_RDWR)
        except FileNotFoundError:
            yield None, 0
            return
        try:
            yield (fd, os.fstat(fd).st_size) if try_lock(fd) else (None, 0)
        finally:
            os.close(fd)

    def _unlink(self, name: str) -> int:
        path = self._bodies / name
        size = path.stat().st_size
        self._disk.unlink(path)
        return size

    def _compact(self) -> None:
        """Files of which less than half is needed: what is needed moves on, so that a slow lane keeps its own bytes
        only and not all that was written beside them. One that the disk has damaged stays: the table that it is about
        halts when its lane gets there, and holds up no other (8).
        """
        for number, name in self._db.read("SELECT id, name FROM segment WHERE live > 0 AND live * 2 < size"):
            with self._unowned(name) as (fd, _):
                if fd is None:
                    continue
                while self._move_some(number, name, fd):
                    pass

    def _move_some(self, number: int, name: str, fd: int) -> bool:
        rows = self._db.read(
            "SELECT lane, offset, place, length, checksum FROM message WHERE segment = ? ORDER BY place LIMIT 1000",
            (number,),
        )
        moving, total = [], 0
        for row in rows:
            if total and total + row[3] > _STEP_BYTES:
                break
            total += row[3]
            moving.append(row)
        if not moving:
            return False
        bodies = [read_body(fd, place, length, checksum) for _, _, place, length, checksum in moving]
        if None in bodies:
            if name not in self._damaged:
                self._damaged.add(name)
                self._log(
                    "body_damaged", file=str(self._bodies / name), todo="the table that reads it will halt (E153)"
                )
            return False
        try:
            placed = self._writer.append([body for body in bodies if body is not None])
        except OSError as error:
            raise while_open(error, self._bodies) from error
        try:
            with self._db.write() as c:
                self._rename(c, number, placed, moving)
        except BaseException:
            self._writer.abandon()
            raise
        self._writer.keep(placed)
        return True

    def _rename(
        self, c: sqlite3.Connection, old: int, placed: Placed, moving: list[tuple[int, int, int, int, int]]
    ) -> None:
        new = self.extend(c, placed)
        gone: Counter[int] = Counter()
        for (lane, offset, _, length, _), (place, _, _) in zip(moving, placed.bodies, strict=True):
            moved = c.execute(
                "UPDATE message SET segment = ?, place = ? WHERE lane = ? AND offset = ? AND segment = ?",
                (new, place, lane, offset, old),
            ).rowcount
            gone[old if moved else new] += length
        _release(c, gone)

    # ------------------------------------------------------------------------------------------------------ database

    def _shrink(self) -> int:
        given = 0
        while step := self._db.shrink(_SHRINK_PAGES):
            given += step
        if given:
            self._db.checkpoint()
        return given


def _release(c: sqlite3.Connection, freed: Counter[int]) -> None:
    c.executemany("UPDATE segment SET live = live - ? WHERE id = ?", [(size, number) for number, size in freed.items()])
