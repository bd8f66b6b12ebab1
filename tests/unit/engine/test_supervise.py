"""The supervisor's care for workers that have done their part."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

from syncd.engine.process import Worker
from syncd.engine.supervise import Slot, Supervisor

DRAIN = 0.2


class Deaf:
    """A worker that hears nothing until it is killed: frozen, for example."""

    name = "planner"

    def __init__(self) -> None:
        self.alive, self.done = True, list[str]()

    def stop(self) -> None:
        self.done.append("stop")

    def kill(self) -> None:
        self.alive = False
        self.done.append("kill")

    def close(self) -> None:
        self.done.append("close")


def test_a_worker_that_does_not_end_in_time_is_killed() -> None:
    parts = cast("Any", SimpleNamespace(service=SimpleNamespace(drain=DRAIN)))
    nothing = cast("Any", lambda *_: None)
    supervisor, worker = Supervisor(parts, nothing, nothing, nothing, nothing), Deaf()
    supervisor.slots["planner"] = Slot("planner", nothing, cast("Worker", worker))
    supervisor.end(["planner"])
    supervisor.step()
    assert worker.done == ["stop"]
    time.sleep(DRAIN)
    supervisor.step()
    assert worker.done == ["stop", "kill", "close"]
    supervisor.step()
    assert worker.done == ["stop", "kill", "close"]
