"""The README's first command does what it says, and sees a single wrong value."""

from __future__ import annotations

import subprocess
import sys

import pytest


def demo(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "syncd", "demo", "--rows", "3000", "--seconds", "2", *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.mariadb
@pytest.mark.chdb
def test_both_ends_hold_the_same_values() -> None:
    done = demo()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Both ends hold the same values." in done.stdout


@pytest.mark.mariadb
@pytest.mark.chdb
def test_one_wrong_value_at_the_sink_is_named() -> None:
    done = demo("--corrupt")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "user_id: source" in done.stdout
    assert "The two ends differ." in done.stdout
