"""A position in the log: JSON text with the file, the byte and, where known, the transactions before it.

    {"file": "binlog.000003", "pos": 1234, "gtid": "0-1-42", "server": "mariadb:1", "made": 1700000000}

It is always a transaction boundary. `server` says whose log file and byte are of (MySQL: its uuid, MariaDB: its id);
on another server only `gtid` counts. `made` is when the file was begun, as the file itself says: after a reset of the
log (RESET MASTER), or on a restored server, a file of the same name says another time.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum

from syncd.errors import FatalError, StateError
from syncd.model import Position
from syncd.sources.mysql.binlog import gtid as gtids
from syncd.sources.mysql.binlog.seq import file_number


@dataclass(frozen=True, slots=True)
class Place:
    """`file` is "" when only the GTIDs are known; `gtid` None when they are not, "" when there are none yet.

    `made`: seconds since 1970, 0 while it is not known.
    """

    file: str = ""
    pos: int = 0
    gtid: str | None = None
    server: str = ""
    made: int = 0

    @property
    def mariadb(self) -> bool:
        return self.server.startswith("mariadb:")

    def dump(self) -> Position:
        return Position(json.dumps({name: value for name, value in asdict(self).items() if _said(name, value)}))


def _said(name: str, value: object) -> bool:
    return value is not None if name == "gtid" else bool(value)


def load(position: Position) -> Place:
    """StateError: no position of a MySQL source."""
    try:
        place = Place(**json.loads(position))
    except (TypeError, ValueError) as error:
        raise StateError(f"{position!r} is no position of a MySQL source: {error}") from error
    if not isinstance(place.file, str) or not isinstance(place.pos, int):
        raise StateError(f"{position!r} is no position of a MySQL source: file is a text, pos a number")
    if not place.file and place.gtid is None:
        raise StateError(f"{position!r} names neither a log file nor GTIDs")
    return place


class Order(Enum):
    BEFORE = "before"
    SAME = "same"
    AFTER = "after"
    APART = "apart"


def compare(one: Position, other: Position) -> Order:
    """How `one` lies to `other`: by file and byte on one server, else by GTIDs. APART: neither holds all of the other.

    FatalError: they cannot be compared.
    """
    a, b = load(one), load(other)
    if a.file and b.file and a.server == b.server:
        left, right = (file_number(a.file), a.pos), (file_number(b.file), b.pos)
        return Order.SAME if left == right else Order.BEFORE if left < right else Order.AFTER
    if a.gtid is None or b.gtid is None:
        raise FatalError(f"{describe(one)} and {describe(other)} are of different servers and have no GTIDs")
    mariadb = a.mariadb or b.mariadb
    mine, theirs = gtids.parse(a.gtid, mariadb=mariadb), gtids.parse(b.gtid, mariadb=mariadb)
    match mine.covers(theirs), theirs.covers(mine):
        case True, True:
            return Order.SAME
        case True, False:
            return Order.AFTER
        case False, True:
            return Order.BEFORE
        case _:
            return Order.APART


def describe(position: Position) -> str:
    """For people: "binlog.000003:1234 (GTID 0-1-42)"."""
    place = load(position)
    at = f"{place.file}:{place.pos}" if place.file else ""
    known = f"GTID {place.gtid}" if place.gtid else ""
    return f"{at} ({known})" if at and known else at or known or "the beginning"
