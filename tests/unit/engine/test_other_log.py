"""Another server goes on in the source's place, and a queue that is older than its sink."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import cast

import pytest

from syncd.engine.capture import Capture
from syncd.engine.process import Link
from syncd.engine.snapshot import Reader
from syncd.errors import TransientError
from syncd.spi import Lease
from syncd.state import Phase, State
from tests.unit.engine.script import NUMBERS, VISITS
from tests.unit.engine.world import ModelLink, World, engine_in


def changes(world: World, text: str) -> None:
    """Of each kind, under keys that are there."""
    with world.log.transaction() as tx:
        tx.put(NUMBERS.table, (1, text))
        tx.put(VISITS.table, (7, text))
    with world.log.transaction() as tx:
        tx.delete(NUMBERS.table, (2,))
        tx.put(NUMBERS.table, (9, text))
        tx.change(NUMBERS.table, (9,), (2, text))


def begun(world: World) -> None:
    for schema in (NUMBERS, VISITS):
        world.log.create(schema)
    for key in range(12):
        with world.log.transaction() as tx:
            tx.put(NUMBERS.table, (key, "first"))
    with world.log.transaction() as tx:
        tx.delete(NUMBERS.table, (9,))
    world.settle()


def gone_on(world: World) -> None:
    """Everything up to now is copied; another log has what follows, at places that begin anew."""
    world.log.purge(world.log.end()[0])
    world.log.fail_over()
    changes(world, "second")


def test_the_epoch_is_raised_and_saved_before_anything_of_another_log_is_published(tmp_path: Path) -> None:
    with engine_in(tmp_path / "world") as world:
        begun(world)
        gone_on(world)
        world.orders.pending["capture.epoch_raised"] = 1, "die"
        for _ in range(6):
            world.round()
        assert world.orders.pending == {}
        world.settle()
        world.assert_equal()
        source = world.state.source()
        assert source is not None
        assert (source.epoch, source.log) == (2, "log 1")
        changes(world, "third")
        world.settle()
        world.assert_equal()
        source = world.state.source()
        assert source is not None
        assert source.epoch == 2


def test_without_a_larger_epoch_the_changes_of_another_log_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above stands on: places that begin anew make seqs that are too small."""
    monkeypatch.setattr(Capture, "_in_this_log", lambda self, record: record)
    with engine_in(tmp_path / "world") as world:
        begun(world)
        gone_on(world)
        world.settle()
        with pytest.raises(AssertionError, match=r"shop\.numbers at"):
            world.assert_equal()


def test_a_chunk_is_read_where_capture_reads(tmp_path: Path) -> None:
    """Another server may be behind the table's head, and what is missing there would be in no lane."""
    with engine_in(tmp_path / "world") as world:
        begun(world)
        gone_on(world)
        link, source = ModelLink(world.clock), world.make_source()
        source.open()
        reader = Reader(world.parts, world.queue, source, Lease("", "", 1, 1.0), cast(Link, link))
        with pytest.raises(TransientError, match="log 1 answers now, and capture has not seen it yet"):
            reader._in_this_log()
        world.round()
        reader._in_this_log()
        source.close()
        reader._in_this_log()  # until a fault: then the source is opened anew, and may lead elsewhere


def test_a_sink_that_is_ahead_of_its_queue_halts_the_table(tmp_path: Path) -> None:
    """The queue was restored: what the sink's marks say of it may be of messages that it never had."""
    with engine_in(tmp_path / "world") as world:
        begun(world)
        data, kept = world.parts.service.data, tmp_path / "kept"
        world.kill()
        world.queue.close()
        shutil.copytree(data, kept)
        _reopen(world)
        for number in range(6):  # one message each
            with world.log.transaction() as tx:
                tx.put(NUMBERS.table, (1, f"{number}"))
            world.settle()
        world.kill()
        world.queue.close()
        shutil.rmtree(data)
        shutil.copytree(kept, data)
        world.writes.last.clear()
        _reopen(world)  # the same changes again, in fewer messages
        for _ in range(20):
            world.round()
        (halted,) = [record for record in world.records() if record.phase is Phase.HALTED]
        assert (halted.sink, halted.table) == ("arrival", NUMBERS.table)
        assert "[E156]" in halted.reason
        assert "the queue was restored or replaced" in halted.reason
        assert world.copy("versioned", NUMBERS.table) == world.log.rows(NUMBERS.table)


def _reopen(world: World) -> None:
    world.queue = world.make_queue()
    world.queue.open()
    world.state = State(world.queue, "model")
    world.restart()
