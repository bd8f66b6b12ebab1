"""From the wire's packets to a window of complete, checksummed events in one buffer.

A packet is a length (u24), a sequence number (u8) and a body; the body is a status byte (0x00) and one event. A body of
2^24-1 bytes goes on in the next packet; such events are joined in place, so that every event lies in one piece.
The only Python per event is the chain of packet lengths; all header fields are read by column.
"""

from __future__ import annotations

import struct
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from syncd.errors import FatalError, TransientError
from syncd.sources.mysql.binlog.answers import raise_answer
from syncd.sources.mysql.binlog.arrays import Ints
from syncd.sources.mysql.binlog.kinds import FORMAT_DESCRIPTION, HEADER
from syncd.sources.mysql.binlog.wire import Wire

PAD = 64
"""Zero bytes behind the data: a load of a few bytes at the end of an event stays inside the buffer."""
LONGEST = (1 << 24) - 1
_BEFORE = 5
"""Bytes of a packet before its event."""
MAX_EVENT = (1 << 31) - (1 << 20)

_U32 = struct.Struct("<I").unpack_from
_IN_USE = 1
"""Flag of the FORMAT_DESCRIPTION of a file that was not closed; its checksum does not count it."""
_RESIDUE = 0x2144DF1C
"""CRC32 of any bytes followed by their own CRC32, little endian."""
_NONE = np.zeros(0, np.int64)


class Feed:
    """Complete events from `start[i]` (first header byte) to `end[i]` (checksum included) in `data`.

    The caller takes events from the front with `drop`; what is left stays for the next `fill`. `checksum` says
    whether events end in a CRC32; a FORMAT_DESCRIPTION may change that (`rescan`).
    """

    def __init__(self, wire: Wire, *, checksum: bool, size: int = 4 << 20) -> None:
        self._wire = wire
        self.size = size
        self._buffer = bytearray(size + PAD)
        self._view = memoryview(self._buffer)
        self._have = 0
        self._scanned = 0
        self._halted = False
        self.checksum = checksum
        self.start: Ints = _NONE
        self.end: Ints = _NONE

    def __len__(self) -> int:
        return len(self.start)

    @property
    def data(self) -> NDArray[np.uint8]:
        """The whole buffer, `PAD` bytes longer than any event in it; valid until the next `fill` or `drop`."""
        return np.frombuffer(self._buffer, np.uint8)

    @property
    def full(self) -> bool:
        """Nothing more is read before events are dropped."""
        return self._have >= self.size

    def fill(self, seconds: float) -> bool:
        """Wait up to `seconds` for bytes, then read what is there without waiting. False: no byte came in time."""
        if self._halted:  # what is read already comes first
            self._scan()
            return True
        if not self.full or not len(self):
            if not self._wire.wait(seconds):
                return False
            self._read()
        self._scan()
        return True

    def drop(self, count: int) -> None:
        """Give back the first `count` events and move what is left to the front of the buffer."""
        if not count:
            return
        cut = int(self.start[count]) - _BEFORE if count < len(self) else self._scanned
        rest = self._have - cut
        self._view[:rest] = self._view[cut : self._have]
        self.start, self.end = self.start[count:] - cut, self.end[count:] - cut
        self._have, self._scanned = rest, self._scanned - cut

    def rescan(self, index: int, *, checksum: bool) -> None:
        """From event `index` on the log has checksums, or has none any more."""
        self._forget(index)
        self.checksum = checksum
        self._scan()

    def _forget(self, index: int) -> None:
        if index < len(self):
            self._scanned = int(self.start[index]) - _BEFORE
            self.start, self.end = self.start[:index], self.end[:index]

    def _read(self) -> None:
        if self._have < self.size < len(self._buffer) // 4:
            self._resize(self.size)  # a long event has passed
        if self._have >= len(self._buffer) - PAD:
            self._resize(2 * self._have)
        limit = self.size if self._have < self.size else len(self._buffer) - PAD
        first = self._have
        while True:
            count = self._wire.read(self._view[self._have : limit])
            if not count and self._have > first:
                break  # what came before the end comes first: it may say why
            if not count:
                raise TransientError("the server closed the log connection")
            self._have += count
            if self._have >= limit or not self._wire.wait(0):
                break

    def _resize(self, size: int) -> None:
        if size > MAX_EVENT:
            raise FatalError(f"an event of the log is larger than {MAX_EVENT >> 1} bytes")
        other = bytearray(size + PAD)
        other[: self._have] = self._view[: self._have]
        self._buffer = other
        self._view = memoryview(other)

    def _scan(self) -> None:
        """Find the complete events behind `_scanned`, and verify their checksums."""
        first = len(self)
        self._halted = False
        self._chain()
        wrong = None if not self.checksum or self._verify(first) else self._first_wrong(first)
        if wrong is None:
            return
        if not self._may_change(wrong):
            size = self.end[wrong] - self.start[wrong]
            raise FatalError(
                f"an event of {size} bytes, type {self._kind(wrong)}, has a wrong checksum",
                hint="the log or the network is damaged: check the log with mysqlbinlog --verify-binlog-checksum",
            )
        self._forget(wrong)
        self._halted = True  # a log without checksums may begin here: scanned on when that event was handled

    def _chain(self) -> None:
        """Follow the packets' lengths, and look at what they hold together."""
        buffer, at, limit, unpack = self._buffer, self._scanned, self._have - _BEFORE, _U32
        found: list[int] = []
        add = found.append
        while at <= limit:
            add(at)
            at += (unpack(buffer, at)[0] & LONGEST) + 4
        if at > self._have:
            at = found.pop()
        start = np.array(found, np.int64)
        end = np.append(start[1:], at)[: len(start)]
        length = end - start - 4
        odd = np.flatnonzero((self.data[start + 4] != 0) | (length <= HEADER) | (length >= LONGEST))
        if odd.size:
            start, end, at = self._odd(start[: odd[0]], end[: odd[0]], int(start[odd[0]]))
        self.start = np.concatenate((self.start, start + _BEFORE))
        self.end = np.concatenate((self.end, end))
        self._scanned = at

    def _odd(self, start: Ints, end: Ints, at: int) -> tuple[Ints, Ints, int]:
        """The packet at `at` is no short event: a long one's beginning, or the server's last word."""
        length = _U32(self._buffer, at)[0] & LONGEST
        long = length == LONGEST and not self._buffer[at + 4]
        if not long and not len(start):
            raise_answer(bytes(self._view[at + 4 : at + 4 + length]))
        joined = self._join(at) if long else None
        if joined is not None:
            start, end, at = np.append(start, at), np.append(end, joined[0]), joined[1]
        self._halted = joined is not None or not long  # what lies behind is looked at in the next `fill`
        return start, end, at

    def _kind(self, index: int) -> int:
        return self._buffer[int(self.start[index]) + 4]

    def _verify(self, first: int) -> bool:
        """Whether the events from `first` on all end in their own CRC32."""
        places = map(slice, self.start[first:].tolist(), self.end[first:].tolist())
        return set(map(crc32, map(self._view.__getitem__, places))) <= {_RESIDUE}

    def _first_wrong(self, first: int) -> int | None:
        return next((index for index in range(first, len(self)) if not self._is_right(index)), None)

    def _is_right(self, index: int) -> bool:
        event = bytearray(self._view[self.start[index] : self.end[index]])
        if event[4] == FORMAT_DESCRIPTION:
            event[17] &= ~_IN_USE & 0xFF
        return crc32(event) == _RESIDUE

    def _may_change(self, index: int) -> bool:
        """A FORMAT_DESCRIPTION before event `index` may say that the events behind it have no checksums."""
        return any(self._kind(before) == FORMAT_DESCRIPTION for before in range(index))

    def _join(self, at: int) -> tuple[int, int] | None:
        """Move the parts of a long event together: its end, and where the next packet begins; None: not all there."""
        parts, next_at, length = [], at, LONGEST
        while length == LONGEST:
            if next_at + 4 > self._have:
                return None
            length = _U32(self._buffer, next_at)[0] & LONGEST
            parts.append((next_at + 4, length))
            next_at += 4 + length
            if next_at > self._have:
                return None
        end = at + 4 + LONGEST
        for start, size in parts[1:]:
            self._view[end : end + size] = self._view[start : start + size]
            end += size
        return end, next_at
