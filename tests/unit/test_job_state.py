"""The one word for a job, by given ages: no clock decides these tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from syncd import control
from syncd.control import WorkerStatus
from syncd.state import Wait

HEARD = 3 * 0.5
NOW = 10**15


@pytest.mark.parametrize(
    ("age", "gone", "waited", "says"),
    [
        (0.1, "", 0.0, "RUNNING"),
        (14.9, "", 0.0, "RUNNING"),  # three heartbeats of a source that has one every 5 s
        (15.1, "", 0.0, "STALLED"),
        (0.1, "", 1.4, "RUNNING"),
        (0.1, "", 1.6, "WAITING"),
        (0.1, "capture", 0.0, "STALLED"),
        (0.1, "deliver/copy", 1.6, "STALLED"),
        (0.1, "run", 1.6, "DOWN"),
    ],
)
def test_the_word_for_a_job(monkeypatch: pytest.MonkeyPatch, age: float, gone: str, waited: float, says: str) -> None:
    monkeypatch.setattr(control, "clock", lambda: NOW)
    names = ("run", "capture", "deliver/copy")
    workers = [WorkerStatus(f"job/j/{name}", "host:1", 0.1, name != gone) for name in names]
    state = SimpleNamespace(
        wish=lambda: SimpleNamespace(stopped=False, paused={}),
        meta=lambda: {"sinks": {"copy": {}}, "mode": "snapshot+cdc", "heartbeat": 5.0},
        failure=lambda: None,
        waits=lambda: {"planner": Wait("why", NOW - round(waited * 1e6))} if waited else {},
    )
    assert control._job_state(workers, cast("Any", state), age, HEARD) == says
