"""A sink that was put back from a copy goes on from its own marks, or halts by name (1, 2)."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from syncd.engine.opening import Opening
from syncd.model import Lane, TableSchema
from syncd.mq.embedded import EmbeddedQueue
from syncd.spi import Ticket
from syncd.state import Phase, State
from tests.unit.engine.script import NUMBERS, VISITS
from tests.unit.engine.world import World, engine_in

GROUP = "model/arrival"


def changes(world: World, text: str) -> None:
    """One message and more in each lane of NUMBERS; new rows in VISITS."""
    for key in range(8):
        with world.log.transaction() as tx:
            tx.put(NUMBERS.table, (key, text))
            tx.put(VISITS.table, (key, text))
        world.work("capture")
    with world.log.transaction() as tx:
        tx.delete(NUMBERS.table, (3,))


def loaded(world: World) -> None:
    for schema in (NUMBERS, VISITS):
        world.log.create(schema)
    changes(world, "loaded")
    world.settle()


def halted(world: World, rounds: int = 6) -> dict[str, str]:
    """Table -> why it has halted at the arrival sink."""
    for _ in range(rounds):
        world.round()
        world.clock.now += 4.0
    return {str(r.table): r.reason for r in world.records() if (r.phase, r.sink) == (Phase.HALTED, "arrival")}


def resumed(world: World) -> None:
    """As `syncd jobs resume` does it."""
    lease = world.queue.acquire("job/model/wish", "someone", 10.0)
    assert lease is not None
    for r in world.records():
        if r.resume is not None:
            world.queue.put(lease, world.state.table_item(replace(r, phase=r.resume, resume=None, reason="")))
    world.queue.release(lease)


def marks(world: World) -> dict[Lane, int]:
    sink = world.parts.make_sink("arrival")
    sink.open()
    found = {lane: mark.offset for lane, mark in sink.marks(GROUP).items() if lane.queue >= 0}
    sink.close()
    return found


def committed(world: World) -> dict[Lane, int]:
    return {lane: start for lane, (start, _) in world.queue.lanes(GROUP).items()}


@pytest.mark.parametrize("how", ["restarted", "written to", "at rest"])
def test_it_goes_on_from_its_own_marks(how: str, tmp_path: Path) -> None:
    with engine_in(tmp_path / "world") as world:
        loaded(world)
        for text in ("kept", "lost", "lost, too"):
            changes(world, text)
            if text == "lost, too":
                world.log.truncate(NUMBERS.table)
                changes(world, "after")
            world.settle()
            if text == "kept":
                world.keep()
        assert world.kept
        world.put_back()
        if how == "restarted":
            world.restart()
        if how == "written to":
            changes(world, "newest")
        world.settle()
        world.assert_equal()
        assert marks(world) == committed(world)


def test_without_a_look_at_the_marks_changes_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above stands on."""
    monkeypatch.setattr(Opening, "_go_on", lambda *_: None)
    with engine_in(tmp_path / "world") as world:
        loaded(world)
        world.keep()
        changes(world, "lost")
        world.settle()
        world.put_back()
        world.restart()
        world.settle()
        with pytest.raises(AssertionError, match=r"shop\.\w+ at arrival"):
            world.assert_equal()


def test_what_the_queue_has_given_up_halts_the_table(tmp_path: Path) -> None:
    with engine_in(tmp_path / "world") as world:
        loaded(world)
        world.keep()
        for text in ("first", "second"):
            changes(world, text)
            world.settle()
        assert isinstance(world.queue, EmbeddedQueue)
        world.queue._trim(keep=False)
        world.put_back()
        world.restart()
        for _ in range(2):  # also when it is resumed
            found = halted(world)
            assert set(found) == {"shop.numbers", "shop.visits"}
            assert all("at arrival was put back from a copy" in why and "[E156]" in why for why in found.values())
            assert "the queue holds it from" in found["shop.numbers"]
            resumed(world)
        assert world.copy("versioned", NUMBERS.table) == world.log.rows(NUMBERS.table)


@pytest.mark.parametrize("schema", [NUMBERS, VISITS], ids=["keyed", "keyless"])
@pytest.mark.parametrize("point", ["snapshot.chunk_part", "snapshot.handed_over"])
@pytest.mark.parametrize("noticed", [True, False])
def test_what_a_load_has_lost_is_loaded_again(
    schema: TableSchema, point: str, noticed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not noticed:
        monkeypatch.setattr(Opening, "_lost_chunks", lambda *_: [])
        monkeypatch.setattr(Ticket, "check_behind", lambda *_: None)
    with engine_in(tmp_path / "world") as world:
        world.log.create(schema)
        with world.log.transaction() as tx:
            for key in range(30):
                tx.put(schema.table, (key, "loaded"))
        with world.log.transaction() as tx:  # the head lags by one, and what is behind it comes from the log
            tx.put(schema.table, (0, "changed"))

        def taken() -> None:
            world.keep()
            world.orders.pending[point] = 3 if point == "snapshot.chunk_part" else 1, world.put_back

        world.orders.pending["snapshot.chunk_part"] = 2, taken
        while world.orders.pending:
            world.round()
        assert world.rest_until
        world.settle()
        if noticed:
            world.assert_equal()
        else:
            with pytest.raises(AssertionError, match=r"shop\.\w+ at arrival"):
                world.assert_equal()


def test_a_copy_of_the_time_before_the_load_halts_the_table(tmp_path: Path) -> None:
    with engine_in(tmp_path / "world") as world:
        loaded(world)
        with closing(sqlite3.connect(world.folder / "arrival.db")) as db, db:
            db.execute("DELETE FROM marks WHERE tag = ?", (str(NUMBERS.table),))
        world.restart()
        found = halted(world)
        assert set(found) == {"shop.numbers"}
        assert "before the table was loaded" in found["shop.numbers"]


def test_a_truncate_of_the_time_before_the_load_leaves_no_mark_behind(tmp_path: Path) -> None:
    """The load has seen it, so that nothing is done at the sink."""
    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, VISITS):
            world.log.create(schema)
        changes(world, "loaded")
        world.orders.pending["source.scan_once"] = 1, lambda: world.log.truncate(VISITS.table)
        while world.orders.pending:
            world.round()
        world.settle()
        world.assert_equal()
        assert {lane.queue for lane in marks(world) if lane.tag == "shop.visits"} == {0, 1, 2}
        assert marks(world) == committed(world)
        world.restart()
        assert halted(world) == {}


def test_a_queue_and_a_sink_that_are_both_put_back(tmp_path: Path) -> None:
    """The sink's marks are of another life of the queue, in which other messages are in front of them."""

    def change(text: str) -> None:
        with world.log.transaction() as tx:
            tx.put(NUMBERS.table, (1, text))

    with engine_in(tmp_path / "world") as world:
        loaded(world)
        data, kept = world.parts.service.data, tmp_path / "kept"
        stopped(world)
        shutil.copytree(data, kept)
        started(world)
        for number in range(3):  # a message each
            change(f"{number}")
            world.settle()
            if not number:
                world.keep()
        stopped(world)
        shutil.rmtree(data)
        shutil.copytree(kept, data)
        world.writes.last.clear()
        started(world)
        world.supervise()
        for number in range(6):  # the three in one message, and more than the sink had
            world.work("capture")
            change(f"later {number}")
        world.settle()
        world.assert_equal()
        world.put_back()
        world.restart()
        found = halted(world)
        assert set(found) == {"shop.numbers"}
        assert "of another life of the queue" in found["shop.numbers"]


def stopped(world: World) -> None:
    world.kill()
    world.queue.close()


def started(world: World) -> None:
    world.queue = world.make_queue()
    world.queue.open()
    world.state = State(world.queue, "model")
    world.restart()
