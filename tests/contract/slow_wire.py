"""A slow connection to a server on this machine."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress


class SlowWire:
    """A way to the server that passes on a few bytes at a time."""

    def __init__(self, port: int, size: int = 700, seconds: float = 0.002) -> None:
        self._target, self._size, self._seconds = port, size, seconds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for found in self._open:
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)
            found.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(self._size):
                time.sleep(self._seconds)
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)
