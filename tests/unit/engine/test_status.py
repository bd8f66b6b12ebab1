"""What `syncd status` asks of the queue does not grow with the tables."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, cast

from syncd.engine.job import DRAINS
from syncd.model import Position
from syncd.ops import status
from syncd.spi import Queue
from syncd.state import Halt, Wish
from tests.unit.engine.script import NUMBERS, WORDS, Change, apply
from tests.unit.engine.world import SINKS, World, engine_in


class Asked:
    """A queue that counts what is read: groups of which the lanes are, and keys."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self.lanes_of, self.keys = Counter[str](), Counter[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def lanes(self, group: str) -> Any:
        self.lanes_of[group] += 1
        return self._queue.lanes(group)

    def get(self, key: str) -> bytes | None:
        self.keys[key] += 1
        return self._queue.get(key)


def looked_at(world: World) -> tuple[status.JobStatus, Asked]:
    asked = Asked(world.queue)
    return status.of(cast(Queue, asked), "model", world.parts.service.heartbeat), asked


def test_lanes_and_wishes_are_read_once_for_all_tables(tmp_path: Path) -> None:
    with engine_in(tmp_path / "world") as world:
        world.log.create(NUMBERS)
        world.settle()
        one_table, few = looked_at(world)
        world.log.create(WORDS)
        world.settle()
        lease = world.queue.acquire("job/model/wish", "someone", 10.0)
        assert lease is not None
        world.queue.put(lease, world.state.wish_item(Wish(("table at arrival:shop.numbers", "sink:versioned"))))
        with world.log.transaction() as tx:
            for key in range(3):
                apply(world, tx, Change("put", 0, key, 1, 1))
            apply(world, tx, Change("put", 1, 1, 1, 1))
        for _ in range(4):
            world.round()
        two_tables, asked = looked_at(world)
        ends = {sink: world.queue.lanes(f"model/{sink}") for sink in SINKS}
    assert asked.lanes_of == few.lanes_of == {"model/arrival": 1, "model/versioned": 1}
    assert asked.keys == few.keys
    assert [row.waiting for row in one_table.tables] == [0, 0]
    shown = {(row.record.sink, str(row.record.table)): (row.waiting, row.paused) for row in two_tables.tables}
    held = {
        (sink, tag): sum(end - start for lane, (start, end) in ends[sink].items() if lane.tag == tag)
        for sink in SINKS
        for tag in ("shop.numbers", "shop.words")
    }
    assert {key: waiting for key, (waiting, _) in shown.items()} == held
    assert held["arrival", "shop.numbers"] == held["versioned", "shop.numbers"] > 0
    assert held["versioned", "shop.words"] > held["arrival", "shop.words"] == 0
    assert [key for key, (_, paused) in shown.items() if not paused] == [("arrival", "shop.words")]


def test_a_table_that_capture_has_left_is_halted_at_every_sink(tmp_path: Path) -> None:
    """In the status, for people and for programs, and in what `syncd run` shows."""
    with engine_in(tmp_path / "world") as world:
        world.log.create(NUMBERS)
        world.log.create(WORDS)
        world.settle()
        lease = world.queue.acquire("job/model/wish", "someone", 10.0)
        assert lease is not None
        world.queue.put(lease, world.state.halt_item(NUMBERS.table, Halt("a DROP COLUMN", Position("log:1"), 7)))
        job, _ = looked_at(world)
        assert world.runner.picture().phases == {"HALTED at capture": 2, "LIVE": 2}
    shown = {(row.record.sink, str(row.record.table)): (row.state, row.reason) for row in job.tables}
    assert shown == {
        ("arrival", "shop.numbers"): ("HALTED", "a DROP COLUMN"),
        ("versioned", "shop.numbers"): ("HALTED", "a DROP COLUMN"),
        ("arrival", "shop.words"): ("LIVE", ""),
        ("versioned", "shop.words"): ("LIVE", ""),
    }
    facts = cast("list[dict[str, object]]", status.facts(job)["tables"])
    assert [fact["state"] for fact in facts].count("HALTED") == 2


def test_a_table_that_was_refused_before_any_sink_had_it_is_among_the_halted(tmp_path: Path) -> None:
    with engine_in(tmp_path / "world") as world:
        world.log.create(WORDS)
        world.settle()
        lease = world.queue.acquire("job/model/wish", "someone", 10.0)
        assert lease is not None
        world.queue.put(lease, world.state.halt_item(NUMBERS.table, Halt("no key", Position("log:1"), 7)))
        assert world.runner.picture().phases == {"HALTED": 1, "LIVE": 2}


def test_a_job_that_drains_says_so_until_it_has(tmp_path: Path) -> None:
    with engine_in(tmp_path / "world") as world:
        world.log.create(NUMBERS)
        world.settle()
        world.runner.stop()
        world.runner._supervisor._ending.append((cast(Any, Undead()), 1e18))
        world.runner.step()
        job, _ = looked_at(world)
        assert (job.state, [wait.reason for wait in job.waits.values()]) == ("DRAINING", [DRAINS])
        world.runner._supervisor._ending.clear()
        while not world.runner.stopped:
            world.runner.step()
        job, _ = looked_at(world)
        assert job.waits == {}
        assert job.state != "DRAINING"


class Undead:
    """A worker that takes its time to end."""

    alive = True

    def words(self) -> list[object]:
        return []
