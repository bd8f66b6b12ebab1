"""Sets of global transaction ids: MySQL's (uuid, tag, intervals) and MariaDB's (the last of each domain).

MySQL text: "uuid:1-5:7,uuid:tag:1-3" (tags since 8.3; a tag holds for the intervals behind it). MariaDB text:
"domain-server-sequence,...". The wire format of MySQL's set is `Gtid_set::encode` in `sql/rpl_gtid_set.cc`.
"""

from __future__ import annotations

import re
import uuid
from typing import Protocol

from syncd.errors import FatalError
from syncd.sources.mysql.binlog.reader import Reader

_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}")
Source = tuple[bytes, str]
Interval = tuple[int, int]


class GtidSet(Protocol):
    def text(self) -> str: ...

    def covers(self, other: GtidSet) -> bool:
        """Every transaction of `other` is in this set."""


class MySQLGtids:
    """Intervals (first, one past last) of each (uuid, tag), sorted, apart from each other."""

    def __init__(self, text: str = "") -> None:
        self._sets: dict[Source, list[Interval]] = {}
        self._text: str | None = None
        for part in re.sub(r"\s", "", text).split(","):
            if part:
                self._parse(part)

    def _parse(self, part: str) -> None:
        name, *items = part.split(":")
        tag = ""
        try:
            source = uuid.UUID(name).bytes
            for item in items:
                if _TAG.fullmatch(item.lower()):
                    tag = item.lower()
                    continue
                first, _, last = item.partition("-")
                self.add((source, tag), int(first), int(last or first) + 1)
        except ValueError as error:
            raise FatalError(f"{part!r} is no MySQL GTID set", hint="write it as uuid:1-5,uuid:tag:7") from error

    def add(self, source: Source, first: int, after: int) -> None:
        """Add the transactions `first` up to and without `after`."""
        if not 0 < first < after:
            raise FatalError(f"{first}-{after - 1} is no interval of GTIDs")
        self._text = None
        known = self._sets.setdefault(source, [])
        if known and known[-1][0] <= first <= known[-1][1]:  # nearly always: the next one of the last interval
            known[-1] = (known[-1][0], max(known[-1][1], after))
            return
        known.append((first, after))
        known.sort()
        merged = known[:1]
        for start, end in known[1:]:
            if start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end))
            else:
                merged.append((start, end))
        self._sets[source] = merged

    def text(self) -> str:
        if self._text is None:
            self._text = ",".join(
                ":".join([str(uuid.UUID(bytes=source)), *([tag] if tag else []), *map(_interval, intervals)])
                for (source, tag), intervals in sorted(self._sets.items())
            )
        return self._text

    def covers(self, other: GtidSet) -> bool:
        assert isinstance(other, MySQLGtids)
        return all(
            any(start <= first and after <= end for start, end in self._sets.get(source, ()))
            for source, intervals in other._sets.items()
            for first, after in intervals
        )

    def without(self, other: MySQLGtids) -> MySQLGtids:
        """The transactions that `other` does not have."""
        left = MySQLGtids()
        for source, intervals in self._sets.items():
            for first, after in intervals:
                for start, end in other._sets.get(source, ()):
                    if first < start < after:
                        left.add(source, first, start)
                    if start < after:
                        first = max(first, min(end, after))
                if first < after:
                    left.add(source, first, after)
        return left

    def count(self) -> int:
        """How many transactions there are."""
        return sum(after - first for intervals in self._sets.values() for first, after in intervals)

    def merge(self, other: MySQLGtids) -> None:
        for source, intervals in other._sets.items():
            for first, after in intervals:
                self.add(source, first, after)

    def encode(self) -> bytes:
        """As COM_BINLOG_DUMP_GTID takes it; with tags in the format of 8.3, else in the one of all versions."""
        tagged = any(tag for _, tag in self._sets)
        out = bytearray()
        count = len(self._sets)
        # the tagged format is marked by a 1 in the first and in the last byte of the count
        out += (1 << 56 | count << 8 | 1 if tagged else count).to_bytes(8, "little")
        for (source, tag), intervals in sorted(self._sets.items()):
            out += source
            if tagged:
                out += bytes([len(tag) << 1]) + tag.encode()
            out += len(intervals).to_bytes(8, "little")
            for first, after in intervals:
                out += first.to_bytes(8, "little") + after.to_bytes(8, "little")
        return bytes(out)

    @classmethod
    def decode(cls, body: bytes) -> MySQLGtids:
        """The inverse of `encode`; also the body of PREVIOUS_GTIDS."""
        reader, found = Reader(body, "PREVIOUS_GTIDS"), cls()
        head = reader.number(8)
        tagged = head >> 56 == 1
        for _ in range(head >> 8 & 0xFFFFFFFFFFFF if tagged else head):
            source = reader.take(16)
            tag = reader.text(reader.number(1) >> 1) if tagged else ""
            for _ in range(reader.number(8)):
                found.add((source, tag), reader.number(8), reader.number(8))
        return found


def _interval(interval: Interval) -> str:
    first, after = interval
    return str(first) if after == first + 1 else f"{first}-{after - 1}"


class MariaGtids:
    """The last transaction of each domain."""

    def __init__(self, text: str = "") -> None:
        self._last: dict[int, tuple[int, int]] = {}
        for part in re.sub(r"\s", "", text).split(","):
            if not part:
                continue
            words = part.split("-")
            if len(words) != 3 or not all(word.isascii() and word.isdigit() for word in words):
                raise FatalError(f"{part!r} is no MariaDB GTID", hint="write it as domain-server-sequence")
            domain, server, sequence = map(int, words)
            self.add(domain, server, sequence)

    def add(self, domain: int, server: int, sequence: int) -> None:
        self._last[domain] = (server, sequence)

    def text(self) -> str:
        return ",".join(f"{domain}-{server}-{sequence}" for domain, (server, sequence) in sorted(self._last.items()))

    def covers(self, other: GtidSet) -> bool:
        assert isinstance(other, MariaGtids)
        return all(
            domain in self._last and sequence <= self._last[domain][1] for domain, (_, sequence) in other._last.items()
        )

    def merge(self, other: MariaGtids) -> None:
        """The later of the two in each domain."""
        for domain, (server, sequence) in other._last.items():
            if domain not in self._last or self._last[domain][1] < sequence:
                self.add(domain, server, sequence)

    @classmethod
    def decode(cls, body: bytes) -> MariaGtids:
        """The body of a GTID_LIST event: several servers of one domain may be in it, its last comes last."""
        reader, found = Reader(body, "GTID_LIST"), cls()
        for _ in range(reader.number(4) & 0x0FFFFFFF):
            domain, server, sequence = reader.number(4), reader.number(4), reader.number(8)
            found.add(domain, server, sequence)
        return found


def parse(text: str, *, mariadb: bool) -> MySQLGtids | MariaGtids:
    return MariaGtids(text) if mariadb else MySQLGtids(text)
