"""A run of the suite that leaves something behind fails, and names it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.services import leaks

ROOT = Path(__file__).parents[2]

PROCESS = """
    import subprocess
    def test_it():
        subprocess.Popen(["sleep", "3331"], start_new_session=True)
"""
PORT = """
    import socket
    kept = []
    def test_it():
        kept.append(socket.create_server(("127.0.0.1", 0)))
"""
FILE = """
    import tempfile
    def test_it(tmp_path):
        (tmp_path / "fine").touch()
        tempfile.mkstemp(prefix="forgotten")
"""
NOTHING = """
    def test_it(tmp_path):
        (tmp_path / "fine").touch()
"""


def run(text: str, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run one test module in a suite with this suite's conftest."""
    suite = folder / "suite"
    suite.mkdir()
    (suite / "conftest.py").write_text("from tests.conftest import *\nfrom tests.conftest import " + ", ".join(HOOKS))
    (suite / "test_it.py").write_text(textwrap.dedent(text))
    temp = folder / "temp"
    temp.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "ignore", str(suite), *args],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT), "TMPDIR": str(temp), leaks.PATIENCE: "0.5"},
        capture_output=True,
        text=True,
        timeout=120,
    )


HOOKS = ("pytest_configure", "pytest_testnodedown", "pytest_sessionfinish", "pytest_terminal_summary")


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
@pytest.mark.parametrize(
    ("text", "told"), [(PROCESS, "sleep 3331"), (PORT, "port "), (FILE, "forgotten")], ids=["process", "port", "file"]
)
def test_what_is_left_fails_the_run(text: str, told: str, workers: tuple[str, ...], tmp_path: Path) -> None:
    done = run(text, tmp_path, *workers)
    line = next(x for x in done.stdout.splitlines() if x.startswith("LEFT BEHIND"))
    if text == PROCESS:
        os.kill(int(line.partition("tests: ")[2].partition(":")[0]), signal.SIGKILL)
    assert told in line
    assert done.returncode == 1


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_clean_run_passes_and_leaves_its_temporary_folder_empty(workers: tuple[str, ...], tmp_path: Path) -> None:
    done = run(NOTHING, tmp_path, *workers)
    assert done.returncode == 0, done.stdout
    assert "LEFT BEHIND" not in done.stdout
    assert list((tmp_path / "temp").iterdir()) == []


def test_own_listeners() -> None:
    before = leaks.own_listeners()
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert leaks.own_listeners() == [*before, f"port {server.getsockname()[1]}"]
    assert leaks.own_listeners() == before
