"""`./dev`, as far as it does not install anything (`tests/e2e/test_bare_python.py`)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def dev(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "dev"), *args], env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True
    )


def test_help_names_every_command() -> None:
    told = dev("help").stdout
    commands = re.findall(r"^(\w+)(?: \| [^)]*)?\) ", (ROOT / "dev").read_text(), re.MULTILINE)
    assert len(commands) > 8
    assert [c for c in commands if f"./dev {c}" not in told and c != "help"] == []


def test_unknown_command_is_refused() -> None:
    done = dev("bogus")
    assert done.returncode == 1
    assert done.stderr.endswith("syncd: there is no ./dev bogus\n")


def test_python_that_is_missing_or_too_old_is_named(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\necho /usr/bin/python3; echo 3.9; echo False\n")
    old.chmod(0o755)
    home = str(tmp_path)
    assert "no python9 on PATH" in dev("test", SYNCD_PYTHON="python9", HOME=home).stderr
    assert "is Python 3.9, syncd needs 3.11 or newer" in dev("test", SYNCD_PYTHON=str(old), HOME=home).stderr


def test_place_for_the_cache_is_asked_for() -> None:
    assert "neither HOME nor SYNCD_CACHE is set" in dev("test").stderr


def test_scripts_are_executable() -> None:
    assert [p for p in ("dev", ".ci/run") if not (ROOT / p).stat().st_mode & 0o111] == []
