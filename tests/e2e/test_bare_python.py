"""`./dev` in an empty cache folder, with a Python that lacks what a bare Debian lacks: pip, ensurepip, venv.

That Python is a copy of the one that runs the tests. Of the locked packages it gets those that an editable install
needs, with their hashes from the real lock file: the others would only be more of the same.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

from syncd.testing.servers.debroot import unpack

ROOT = Path(__file__).parents[2]
LACKING = ("ensurepip", "venv", "site-packages", "dist-packages")
BULK = ("test", "idlelib", "lib2to3", "config-*", "__pycache__")
PACKAGES = ("editables", "hatchling", "packaging", "pathspec", "pluggy", "trove-classifiers")
STDLIB = Path(sysconfig.get_path("stdlib"))


class Bare:
    """A Python, a checkout with few packages to install, and a cache, all below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree, self.cache, self.python = folder / "tree", folder / "cache", folder / "python/bin/python3"
        self.lib = folder / "python/lib" / STDLIB.name
        self._copy_python()
        self._copy_tree()

    def _copy_python(self) -> None:
        """The interpreter itself too, since it finds its modules from where it lies."""
        self.python.parent.mkdir(parents=True)
        shutil.copy(os.path.realpath(sys.executable), self.python)
        shutil.copytree(STDLIB, self.lib, ignore=shutil.ignore_patterns(*LACKING, *BULK))
        for shared in STDLIB.parent.glob("libpython*.so*"):
            (self.lib.parent / shared.name).symlink_to(shared)

    def _copy_tree(self) -> None:
        shutil.copytree(ROOT / "syncd", self.tree / "syncd", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dev", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, self.tree)
        locked = re.findall(r"^[\w.-]+==(?:.*\\\n)+.*\n", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
        wanted = [text for text in locked if text.partition("==")[0] in PACKAGES]
        assert len(wanted) == len(PACKAGES)
        (self.tree / "requirements.lock").write_text(f"# 1 MB to download\n# for a test\n{''.join(wanted)}")

    def run(self, program: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        outer = ("PYTHON", "SYNCD_", "VIRTUAL_ENV")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
        environment |= {
            "SYNCD_PYTHON": str(self.python),
            "SYNCD_CACHE": str(self.cache),
            "PYTHONNOUSERSITE": "1",
            **more,
        }
        return subprocess.run(
            [str(program), *words], env=environment, cwd=self.folder, capture_output=True, text=True, timeout=300
        )

    def dev_python(self, script: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.tree / "dev", "python", "-c", script, **more)

    def assert_works(self) -> None:
        """Its packages are in the environment, syncd is the checkout's, and nothing is left to be done."""
        (environment,) = self.cache.glob("env/*-*")
        script = "import sys, hatchling, syncd; print(sys.prefix, hatchling.__file__, syncd.__file__, sep='\\n')"
        script += (
            "; from importlib.metadata import entry_points; print(*sorted(entry_points(group='syncd.sinks').names))"
        )
        done = self.dev_python(script)
        assert (done.returncode, done.stderr) == (0, "")
        module = environment / "lib" / STDLIB.name / "site-packages/hatchling/__init__.py"
        here = [str(environment), str(module), str(self.tree / "syncd/__init__.py")]
        here.append("clickhouse mysql oceanbase parquet")
        assert done.stdout.splitlines() == here


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    return Bare(tmp_path)


def test_pip_comes_from_the_distribution_and_sizes_are_told_before(bare: Bare) -> None:
    for module in ("pip", "ensurepip", "venv"):
        assert f"No module named '{module}'" in bare.run(bare.python, "-c", f"import {module}").stderr
    nothing_there = {"PIP_INDEX_URL": "http://127.0.0.1:1/", "PIP_FIND_LINKS": "", "PIP_RETRIES": "0"}
    cut = bare.dev_python("print('here')", **nothing_there)
    assert (cut.returncode, cut.stdout) == (1, ""), cut.stderr
    for_pip = f"syncd: this Python has no pip: downloading 1 packages, [0-9.]+ MB, with apt into {bare.cache}\n"
    for_all = (
        f"syncd: the packages of requirements.lock are not installed yet: 1 MB to download, into {bare.cache}/env/"
    )
    assert re.search(for_pip + for_all, cut.stderr), cut.stderr
    mended = bare.dev_python("pass")
    assert mended.returncode == 0, mended.stderr
    assert "with apt" not in mended.stderr  # that much is kept
    bare.assert_works()


@pytest.mark.parametrize("place", ["the machine's", "inside Python"])
def test_pip_that_is_there_is_taken(bare: Bare, place: str) -> None:
    wheel = unpack(["python3-pip-whl"], only=True).find("pip-*.whl")
    if place == "inside Python":
        bundled = bare.lib / "ensurepip/_bundled"
        bundled.mkdir(parents=True)
        (bundled.parent / "__init__.py").touch()
        shutil.copy(wheel, bundled)
    else:
        packages = bare.run(bare.python, "-c", "import site; print(site.getsitepackages()[0])").stdout.strip()
        ZipFile(wheel).extractall(packages)
    done = bare.dev_python("pass")
    assert done.returncode == 0, done.stderr
    assert not (bare.cache / "roots").exists(), done.stderr
    bare.assert_works()
