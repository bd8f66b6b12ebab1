"""`policy.position_lost: reconcile-repair`: capture goes on from a new place; the copies are compared and mended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from syncd.errors import FatalError
from syncd.model import Column
from syncd.state import DELIVERED, Phase, paused_part
from tests.unit.engine import world as engine_world
from tests.unit.engine.script import LATER, NUMBERS, VISITS, WORDS
from tests.unit.engine.test_change import edit, until, wish, write
from tests.unit.engine.world import World, engine_in

JOB = engine_world.JOB.replace("policy: {{", "policy: {{position_lost: reconcile-repair, ")


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[World]:
    """Three tables at two sinks, LIVE; one of them has no key."""
    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, WORDS, VISITS):
            world.log.create(schema)
        write(world, 20)
        edit(world, JOB)
        world.restart()
        until(world, 6)
        yield world


def lose(world: World) -> None:
    """Rows come, go and change in a part of the log that capture never sees; some published ones are not applied."""
    write(world, 3, 60)
    for _ in range(3):
        world.work("capture")
    world.kill()
    write(world, 5, 40)
    with world.log.transaction() as tx:
        tx.delete(NUMBERS.table, (3,))
        tx.put(NUMBERS.table, (50, "unseen"))
        tx.delete(WORDS.table, ("w1",))
        tx.put(WORDS.table, ("W2", "in other letters"))
    world.log.purge(world.log.end()[0])
    world.writes.exempt |= {str(table.table) for table in (NUMBERS, WORDS, VISITS)}


def on(world: World, rounds: int = 40) -> None:
    """The daemon goes on; nothing is LIVE before it is right."""
    for _ in range(rounds):
        world.round()
        world.clock.now += 4.0
        if world.runner.next is not None:
            world.restart()
        source = world.state.source()
        with world.calm():
            for record in world.records():
                there = world.log.find(record.table) is not None and source is not None and source.epoch > 1
                if there and record.phase is Phase.LIVE:
                    copy, rows = world.copy(record.sink, record.table), world.log.rows(record.table)
                    assert sorted(copy, key=repr) == sorted(rows, key=repr), record
        if world._still() and not world.state.repairs() and not world.state.lost():
            return
    raise AssertionError(f"{world.records()}, {world.state.repairs()}")


@pytest.mark.parametrize(
    ("point", "times"),
    [
        ("", 0),
        ("snapshot.relocated", 1),
        ("snapshot.added", 1),
        ("repair.asked", 1),
        ("repair.asked", 3),
        ("repair.compared", 2),
    ],
)
def test_the_copies_are_mended_before_they_are_live(whole: World, point: str, times: int) -> None:
    """Wherever a process dies on the way, or the whole daemon."""
    world = whole
    lose(world)
    records = {(record.sink, record.table.name): record for record in world.records()}
    assert world.copy("arrival", NUMBERS.table) != world.log.rows(NUMBERS.table)
    before = world.state.source()
    if point:
        world.orders.pending[point] = times, "die"
    world.restart()
    on(world)
    assert point not in world.orders.pending
    after = world.state.source()
    assert before is not None
    assert after is not None
    assert (after.epoch, after.seq > before.seq) == (before.epoch + 1, True)
    for record in world.records():
        old = records[record.sink, record.table.name]
        anew = record.table == VISITS.table
        assert (record.phase, record.reason, record.epoch > old.epoch) == (Phase.LIVE, "", anew)
    write(world, 5, 80)
    world.settle()
    world.assert_equal()


def test_tables_that_came_went_and_changed_in_the_lost_part(whole: World) -> None:
    world = whole
    lose(world)
    world.log.add_column(WORDS.table, Column("n", pa.int64(), True, "bigint"))
    world.log.drop(VISITS.table)
    world.log.create(LATER)
    with world.log.transaction() as tx:
        tx.put(LATER.table, (1, "new"))
    world.log.purge(world.log.end()[0])
    world.restart()
    on(world)
    assert "it went in a part of the log that is lost" in world.state.halts()[VISITS.table].reason
    assert {r.table.name for r in world.records() if r.phase is Phase.LIVE} >= {"numbers", "words", "later"}


def test_a_table_that_is_to_be_loaded_anew_and_one_that_leaves(whole: World) -> None:
    """At the same time; nothing of them is to be mended."""
    world = whole
    lose(world)
    wish(
        world,
        lambda before: before,
        world.state.resync_item(WORDS.table, wanted=True) | world.state.lost_item(wanted=True),
    )
    edit(world, JOB.replace('"shop.*": {{', '"shop.numbers": {{keyless: append}}, "shop.words": {{'))
    epoch = max(record.epoch for record in world.records())
    world.restart()
    assert {table for _, table in world.state.repairs()} == {NUMBERS.table}
    until(world, 4)
    assert {r.table.name: r.epoch > epoch for r in world.records()} == {"numbers": False, "words": True}
    for sink, table in {(record.sink, record.table) for record in world.records()}:
        assert world.copy(sink, table) == world.log.rows(table)


def test_a_table_that_stands_still_waits_and_holds_up_no_other(whole: World) -> None:
    """Until the lanes have applied what was published, what is there cannot be compared."""
    world = whole
    part = paused_part(str(NUMBERS.table), "arrival")
    wish(world, lambda before: replace(before, paused=(part,)))
    lose(world)
    world.restart()
    for _ in range(20):
        world.round()
        world.clock.now += 4.0
        if world.runner.next is not None:
            world.restart()
    assert [*world.state.repairs()] == [("arrival", NUMBERS.table)]
    live = {(record.sink, record.table): record.phase is Phase.LIVE for record in world.records()}
    assert [place for place, is_live in live.items() if not is_live] == [("arrival", NUMBERS.table)]
    waits = world.state.waits()
    assert waits["repair: shop.numbers at arrival"].reason == "it is paused"
    wish(world, lambda before: replace(before, paused=()))
    on(world)
    world.assert_equal()
    assert all(record.phase in DELIVERED for record in world.records())


def test_a_table_whose_comparison_crashes_halts_alone(whole: World) -> None:
    world = whole
    lose(world)
    world.restart()
    for _ in range(12):
        world.round()
        if world.runner.next is not None:
            world.restart()
        if "repair" in world.runner.workers() and not world.state.resyncs():
            break
    slot = world.runner._supervisor.slots["repair"]
    world.runner._fatal(slot, FatalError("it died 3 times", table=str(NUMBERS.table)))
    for _ in range(20):
        world.round()
        world.clock.now += 4.0
        if world.runner.next is not None:
            world.restart()
    halted = [(r.sink, r.table, r.resume) for r in world.records() if r.phase is Phase.HALTED]
    assert halted == [("arrival", NUMBERS.table, Phase.CATCH_UP)]
    assert [*world.state.repairs()] == [("arrival", NUMBERS.table)]
    assert world.copy("versioned", NUMBERS.table) == world.log.rows(NUMBERS.table)


@pytest.mark.parametrize("policy", ["resnapshot", "reconcile-repair"])
def test_no_policy_goes_on_with_a_server_that_may_be_a_strangers(
    whole: World, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """It is no lost position: the job halts, and nothing is published, loaded or compared."""
    world = whole
    edit(world, JOB.replace("reconcile-repair", policy))

    def identity(*_: object) -> str:
        raise FatalError("the saved position is of another server, and no GTIDs are known", code="E177")

    monkeypatch.setattr(engine_world.ModelSource, "identity", identity)
    before, copy = world.records(), world.copy("arrival", NUMBERS.table)
    world.log.fail_over()
    write(world, 9, 60)
    world.restart()
    for _ in range(6):
        world.runner.step()
        world.work("")
    assert world.runner.failed is not None
    assert world.runner.failed.code == "E177"
    assert (world.runner.next, world.state.lost(), world.state.anew(), world.state.repairs()) == (
        None,
        False,
        False,
        {},
    )
    assert (world.records(), world.copy("arrival", NUMBERS.table)) == (before, copy)
