"""GTID_TAGGED events (MySQL 8.3+): `mysql::serialization` messages (`libs/mysql/serialization/readme.md`).

A number takes as many bytes as its first byte has trailing ones, plus one; behind those ones and a zero follow its
bits, little endian. A signed number has its sign in the lowest bit. The message is: format version, size, id of the
last field that a reader must know; then fields, each an id and a value.
"""

from __future__ import annotations

from typing import NamedTuple

from syncd.errors import FatalError
from syncd.sources.mysql.binlog.gtid import Source
from syncd.sources.mysql.binlog.reader import Reader

_FLAGS, _UUID, _NUMBER, _TAG, _COMMITTED, _SEQUENCE, _TIME = range(7)


class Tagged(NamedTuple):
    source: Source
    number: int
    time: int


def unsigned(reader: Reader) -> int:
    first = reader.number(1)
    more = 0
    while more < 8 and first >> more & 1:
        more += 1
    if more == 8:
        return reader.number(8)
    return (first | reader.number(more) << 8) >> (more + 1) if more else first >> 1


def signed(reader: Reader) -> int:
    raw = unsigned(reader)
    return ~(raw >> 1) if raw & 1 else raw >> 1


def parse_tagged(body: bytes) -> Tagged:
    """GTID and commit time (microseconds); fields behind those are not read."""
    reader = Reader(body, "GTID_TAGGED")
    unsigned(reader)  # version of the format
    unsigned(reader)  # size
    unsigned(reader)  # last field that must be known
    uuid, tag, number, time = b"", "", 0, 0
    while reader.left and not time:
        field = unsigned(reader)
        if field == _FLAGS:
            unsigned(reader)
        elif field == _UUID:
            uuid = bytes(unsigned(reader) & 0xFF for _ in range(16))
        elif field == _NUMBER:
            number = signed(reader)
        elif field == _TAG:
            tag = reader.text(unsigned(reader))
        elif field in {_COMMITTED, _SEQUENCE}:
            signed(reader)
        elif field == _TIME:
            time = unsigned(reader)
        else:
            break
    if len(uuid) != 16 or number <= 0:
        raise FatalError(f"malformed GTID_TAGGED event: {body.hex()}")
    return Tagged((uuid, tag), number, time)
