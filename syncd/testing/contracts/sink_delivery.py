"""Conformance of sinks, part one: changes, repeats, order of arrival, fences, marks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest

from syncd.errors import BatchError, FatalError, FencedError, MovedError
from syncd.model import ChangeBatch, Ddl, Lane, Target
from syncd.spi import Mark, Sink, Ticket
from syncd.testing.contracts.sink_kit import (
    ACT,
    DELETE,
    INSERT,
    ITEMS,
    KEYLESS,
    LANE,
    OWNER,
    READ,
    UPDATE,
    Change,
    Factory,
    Writer,
    batch,
    change,
    gone,
    live,
    rows,
    target,
)


class Delivery:
    """See `sink.SinkContract`."""

    def test_insert_update_delete_and_insert_again(self, sink: Sink, items: Target) -> None:
        writer = Writer(sink, items)
        writer.write((INSERT, 10, (1, "a", 1)), (INSERT, 11, (2, "b", None)))
        writer.write((UPDATE, 12, (1, "aa", None)), (DELETE, 13, (2, "b", None)))
        assert live(sink, items) == {1: ("aa", None)}
        writer.write((INSERT, 14, (2, "again", 3)))
        assert live(sink, items) == {1: ("aa", None), 2: ("again", 3)}

    def test_every_row_of_a_batch(self, sink: Sink, items: Target) -> None:
        Writer(sink, items).write(*((INSERT, 10 + i, (i, f"n{i}", i)) for i in range(5_000)))
        assert live(sink, items) == {i: (f"n{i}", i) for i in range(5_000)}

    def test_several_changes_of_a_key_in_one_batch(self, sink: Sink, items: Target) -> None:
        Writer(sink, items).write(
            (INSERT, 10, (1, "first", 1)),
            (DELETE, 11, (2, "never", 1)),
            (UPDATE, 12, (1, "second", 2)),
            (INSERT, 13, (3, "short", 1)),
            (UPDATE, 14, (1, "last", 3)),
            (DELETE, 15, (3, "short", 1)),
        )
        assert live(sink, items) == {1: ("last", 3)}

    def test_a_delete_needs_the_key_alone(self, sink: Sink, items: Target) -> None:
        writer = Writer(sink, items)
        writer.write((INSERT, 10, (1, "a", 1)), (INSERT, 11, (2, "b", 2)))
        writer.write((DELETE, 12, gone(ITEMS, (1, "a", 1))))
        assert live(sink, items) == {2: ("b", 2)}

    def test_a_key_change_is_a_delete_and_an_upsert(self, sink: Sink, items: Target) -> None:
        """Each half in its own lane, both with the row's seq."""
        Writer(sink, items).write((INSERT, 10, (1, "a", 1)))
        Writer(sink, items, lane=Lane("t", 7)).write((UPDATE, 20, (9, "a", 1)))
        Writer(sink, items, number=1).write((DELETE, 20, gone(ITEMS, (1, "a", 1))))
        assert live(sink, items) == {9: ("a", 1)}

    def test_the_same_write_again_changes_nothing(self, sink: Sink, items: Target) -> None:
        changes: list[Change] = [(INSERT, 10, (1, "a", 1)), (INSERT, 11, (2, "b", 2)), (DELETE, 12, (1, "a", 1))]
        ticket = Writer(sink, items).write(*changes)
        sink.write(items, batch(ITEMS, changes), ticket)
        assert live(sink, items) == {2: ("b", 2)}

    def test_rows_that_are_read_again(self, sink: Sink, items: Target) -> None:
        """REFRESH: READs and DELETEs of one seq, of keys that the sink has or not; once more; then newer changes."""
        writer = Writer(sink, items)
        writer.write((INSERT, 10, (1, "a", 1)), (INSERT, 11, (2, "b", 2)), (DELETE, 12, gone(ITEMS, (3, "", 0))))
        read: list[Change] = [
            (READ, 20, (1, "as it is", None)),
            (DELETE, 20, gone(ITEMS, (2, "", 0))),
            (READ, 20, (3, "is back", 3)),
            (DELETE, 20, gone(ITEMS, (4, "", 0))),
        ]
        ticket = writer.write(*read)
        assert live(sink, items) == {1: ("as it is", None), 3: ("is back", 3)}
        sink.write(items, batch(ITEMS, read), ticket)
        assert live(sink, items) == {1: ("as it is", None), 3: ("is back", 3)}
        writer.write(
            (UPDATE, 21, (1, "newer", 1)), (INSERT, 22, (2, "again", 2)), (DELETE, 23, gone(ITEMS, (3, "", 0)))
        )
        assert live(sink, items) == {1: ("newer", 1), 2: ("again", 2)}

    def test_a_replay_from_an_older_place_ends_where_it_was(self, sink: Sink, items: Target) -> None:
        """A row may step back for a moment, with the borders of batches elsewhere; in the end all is as before."""
        log: list[Change] = [
            (INSERT, 10, (1, "a", 1)),
            (INSERT, 11, (2, "b", 1)),
            (DELETE, 12, (1, "a", 1)),
            (UPDATE, 13, (2, "bb", 2)),
            (INSERT, 14, (1, "new", 3)),
            (DELETE, 15, (2, "bb", 2)),
        ]
        writer = Writer(sink, items)
        writer.write(*log[:4])
        writer.write(*log[4:])
        writer.write(*log[1:3])
        writer.write(*log[3:])
        assert live(sink, items) == {1: ("new", 3)}

    def test_an_older_seq_never_replaces_a_newer_one(self, sink: Sink, items: Target) -> None:
        """Only where rows have versions: whatever the order of arrival."""
        if not sink.traits().versioned:
            pytest.skip("the sink keeps what arrives last")
        writer = Writer(sink, items)
        writer.write((UPDATE, 20, (1, "new", 2)), (DELETE, 21, (2, "b", 1)))
        writer.write((INSERT, 10, (1, "old", 1)), (INSERT, 11, (2, "b", 1)))
        assert live(sink, items) == {1: ("new", 2)}

    def test_what_arrives_last_wins(self, sink: Sink, items: Target) -> None:
        """Only where rows have no versions: a sink that sorted by seq would hide disorder."""
        if sink.traits().versioned:
            pytest.skip("the sink compares versions")
        writer = Writer(sink, items)
        writer.write((UPDATE, 20, (1, "sent first", 2)))
        writer.write((UPDATE, 10, (1, "sent last", 1)))
        assert live(sink, items) == {1: ("sent last", 1)}

    def test_a_late_chunk_changes_nothing(self, sink: Sink, items: Target) -> None:
        """A chunk's writer was frozen over the hand-over, and wakes up when the lanes have passed."""
        chunk = Writer(sink, items, owner=f"{OWNER}/chunk", lane=None)
        chunk.write((READ, 5, (1, "as read", 0)), (READ, 5, (2, "as read", 0)))
        sink.fence(f"{OWNER}/chunk", 2)
        Writer(sink, items).write((UPDATE, 20, (1, "changed", 1)), (DELETE, 21, (2, "as read", 0)))
        _late(chunk, (READ, 5, (1, "as read", 0)), (READ, 5, (2, "as read", 0)))
        assert live(sink, items) == {1: ("changed", 1)}

    def test_a_zombie_changes_nothing(self, sink: Sink, factory: Factory, items: Target) -> None:
        """Guarantee 7: an owner that was frozen, and whose lanes have passed to another instance."""
        zombie = Writer(sink, items, epoch=3)
        zombie.write((INSERT, 10, (1, "a", 1)))
        heir = factory()
        heir.open()
        try:
            heir.fence(OWNER, 4)
            Writer(heir, items, epoch=4, number=5).write((UPDATE, 20, (1, "b", 2)))
            _late(zombie, (UPDATE, 15, (1, "z", 9)))
            assert live(heir, items) == {1: ("b", 2)}
            if sink.traits().transactional:
                assert heir.marks(OWNER)[LANE].offset == 6
            Writer(heir, items, owner="other/sink", epoch=1).write((UPDATE, 21, (1, "c", 3)))
            assert live(heir, items) == {1: ("c", 3)}
        finally:
            heir.close()

    def test_a_transactional_sink_says_that_it_is_fenced(self, sink: Sink, items: Target) -> None:
        if not sink.traits().transactional:
            pytest.skip("the sink has no transactions")
        sink.fence(OWNER, 7)
        with pytest.raises(FencedError):
            Writer(sink, items, epoch=6).write((INSERT, 10, (1, "a", 1)))
        assert live(sink, items) == {}
        assert sink.marks(OWNER) == {}
        Writer(sink, items, epoch=8).write((INSERT, 10, (1, "a", 1)))
        with pytest.raises(FencedError):
            Writer(sink, items, epoch=7).write((INSERT, 11, (2, "a", 1)))

    def test_marks_are_what_the_last_write_said(self, sink: Sink, factory: Factory, items: Target) -> None:
        """A restored queue stands behind them: the engine compares, so that they must come back to the digit."""
        if not sink.traits().transactional:
            assert sink.marks(OWNER) == {}
            return
        other = Lane("a || b", 1023)
        big = Mark(2**62, "queue-ü", {"s": 2**64 - 1, "s/2": 0})
        Writer(sink, items).write((INSERT, 10, (1, "a", 1)))
        sink.write(items, batch(ITEMS, [(INSERT, 11, (2, "b", 1))]), Ticket(OWNER, 1, 2, {other: big}))
        again = factory()
        again.open()
        try:
            assert again.marks(OWNER) == {LANE: Mark(1, "queue-1", {"source": 10}), other: big}
            assert again.marks("job/other") == {}
        finally:
            again.close()

    def test_a_write_goes_on_from_the_marks_that_it_names_or_not_at_all(self, sink: Sink, items: Target) -> None:
        """Guarantee 1: the target was put back from a copy between two writes, and its marks with it."""
        if not sink.traits().transactional:
            pytest.skip("the sink keeps no marks")
        more = Lane("t", 1)
        Writer(sink, items, number=3).write((INSERT, 10, (1, "a", 1)))

        def ticket(offset: int, **behind: int | None) -> Ticket:
            marks = {LANE: Mark(offset, "queue-1", {}), more: Mark(offset, "queue-1", {})}
            return Ticket(OWNER, 1, offset, marks, {LANE: behind["first"], more: behind["second"]})

        truncate = change(Ddl.TRUNCATE, items, 50)
        for wrong in (
            ticket(9, first=5, second=None),
            ticket(9, first=4, second=1),
            ticket(9, first=None, second=None),
        ):
            with pytest.raises(MovedError):
                sink.write(items, batch(ITEMS, [(UPDATE, 20, (1, "lost", 1))]), wrong)
            with pytest.raises(MovedError):
                sink.apply(items, truncate, wrong)
        assert live(sink, items) == {1: ("a", 1)}
        assert sink.marks(OWNER) == {LANE: Mark(4, "queue-1", {"source": 10})}
        right = ticket(9, first=4, second=None)
        for _ in range(2):
            sink.write(items, batch(ITEMS, [(UPDATE, 20, (1, "new", 1))]), right)
        assert live(sink, items) == {1: ("new", 1)}
        sink.write(items, batch(ITEMS, []), ticket(10, first=9, second=9))
        sink.apply(items, truncate, ticket(11, first=10, second=10))
        assert live(sink, items) == {}
        assert {lane: mark.offset for lane, mark in sink.marks(OWNER).items()} == {LANE: 11, more: 11}

    def test_rows_are_there_for_others_when_write_returns(self, sink: Sink, factory: Factory, items: Target) -> None:
        Writer(sink, items).write((INSERT, 10, (1, "a", 1)))
        other = factory()
        other.open()
        try:
            assert live(other, items) == {1: ("a", 1)}
        finally:
            other.close()

    def test_rows_and_marks_outlive_a_kill(self, factory: Factory) -> None:
        """Guarantee 1: SIGKILL right after `write` has returned."""
        child = multiprocessing.get_context("spawn").Process(target=write_and_die, args=(factory,))
        child.start()
        child.join(120)
        assert child.exitcode == -signal.SIGKILL
        sink = factory()
        sink.open()
        try:
            assert live(sink, target()) == {i: (f"n{i}", i) for i in range(100)}
            if sink.traits().transactional:
                assert sink.marks(OWNER)[LANE] == Mark(1, "queue-1", {"source": 109})
        finally:
            sink.close()

    def test_refused_rows_are_named_and_the_others_written(self, sink: Sink, items: Target) -> None:
        refused, bad = self.refused(sink)
        with pytest.raises(BatchError) as caught:
            sink.write(items, refused, Ticket(OWNER, 1, 1, {LANE: Mark(4, "queue-1", {"source": 99})}))
        assert set(caught.value.rows) == bad
        assert all(caught.value.rows.values())
        ids = refused.rows.column("id").to_pylist()
        assert set(live(sink, items)) == {key for i, key in enumerate(ids) if i not in bad}
        assert LANE not in sink.marks(OWNER)  # a mark must not pass a row that nobody has kept

    def test_a_refused_row_of_an_append_target_keeps_the_others_out(self, sink: Sink) -> None:
        """Nothing would tell them from themselves when they come again, with or without it."""
        log = self.prepared(sink, target(KEYLESS, append=True, deletes="ignore"))
        refused, bad = self.refused(sink)
        keyless = replace(refused, schema=KEYLESS)
        with pytest.raises(BatchError) as caught:
            sink.write(log, keyless, Ticket(OWNER, 1, 1, {LANE: Mark(4, "queue-1", {"source": 99})}))
        assert set(caught.value.rows) == bad
        assert rows(sink, log) == []
        good = keyless.take(np.array([i for i in range(len(keyless)) if i not in bad]))
        sink.write(log, good, Ticket(OWNER, 1, 2, {LANE: Mark(4, "queue-1", {"source": 99})}))
        assert len(rows(sink, log)) == len(good)

    def test_deletes_ignored(self, sink: Sink) -> None:
        kept = self.prepared(sink, target(deletes="ignore"))
        Writer(sink, kept).write((INSERT, 10, (1, "a", 1)), (DELETE, 11, (1, "a", 1)), (INSERT, 12, (2, "b", 1)))
        assert live(sink, kept) == {1: ("a", 1), 2: ("b", 1)}

    def test_deletes_that_mark_the_row(self, sink: Sink) -> None:
        """A row marked as deleted is not live; inserted again, it is."""
        soft = self.prepared(sink, target(deletes="soft"))
        writer = Writer(sink, soft)
        writer.write((INSERT, 10, (1, "a", 1)), (INSERT, 11, (2, "b", 1)), (DELETE, 12, (1, "a", 1)))
        assert live(sink, soft) == {2: ("b", 1)}
        writer.write((INSERT, 13, (1, "back", 1)))
        assert live(sink, soft) == {1: ("back", 1), 2: ("b", 1)}

    def test_appended_rows_come_once_per_call(self, sink: Sink) -> None:
        """Equal rows of two calls are two rows; a repeated call adds none."""
        log = self.prepared(sink, target(KEYLESS, append=True, deletes="ignore"))
        changes: list[Change] = [(INSERT, 10, (1, "a", 1)), (INSERT, 11, (1, "a", 1))]
        writer = Writer(sink, log)
        first = writer.write(*changes)
        sink.write(log, batch(KEYLESS, changes), first)
        writer.write((INSERT, 12, (1, "a", 1)))
        sink.write(log, batch(KEYLESS, changes), first)
        assert rows(sink, log) == [(1, "a", 1)] * 3

    def test_appended_chunks_come_once_per_call(self, sink: Sink) -> None:
        log = self.prepared(sink, target(KEYLESS, append=True, deletes="ignore"))
        chunk = Writer(sink, log, owner=f"{OWNER}/chunk", lane=None)
        alike: list[Change] = [(READ, 5, (1, "a", 1))] * 3
        ticket = chunk.write(*alike)
        chunk.write(*alike)
        sink.write(log, batch(KEYLESS, alike), ticket)
        assert rows(sink, log) == [(1, "a", 1)] * 6

    @pytest.mark.parametrize("deletes", ["apply", "ignore"])
    def test_a_load_of_appended_rows_that_is_begun_again(self, sink: Sink, factory: Factory, deletes: str) -> None:
        """Guarantee 7: what an earlier attempt wrote goes, and its writer, frozen meanwhile, adds nothing more."""
        log = self.prepared(sink, target(KEYLESS, append=True, deletes=deletes))
        emptied, owner = replace(log, deletes="apply"), f"{OWNER}/chunk"
        zombie = factory()
        zombie.open()
        try:
            late = Writer(zombie, log, owner=owner, epoch=2, lane=None)
            for writer in (late, Writer(sink, log, owner=owner, epoch=3, lane=None)):
                writer.sink.fence(owner, writer.epoch)
                writer.sink.apply(emptied, change(Ddl.TRUNCATE, emptied, writer.epoch), ACT)
                assert rows(sink, log) == []
                alike: Change = (READ, writer.epoch, (writer.epoch, "a", 1))
                writer.write(alike, alike)
            with pytest.raises((FencedError, FatalError)):
                late.write((READ, 2, (2, "late", 1)))
            Writer(sink, log).write((INSERT, 100, (9, "from the log", 1)))
            assert sorted(rows(sink, log)) == [(3, "a", 1), (3, "a", 1), (9, "from the log", 1)]
        finally:
            zombie.close()

    def test_lanes_write_at_the_same_time(self, factory: Factory, sink: Sink, items: Target) -> None:
        """One instance and one thread per lane."""
        failures: list[BaseException] = []

        def lane(number: int) -> None:
            own = factory()
            try:
                own.open()
                writer = Writer(own, items, lane=Lane("t", number), owner=f"{OWNER}/{number}")
                for i in range(5):
                    writer.write(*((INSERT, 10 + i, (number * 1000 + i * 10 + k, "x", k)) for k in range(10)))
            except BaseException as error:
                failures.append(error)
                raise
            finally:
                own.close()

        threads = [threading.Thread(target=lane, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failures
        assert len(live(sink, items)) == 150

    def test_a_table_that_is_not_there_is_named(self, sink: Sink) -> None:
        absent = Target(ITEMS, "shop", "nowhere")
        with pytest.raises(FatalError) as caught:
            Writer(sink, absent).write((INSERT, 10, (1, "a", 1)))
        assert caught.value.table == "shop.items"

    def refused(self, sink: Sink) -> tuple[ChangeBatch, set[int]]:
        raise NotImplementedError

    def prepared(self, sink: Sink, of: Target) -> Target:
        sink.prepare(of)
        return of


def _late(writer: Writer, *changes: Change) -> None:
    """A write that comes too late: refused, or without effect."""
    try:
        writer.write(*changes)
    except FencedError:
        return
    assert not writer.sink.traits().transactional, "a transactional sink refuses an epoch that is over"


def write_and_die(factory: Factory) -> None:
    """Runs in a process of its own."""
    sink = factory()
    sink.open()
    sink.prepare(target())
    Writer(sink, target()).write(*((INSERT, 10 + i, (i, f"n{i}", i)) for i in range(100)))
    os.kill(os.getpid(), signal.SIGKILL)
