"""The embedded queue's face: `spi.Queue`, method by method."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from syncd.errors import QueueFull
from syncd.model import Hop, Lane, Message, Stored
from syncd.mq.embedded import leases, subscriptions
from syncd.mq.embedded.bodies import BodyWriter, Disk, Placed
from syncd.mq.embedded.clock import Clock, machine_clock
from syncd.mq.embedded.database import Connect, Database, connect
from syncd.mq.embedded.faults import damaged, from_system, while_open
from syncd.mq.embedded.options import Options as QueueOptions
from syncd.mq.embedded.retention import Retention
from syncd.mq.embedded.rows import INSERT_HOP, INSERT_MESSAGE, Place, hop_of, hop_row, message_row, poll, signed
from syncd.mq.embedded.waiting import Waiting
from syncd.spi import Context, Held, Lease, LeaseState

_HARD_TRIM_EVERY = 0.2  # seconds
_COUNT_EVERY = 0.5  # seconds
_EXTEND = "UPDATE lane SET tail = tail + 1, rows = rows + ?, bytes = bytes + ? WHERE id = ? RETURNING tail, rows, bytes"


class EmbeddedQueue:
    """`spi.Queue` on files of one directory. One instance, one thread; any number of processes share the directory."""

    Options: ClassVar[type[QueueOptions]] = QueueOptions

    def __init__(
        self,
        options: QueueOptions,
        context: Context,
        *,
        clock: Clock | None = None,
        disk: Disk | None = None,
        connector: Connect = connect,
    ) -> None:
        self.options = options
        self.directory = context.directory / options.path
        self._clock = clock or machine_clock()
        self._disk = disk or Disk()
        self._bodies = self.directory / "bodies"
        self._db = Database(self.directory, options, self._clock, connector)
        self._writer = BodyWriter(self._bodies, options.segment_bytes, self._disk)
        self._retention = Retention(self._db, self._writer, self._bodies, self._disk, options, self._clock, context.log)
        self._waiting = Waiting(self._db, self.directory / "waiting", self._clock)
        self._lane_ids: dict[tuple[str, Lane], int] = {}
        self._hard_trim_at = 0.0
        self._room, self._room_until = 0, 0.0
        self._incarnation = ""

    # ------------------------------------------------------------------------------------------------ open and close

    def open(self) -> None:
        try:
            for directory in (self.directory, self._bodies):
                directory.mkdir(mode=0o700, exist_ok=True)
            self._disk.sync_directory(self.directory)
            self._waiting.open(alone=self._db.open())
            self._db.reserve.restore()
            self._disk.sync_directory(self.directory)
            self._check_bodies()
            self._incarnation = self._db.read("SELECT value FROM meta WHERE key = 'incarnation'")[0][0]
        except OSError as error:
            self.close()
            raise from_system(error, self.directory) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._writer.close()
        self._waiting.close()
        self._db.close()

    def incarnation(self) -> str:
        return self._incarnation

    def _check_bodies(self) -> None:
        """Every body file is there and as long as the database says: a copy without `bodies/` is found at once."""
        with self._db.lock.held():
            for name, size in self._db.read("SELECT name, size FROM segment WHERE live > 0"):
                path = self._bodies / name
                if not path.exists() or path.stat().st_size < size:
                    raise damaged(path, f"missing, or shorter than its {size} bytes")

    # -------------------------------------------------------------------------------------------------------- leases

    def acquire(self, name: str, owner: str, ttl: float) -> Lease | None:
        with self._db.write() as c:
            return leases.acquire(c, name, owner, ttl, self._clock)

    def renew(self, lease: Lease) -> None:
        with self._db.write() as c:
            leases.renew(c, lease, self._clock)

    def release(self, lease: Lease) -> None:
        with self._db.write() as c:
            leases.release(c, lease)

    def leases(self, prefix: str) -> Sequence[LeaseState]:
        return leases.states(self._db, prefix, self._clock)

    # ------------------------------------------------------------------------------------------------------- publish

    def publish(
        self, lease: Lease, topic: str, messages: Sequence[Message], state: Mapping[str, bytes | None]
    ) -> Sequence[int]:
        if not messages:
            self.put(lease, state)
            return []
        self._take_room(sum(len(m.body) for m in messages))
        placed = self._store(messages)
        try:
            with self._db.write() as c:
                leases.fence(c, lease)  # guarantee 7
                offsets = self._insert(c, topic, messages, placed)
                _save(c, state)  # guarantee 1: the position goes with the messages, in their transaction
        except BaseException:
            self._writer.abandon()
            self._lane_ids.clear()
            self._room = 0
            raise
        self._writer.keep(placed)
        self._waiting.ring()
        return offsets

    def _take_room(self, size: int) -> None:
        """Counted exactly every so often, in between against a part of what was free then."""
        self._check_log()
        now = self._clock.now()
        if self._room < size or now >= self._room_until:
            held, limit = self._wait_for_room()
            self._room, self._room_until = (limit - held) // 8, now + _COUNT_EVERY
        self._room -= size

    def _check_log(self) -> None:
        """QueueFull when the write-ahead log is over its limit and a reader keeps it from being emptied."""
        if self._db.log_bytes() > self.options.wal_bytes and not self._db.checkpoint():
            readers = ", ".join(map(str, self._db.readers())) or "unknown"
            raise QueueFull(
                f"{self.directory}: write-ahead log over {self.options.wal_bytes} bytes, held by process {readers}",
                hint="that process is frozen in the middle of a read: continue it (kill -CONT) or end it (kill -KILL)",
            )

    def _wait_for_room(self) -> tuple[int, int]:
        """QueueFull when the queue is over its limit and nothing finished can go, or when the disk is full."""
        if not self._db.reserve.restore():
            raise QueueFull(
                f"{self.directory}: the disk is full",
                hint="free some space on that file system; offsets and state are still written, capture waits",
            )
        held, limit = self.usage()
        if held >= limit and self._clock.now() >= self._hard_trim_at:
            self._hard_trim_at = self._clock.now() + _HARD_TRIM_EVERY
            self._trim(keep=False)
            held, limit = self.usage()
        if held >= limit:
            raise QueueFull(
                f"{self.directory}: holds {held} bytes, max_bytes is {limit}",
                hint="the sinks are behind: `syncd status` names who holds it; or raise the queue's max_bytes",
            )
        return held, limit

    def _store(self, messages: Sequence[Message]) -> Placed:
        try:
            return self._writer.append([m.body for m in messages])
        except OSError as error:
            self._room = 0
            raise while_open(error, self._bodies) from error

    def _insert(self, c: sqlite3.Connection, topic: str, messages: Sequence[Message], placed: Placed) -> list[int]:
        topic_id = subscriptions.topic_id(c, topic)
        segment = self._retention.extend(c, placed)
        stored = int(self._clock.wall())
        offsets, rows = [], []
        for message, body in zip(messages, placed.bodies, strict=True):
            lane = self._lane_id(c, topic, topic_id, message.lane)
            size = len(message.body)
            tail, after, total = c.execute(_EXTEND, (message.rows, size, lane)).fetchone()
            offsets.append(tail - 1)
            place = Place(lane, tail - 1, after - message.rows, total - size)
            rows.append(message_row(place, message, stored, segment, body))
        c.executemany(INSERT_MESSAGE, rows)
        c.execute("UPDATE topic SET published = published + 1 WHERE id = ?", (topic_id,))
        return offsets

    def _lane_id(self, c: sqlite3.Connection, topic: str, topic_id: int, lane: Lane) -> int:
        key = (topic, lane)
        if key not in self._lane_ids:
            self._lane_ids[key] = subscriptions.lane_id(c, topic_id, lane)
        return self._lane_ids[key]

    # ------------------------------------------------------------------------------------------------------- deliver

    def subscribe(self, group: str, topic: str, tags: Collection[str] | None) -> None:
        with self._db.write() as c:
            subscriptions.subscribe(c, group, topic, tags)

    def unsubscribe(self, group: str) -> None:
        with self._db.write() as c:
            subscriptions.unsubscribe(c, group)

    def lanes(self, group: str) -> Mapping[Lane, tuple[int, int]]:
        for (topic,) in self._db.read(
            "SELECT t.name FROM subscription s JOIN topic t ON t.id = s.topic WHERE s.name = ?", (group,)
        ):
            self._waiting.looked(topic)
        return subscriptions.lanes(self._db, group)

    def poll(self, topic: str, lane: Lane, offset: int, max_bytes: int) -> Sequence[Stored]:
        self._waiting.looked(topic)
        lane_id = self._known_lane(topic, lane)
        if lane_id is None:
            return []
        try:
            return poll(self._db, self._bodies, lane, lane_id, offset, max_bytes)
        except OSError as error:
            raise while_open(error, self._bodies) from error

    def kept(self, topic: str, lane: Lane) -> int:
        lane_id = self._known_lane(topic, lane)
        return 0 if lane_id is None else subscriptions.kept(self._db, lane_id)

    def _known_lane(self, topic: str, lane: Lane) -> int | None:
        key = (topic, lane)
        if key not in self._lane_ids:
            found = self._db.read(
                "SELECT l.id FROM lane l JOIN topic t ON t.id = l.topic WHERE t.name = ? AND tag = ? AND queue = ?",
                (topic, *lane),
            )
            if not found:
                return None
            self._lane_ids[key] = found[0][0]
        return self._lane_ids[key]

    def wait(self, topic: str, timeout: float) -> bool:
        return self._waiting.wait(topic, timeout)

    def commit(
        self,
        lease: Lease,
        group: str,
        offsets: Mapping[Lane, int],
        state: Mapping[str, bytes | None],
        hops: Sequence[Hop],
    ) -> None:
        with self._db.write() as c:
            leases.fence(c, lease)  # guarantee 7
            if offsets or hops:
                topic = subscriptions.move(c, group, offsets)
                c.executemany(INSERT_HOP, [hop_row(topic, hop) for hop in hops])
            _save(c, state)  # guarantee 5: parked rows are stored with the offset that passes them

    def hops(self, topic: str, trace: int) -> Sequence[Hop]:
        rows = self._db.read(
            "SELECT trace, operator, tag, queue, h.offset, at, took, worker, outcome FROM hop h "
            "JOIN topic t ON t.id = h.topic WHERE t.name = ? AND trace = ? ORDER BY h.id",
            (topic, signed(trace)),
        )
        return [hop_of(row) for row in rows]

    # --------------------------------------------------------------------------------------------------------- state

    def put(self, lease: Lease, state: Mapping[str, bytes | None]) -> None:
        with self._db.write() as c:
            leases.fence(c, lease)  # guarantee 7
            _save(c, state)

    def get(self, key: str) -> bytes | None:
        rows = self._db.read("SELECT value FROM state WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    def scan(self, prefix: str) -> Mapping[str, bytes]:
        return dict(
            self._db.read(
                "SELECT key, value FROM state WHERE key >= ? AND substr(key, 1, ?) = ? ORDER BY key",
                (prefix, len(prefix), prefix),
            )
        )

    # ----------------------------------------------------------------------------------------------------- retention

    def trim(self) -> int:
        return self._trim(keep=True)

    def _trim(self, *, keep: bool) -> int:
        try:
            return self._retention.run(keep=keep)
        except OSError as error:
            raise while_open(error, self._bodies) from error

    def usage(self) -> tuple[int, int]:
        ((bodies,),) = self._db.read("SELECT COALESCE(SUM(size), 0) FROM segment")
        return bodies + self._db.file_bytes(), self.options.max_bytes

    def held(self) -> Mapping[str, Mapping[Lane, Held]]:
        return subscriptions.held(self._db)


def _save(c: sqlite3.Connection, state: Mapping[str, bytes | None]) -> None:
    gone = [(key,) for key, value in state.items() if value is None]
    kept = [(key, value) for key, value in state.items() if value is not None]
    if gone:
        c.executemany("DELETE FROM state WHERE key = ?", gone)
    if kept:
        c.executemany("INSERT INTO state VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", kept)
