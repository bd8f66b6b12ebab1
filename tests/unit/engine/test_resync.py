"""A job that is loaded anew into targets that remember its earlier life, from a log whose places begin anew."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from syncd.state import Phase, TableRecord
from syncd.testing.source_log import Log
from tests.unit.engine.script import NUMBERS, VISITS
from tests.unit.engine.world import SINKS, World, engine_in


def filled(log: Log, start: int, rows: int) -> None:
    for schema in (NUMBERS, VISITS):
        log.create(schema)
    for key in range(start, start + rows):
        with log.transaction() as tx:
            for schema in (NUMBERS, VISITS):
                tx.put(schema.table, (key, f"{start}"))


def first_life(world: World) -> None:
    """Loaded, changed, truncated: the targets have rows, tombstones, floors, marks and fences of it."""
    filled(world.log, 100, 12)
    world.settle()
    with world.log.transaction() as tx:
        tx.delete(NUMBERS.table, (101,))
    world.log.truncate(NUMBERS.table)
    with world.log.transaction() as tx:
        tx.put(NUMBERS.table, (3, "old"))
    world.settle()


def reset(world: World) -> None:
    """The source's log begins anew, with other rows under some of the same keys, and fewer of them."""
    world.log.close()
    for file in world.folder.glob("source.db*"):
        file.unlink()
    world.log = Log(world.folder / "source.db")
    filled(world.log, 1, 4)


def forget(world: World) -> None:
    """As `syncd jobs forget` does it."""
    world.kill()
    lease = world.queue.acquire("job/model/wish", "someone", 10.0)
    assert lease is not None
    for sink in SINKS:
        world.queue.unsubscribe(world.parts.group(sink))
    world.queue.put(lease, world.state.forget_items())
    world.queue.release(lease)
    world.writes.last.clear()


def empty(world: World, *parts: str) -> None:
    """By hand, at both sinks: "rows", "marks", "fences"."""
    for sink in SINKS:
        with closing(sqlite3.connect(world.folder / f"{sink}.db")) as db, db:
            for part in parts:
                db.execute(f"DELETE FROM {part}")


def drop(world: World, sink: str, table: str) -> None:
    """By hand."""
    with closing(sqlite3.connect(world.folder / f"{sink}.db")) as db, db:
        for part in ("rows", "tables"):
            db.execute(f"DELETE FROM {part} WHERE name = ?", (table,))


def halted(world: World) -> dict[tuple[str, str], str]:
    for _ in range(30):
        world.round()
        world.clock.now += 4.0
    return {(r.sink, str(r.table)): r.reason for r in world.records() if r.phase is Phase.HALTED}


def resumed(world: World) -> None:
    """As `syncd jobs resume` does it."""
    lease = world.queue.acquire("job/model/wish", "someone", 10.0)
    assert lease is not None
    for r in world.records():
        if r.phase is Phase.HALTED and r.resume is not None:
            again = TableRecord(r.table, r.sink, r.resume, r.head, r.epoch, newest=r.newest)
            world.queue.put(lease, world.state.table_item(again))
    world.queue.release(lease)


def test_a_resync_into_emptied_targets_loses_no_row(tmp_path: Path) -> None:
    """Also where the new log's places are smaller than those of the rows that were there, and of a TRUNCATE."""
    with engine_in(tmp_path / "world") as world:
        first_life(world)
        for life in (2, 3):
            forget(world)
            assert (world.state.meta(), world.state.forgotten().seqs) == (None, life - 1)
            reset(world)
            empty(world, "rows")
            world.restart()
            world.settle()
            world.assert_equal()
            with world.log.transaction() as tx:
                tx.put(NUMBERS.table, (3, "newer"))
                tx.delete(NUMBERS.table, (1,))
                tx.put(VISITS.table, (9, "later"))
            world.settle()
            world.assert_equal()
            assert world.state.forgotten().tables < min(r.epoch for r in world.records())


@pytest.mark.parametrize("emptied", [False, True])
def test_a_new_data_directory_finds_targets_that_would_hide_its_rows(tmp_path: Path, *, emptied: bool) -> None:
    with engine_in(tmp_path / "world") as world:
        first_life(world)
        world.kill()
        reset(world)
        empty(world, *("rows", "marks", "fences")[not emptied :])
        world.queue.close()
        shutil.rmtree(world.parts.service.data)
        world.queue = world.make_queue()
        world.queue.open()
        world.state = type(world.state)(world.queue, "model")
        world.writes.last.clear()
        world.restart()
        found = halted(world)
        numbers = {sink for (sink, table), _ in found.items() if table == str(NUMBERS.table)}
        assert numbers == ({"versioned"} if emptied else {*SINKS}), found
        assert all("[E192]" in reason and "drop the t" in reason for reason in found.values())
        for place in found:
            drop(world, *place)
        resumed(world)
        world.settle()
        world.assert_equal()
