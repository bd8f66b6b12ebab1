"""The one word for a job, by given ages: no clock decides these tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from syncd.ops import status
from syncd.ops.status import WorkerStatus
from syncd.state import Wait

HEARD = 3 * 0.5
NOW = 10**15
LONG_AGO = 1000.0


@pytest.mark.parametrize(
    ("age", "gone", "waited", "begun", "says"),
    [
        (0.1, "", 0.0, LONG_AGO, "RUNNING"),
        (14.9, "", 0.0, LONG_AGO, "RUNNING"),  # three heartbeats of a source that has one every 5 s
        (15.1, "", 0.0, LONG_AGO, "STALLED"),
        (0.1, "", 1.4, LONG_AGO, "RUNNING"),
        (0.1, "", 1.6, LONG_AGO, "WAITING"),
        (0.1, "capture", 0.0, LONG_AGO, "STALLED"),
        (0.1, "deliver/copy", 1.6, LONG_AGO, "STALLED"),
        (0.1, "run", 1.6, LONG_AGO, "DOWN"),
        (60.0, "deliver/copy", 0.0, 1.4, "WAITING"),  # it starts
        (60.0, "deliver/copy", 0.0, 1.6, "STALLED"),
        (60.0, "", 0.0, 14.9, "WAITING"),  # what capture has saved is of the run before
        (60.0, "", 0.0, 15.1, "STALLED"),
        (60.0, "run", 0.0, 1.4, "DOWN"),
    ],
)
def test_the_word_for_a_job(
    monkeypatch: pytest.MonkeyPatch, age: float, gone: str, waited: float, begun: float, says: str
) -> None:
    monkeypatch.setattr(status, "clock", lambda: NOW)
    names = ("run", "capture", "deliver/copy")
    workers = [WorkerStatus(f"job/j/{name}", "host:1", 0.1, name != gone) for name in names]
    state = SimpleNamespace(
        wish=lambda: SimpleNamespace(stopped=False, paused={}),
        meta=lambda: {
            "sinks": {"copy": {}},
            "mode": "snapshot+cdc",
            "heartbeat": 5.0,
            "started": NOW - round(begun * 1e6),
        },
        failure=lambda: None,
        waits=lambda: {"planner": Wait("why", NOW - round(waited * 1e6))} if waited else {},
    )
    assert status._job_state(workers, cast("Any", state), age, HEARD) == says
