"""A log in memory for the decoder of the source `mysql`, as if a server sent it."""

from __future__ import annotations


class BytesWire:
    """A `Wire` of bytes in memory, `step` of them at a time at most."""

    def __init__(self, data: bytes | memoryview, step: int = 1 << 20) -> None:
        self._data = memoryview(data)
        self._at = 0
        self._step = step

    def wait(self, seconds: float) -> bool:
        return True

    def read(self, into: memoryview) -> int:
        count = min(len(into), self._step, len(self._data) - self._at)
        into[:count] = self._data[self._at : self._at + count]
        self._at += count
        return count


def packets(log: bytes) -> bytes:
    """The events of a log file (with its 4 magic bytes) as the server would send them, one packet an event."""
    out, at, number = bytearray(), 4, 1
    while at < len(log):
        size = int.from_bytes(log[at + 9 : at + 13], "little")
        out += packet(log[at : at + size], number)
        at, number = at + size, number + 1
    return bytes(out)


def packet(event: bytes, number: int = 0) -> bytes:
    """One event as a packet of the wire: length, sequence number, 0x00; 16 MB a packet at most."""
    body, out = b"\0" + event, bytearray()
    while True:
        part, body = body[:0xFFFFFF], body[0xFFFFFF:]
        out += len(part).to_bytes(3, "little") + bytes([number & 0xFF]) + part
        number += 1
        if len(part) < 0xFFFFFF:
            return bytes(out)
