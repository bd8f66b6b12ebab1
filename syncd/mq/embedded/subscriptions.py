"""Topics, lanes, and the groups that read them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping

from syncd.errors import FatalError, StateError
from syncd.model import Lane
from syncd.mq.embedded.database import Database
from syncd.spi import Held

HEADER_BYTES = 250
"""What a message costs beside its body, about."""


def topic_id(c: sqlite3.Connection, topic: str) -> int:
    c.execute("INSERT INTO topic (name) VALUES (?) ON CONFLICT DO NOTHING", (topic,))
    return int(c.execute("SELECT id FROM topic WHERE name = ?", (topic,)).fetchone()[0])


def lane_id(c: sqlite3.Connection, topic: int, lane: Lane) -> int:
    """The lane's number; a new lane is at once a lane of every group that subscribes to its tag, from its start."""
    row = c.execute("SELECT id FROM lane WHERE topic = ? AND tag = ? AND queue = ?", (topic, *lane)).fetchone()
    if row is not None:
        return int(row[0])
    number = c.execute("INSERT INTO lane (topic, tag, queue) VALUES (?, ?, ?)", (topic, *lane)).lastrowid
    assert number is not None
    groups = c.execute("SELECT name, tags FROM subscription WHERE topic = ?", (topic,)).fetchall()
    reading = [(name, number) for name, tags in groups if _wanted(tags, lane.tag)]
    c.executemany("INSERT INTO progress VALUES (?, ?, 0)", reading)
    return number


def subscribe(c: sqlite3.Connection, group: str, topic: str, tags: Collection[str] | None) -> None:
    """A lane that was the group's already keeps its offset; one that was not begins at its end as of now."""
    number = topic_id(c, topic)
    stored = None if tags is None else json.dumps(sorted(tags))
    lanes = c.execute("SELECT id, tag, tail FROM lane WHERE topic = ?", (number,)).fetchall()
    wanted = {lane: tail for lane, tag, tail in lanes if _wanted(stored, tag)}
    known = {lane for (lane,) in c.execute("SELECT lane FROM progress WHERE name = ?", (group,))}
    c.execute("REPLACE INTO subscription VALUES (?, ?, ?)", (group, number, stored))
    c.executemany("DELETE FROM progress WHERE name = ? AND lane = ?", [(group, lane) for lane in known - set(wanted)])
    new = [(group, lane, tail) for lane, tail in wanted.items() if lane not in known]
    c.executemany("INSERT INTO progress VALUES (?, ?, ?)", new)


def unsubscribe(c: sqlite3.Connection, group: str) -> None:
    c.execute("DELETE FROM progress WHERE name = ?", (group,))
    c.execute("DELETE FROM subscription WHERE name = ?", (group,))


def lanes(db: Database, group: str) -> dict[Lane, tuple[int, int]]:
    rows = db.read(
        "SELECT tag, queue, offset, tail FROM progress JOIN lane ON id = lane WHERE name = ? ORDER BY tag, queue",
        (group,),
    )
    return {Lane(tag, queue): (offset, tail) for tag, queue, offset, tail in rows}


def kept(db: Database, lane: int) -> int:
    """Messages go from the front: what follows the first one that is there is there, too."""
    sql = "SELECT COALESCE((SELECT MIN(offset) FROM message WHERE lane = l.id), tail) FROM lane l WHERE id = ?"
    return int(db.read(sql, (lane,))[0][0])


_HELD = """
SELECT p.name, l.tag, l.queue, l.bytes - m.bytes_before + (l.tail - p.offset) * ?, l.rows - m.rows_before,
       CASE m.time WHEN 0 THEN m.captured ELSE m.time END
FROM progress p JOIN lane l ON l.id = p.lane JOIN message m ON m.lane = p.lane AND m.offset = p.offset
WHERE p.offset < l.tail
"""


def held(db: Database) -> dict[str, dict[Lane, Held]]:
    """By the one message that each lane is at: as quick with millions of them as with one."""
    found: dict[str, dict[Lane, Held]] = {}
    for group, tag, queue, *rest in db.read(_HELD, (HEADER_BYTES,)):
        found.setdefault(group, {})[Lane(tag, queue)] = Held(*rest)
    return found


def move(c: sqlite3.Connection, group: str, offsets: Mapping[Lane, int]) -> int:
    """Set the group's offsets; the number of its topic. FatalError: not subscribed; StateError: past the lane's end."""
    row = c.execute("SELECT topic FROM subscription WHERE name = ?", (group,)).fetchone()
    if row is None:
        raise FatalError(f"group {group!r} is not registered", hint="subscribe it first")
    topic = int(row[0])
    for lane, offset in offsets.items():
        _move_one(c, group, topic, lane, offset)
    return topic


def _move_one(c: sqlite3.Connection, group: str, topic: int, lane: Lane, offset: int) -> None:
    row = c.execute("SELECT id, tail FROM lane WHERE topic = ? AND tag = ? AND queue = ?", (topic, *lane)).fetchone()
    if row is not None and not 0 <= offset <= row[1]:
        raise StateError(
            f"group {group!r}: offset {offset} of lane {lane.tag}/{lane.queue}, whose end is {row[1]}",
            hint="the queue is older than its readers (restored?): resync the tables",
        )
    number = -1 if row is None else row[0]
    moved = c.execute("UPDATE progress SET offset = ? WHERE name = ? AND lane = ?", (offset, group, number))
    if moved.rowcount != 1:
        raise FatalError(f"group {group!r} has no lane {lane.tag}/{lane.queue}", hint="subscribe to its tag first")


def _wanted(tags: str | None, tag: str) -> bool:
    return tags is None or tag in json.loads(tags)
