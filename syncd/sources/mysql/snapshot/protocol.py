"""The binary protocol of prepared statements: rows as they lie on the wire, many in one buffer.

A packet is a length (u24), a sequence number (u8) and a body; a body of 2^24-1 bytes goes on in the next one. A row's
body is 0x00, a bitmap of the NULLs (column i is bit i+2), and the values. 0xfe in a short body ends the result, 0xff is
an error. Source: MySQL "Client/Server Protocol", COM_STMT_EXECUTE and "Binary Protocol Resultset".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymysql
from numpy.typing import NDArray
from pymysql.protocol import FieldDescriptorPacket

from syncd.errors import FatalError
from syncd.sources.mysql.connect import Connection

PAD = 64
"""Zero bytes behind the rows: a load of a few bytes at the end of a row stays inside the buffer."""

_PREPARE, _EXECUTE, _CLOSE = 0x16, 0x17, 0x19
_LONGEST = (1 << 24) - 1
_LARGEST_ROW = (1 << 31) - (1 << 20)
_U32 = struct.Struct("<I").unpack_from


@dataclass(frozen=True, slots=True)
class Field:
    """What the server says of a result's column: type code (FIELD_TYPE), flags, scale."""

    name: str
    code: int
    flags: int
    scale: int


@dataclass(frozen=True, slots=True)
class Window:
    """Whole rows in `data`: row i is data[starts[i]:ends[i]], without its 0x00. Valid until the next window."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


class Statement:
    """One prepared statement without parameters, executed once. The connection is free again after `windows` ended."""

    def __init__(self, connection: Connection, sql: str, size: int = 4 << 20) -> None:
        self._connection = connection
        self._size = size
        head = self._call(_PREPARE, sql.encode())
        self._id, columns, parameters = struct.unpack_from("<IHH", head, 1)
        if parameters or not columns:
            raise FatalError(f"not a query: {sql[:80]}")
        self._fields(columns)
        connection._execute_command(_EXECUTE, struct.pack("<IBI", self._id, 0, 1))
        self.fields = self._fields(connection._read_packet().read_length_encoded_integer())

    def _call(self, command: int, body: bytes) -> bytes:
        self._connection._execute_command(command, body)
        answer: bytes = self._connection._read_packet().get_all_data()
        return answer

    def _fields(self, count: int) -> list[Field]:
        found: list[Any] = [self._connection._read_packet(FieldDescriptorPacket) for _ in range(count)]
        self._connection._read_packet()
        return [Field(f.name, f.type_code, f.flags, f.scale) for f in found]

    def windows(self, most: int) -> Iterator[Window]:
        """The rows, at most `most` at a time. Raises the driver's errors."""
        buffer = _Buffer(self._connection, self._size)
        while not buffer.ended:
            buffer.fill()
            while (window := buffer.take(most)) is not None:
                yield window
        # The server answers nothing to a close.
        self._connection._execute_command(_CLOSE, struct.pack("<I", self._id))


class _Buffer:
    """The wire's bytes, the rows found in them and not yet given out."""

    def __init__(self, connection: Connection, size: int) -> None:
        self._socket = connection._sock
        # The driver reads ahead: what it holds comes first. This blocks only if it holds nothing.
        self._ahead: bytes = connection._rfile.read(len(connection._rfile.peek()))
        self._size = size
        self._bytes = bytearray(size + PAD)
        self._have = 0
        self._scanned = 0
        self._last = 0
        self._heads: list[int] = []
        self._long: dict[int, int] = {}
        self.ended = False

    def fill(self) -> None:
        """Read until the buffer is full or the result at its end, then find the rows in it."""
        self._shift()
        if self._have >= len(self._bytes) - PAD:
            self._grow()
        view = memoryview(self._bytes)
        limit = len(self._bytes) - PAD
        while self._have < limit and not self.ended:
            self._have += self._read(view[self._have : limit])
            self._scan()

    def take(self, most: int) -> Window | None:
        """The next rows, or None when more bytes are needed."""
        heads = self._heads[:most]
        if not heads:
            return None
        del self._heads[:most]
        starts = np.array(heads, np.int64) + 5
        ends = np.empty_like(starts)
        # Rows lie back to back: one ends where the next one's header begins, unless it was joined of several packets.
        ends[:-1] = starts[1:] - 5
        ends[-1] = self._heads[0] if self._heads else self._last
        for head, end in self._long.items():
            ends[starts == head + 5] = end
        data = np.frombuffer(self._bytes, np.uint8)
        if data[starts - 1].any():
            raise FatalError("the server sent a packet that is no row", hint="report this with the server's version")
        return Window(data, starts, ends)

    def _read(self, into: memoryview) -> int:
        """At least one byte. Raises the driver's error for a lost connection."""
        if self._ahead:
            count = min(len(into), len(self._ahead))
            into[:count], self._ahead = self._ahead[:count], self._ahead[count:]
            return count
        count = int(self._socket.recv_into(into))
        if not count:
            raise pymysql.err.OperationalError(2013, "the server closed the connection in the middle of a result")
        return count

    def _shift(self) -> None:
        rest = self._have - self._scanned
        if rest < self._size < len(self._bytes) // 4:
            # a long row has passed
            old, self._bytes = self._bytes, bytearray(self._size + PAD)
        else:
            old = self._bytes
        memoryview(self._bytes)[:rest] = memoryview(old)[self._scanned : self._have]
        self._have, self._scanned = rest, 0
        self._long.clear()

    def _grow(self) -> None:
        size = 2 * len(self._bytes)
        if size > 2 * _LARGEST_ROW:
            raise FatalError(f"a row is larger than {_LARGEST_ROW} bytes")
        other = bytearray(size)
        other[: self._have] = memoryview(self._bytes)[: self._have]
        self._bytes = other

    def _scan(self) -> None:
        """Follow the packets' lengths: the one loop of Python over rows, as each begins where the last one ends."""
        buffer, at, last, have, add = self._bytes, self._scanned, self._have - 5, self._have, self._heads.append
        before = len(self._heads)
        while at <= last:
            length = _U32(buffer, at)[0] & _LONGEST
            after = at + 4 + length
            if after > have:
                break
            if length == _LONGEST:
                joined = self._join(at)
                if joined is None:
                    break
                self._long[at], after = joined
            add(at)
            at = after
        self._scanned = self._last = at
        if len(self._heads) > before and buffer[self._heads[-1] + 4]:
            # No row: and nothing comes behind the packet that ends a result.
            self._last = self._heads.pop()
            self._end(buffer[self._last + 4], bytes(buffer[self._last + 4 : at]))

    def _end(self, first: int, body: bytes) -> None:
        if first == 0xFF:
            pymysql.err.raise_mysql_exception(body)
        if first != 0xFE or len(body) >= 9:
            raise FatalError(
                f"the server sent a packet that is no row (0x{first:02x})", hint="report this with the server's version"
            )
        self.ended = True

    def _join(self, at: int) -> tuple[int, int] | None:
        """Move the parts of a long row together: its end, and where the next packet begins; None: not all there."""
        parts: list[tuple[int, int]] = []
        following, length = at, _LONGEST
        while length == _LONGEST:
            if following + 4 > self._have:
                return None
            length = _U32(self._bytes, following)[0] & _LONGEST
            parts.append((following + 4, length))
            following += 4 + length
            if following > self._have:
                return None
        end = at + 4 + _LONGEST
        for start, size in parts[1:]:
            self._bytes[end : end + size] = self._bytes[start : start + size]
            end += size
        return end, following
