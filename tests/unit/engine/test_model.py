"""The engine against every accident that Hypothesis can think of: see `script` for what happens, `world` for who runs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings

from tests.unit.engine.script import Script, play, scripts
from tests.unit.engine.world import engine_in


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts)
def test_every_value_arrives_whatever_happens(script: Script) -> None:
    with tempfile.TemporaryDirectory() as folder, engine_in(Path(folder)) as world:
        play(world, script)
