"""What the lanes of a table wait for is saved, table by table, and taken back when they go on."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from syncd.engine import process
from syncd.state import Wait
from tests.unit.engine.script import NUMBERS, WORDS, Change, apply
from tests.unit.engine.world import Clock, World, engine_in

CASES = {
    "sink.write": "sink.write fails by order",
    "queue.commit": "queue.commit fails by order",
    "sink.apply": "at the barrier of truncate: sink.apply fails by order",
}


@pytest.mark.parametrize("point", CASES)
def test_each_tables_wait_is_told_and_taken_back(tmp_path: Path, point: str) -> None:
    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, WORDS):
            world.log.create(schema)
        world.settle()
        assert world.state.waits() == {}
        world.orders.pending[point] = 1, "fail"
        if point == "sink.apply":
            world.log.truncate(NUMBERS.table)
        else:
            with world.log.transaction() as tx:
                apply(world, tx, Change("put", 0, 1, 1, 1))
        waits = first_waits(world)
        ((name, wait),) = waits.items()
        assert name in {"deliver/arrival: shop.numbers", "deliver/versioned: shop.numbers"}
        assert wait.reason == f"{CASES[point]} [E120]; attempt 1"
        assert wait.since > 0
        world.settle()
        world.round()
        assert world.state.waits() == {}


def test_a_step_that_hangs_is_told_before_a_third_heartbeat_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, with how long it takes already, and taken back when it is over; a longer one where signs come seldom."""
    now, said, beat = Clock(), list[object](), 2.0
    monkeypatch.setattr(process, "time", now)
    link = process.Link(cast("Any", SimpleNamespace(send=said.append)), process.PATIENCE * beat)
    began = now.now
    link.step("reading chunk 7")
    now.now = began + 2.5 * beat
    assert link._tell_hanging(set()) == set()
    now.now = began + 2.99 * beat
    hanging = link._tell_hanging(set())
    assert link._tell_hanging(hanging) == {"reading chunk 7"}
    assert said == [process.Waiting("reading chunk 7", "no answer yet", now.now - began)]
    link.step("following", every=5 * beat)
    hanging = link._tell_hanging(hanging)
    assert said[1:] == [process.Waiting("reading chunk 7", "")]
    now.now += 2.5 * 5 * beat
    assert link._tell_hanging(hanging) == set()
    now.now += 0.49 * 5 * beat
    assert link._tell_hanging(hanging) == {"following"}


def test_a_daemon_that_is_gone_is_no_fault_of_the_table_in_hand() -> None:
    """Nobody hears, and the process drains; the table would else be HALTED, and stay so with the next daemon."""
    ours, daemons = multiprocessing.Pipe()
    daemons.close()
    link = process.Link(ours, careful=True)
    with link.in_hand(NUMBERS.table):
        link.waits("the sink is away")
    assert link.stop.is_set()


def first_waits(world: World) -> dict[str, Wait]:
    for _ in range(10):
        world.round()
        world.supervise()
        if waits := world.state.waits():
            return waits
    raise AssertionError("nothing waits")
