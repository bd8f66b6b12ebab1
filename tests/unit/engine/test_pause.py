"""`syncd jobs pause` of one part of a job: it stands still, also after a restart; the others go on; it catches up."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from syncd.engine.capture import Capture
from syncd.model import TableId
from syncd.state import SOURCE, Phase, paused_part
from tests.unit.engine.script import NUMBERS, WORDS
from tests.unit.engine.test_change import wish
from tests.unit.engine.world import SINKS, World, engine_in

Place = tuple[str, TableId]
TABLES = (NUMBERS.table, WORDS.table)
PLACES = [(sink, table) for sink in SINKS for table in TABLES]
PARTS = {
    "a sink": (paused_part("", "versioned"), {("versioned", table) for table in TABLES}),
    "a table": (paused_part("shop.numbers", ""), {(sink, NUMBERS.table) for sink in SINKS}),
    "a table at a sink": (paused_part("shop.numbers", "versioned"), {("versioned", NUMBERS.table)}),
    "the source": (SOURCE, {*PLACES}),
}


@pytest.fixture(autouse=True)
def rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture that is paused waits for its next step."""
    whole = Capture._sleep

    def sleep(capture: Capture, seconds: float) -> None:
        whole(capture, seconds)
        if capture._paused():
            capture._link.stop.set()

    monkeypatch.setattr(Capture, "_sleep", sleep)


def pause(world: World, *parts: str) -> None:
    wish(world, lambda before: replace(before, paused=parts))


def change(world: World, start: int) -> None:
    """Rows that come, change and go."""
    for n in range(start, start + 6):
        with world.log.transaction() as tx:
            tx.put(NUMBERS.table, (n % 9, f"n{n}"))
            tx.put(WORDS.table, (f"w{n % 9}", f"w{n}"))
    with world.log.transaction() as tx:
        tx.delete(NUMBERS.table, (start % 9,))
        tx.delete(WORDS.table, (f"w{start % 9}",))


def on(world: World, rounds: int = 6) -> None:
    for _ in range(rounds):
        world.round()
        world.clock.now += 4.0


def rows(world: World) -> dict[Place, list[dict[str, Any]]]:
    return {(sink, table): world.copy(sink, table) for sink, table in PLACES}


def right(world: World) -> set[Place]:
    """The copies that are what the source has."""
    return {(sink, table) for (sink, table), copy in rows(world).items() if copy == world.log.rows(table)}


@pytest.mark.parametrize("what", PARTS)
def test_of_a_live_job(what: str, tmp_path: Path) -> None:
    part, still = PARTS[what]
    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, WORDS):
            world.log.create(schema)
        change(world, 0)
        world.settle()
        before = rows(world)
        pause(world, part)
        for start in (10, 20):  # the second time in a daemon that has found it paused
            change(world, start)
            on(world)
            assert right(world) == {*PLACES} - still
            now = rows(world)
            assert {place for place in PLACES if now[place] == before[place]} == still
            world.restart()
        pause(world)
        change(world, 30)
        world.settle()
        world.assert_equal()


@pytest.mark.parametrize("what", PARTS)
def test_of_a_job_that_loads(what: str, tmp_path: Path) -> None:
    """From its first chunk on; what is under way is finished."""
    part, still = PARTS[what]
    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, WORDS):
            world.log.create(schema)
        for start in (1, 10):
            change(world, start)
        world.orders.pending["snapshot.chunk_marked"] = 1, partial(pause, world, part)
        while world.orders.pending:
            world.round()
        loaded = done(world)
        assert {loaded[place] for place in still if place[1] == NUMBERS.table} == {2}, "of three chunks"
        change(world, 20)
        on(world)
        world.restart()
        on(world)
        phases = {(record.sink, record.table): record.phase for record in world.records()}
        assert {place for place in PLACES if phases[place] is not Phase.LIVE} == still
        after = done(world)
        assert {place: after[place] for place in still} == {place: loaded[place] for place in still}
        assert right(world) >= {*PLACES} - still
        pause(world)
        change(world, 30)
        world.settle()
        world.assert_equal()


def done(world: World) -> dict[Place, int]:
    """Chunks that are written."""
    return {(sink, table): len(world.state.done(sink, table)) for sink, table in PLACES}
