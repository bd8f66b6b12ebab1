"""The supervisor's care for workers that have done their part."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from syncd.engine.daemon import Daemon
from syncd.engine.process import Worker
from syncd.engine.snapshot import Refused
from syncd.engine.supervise import Slot, Supervisor
from syncd.errors import FatalError
from syncd.state import Phase
from tests.unit.engine.script import NUMBERS, WORDS, Change, apply
from tests.unit.engine.world import engine_in

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


def test_a_failed_job_is_stopped_once(tmp_path: Path) -> None:
    with engine_in(tmp_path / "world") as world:
        world.log.create(NUMBERS)
        world.settle()
        daemon = Daemon([world.parts])
        world.runner.failed = FatalError("by order")
        world.orders.pending["queue.put"] = 1, "fail"
        daemon._step(world.runner)
        assert world.state.failure() is None  # the queue was in trouble
        daemon._step(world.runner)
        failure = world.state.failure()
        assert failure is not None
        assert failure.reason == "by order [E150]"
        world.orders.pending["queue.put"] = 1, "die"
        daemon._step(world.runner)
        assert world.state.failure() == failure
        world.orders.pending.clear()
        world.restart()
        assert world.state.failure() is None


def test_a_halt_that_cannot_be_saved_yet_holds_up_nothing_and_is_saved_before_the_table_is_dealt_out(
    tmp_path: Path,
) -> None:
    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, WORDS):
            world.log.create(schema)
            with world.log.transaction() as tx:
                apply(world, tx, Change("put", int(schema is WORDS), 1, 1, 1))
        while not (tasks := world.runner._loader.tasks):
            world.round()
        reader, task = next(iter(tasks.items()))
        worker = next(worker for worker in world.workers if worker.name.startswith(reader))
        worker._link.inbox.clear()
        worker._link.send(Refused(task.record, FatalError("by order", table=str(task.record.table))))
        world.orders.pending["queue.put"] = 1, "fail"
        began = world.clock.now
        world.supervise()
        assert world.clock.now - began < 1
        assert (task.record.sink, task.record.table) not in world.runner._loader.loads
        world.supervise()
        saved = world.state.table(task.record.sink, task.record.table)
        assert saved is not None
        assert (saved.phase, saved.reason) == (Phase.HALTED, "by order [E150]")
