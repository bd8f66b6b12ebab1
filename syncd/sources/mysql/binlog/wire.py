"""Where the bytes come from: a server's socket after the dump command."""

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
