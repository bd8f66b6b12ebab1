"""What `syncd run` shows on a terminal of a job that runs, and of one that could not start."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from rich.console import Console

from syncd.engine.job import JobRunner, Picture
from syncd.errors import ConfigError
from syncd.progress import Progress
from tests.unit.engine.world import engine_in


def test_a_job_that_could_not_start_is_shown_with_its_reason(tmp_path: Path) -> None:
    shown = StringIO()
    with engine_in(tmp_path / "world") as world:
        never = JobRunner(world.parts, world.queue)
        assert never.picture() == Picture(0, 0, False, {}, None)
        never.failed = ConfigError("queues: the saved state was made with [4]", code="C140")
        with Progress(Console(file=shown, force_terminal=True, width=200), on=True) as progress:
            progress.show([world.runner, never])
    assert "HALTED: queues: the saved state was made with [4] [C140]" in shown.getvalue()
