"""`./dev ci`: how its closing line is made, and what its budget allows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

CI = Path(__file__).parents[2] / ".ci"


@pytest.fixture(scope="module")
def stages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stages", CI / "stages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["stages"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("19 passed in 46.35s", "19 passed, 0 failed, 0 skipped"),
        ("==== 2 failed, 15 passed, 1 skipped, 2 errors in 142.35s (0:02:22) ====", "15 passed, 4 failed, 1 skipped"),
        ("= 1 passed, 3 deselected, 1 xfailed, 2 warnings in 0.31s =", "1 passed, 0 failed, 0 skipped"),
    ],
)
def test_closing_line(stages: ModuleType, line: str, told: str) -> None:
    assert stages.SUMMARY.match(line)
    assert stages.counts(line) == told


@pytest.mark.parametrize("line", ["no tests ran in 0.01s", "4.53s call tests/x.py", "3 passed", ""])
def test_other_lines_are_no_closing_line(stages: ModuleType, line: str) -> None:
    assert not stages.SUMMARY.match(line)


def test_budget_names_every_stage(stages: ModuleType) -> None:
    budget = stages.Budget.read(CI / "budget.toml")
    assert set(budget.seconds) == {"setup", *stages.STAGES}
    assert budget.allows("lint", budget.seconds["lint"] * budget.factor)
    assert not budget.allows("lint", budget.seconds["lint"] * budget.factor + 0.1)
    # CI ends a run after 40 minutes
    assert sum(budget.seconds.values()) < 20 * 60
    assert budget.limit < 40 * 60
