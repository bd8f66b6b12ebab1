"""The packet buffer: whatever the pieces in which bytes come, the same rows; what is no row is said by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import FatalError
from syncd.sources.mysql.snapshot.protocol import _Buffer

END = b"\xfe\x00\x00\x02\x00"
LONGEST = (1 << 24) - 1


def packet(body: bytes, number: int = 0) -> bytes:
    out = bytearray()
    while True:
        part, body = body[:LONGEST], body[LONGEST:]
        out += len(part).to_bytes(3, "little") + bytes([number & 255]) + part
        number += 1
        if len(part) < LONGEST:
            return bytes(out)


class Wire:
    """A socket and the driver's read-ahead in one: gives `data` in steps."""

    def __init__(self, data: bytes, step: int, ahead: int = 0) -> None:
        self.data, self.step, self.ahead = data, step, ahead
        self._sock = self._rfile = self

    def peek(self) -> bytes:
        return self.data[: self.ahead]

    def read(self, size: int) -> bytes:
        got, self.data = self.data[:size], self.data[size:]
        return got

    def recv_into(self, into: memoryview) -> int:
        got = self.read(min(self.step, len(into)))
        into[: len(got)] = got
        return len(got)


def rows(wire: Any, size: int = 64, most: int = 3) -> list[bytes]:
    buffer = _Buffer(wire, size)
    found: list[bytes] = []
    while not buffer.ended:
        buffer.fill()
        while (window := buffer.take(most)) is not None:
            assert len(window.starts) <= most
            found += [window.data[a:b].tobytes() for a, b in zip(window.starts, window.ends, strict=True)]
    return found


@given(st.lists(st.binary(max_size=200), max_size=30), st.integers(1, 90), st.integers(0, 50), st.integers(1, 5))
def test_rows_come_whole(bodies: list[bytes], step: int, ahead: int, most: int) -> None:
    data = b"".join(packet(b"\0" + body, n) for n, body in enumerate(bodies)) + packet(END)
    assert rows(Wire(data, step, min(ahead, len(data))), most=most) == bodies


@pytest.mark.parametrize("size", [LONGEST - 2, LONGEST - 1, LONGEST, LONGEST + 1, 2 * LONGEST - 1])
def test_long_rows_are_joined(size: int) -> None:
    body = np.arange(size, dtype=np.uint32).astype(np.uint8).tobytes()
    data = packet(b"\0first") + packet(b"\0" + body) + packet(b"\0last") + packet(END)
    assert rows(Wire(data, 1 << 20), size=1 << 20) == [b"first", body, b"last"]


def test_an_error_instead_of_a_row() -> None:
    data = packet(b"\0row") + packet(b"\xff\x25\x05#70100Query execution was interrupted")
    with pytest.raises(pymysql.err.OperationalError) as caught:
        rows(Wire(data, 7))
    assert caught.value.args[0] == 1317


def test_a_connection_that_ends_too_early() -> None:
    with pytest.raises(pymysql.err.OperationalError) as caught:
        rows(Wire(packet(b"\0row") + b"\x05\0", 100))
    assert caught.value.args[0] == 2013


def test_a_packet_that_is_no_row() -> None:
    with pytest.raises(FatalError, match="no row"):
        rows(Wire(packet(b"\0a") + packet(b"\x07b") + packet(b"\0c") + packet(END), 100))
    with pytest.raises(FatalError, match="no row"):
        rows(Wire(packet(b"\x07b"), 100))
