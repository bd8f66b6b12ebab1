"""A cursor over the bytes of one event: every read is checked against its end."""

from __future__ import annotations

from syncd.errors import FatalError


class Reader:
    """Little endian reads of one event's body. FatalError names the event when it ends before it should."""

    def __init__(self, data: bytes, what: str, at: int = 0) -> None:
        self.data, self.what, self.at = data, what, at

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.data):
            raise FatalError(f"malformed {self.what} event: {size} bytes wanted at byte {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def packed(self) -> int:
        """A length-encoded integer."""
        first = self.number(1)
        if first < 251:
            return first
        if first in {252, 253, 254}:
            return self.number({252: 2, 253: 3, 254: 8}[first])
        raise FatalError(f"malformed {self.what} event: {first} is no length")

    def text(self, size: int) -> str:
        raw = self.take(size)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise FatalError(f"malformed {self.what} event: a name is not UTF-8: {raw!r}") from error

    def rest(self) -> bytes:
        return self.take(self.left)
