"""One question to a server of MySQL's protocol, before any driver is installed."""

from __future__ import annotations

import socket
from typing import BinaryIO

_CAPABILITIES = 0x0001 | 0x0200 | 0x8000  # long password, protocol 4.1, its authentication
_UTF8MB4 = 45
_PATIENCE_SECONDS = 5.0


def ask(port: int, statement: str) -> list[str]:
    """Log in as root without a password and return the first row that `statement` gives, [] where it gives none.

    OSError when the server cannot be reached, answers nothing or refuses.
    """
    with socket.create_connection(("127.0.0.1", port), _PATIENCE_SECONDS) as wire, wire.makefile("rb") as answers:
        _packet(answers)  # its greeting
        _send(wire, 1, _CAPABILITIES.to_bytes(4, "little") + bytes(4) + bytes([_UTF8MB4]) + bytes(23) + b"root\0\0")
        _packet(answers)
        _send(wire, 0, b"\x03" + statement.encode())
        columns = _packet(answers)[0]
        if not columns:
            return []
        for _ in range(columns + 1):  # their definitions, and the mark of the end
            _packet(answers)
        return _texts(_packet(answers))


def _send(wire: socket.socket, number: int, body: bytes) -> None:
    wire.sendall(len(body).to_bytes(3, "little") + bytes([number]) + body)


def _packet(answers: BinaryIO) -> bytes:
    head = answers.read(4)
    body = answers.read(int.from_bytes(head[:3], "little"))
    if not body or body[0] == 0xFF:
        raise ConnectionError(body[3:].decode(errors="replace") or "the server has closed the connection")
    return body


def _texts(row: bytes) -> list[str]:
    """The values of a row, each shorter than 251 bytes and not NULL."""
    found = []
    while row:
        found.append(row[1 : 1 + row[0]].decode())
        row = row[1 + row[0] :]
    return found
