"""What `syncd run` shows on a terminal: rows, rate, lag and time left of each job, under the lines of the log."""

from __future__ import annotations

import os
import pty
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType

import structlog
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from syncd.engine.job import JobRunner, Picture

AGAIN = "the same signal once more ends it at once"

log = structlog.get_logger()


_LAST = "\x04"
"""Ends what is read of the log: helpers of multiprocessing hold the stream for as long as this process lives."""


@contextmanager
def log_above(console: Console) -> Iterator[None]:
    """What this process and its workers write to the error stream is printed by `console`, above its live table.

    It comes through a terminal of our own, not a pipe: who writes to it goes on with text and colours.
    """
    near, far = pty.openpty()
    before = os.dup(2)
    os.dup2(far, 2)
    thread = threading.Thread(target=_print_lines, args=(near, console), name="log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        with suppress(OSError):  # the thread has ended, since the terminal has gone
            os.write(far, f"{_LAST}\n".encode())
        thread.join()
        os.close(far)


def _print_lines(near: int, console: Console) -> None:
    encoding = getattr(console.file, "encoding", None) or "utf-8"  # who writes has it from the same environment
    # When the terminal has gone (OSError), who writes is to be told so too, and not to wait for a reader.
    with suppress(OSError), open(near, "rb") as lines:
        for line in lines:
            text = line.decode(encoding, "backslashreplace").rstrip("\r\n")
            if text != _LAST:
                console.print(Text.from_ansi(text.removesuffix(_LAST)), soft_wrap=True)
            if text.endswith(_LAST):
                return


class Progress:
    """A live table on a terminal; nothing elsewhere, where the log says it."""

    def __init__(self, console: Console, on: bool) -> None:
        self._live = Live(console=console, refresh_per_second=4, transient=False) if on else None
        self._last: dict[str, tuple[float, int, float]] = {}
        self._open = ExitStack()

    def __enter__(self) -> Progress:
        if self._live is not None:
            if sys.stderr.isatty() and os.path.sameopenfile(1, 2):
                self._open.enter_context(log_above(self._live.console))
            self._open.enter_context(self._live)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._open.close()

    def show(self, runners: Sequence[JobRunner]) -> None:
        if self._live is None:
            return
        grid = Table("job", "loaded", "rows/s", "left", "states", "lag", box=None, padding=(0, 2))
        waits = []
        for runner in runners:
            if runner.failed is not None:  # its saved state may be what is wrong with it
                grid.add_row(Text(runner.name), "", "", "", Text(f"HALTED: {runner.failed}"), "")
                continue
            picture = runner.picture()
            grid.add_row(*map(Text, self._line(runner.name, picture)))
            waits += [Text(f"{runner.name}: {who} waits: {wait.reason}") for who, wait in sorted(picture.waits.items())]
        self._live.update(Group(grid, *waits))

    def draining(self) -> None:
        """A signal has asked for the end: what is in flight is finished, and nothing is shown meanwhile."""
        if self._live is None:
            log.info("draining", hint=AGAIN)
            return
        self._live.stop()  # the next signal ends this process as it stands, and the terminal is to be as it was
        self._live.console.print(f"draining; {AGAIN}")

    def _line(self, name: str, picture: Picture) -> tuple[str, ...]:
        now = time.monotonic()
        before, rows, rate = self._last.get(name, (now, picture.rows, 0.0))
        if now - before >= 1.0:
            rate = (picture.rows - rows) / (now - before)
            self._last[name] = (now, picture.rows, rate)
        elif name not in self._last:
            self._last[name] = (now, picture.rows, 0.0)
        left = ""
        if picture.loading and rate > 0 and picture.total_rows > picture.rows:
            left = f"{(picture.total_rows - picture.rows) / rate:.0f} s"
        states = ", ".join(f"{count} {phase}" for phase, count in sorted(picture.phases.items()))
        lag = "" if picture.lag is None else f"{picture.lag:.1f} s"
        return name, f"{picture.rows:,}", f"{rate:,.0f}" if picture.loading else "", left, states, lag
