"""From the wire's packets to a window of complete, checksummed events in one buffer.

A packet is a length (u24), a sequence number (u8) and a body; the body is a status byte (0x00) and one event. A body of
2^24-1 bytes goes on in the next packet; such events are joined in place, so that every event lies in one piece.
The only Python per event is the chain of packet lengths and the checksum; all header fields are read by column.
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
_NO_CHECKSUM = 0
"""What a FORMAT_DESCRIPTION has five bytes before its end where no event of the file has a checksum."""
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
        self._halted = False
        data = bytes(self._view[self._scanned : self._have])
        places = np.array(_checked(data) if self.checksum else _unchecked(data), np.int64)
        # a long event that ends with its first part is right already, but its empty second part follows
        odd = np.flatnonzero(np.frombuffer(data, np.uint8)[places[:-1] + 4] | (np.diff(places) >= LONGEST))
        if odd.size:
            places = places[: odd[0] + 1]
        places += self._scanned
        self._append(places[:-1] + _BEFORE, places[1:])
        if self._complete(self._scanned):
            self._look(self._scanned, fresh=len(places) > 1)

    def _append(self, start: Ints, end: Ints, scanned: int | None = None) -> None:
        self.start, self.end = np.concatenate((self.start, start)), np.concatenate((self.end, end))
        self._scanned = scanned or (int(end[-1]) if len(end) else self._scanned)

    def _complete(self, at: int) -> bool:
        return at + _BEFORE <= self._have and at + 4 + self._length(at) <= self._have

    def _length(self, at: int) -> int:
        return int(_U32(self._buffer, at)[0] & LONGEST)

    def _look(self, at: int, *, fresh: bool) -> None:
        """The whole packet at `at` is no event like others. `fresh`: new events lie before it, which come first."""
        length = self._length(at)
        if self._buffer[at + 4] or length <= HEADER:
            if not fresh:
                raise_answer(bytes(self._view[at + 4 : at + 4 + length]))
            self._halted = True
            return
        end, scanned = at + 4 + length, at + 4 + length
        if length == LONGEST:
            joined = self._join(at)
            if joined is None:
                return
            end, scanned = joined
        self._halted = True  # what lies behind is looked at in the next `fill`
        if not self.checksum or self._is_right(at + _BEFORE, end):
            self._append(np.array([at + _BEFORE]), np.array([end]), scanned)
        elif not self._may_change():
            raise FatalError(
                f"an event of {end - at - _BEFORE} bytes, type {self._buffer[at + 9]}, has a wrong checksum",
                hint="the log or the network is damaged: check the log with mysqlbinlog --verify-binlog-checksum",
            )

    def _is_right(self, start: int, end: int) -> bool:
        if self._buffer[start + 4] != FORMAT_DESCRIPTION:
            return crc32(self._view[start:end]) == _RESIDUE
        event = bytearray(self._view[start:end])
        if event[-5] == _NO_CHECKSUM:
            # To a reader that begins in the middle of a file servers send this event changed. Where the file has no
            # checksums they leave this one as it was, and the event is followed by none.
            return True
        event[17] &= ~_IN_USE & 0xFF
        return crc32(event) == _RESIDUE

    def _may_change(self) -> bool:
        """A FORMAT_DESCRIPTION that was not handled yet may say that the events behind it have no checksums."""
        return bool((self.data[self.start + 4] == FORMAT_DESCRIPTION).any())

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


def _checked(data: bytes) -> list[int]:
    """Where packets with short events and right checksums begin, and where the last of them ends."""
    found = [0]
    at, last, add, unpack, verify, right = 0, len(data) - _BEFORE, found.append, _U32, crc32, _RESIDUE
    while at <= last:
        after = at + 4 + (unpack(data, at)[0] & LONGEST)
        # what is cut off at the end, and the first part of a long event, have no right checksum either
        if verify(data[at + _BEFORE : after]) != right:
            break
        add(after)
        at = after
    return found if at <= len(data) else found[:-1]


def _unchecked(data: bytes) -> list[int]:
    """Where packets with short events begin, and where the last of them ends."""
    found, at = [0], 0
    while at + _BEFORE <= len(data):
        length = _U32(data, at)[0] & LONGEST
        at += 4 + length
        if not HEADER < length < LONGEST or at > len(data):
            break
        found.append(at)
    return found
