"""All faults of a file as one error: `Faults.faults` holds one `ConfigError` each, `str` is one line each."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence

from syncd.errors import ConfigError


class Faults(ConfigError):
    """What `load_job` and its siblings raise: every fault found, in the order of the files' lines."""

    def __init__(self, faults: Sequence[ConfigError]) -> None:
        self.faults = tuple(sorted(faults, key=lambda f: (f.path, f.line, f.column)))
        one = self.faults[0]
        super().__init__(
            one.what, path=one.path, line=one.line, column=one.column, key=one.key, hint=one.hint, code=one.code
        )

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)


def raise_all(faults: Iterable[ConfigError]) -> None:
    """Raise what was found; return when nothing was."""
    found = list(faults)
    if found:
        raise Faults(found)


def replaced(fault: ConfigError, hide: Callable[[str], str], path: str, line: int, column: int) -> ConfigError:
    """The same fault at a place, with its texts passed through `hide`."""
    return ConfigError(
        hide(fault.what),
        path=path,
        line=line,
        column=column,
        key=fault.key,
        hint=hide(fault.hint),
        code=fault.code,
    )


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "one of") -> str:
    """A hint: the nearest known word, or all of them."""
    words = sorted(known)
    lower = {w.lower(): w for w in words}
    close = difflib.get_close_matches(word.lower(), lower, 1)
    if close:
        return f"did you mean '{lower[close[0]]}'?"
    return f"{otherwise}: {', '.join(words)}" if words else ""
