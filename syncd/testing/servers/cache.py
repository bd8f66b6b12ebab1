"""The folder where downloads and prepared data directories are kept, and the locks on it."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Say = Callable[[str], None]
"""Takes one line that tells the user what happens, before it happens."""


def say_stderr(line: str) -> None:
    """Print `line` on stderr at once."""
    print(f"syncd: {line}", file=sys.stderr, flush=True)  # noqa: T201 - this is the user's terminal


def cache_dir() -> Path:
    """`$SYNCD_CACHE`, else `$XDG_CACHE_HOME/syncd`, else `~/.cache/syncd`; created if absent."""
    base = os.environ.get("SYNCD_CACHE")
    path = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "syncd"
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock `name` against every other process of this user; it ends with the process."""
    folder = cache_dir() / "locks"
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """Return `target`, letting `build` fill it in a folder beside it first if it is absent.

    The finished folder is renamed into place, so `target` is whole or not there, and one process builds at a time.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.name):
        if target.exists():
            return target
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            partial.chmod(0o755)
            build(partial)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target
