"""The README's first command does what it says, and sees a single wrong value."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest


def demo(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "syncd", "demo", "--rows", "3000", "--seconds", "2", *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **variables},
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
    assert "was not compared" not in done.stdout, "nothing is on its way, though no daemon runs any more"


@pytest.mark.mariadb
@pytest.mark.chdb
@pytest.mark.parametrize("signals", [["SIGTERM"], ["SIGINT", "SIGINT"]])
def test_a_signal_ends_it_and_nothing_is_compared_or_left(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, signals: list[str]
) -> None:
    """The second one ends it at once; what it had in its temporary folder goes all the same."""
    short = tmp_path_factory.mktemp("t")  # its sockets' names must not be long
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "syncd", "demo", "--rows", "2000", "--seconds", "200"],
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "TMPDIR": str(short)},
            text=True,
            start_new_session=True,
        )
    said = process.stdout
    assert said is not None
    while "Copying" not in said.readline():
        assert process.poll() is None
    for name in signals:
        until(lambda: (tmp_path / "log").read_text().count("worker_started") >= 2)
        os.killpg(process.pid, signal.Signals[name])  # as a terminal does
        until(lambda: "draining" in (tmp_path / "log").read_text())
    out = said.read()
    said.close()
    assert process.wait(60) == (130 if len(signals) == 1 else -signal.SIGINT)
    assert out == ("interrupted\n" if len(signals) == 1 else "")
    assert "Traceback" not in (tmp_path / "log").read_text()
    until(lambda: not [*short.glob("syncd-demo-*")])


def test_a_database_that_cannot_be_had_is_said_without_a_trace(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 60)
    long.mkdir()
    done = demo(TMPDIR=str(long))
    assert done.returncode == 3
    assert done.stderr.startswith("the demo has no database: MariaDB: ")
    assert "use a shorter TMPDIR" in done.stderr
    assert "Traceback" not in done.stderr


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)
