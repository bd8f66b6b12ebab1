"""What the lanes of a table wait for is saved, table by table, and taken back when they go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.state import Wait
from tests.unit.engine.script import NUMBERS, WORDS, Change, apply
from tests.unit.engine.world import World, engine_in

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


def first_waits(world: World) -> dict[str, Wait]:
    for _ in range(10):
        world.round()
        world.supervise()
        if waits := world.state.waits():
            return waits
    raise AssertionError("nothing waits")
