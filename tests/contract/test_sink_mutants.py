"""The conformance suite of sinks catches broken sinks: each one by the test that is about what it breaks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.contract.sink_mutants import CAUGHT_BY

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Suite -> names of its failed tests, without parameters; of each suite only the test meant to catch it was run."""
    report = tmp_path_factory.mktemp("mutants") / "report.xml"
    nodes = [f"{HERE / 'sink_mutants.py'}::Test{mutant.__name__}::{test}" for mutant, test in CAUGHT_BY.items()]
    command = [sys.executable, "-m", "pytest", *nodes, "-q", "-p", "no:cacheprovider"]
    command.append(f"--junitxml={report}")
    # A failed run keeps its files: here, where they go with this one.
    env = {**os.environ, "TMPDIR": str(report.parent)}
    ran = subprocess.run(command, cwd=HERE.parent.parent, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 1, ran.stdout[-3000:] + ran.stderr[-3000:]
    found: dict[str, set[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        suite = case.attrib["classname"].rpartition(".")[2]
        if case.find("failure") is not None:
            found.setdefault(suite, set()).add(case.attrib["name"].partition("[")[0])
    return found


@pytest.mark.parametrize(
    ("suite", "test"),
    [(f"Test{m.__name__}", test) for m, test in CAUGHT_BY.items()],
    ids=[m.__name__ for m in CAUGHT_BY],
)
def test_a_mutant_is_caught(failed: dict[str, set[str]], suite: str, test: str) -> None:
    assert test in failed.get(suite, set())
