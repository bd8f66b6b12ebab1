"""The supervisor's care for workers that have done their part."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from syncd.engine import load, supervise
from syncd.engine.counts import Sums
from syncd.engine.daemon import Daemon
from syncd.engine.job import JobRunner
from syncd.engine.process import Alive, Failed, InHand, Worker
from syncd.engine.supervise import Slot, Supervisor
from syncd.engine.words import Refused
from syncd.errors import FatalError, FencedError, SyncdError, TransientError
from syncd.model import TableId
from syncd.ops import repairer
from syncd.state import Phase, Wait
from tests.unit.engine import world as engine_world
from tests.unit.engine.script import NUMBERS, WORDS, Change, apply
from tests.unit.engine.world import Clock, engine_in

DRAIN = 30.0
HEARTBEAT = 2.0


class Deaf:
    """A worker that hears nothing until it is killed: frozen, for example."""

    def __init__(self, name: str = "planner") -> None:
        self.name, self.alive, self.done = name, True, list[str]()
        self.said: list[object] = ["a word"]

    def words(self) -> list[object]:
        words, self.said = self.said, []
        return words

    def stop(self) -> None:
        self.done.append("stop")

    def kill(self) -> None:
        self.alive = False
        self.done.append("kill")

    def close(self) -> None:
        self.done.append("close")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(supervise, "time", clock)
    monkeypatch.setattr(supervise, "clock", lambda: round(clock.now * 1e6))
    return clock


def supervisor_of(*workers: Deaf) -> Supervisor:
    service = SimpleNamespace(drain=DRAIN, heartbeat=HEARTBEAT)
    parts = cast("Any", SimpleNamespace(service=service, job=SimpleNamespace(name="j"), owner=str))
    nothing = cast("Any", lambda *_: None)
    queue = cast("Any", SimpleNamespace(leases=lambda _: []))
    supervisor = Supervisor(parts, queue, nothing, nothing, nothing, Sums())
    for worker in workers:
        supervisor.slots[worker.name] = Slot(worker.name, nothing, cast("Worker", worker))
    return supervisor


def test_a_worker_that_does_not_end_in_time_is_killed(now: Clock) -> None:
    worker = Deaf()
    supervisor = supervisor_of(worker)
    supervisor.end(["planner"])
    now.now += DRAIN
    supervisor.step()
    assert worker.done == ["stop"]
    now.now += 0.001
    supervisor.step()
    assert worker.done == ["stop", "kill", "close"]
    supervisor.step()
    assert worker.done == ["stop", "kill", "close"]


class Quiet(Deaf):
    """One that says "alive" as often as it is let."""

    pid = 4711
    exitcode = -9

    def __init__(self) -> None:
        super().__init__()
        self.said = [Alive()]


class Dead(Quiet):
    """One that has ended with this error, with a table in hand or none."""

    def __init__(self, error: SyncdError, table: TableId | None) -> None:
        super().__init__()
        self.alive = False
        self.said = [Alive(), InHand(table), Failed(error)]


def test_a_silent_worker_is_named_before_a_third_heartbeat_has_passed(now: Clock) -> None:
    """Frozen, then dead, then started anew and not heard yet; heard again, and the word is taken back."""
    supervisor, workers = supervisor_of(), [Quiet(), Quiet()]
    supervisor.add("planner", lambda careful: cast("Worker", workers[careful]))
    for _ in range(2):
        supervisor.step()
    heard = now.now
    now.now = heard + 2.5 * HEARTBEAT
    supervisor.step()
    assert supervisor.waits() == {}
    now.now = heard + 2.99 * HEARTBEAT
    supervisor.step()
    since = round(heard * 1e6)
    assert supervisor.waits() == {"planner": Wait("it is not heard", since)}
    workers[0].alive = False
    supervisor.step()
    assert workers[0].done == ["close"]
    assert supervisor.waits() == {"planner": Wait("it died and is started again soon: it left no word", since)}
    now.now += 1
    workers[1].said = []
    supervisor.step()
    assert supervisor.waits() == {"planner": Wait("it was started, and is not heard yet", since)}
    workers[1].said = [Alive()]
    supervisor.step()
    assert supervisor.waits() == {}


@pytest.mark.parametrize("table", [None, TableId("shop", "items")])
def test_a_passing_fault_is_no_crash_however_often_it_ends_a_worker(now: Clock, table: TableId | None) -> None:
    """The queue's disk is in trouble, say: the worker is started again until that is over."""
    for error, halts in ((TransientError("the disk is busy"), False), (FencedError("taken over"), True)):
        supervisor, fatal = supervisor_of(), list[str]()
        supervisor._lost = lambda slot: False
        supervisor._fatal = lambda slot, error, said=fatal: said.append(str(error))  # type: ignore[misc]
        supervisor.add("capture", lambda careful, error=error: cast("Worker", Dead(error, table)))
        for _ in range(40):
            supervisor.step()
            now.now += 11
        assert bool(fatal) is halts, error
        assert halts or supervisor.slots["capture"].deaths >= 19


def test_at_the_end_the_host_of_a_sink_is_told_when_all_others_have_ended(now: Clock) -> None:
    planner, readers, host = Deaf(), [Deaf("reader/1"), Deaf("reader/2")], Deaf("deliver/s")
    supervisor = supervisor_of(planner, host, *readers)
    supervisor.end(["planner"])
    supervisor.stop()
    supervisor.step()
    assert [worker.done for worker in (planner, *readers, host)] == [["stop"], ["stop"], ["stop"], []]
    planner.alive = readers[0].alive = False
    host.said = ["more"] * 500
    supervisor.step()
    assert (host.said, host.done) == ([], [])
    now.now += DRAIN + 0.001
    supervisor.step()
    assert [worker.done for worker in readers] == [["stop", "close"], ["stop", "kill", "close"]]
    assert host.done == ["stop"]
    assert not supervisor.ended
    host.alive = False
    supervisor.step()
    assert host.done == ["stop", "close"]
    assert supervisor.ended


def test_a_failed_job_is_stopped_once(tmp_path: Path) -> None:
    with engine_in(tmp_path / "world") as world:
        world.log.create(NUMBERS)
        world.settle()
        daemon = Daemon([world.parts], repairer.work)
        world.runner.failed = FatalError("by order")
        daemon._step(world.runner)
        alive = {worker.name.partition("/")[0] for worker in world.workers if worker.alive}
        assert alive == {"deliver"}  # told when all others have ended
        world.orders.pending["queue.put"] = 1, "fail"
        daemon._step(world.runner)
        assert world.state.failure() is None  # the queue was in trouble
        daemon._step(world.runner)
        assert world.runner.stopped
        failure = world.state.failure()
        assert failure is not None
        assert failure.reason == "by order [E150]"
        world.orders.pending["queue.put"] = 1, "die"
        daemon._step(world.runner)
        assert world.state.failure() == failure
        world.orders.pending.clear()
        world.restart()
        assert world.state.failure() is None


def test_a_queue_in_trouble_delays_a_start(tmp_path: Path) -> None:
    with engine_in(tmp_path / "world") as world:
        world.log.create(NUMBERS)
        world.settle()
        daemon, runner = Daemon([world.parts], repairer.work), JobRunner(world.parts, world.queue, repairer.work)
        world.orders.pending["queue.put"] = 1, "fail"
        daemon._step(runner)
        assert runner.failed is None
        assert runner._supervisor.ended
        assert not world.orders.pending
        daemon._step(runner)
        assert runner.failed is None
        assert [*runner._supervisor.slots] != []
        runner.stop()


def test_a_job_that_has_loaded_everything_is_still_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workers' words would wake the daemon again and again; and a table of it may be resumed."""
    monkeypatch.setattr(engine_world, "JOB", "mode: snapshot\n" + engine_world.JOB.replace("keyless: append", ""))
    with engine_in(tmp_path / "world") as world:
        world.log.create(NUMBERS)
        for _ in range(20):
            world.round()
        assert world.runner.ended
        (worker, *_) = [worker for worker in world.workers if worker.name.startswith("deliver/arrival")]
        worker._link.waits("the sink is away", "shop.numbers")
        world.supervise()
        assert not worker._link.said
        assert [*world.state.waits()] == ["deliver/arrival: shop.numbers"]


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
        record = task.records[0]
        worker._link.send(Refused((record,), FatalError("by order", table=str(record.table))))
        world.orders.pending["queue.put"] = 1, "fail"
        began = world.clock.now
        world.supervise()
        assert world.clock.now - began < 1
        assert (record.sink, record.table) not in world.runner._loader.loads
        world.supervise()
        saved = world.state.table(record.sink, record.table)
        assert saved is not None
        assert (saved.phase, saved.reason) == (Phase.HALTED, "by order [E150]")
        halts = {key: value for key, value in world.runner._sums.now().items() if key[0] == "table_halts"}
        assert halts == {("table_halts", "model", record.sink, str(record.table)): 1}


def test_what_a_reader_had_in_hand_when_nothing_was_to_be_loaded_any_more_is_loaded_later(tmp_path: Path) -> None:
    with engine_in(tmp_path / "world") as world:
        world.log.create(NUMBERS)
        with world.log.transaction() as tx:
            apply(world, tx, Change("put", 0, 1, 1, 1))
        while not (tasks := world.runner._loader.tasks):
            world.round()
        reader = next(iter(tasks))
        for record in world.records():
            world.runner._halt(record, FatalError("refused by order", table=str(record.table)))
        while reader in world.runner._supervisor.slots:
            world.supervise()
        assert not world.runner._loader.tasks
        world.settle()
        world.assert_equal()


def test_a_crash_loop_of_which_no_table_is_known_halts_the_job(tmp_path: Path) -> None:
    with engine_in(tmp_path / "world") as world, pytest.MonkeyPatch.context() as patch:
        world.log.create(NUMBERS)
        world.settle()
        patch.setattr(supervise, "DEATHS", 5)
        with world.log.transaction() as tx:
            apply(world, tx, Change("put", 0, 1, 1, 1))
        deaths = 0
        for _ in range(40):
            if world.runner.failed is not None:
                break
            world.orders.pending["capture.transformed"] = 1, "die"
            world.clock.now += 11
            world.runner.step()
            world.work("capture")
            deaths += not world.orders.pending
        assert deaths == 5
        assert isinstance(world.runner.failed, FatalError)
        assert str(world.runner.failed) == "capture of job model died 5 times in a row; see the log [E162]"
        assert [record.phase for record in world.records()] == [Phase.LIVE, Phase.LIVE]


@pytest.mark.parametrize(
    ("point", "says", "sinks"),
    [
        ("snapshot.chunk_part", "3 readers died at chunk 0 of shop.numbers: no last word; see the log [E162]", 1),
        (
            "snapshot.border_found",
            "3 planners died while they looked for chunks of shop.numbers: no last word; see the log [E162]",
            2,
        ),
    ],
)
def test_a_crash_loop_while_a_table_is_loaded_halts_this_table(
    tmp_path: Path, point: str, says: str, sinks: int
) -> None:
    """After a crash each sink's chunk is read by itself; chunks are looked for once, for all sinks."""
    with engine_in(tmp_path / "world") as world, pytest.MonkeyPatch.context() as patch:
        for schema in (NUMBERS, WORDS):
            world.log.create(schema)
            with world.log.transaction() as tx:
                for key in range(4):
                    apply(world, tx, Change("put", int(schema is WORDS), key, 1, 1))
        patch.setattr(supervise, "DEATHS", 5)
        patch.setattr(load, "POISON", 3)
        deaths = 0
        for _ in range(200):
            if Phase.HALTED in {record.phase for record in world.records()}:
                break
            world.orders.pending[point] = 1, "die"
            world.clock.now += 3
            world.round()
            deaths += not world.orders.pending
        world.orders.pending.clear()
        halted = [record for record in world.records() if record.phase is Phase.HALTED]
        assert [(str(record.table), record.reason) for record in halted] == [("shop.numbers", says)] * sinks
        assert deaths >= 3
        for _ in range(40):
            world.clock.now += 3
            world.round()
        assert [record.phase for record in world.records() if record not in halted] == [Phase.LIVE] * (4 - sinks)
        assert world.runner.failed is None
