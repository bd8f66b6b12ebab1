"""From the wire's packets to a window of complete, checksummed events in one buffer.

A packet is a length (u24), a sequence number (u8) and a body; the body is a status byte (0x00) and one event. A body of
2^24-1 bytes goes on in the next packet; such events are joined in place, so that every event lies in one piece.
The only Python per event is the chain of packet lengths and the checksum; all other header fields are read by column.
"""

from __future__ import annotations

import struct
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from syncd.errors import FatalError, TransientError
from syncd.sources.mysql.binlog.answers import raise_answer
from syncd.sources.mysql.binlog.kinds import FORMAT_DESCRIPTION, HEADER
from syncd.sources.mysql.binlog.wire import Wire

PAD = 64
"""Zero bytes behind the data: a load of a few bytes at the end of an event stays inside the buffer."""
LONGEST = (1 << 24) - 1
MAX_EVENT = (1 << 31) - (1 << 20)

_PACKET = struct.Struct("<IB").unpack_from
_U32 = struct.Struct("<I").unpack_from
_RESIDUE = 0x2144DF1C
"""CRC32 of any bytes followed by their own CRC32, little endian."""


class Feed:
    """Complete events from `starts[i]` (first header byte) to `ends[i]` (checksum included) in `data`.

    The caller takes events from the front with `drop`; what is left stays for the next `fill`. `checksum` says
    whether events end in a CRC32; the caller sets it from each FORMAT_DESCRIPTION.
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
        self.starts: list[int] = []
        self.ends: list[int] = []

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
        if not self.full or not self.starts:
            if not self._wire.wait(seconds):
                return False
            self._read()
        self._scan()
        return True

    def waiting(self) -> bool:
        """Bytes are to be had without waiting."""
        return self._wire.wait(0)

    def drop(self, count: int) -> None:
        """Give back the first `count` events and move what is left to the front of the buffer."""
        if not count:
            return
        cut = self.starts[count] - 5 if count < len(self.starts) else self._scanned
        rest = self._have - cut
        self._view[:rest] = self._view[cut : self._have]
        self.starts = [start - cut for start in self.starts[count:]]
        self.ends = [end - cut for end in self.ends[count:]]
        self._have, self._scanned = rest, self._scanned - cut

    def rescan(self, index: int, *, checksum: bool) -> None:
        """From event `index` on the log has checksums, or has none any more."""
        self._scanned = self.starts[index] - 5 if index < len(self.starts) else self._scanned
        del self.starts[index:], self.ends[index:]
        self.checksum = checksum
        self._scan()

    def _read(self) -> None:
        if self._have < self.size < len(self._buffer) // 4:
            self._resize(self.size)  # a long event has passed
        if self._have >= len(self._buffer) - PAD:
            self._resize(2 * self._have)
        limit = self.size if self._have < self.size else len(self._buffer) - PAD
        while True:
            count = self._wire.read(self._view[self._have : limit])
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
        """Append the complete events behind `_scanned`, checksums verified."""
        first = len(self.starts)
        after = self._chain()
        self._halted = False
        if self.checksum and not self._verify(first):
            first_wrong = self._first_wrong(first)
            if not self._may_change(first_wrong):
                start, end = self.starts[first_wrong], self.ends[first_wrong]
                raise FatalError(
                    f"an event of {end - start} bytes, type {self._buffer[start + 4]}, has a wrong checksum",
                    hint="the log or the network is damaged: check the log with mysqlbinlog --verify-binlog-checksum",
                )
            after = self.starts[first_wrong] - 5
            del self.starts[first_wrong:], self.ends[first_wrong:]
            self._halted = True  # a log without checksums may begin here: scanned on when that event was handled
        self._scanned = after

    def _chain(self) -> int:
        """Append what the packets' lengths say, without a look into the events; one past the last whole packet."""
        buffer, at, have, unpack = self._buffer, self._scanned, self._have - 5, _PACKET
        add_start, add_end = self.starts.append, self.ends.append
        while at <= have:
            length, status = unpack(buffer, at)
            length &= LONGEST
            after = at + 4 + length
            if after > self._have:
                break
            if status or length <= HEADER:
                raise_answer(bytes(self._view[at + 4 : after]))
            if length == LONGEST:
                joined = self._join(at)
                if joined is None:
                    break
                end, after = joined
                add_start(at + 5)
                add_end(end)
            else:
                add_start(at + 5)
                add_end(after)
            at = after
        return at

    def _verify(self, first: int) -> bool:
        """Whether the events from `first` on all end in their own CRC32."""
        pieces = map(self._view.__getitem__, map(slice, self.starts[first:], self.ends[first:]))
        return set(map(crc32, pieces)) <= {_RESIDUE}

    def _first_wrong(self, first: int) -> int:
        return next(
            index
            for index in range(first, len(self.starts))
            if crc32(self._view[self.starts[index] : self.ends[index]]) != _RESIDUE
        )

    def _may_change(self, index: int) -> bool:
        """A FORMAT_DESCRIPTION before event `index` may say that the events behind it have no checksums."""
        return any(self._buffer[start + 4] == FORMAT_DESCRIPTION for start in self.starts[:index])

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
