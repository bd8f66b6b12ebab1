"""What `syncd run` shows on a terminal of a job that runs, and of one that could not start."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console

from syncd import progress as terminal
from syncd.engine.job import JobRunner, Picture
from syncd.errors import ConfigError
from syncd.ops import repairer
from syncd.progress import Progress
from syncd.state import Wait
from tests.unit.engine.world import engine_in


def test_a_job_that_could_not_start_is_shown_with_its_reason(tmp_path: Path) -> None:
    shown = StringIO()
    with engine_in(tmp_path / "world") as world:
        never = JobRunner(world.parts, world.queue, repairer.work)
        assert never.picture() == Picture(0, 0, False, {}, None, {})
        never.failed = ConfigError("queues: the saved state was made with [4]", code="C140")
        with Progress(Console(file=shown, force_terminal=True, width=200), on=True) as progress:
            progress.show([world.runner, never])
    assert "HALTED: queues: the saved state was made with [4] [C140]" in shown.getvalue()


def test_rows_rate_time_left_and_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    now, shown = [100.0], StringIO()
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: now[0]))
    picture = Picture(1000, 15_000, True, {"SNAPSHOT": 2}, None, {})
    runner = cast(JobRunner, SimpleNamespace(name="shop", failed=None, picture=lambda: picture))
    with Progress(Console(file=shown, force_terminal=True, width=200), on=True) as progress:
        progress.show([runner])
        now[0], picture = 102.0, Picture(5000, 15_000, True, {"SNAPSHOT": 1, "LIVE": 1}, 0.54, {})
        progress.show([runner])
    last = shown.getvalue().split("shop")[-1].splitlines()[0].split("  ")
    assert [word.strip() for word in last if word.strip()] == ["5,000", "2,000", "5 s", "1 LIVE, 1 SNAPSHOT", "0.5 s"]


def test_who_waits_and_for_what() -> None:
    shown = StringIO()
    picture = Picture(7, 7, False, {"LIVE": 1}, 0.5, {"deliver/olap": Wait("the server [1] cannot be reached", 0)})
    runner = cast(JobRunner, SimpleNamespace(name="shop", failed=None, picture=lambda: picture))
    with Progress(Console(file=shown, force_terminal=True, width=200), on=True) as progress:
        progress.show([runner])
    assert "shop: deliver/olap waits: the server [1] cannot be reached" in shown.getvalue()
