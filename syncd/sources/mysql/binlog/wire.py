"""Where the bytes come from: a server's socket after the dump command, or memory (benches, tests)."""

from __future__ import annotations

import select
import socket
import ssl
from typing import Protocol

from syncd.errors import TransientError


class Wire(Protocol):
    def wait(self, seconds: float) -> bool:
        """True when `read` will not block, at the latest after `seconds`. TransientError: the connection broke."""

    def read(self, into: memoryview) -> int:
        """Put at least one byte into `into`; the number of bytes, 0 at the end. TransientError: it broke."""


class SocketWire:
    """A socket taken over from PyMySQL, in blocking mode. TLS may hold decrypted bytes that `select` cannot see."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(None)
        self._sock = sock
        self._tls = sock if isinstance(sock, ssl.SSLSocket) else None
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def wait(self, seconds: float) -> bool:
        if self._tls is not None and self._tls.pending():
            return True
        return bool(self._poll.poll(seconds * 1000))

    def read(self, into: memoryview) -> int:
        try:
            return self._sock.recv_into(into)
        except OSError as error:
            raise TransientError(f"the log connection broke: {error}") from error


class BytesWire:
    """Bytes in memory as if they came from a server, `step` of them at a time at most."""

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
