"""Picks TCP ports of 127.0.0.1 that nobody listens on."""

from __future__ import annotations

import secrets
import socket

# Below the kernel's range for outgoing connections, so that none of those takes the port while a server is down.
_FIRST, _LAST = 20_000, 32_000


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that was free a moment ago; the caller tries another one if it is taken meanwhile."""
    while not is_free(port := _FIRST + secrets.randbelow(_LAST - _FIRST)):
        pass
    return port
