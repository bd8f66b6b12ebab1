"""Ends a server, and removes its folder, when the process that started it dies, however it dies."""

from __future__ import annotations

import subprocess
from pathlib import Path

# It waits on a pipe whose other end only the starting process holds: a line means that all is well, the end of the
# pipe that the process is gone. (PR_SET_PDEATHSIG would fire when the starting *thread* ends, and clean up nothing.)
_WATCH = """
if read -r _; then exit 0; fi
if [ -n "$1" ]; then kill -9 "$1" 2>/dev/null; fi
if [ -n "$3" ]; then docker kill "$3" >/dev/null 2>&1; fi
turns="1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"
for _ in $turns; do kill -0 "$1" 2>/dev/null || break; sleep 0.05; done
if [ -n "$2" ]; then for _ in $turns; do rm -rf -- "$2" 2>/dev/null && break; sleep 0.05; done; fi
"""


class Guard:
    """Watches over process `pid` until `release`; `folder` and `container`, where given, go with it."""

    def __init__(self, pid: int | None, folder: Path | None, container: str = "") -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "guard", str(pid or ""), str(folder or ""), container],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C at the terminal is not meant for it
            cwd="/",
        )

    def release(self) -> None:
        """End the watch, leaving process and folder alone."""
        self._process.communicate(b"done\n")
