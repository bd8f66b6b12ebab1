"""Messages and hops as rows of queue.db, and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from syncd.errors import StateError
from syncd.model import Hop, Kind, Lane, Message, Stored, TableId
from syncd.mq.embedded.bodies import read_body
from syncd.mq.embedded.database import Database, Row
from syncd.mq.embedded.faults import away, damaged

INSERT_MESSAGE = "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_HOP = "INSERT INTO hop VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

_POLL = """
SELECT offset, kind, database, m.name, schema_version, rows, first_seq, last_seq, trace, time, captured, source,
       s.name, place, length, checksum
FROM message m JOIN segment s ON s.id = m.segment
WHERE lane = ? AND offset >= ? ORDER BY offset LIMIT 1000
"""
_LENGTH = 14
_ATTEMPTS = 5


def signed(number: int) -> int:
    """A number of 64 bits without sign as SQLite's signed one."""
    return number - (1 << 64) if number >= 1 << 63 else number


def unsigned(number: int) -> int:
    return number & 0xFFFF_FFFF_FFFF_FFFF


class Place(NamedTuple):
    """Where a message stands in its lane; `rows`, `bytes`: what the lane had got before it."""

    lane: int
    offset: int
    rows: int
    bytes: int


def message_row(at: Place, m: Message, stored: int, segment: int, body: tuple[int, int, int]) -> Row:
    return (
        at.lane,
        at.offset,
        int(m.kind),
        m.table.database,
        m.table.name,
        signed(m.schema_version),
        m.rows,
        signed(m.first_seq),
        signed(m.last_seq),
        signed(m.trace),
        m.time,
        m.captured,
        m.source,
        stored,
        segment,
        *body,
        at.rows,
        at.bytes,
    )


def hop_row(topic: int, hop: Hop) -> Row:
    tag, queue = hop.lane or (None, None)
    return (
        topic,
        signed(hop.trace),
        hop.operator,
        tag,
        queue,
        hop.offset,
        hop.at,
        hop.took,
        hop.worker,
        hop.outcome,
    )


def hop_of(row: Row) -> Hop:
    trace, operator, tag, queue, offset, at, took, worker, outcome = row
    lane = None if tag is None else Lane(tag, queue)
    return Hop(unsigned(trace), operator, lane, offset, at, took, worker, outcome)


def poll(db: Database, bodies: Path, lane: Lane, lane_id: int, offset: int, max_bytes: int) -> list[Stored]:
    """The messages from `offset` on, up to `max_bytes` of bodies, at least one if there is one."""
    for _ in range(_ATTEMPTS):
        budget = _Budget(max_bytes)
        rows = db.read_until(_POLL, (lane_id, offset), budget.spent)
        try:
            return _read(db, bodies, lane, rows)
        except FileNotFoundError as error:
            # A trim moved the bodies between the two reads; the rows now name their new place.
            missing = error
    if not bodies.exists():  # renamed, or its file system is gone: nothing in it is damaged
        raise away(bodies)
    raise damaged(db.path, f"body file {missing.filename} is missing")


class _Budget:
    def __init__(self, limit: int) -> None:
        self._left = limit
        self._first = True

    def spent(self, row: Row) -> bool:
        self._left -= row[_LENGTH]
        over = self._left < 0 and not self._first
        self._first = False
        return over


def _read(db: Database, bodies: Path, lane: Lane, rows: list[Row]) -> list[Stored]:
    """FileNotFoundError: a body file is not there (any more)."""
    fds: dict[str, int] = {}
    try:
        for row in rows:
            if row[12] not in fds:
                fds[row[12]] = os.open(bodies / row[12], os.O_RDONLY)
        return [_stored(lane, row, _body(db, bodies, lane, row, fds[row[12]])) for row in rows]
    finally:
        # Not kept open: a deleted file's disk comes back when the last one closes it.
        for fd in fds.values():
            os.close(fd)


def _body(db: Database, bodies: Path, lane: Lane, row: Row, fd: int) -> bytes:
    name, place, length, checksum = row[12:]
    body = read_body(fd, place, length, checksum)
    if body is None:
        raise StateError(
            f"{bodies / name}: damaged at {place}: offset {row[0]} of lane {lane.tag}/{lane.queue} of {db.path}",
            table=f"{row[2]}.{row[3]}",
            hint="the disk lost or changed what was stored; resync that table",
        )
    return body


def _stored(lane: Lane, row: Row, body: bytes) -> Stored:
    offset, kind, database, name, version, rows, first, last, trace, time, captured, source = row[:12]
    message = Message(
        lane=lane,
        kind=Kind(kind),
        table=TableId(database, name),
        schema_version=unsigned(version),
        rows=rows,
        first_seq=unsigned(first),
        last_seq=unsigned(last),
        trace=unsigned(trace),
        time=time,
        captured=captured,
        body=body,
        source=source,
    )
    return Stored(offset, message)
