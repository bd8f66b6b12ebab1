"""What every file of the tree keeps to: no registry's address, no path of somebody's machine, no unfit licence."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_OURS = {".git", ".venv", "build", "dist", "node_modules", "syncd-data", "__pycache__"}

# Written in pieces, since this file is checked too.
REGISTRIES = [
    r"\.".join(parts)
    for parts in [
        ("pypi", "org"),
        ("python" + "hosted", "org"),
        ("repo1?", "maven", ""),
        ("maven" + "central", ""),
        ("deb", "debian", "org"),
        ("(archive|security|ports)", "ubuntu", "com"),
        ("(docker|ghcr|quay)", "io"),
        ("registry", "npmjs", "org"),
        ("proxy", "golang", "org"),
        ("static", "crates", "io"),
    ]
]
ADDRESS = re.compile("|".join(REGISTRIES), re.IGNORECASE)
HOME = re.compile(r"(?<![\w.$}~-])/(?:root|work|home/\w+|Users/\w+)/")

FIT = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "PSF-2.0",
    "Zlib",
    "any-OSI",  # apsw: any licence that the OSI has approved
}
"""Licences under which a package may be used by an Apache-2.0 program. MPL-2.0 binds its own files alone."""

OLD_WORDS = {
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "BSD 2-Clause License": "BSD-2-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""What packages without a licence expression write instead."""


def files() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        cached = any(p in NOT_OURS or p.endswith(("_cache", ".egg-info")) for p in parts)
        if path.is_file() and not cached and ".hypothesis" not in parts:
            yield path


def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")


def normal(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked_names() -> list[str]:
    lock = (ROOT / "requirements.lock").read_text()
    return re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)


@pytest.mark.parametrize("pattern", [ADDRESS, HOME], ids=["registry", "home"])
def test_no_file_holds(pattern: re.Pattern[str]) -> None:
    found = [f"{path.relative_to(ROOT)}: {m[0]}" for path in files() for m in pattern.finditer(text_of(path))]
    assert found == []


def test_patterns_find_what_they_are_for() -> None:
    assert ADDRESS.search("https://files.python" + "hosted.org/packages/x")
    assert ADDRESS.search("http://DEB.debian" + ".org/debian")
    assert HOME.search("open('/ho" + "me/ann/x')")
    assert HOME.search("cd /ro" + "ot/x")
    assert not HOME.search("$here/root/x")


def test_lock_holds_no_address_and_a_hash_of_every_package() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "--index" not in lock
    assert re.match(r"# \d+ MB to download\n", lock)
    blocks = re.split(r"\n(?=[\w.-]+==)", lock)[1:]
    assert blocks
    assert [b for b in blocks if "--hash=sha256:" not in b] == []


def test_lock_holds_every_package_that_the_project_names() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = told["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values(), *told["dependency-groups"].values()]
    names = {normal(re.split(r"[^\w.-]", requirement)[0]) for requirements in lists for requirement in requirements}
    assert names - {normal(n) for n in locked_names()} - {"syncd"} == set(), "run ./dev lock"


def licence(name: str) -> str:
    """The licence of an installed package as an SPDX expression, or as it is written; '' if none is told."""
    told = importlib.metadata.metadata(name)
    if "License-Expression" in told:
        return str(told["License-Expression"])
    for classifier in told.get_all("Classifier") or []:
        if classifier.startswith("License ::"):
            word = str(classifier).rpartition(" :: ")[2]
            return OLD_WORDS.get(word, word)
    written = str(told["License"]) if "License" in told else ""
    return OLD_WORDS.get(written, written)


def is_fit(expression: str) -> bool:
    """Whether one of the alternatives of `expression` is fit in all its parts."""
    return any(all(part.strip("() ") in FIT for part in way.split(" AND ")) for way in expression.split(" OR "))


def test_licences_fit() -> None:
    installed = {normal(d.name) for d in importlib.metadata.distributions()}
    names = [n for n in locked_names() if normal(n) in installed]
    assert len(names) > 40
    assert {n: told for n in names if not is_fit(told := licence(n))} == {}
