"""The complete events of a feed as columns of header fields, and which of them need a look of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syncd.errors import FatalError
from syncd.sources.mysql.binlog import kinds
from syncd.sources.mysql.binlog.arrays import Bools, Ints, Views
from syncd.sources.mysql.binlog.feed import Feed

_PLAIN = np.zeros(256, bool)
_PLAIN[
    list(
        kinds.ROWS
        | kinds.ROWS_COMPRESSED
        | kinds.PASSED_OVER
        | {kinds.TABLE_MAP, kinds.XID, kinds.GTID, kinds.ANONYMOUS_GTID, kinds.GTID_TAGGED, kinds.MARIA_GTID}
    )
] = True
_FIXED_PART = 13
_HEAD = kinds.HEADER + 6
_BEGIN, _COMMIT = int.from_bytes(b"BEGIN", "little"), int.from_bytes(b"COMMIT", "little")
_ROLLBACK = int.from_bytes(b"ROLLBACK", "little")
_SAVEPOINT = int.from_bytes(b"SAVEPOIN", "little")


@dataclass(frozen=True, slots=True)
class Window:
    """One item an event. `end`: one past its body, without checksum; `size`: with it. `place`: filled in by `Places`.

    `number`: of its table, where it is about rows. `plain`: the event is handled together with others of its kind;
    `begin`, `commit` and `rollback`: QUERY events that begin with these words (ROLLBACK TO a savepoint among them).
    `room`: see `RowEvents`.
    """

    views: Views
    start: Ints
    end: Ints
    size: Ints
    place: Ints
    kind: NDArray[np.uint8]
    log_pos: Ints
    flags: Ints
    number: Ints
    plain: Bools
    begin: Bools
    commit: Bools
    rollback: Bools
    room: Ints | None = None

    def __len__(self) -> int:
        return len(self.start)

    def body(self, index: int) -> bytes:
        """One event without header and checksum."""
        return self.views.data[self.start[index] + kinds.HEADER : self.end[index]].tobytes()

    def event(self, index: int) -> bytes:
        """The whole event."""
        return self.views.data[self.start[index] : self.start[index] + self.size[index]].tobytes()

    def seconds(self, index: int) -> int:
        """The header's timestamp."""
        return int(self.views.little(4, self.start[index : index + 1])[0])


def window(feed: Feed) -> Window:
    """The header fields of all events of the feed. FatalError: an event whose header contradicts its packet."""
    return of_events(feed.data, feed.start, feed.end, checksum=feed.checksum)


def of_events(data: NDArray[np.uint8], start: Ints, after: Ints, *, checksum: bool) -> Window:
    views = Views(data)
    head, at = views.packed(_HEAD, start)
    size = head.little(4, at + 9)
    wrong = np.flatnonzero((size != after - start) | (size < kinds.HEADER + (kinds.CHECKSUM if checksum else 0)))
    if wrong.size:
        first = int(wrong[0])
        raise FatalError(
            f"malformed event: its header says {size[first]} bytes, its packet holds {after[first] - start[first]}"
        )
    kind = head.data[at + 4]
    end = after - kinds.CHECKSUM if checksum else after
    begin, commit, rollback, plain = _queries(views, start, end, kind)
    place = np.zeros(len(start), np.int64)
    log_pos, flags, number = head.little(4, at + 13), head.little(2, at + 17), head.little(6, at + kinds.HEADER)
    return Window(views, start, end, size, place, kind, log_pos, flags, number, plain, begin, commit, rollback)


def _queries(views: Views, start: Ints, end: Ints, kind: NDArray[np.uint8]) -> tuple[Bools, Bools, Bools, Bools]:
    """BEGIN, COMMIT and SAVEPOINT are told by their first bytes, together; any other QUERY is not plain."""
    begin, commit, rollback = (np.zeros(len(start), bool) for _ in range(3))
    plain = _PLAIN[kind]
    which = np.flatnonzero((kind == kinds.QUERY) & (end - start >= kinds.HEADER + _FIXED_PART))
    if which.size:
        body = start[which] + kinds.HEADER
        at = body + _FIXED_PART + views.little(2, body + 11) + views.little(1, body + 8) + 1
        size = end[which] - at
        at = np.where(size > 0, at, start[which])
        word = views.at("<u8", at)
        begin[which] = (size == 5) & (word & np.uint64((1 << 40) - 1) == np.uint64(_BEGIN))
        commit[which] = (size == 6) & (word & np.uint64((1 << 48) - 1) == np.uint64(_COMMIT))
        rollback[which] = (size >= 8) & (word == np.uint64(_ROLLBACK))
        plain[which] = begin[which] | commit[which] | ((size > 9) & (word == np.uint64(_SAVEPOINT)))
    return begin, commit, rollback, plain
