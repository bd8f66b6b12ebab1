"""A TCP proxy whose connections can be made half dead: nothing goes through any more, and nobody is told."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Listens on `port` of this machine for the server at port `target`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._others: dict[socket.socket, socket.socket] = {}
        # From whom -> what the other end has no room for yet: until then no more is read, and nobody else waits.
        self._late: dict[socket.socket, bytes] = {}
        self._swallowed: set[socket.socket] = set()
        self._words = b""
        self._held: tuple[socket.socket, bytes] | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy")
        self._thread.start()

    def swallow(self) -> int:
        """Every connection that is open now is a hole from now on; how many."""
        with self._lock:
            self._swallowed |= set(self._others)
            return len(self._others) // 2

    def hold(self, words: bytes) -> None:
        """The next connection over which these words come to the server is held up before them."""
        with self._lock:
            self._words, self._held = words, None

    @property
    def holds(self) -> bool:
        return self._held is not None

    def release(self) -> bool:
        """What was held up reaches the server, whoever has said it; whether the server had not hung up before."""
        with self._lock:
            assert self._held is not None
            server, said = self._held
            self._held = None
        with server, suppress(OSError):
            server.settimeout(10)
            server.sendall(said)
            return bool(server.recv(1))
        return False

    def lead_to(self, target: int) -> None:
        """Connections that come from now on go to the server at this port; those that are open stay where they are."""
        with self._lock:
            self._target = target

    def cut(self) -> None:
        """Every connection ends, and whoever comes is turned away, until `lead_to`."""
        with self._lock:
            self._target = 0
            for sock in [*self._others]:
                self._drop(sock)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        for sock in [self._listener, *self._others, *(self._held or ())[:1]]:
            sock.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            ready = self._selector.select(0.005 if self._late else 0.1)
            with self._lock:
                for sock, data in [*self._late.items()]:
                    if self._late.pop(sock, None) is not None:  # a neighbour's end may have dropped it
                        self._send(sock, data)
            for key, _ in ready:
                with self._lock:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._others:
                        self._forward(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if not self._target:
            client.close()
            return
        server = socket.create_connection(("127.0.0.1", self._target))
        for one, other in ((client, server), (server, client)):
            self._others[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, sock: socket.socket) -> None:
        data = b""
        with suppress(OSError):
            data = sock.recv(1 << 16)
        other = self._others[sock]
        if sock in self._swallowed:
            if not data:
                self._drop(sock)
            return
        if self._words and self._words in data:
            self._hold_up(sock, data)
            return
        if data:
            self._send(sock, data)
            return
        self._drop(sock)
        self._drop(other)

    def _send(self, sock: socket.socket, data: bytes) -> None:
        """What has come from `sock`, to the other end, as far as that has room."""
        other = self._others[sock]
        try:
            left = data[other.send(data, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            left = data
        except OSError:
            self._drop(sock)
            self._drop(other)
            return
        if left:
            self._late[sock] = left
            self._unheard(sock)
        elif sock not in self._selector.get_map():
            self._selector.register(sock, selectors.EVENT_READ)

    def _unheard(self, sock: socket.socket) -> None:
        if sock in self._selector.get_map():
            self._selector.unregister(sock)

    def _hold_up(self, client: socket.socket, data: bytes) -> None:
        """The client is answered no more, and the server hears nothing of its end."""
        server = self._others.pop(client)
        self._unheard(server)
        del self._others[server]
        self._others[client] = client
        self._swallowed.add(client)
        self._words, self._held = b"", (server, data)

    def _drop(self, sock: socket.socket) -> None:
        self._unheard(sock)
        self._late.pop(sock, None)
        other = self._others.pop(sock)
        if sock in self._swallowed and other in self._others:
            self._others[other] = other  # what still comes from there goes nowhere
        self._swallowed.discard(sock)
        sock.close()


@contextmanager
def proxied(target: int) -> Iterator[Proxy]:
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
