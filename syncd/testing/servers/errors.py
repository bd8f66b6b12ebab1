"""The one error of this package: a server that cannot be had, with what was tried and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class ServerUnavailable(Exception):
    """A server could not be obtained or started here.

    `tried` lists each way and why it failed; `hint` says what to do about it.
    """

    def __init__(self, what: str, tried: Sequence[str] = (), hint: str = "") -> None:
        self.what = what
        self.tried = tuple(tried)
        self.hint = hint
        lines = [what, *(f"  tried: {t}" for t in self.tried)]
        if hint:
            lines.append(f"  to do: {hint}")
        super().__init__("\n".join(lines))
