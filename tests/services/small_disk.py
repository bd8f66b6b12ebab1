"""A file system of its own that can be filled up."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.services.fixtures import in_ci


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[Path]:
    """Mounted at `path`, which it makes, and gone afterwards.

    Without the right to mount the test is skipped, but fails where root runs CI: CI tests everything.
    """
    path.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    made = subprocess.run(words, capture_output=True, text=True, check=False)
    if made.returncode:
        lacks = f"needs the right to mount a small file system (run as root): {made.stderr.strip()}"
        if in_ci() and os.geteuid() == 0:
            pytest.fail(lacks, pytrace=False)
        pytest.skip(lacks)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
