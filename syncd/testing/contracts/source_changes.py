"""Conformance of sources, part two: the stream."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from syncd.errors import TransientError
from syncd.model import ChangeBatch, Checkpoint, Ddl, Op, SchemaChange
from syncd.testing.contracts.source_kit import (
    EPOCH,
    ITEMS,
    PATIENCE,
    WORDS,
    Bench,
    Factory,
    Read,
    applied,
    between,
    own,
)


class Changes:
    """See `source.SourceContract`."""

    def test_inserts_updates_and_deletes(self, bench: Bench) -> None:
        known, head = bench.schemas(ITEMS), bench.source.head(EPOCH)
        with bench.hands.transaction() as tx:
            tx.put(ITEMS, (1, "a", None))
            tx.put(ITEMS, (2, None, 5))
            tx.change(ITEMS, (1,), (1, "b", 7))
            tx.delete(ITEMS, (2,))
        read = bench.read(head.position, known)
        assert [(op, row) for op, _, row in read.changes(ITEMS)] == [
            (Op.INSERT, (1, "a", None)),
            (Op.INSERT, (2, None, 5)),
            (Op.UPDATE, (1, "b", 7)),
            (Op.DELETE, (2, None, 5)),
        ]
        updates = [b for b in read.batches(ITEMS) if (b.op == Op.UPDATE).any()]
        assert updates
        assert updates[0].before is not None
        at = updates[0].op.tolist().index(Op.UPDATE)
        assert updates[0].before.column("id")[at].as_py() == 1

    def test_updates_carry_the_old_values_that_are_asked_for(self, bench: Bench) -> None:
        known, head = bench.schemas(ITEMS), bench.source.head(EPOCH)
        other = bench.schema(ITEMS).columns[1].name
        bench.put(ITEMS, (1, "old", None), (2, None, None))
        bench.put(ITEMS, (1, "new", None), (2, "new", None))
        read = bench.read(head.position, known, before=lambda table: (other,))
        old = [row for batch in read.batches(ITEMS) if batch.before is not None for row in batch.before.to_pylist()]
        assert [row.get(other, "absent") for row in old if row["id"] is not None] == ["old", None]

    def test_the_last_row_of_a_transaction_is_there(self, bench: Bench) -> None:
        known, head = bench.schemas(ITEMS), bench.source.head(EPOCH)
        for number in range(1, 5):
            bench.put(ITEMS, *((number * 10 + i, "x", i) for i in range(number)))
        ids = [row[0] for _, _, row in bench.read(head.position, known).changes(ITEMS)]
        assert ids == [10, 20, 21, 30, 31, 32, 40, 41, 42, 43]

    def test_key_changes_and_a_swap(self, bench: Bench) -> None:
        known, head = bench.schemas(ITEMS), bench.source.head(EPOCH)
        bench.put(ITEMS, (1, "one", None), (2, "two", None), (3, "three", None))
        with bench.hands.transaction() as tx:
            tx.change(ITEMS, (1,), (-1, "one", None))
            tx.change(ITEMS, (2,), (1, "two", None))
            tx.change(ITEMS, (-1,), (2, "one", None))
            tx.change(ITEMS, (3,), (30, "three", 3))
        read = bench.read(head.position, known)
        assert applied(read, ITEMS) == {1: (1, "two", None), 2: (2, "one", None), 30: (30, "three", 3)}

    def test_keys_that_the_source_takes_for_the_same(self, bench: Bench) -> None:
        known, head = bench.schemas(WORDS), bench.source.head(EPOCH)
        bench.put(WORDS, ("Apple", 1))
        with bench.hands.transaction() as tx:
            tx.change(WORDS, ("apple",), ("APPLE", 2))
            tx.put(WORDS, ("pear", 3))
            tx.delete(WORDS, ("PEAR",))
        read = bench.read(head.position, known)
        assert list(applied(read, WORDS).values()) == [("APPLE", 2)]

    def test_seqs_ascend_and_keep_to_their_checkpoints(self, bench: Bench) -> None:
        known, head = bench.schemas(ITEMS, WORDS), bench.source.head(EPOCH)
        self._mixture(bench)
        read = bench.read(head.position, known)
        for changes in read.all_changes().values():
            seqs = [seq for _, seq, _ in changes]
            assert all(a < b for a, b in pairwise(seqs)), "seqs of a table ascend"
            assert head.seq < seqs[0]
            assert {seq >> 56 for seq in seqs} == {EPOCH}
        below = head.seq
        for event in read.events:
            if isinstance(event, Checkpoint):
                assert event.seq >= below
                below = event.seq
            elif isinstance(event, ChangeBatch):
                assert (event.seq > below).all(), "a row behind a checkpoint has a larger seq than it"
        for checkpoint in read.checkpoints():
            before = read.events[: read.events.index(checkpoint)]
            assert all((b.seq <= checkpoint.seq).all() for b in before if isinstance(b, ChangeBatch))

    def test_from_each_checkpoint_exactly_the_rest_comes_with_the_same_seqs(self, bench: Bench) -> None:
        """Guarantees 2 and 4."""
        known, head = bench.schemas(ITEMS, WORDS), bench.source.head(EPOCH)
        read = Read()
        with bench.streaming(head.position, known, bench.wanted(ITEMS, WORDS)) as events:
            for part in range(3):
                self._mixture(bench, part)
                bench.until(events, bench.mark(), read)
        checkpoints = read.checkpoints()
        assert len(checkpoints) >= 3
        for checkpoint in checkpoints[:-1][:: max(1, len(checkpoints) // 8)]:
            again = bench.read(checkpoint.position, known, mark=bench.marks)
            rest = {name: part for name, part in read.behind(checkpoint).all_changes().items() if part}
            assert again.all_changes() == rest

    def test_a_step_back_reads_the_same_again(self, bench: Bench) -> None:
        """By an instance that has read on, over statements: they come again, and each row has its time's columns."""
        known, head = bench.schemas(ITEMS, WORDS), bench.source.head(EPOCH)
        self._mixture(bench)
        bench.hands.truncate(ITEMS)
        bench.hands.add_column(ITEMS)
        bench.put(ITEMS, (1, "new", None, 9))
        mark = bench.mark()
        first = bench.read(head.position, known, mark=mark)
        assert [change.kind for change in first.statements(ITEMS)] == [Ddl.TRUNCATE, Ddl.ALTER]
        again = bench.read(head.position, known, mark=mark)
        assert again.all_changes() == first.all_changes()
        assert again.statements(ITEMS) == first.statements(ITEMS)
        self._parted(again, again.statements(ITEMS)[-1])

    def test_the_same_from_the_head_again(self, bench: Bench) -> None:
        known, head = bench.schemas(ITEMS, WORDS), bench.source.head(EPOCH)
        self._mixture(bench)
        mark = bench.mark()
        first = bench.read(head.position, known, mark=mark)
        assert bench.read(head.position, known, mark=mark).all_changes() == first.all_changes()

    def test_what_was_streamed_is_what_a_scan_sees(self, bench: Bench) -> None:
        known, head = bench.schemas(ITEMS, WORDS), bench.source.head(EPOCH)
        self._mixture(bench)
        read = bench.read(head.position, known)
        for name in (ITEMS, WORDS):
            assert sorted(applied(read, name).values()) == sorted(bench.rows(name))

    def test_an_added_column(self, bench: Bench) -> None:
        known, head = bench.schemas(ITEMS), bench.source.head(EPOCH)
        bench.put(ITEMS, (1, "old", None))
        bench.hands.add_column(ITEMS)
        bench.put(ITEMS, (2, "new", None, 9))
        with bench.hands.transaction() as tx:
            tx.change(ITEMS, (1,), (1, "changed", None, 7))
        read = bench.read(head.position, known)
        change = read.statement(ITEMS)
        assert change.kind is Ddl.ALTER
        assert own(change.schema) == ["id", "name", "qty", "added"]
        added = change.schema.column("added")
        assert (added.nullable, added.default) == (False, "7")
        assert "DEFAULT 7" not in change.statement  # a value may be one that the job masks
        assert [row for _, _, row in read.changes(ITEMS)] == [
            (1, "old", None),
            (2, "new", None, 9),
            (1, "changed", None, 7),
        ]
        self._parted(read, change)

    def test_a_truncate(self, bench: Bench) -> None:
        known, head = bench.schemas(ITEMS), bench.source.head(EPOCH)
        bench.put(ITEMS, (1, "old", None))
        bench.hands.truncate(ITEMS)
        bench.put(ITEMS, (1, "new", None))
        read = bench.read(head.position, known)
        change = read.statement(ITEMS)
        assert change.kind is Ddl.TRUNCATE
        assert [row[1] for _, _, row in read.changes(ITEMS)] == ["old", "new"]
        self._parted(read, change)

    def test_a_created_table(self, bench: Bench) -> None:
        known, head = bench.schemas(ITEMS), bench.source.head(EPOCH)
        bench.hands.create("fresh")
        bench.put("fresh", (1, "first", None))
        read = bench.read(head.position, known, ITEMS, "fresh")
        change = read.statement("fresh")
        assert change.kind is Ddl.CREATE
        assert change.schema.key == ("id",)
        assert [(op, row) for op, _, row in read.changes("fresh")] == [(Op.INSERT, (1, "first", None))]
        self._parted(read, change)

    def test_a_dropped_table_stops_no_other(self, bench: Bench) -> None:
        bench.hands.create("doomed")
        known, head = bench.schemas(ITEMS, "doomed"), bench.source.head(EPOCH)
        bench.put("doomed", (1, "a", None))
        bench.hands.drop("doomed")
        bench.put(ITEMS, (1, "b", None))
        read = bench.read(head.position, known)
        assert [change.kind for change in read.statements("doomed")] == [Ddl.DROP]
        assert [row for _, _, row in read.changes("doomed")] == [(1, "a", None)]
        assert [row for _, _, row in read.changes(ITEMS)] == [(1, "b", None)]

    def test_a_transaction_larger_than_a_buffer_has_no_checkpoint_inside(self, bench: Bench) -> None:
        known, head = bench.schemas(ITEMS, WORDS), bench.source.head(EPOCH)
        bench.put(ITEMS, *((key, "x" * 200, key) for key in range(self.large)))
        read = bench.read(head.position, known)
        batches = [i for i, event in enumerate(read.events) if isinstance(event, ChangeBatch)]
        assert len(batches) > 1, "the transaction fits into one buffer: it proves nothing"
        inside = read.events[batches[0] : batches[-1]]
        assert not [event for event in inside if isinstance(event, Checkpoint)]
        assert [row[0] for _, _, row in read.changes(ITEMS)] == [*range(self.large)]

    def test_checkpoints_move_when_only_other_tables_change(self, bench: Bench) -> None:
        bench.hands.create("other")
        known, head = bench.schemas(ITEMS), bench.source.head(EPOCH)
        start = bench.read(head.position, known).checkpoints()[-1]
        for number in range(3):
            bench.put("other", (number, "noise", None))
        found = [start]
        with bench.streaming(start.position, known, bench.wanted(ITEMS)) as events:
            deadline = time.monotonic() + PATIENCE
            while found[-1].position == start.position:
                assert time.monotonic() < deadline, "no checkpoint moved past the other table's changes"
                event = next(events)
                assert isinstance(event, Checkpoint), "a table that is not wanted was given out"
                found.append(event)
        assert found[-1].seq > start.seq

    def test_tables_that_are_not_wanted_are_not_given_out(self, bench: Bench) -> None:
        bench.hands.create("other")
        known, head = bench.schemas(ITEMS), bench.source.head(EPOCH)
        with bench.hands.transaction() as tx:
            tx.put(ITEMS, (1, "a", None))
            tx.put("other", (1, "a", None))
            tx.put(ITEMS, (2, "b", None))
        bench.hands.truncate("other")
        bench.hands.add_column("other")
        read = bench.read(head.position, known)
        assert not [e for e in read.events if not isinstance(e, Checkpoint) and e.table.name == "other"]
        assert [row[0] for _, _, row in read.changes(ITEMS)] == [1, 2]

    def test_an_idle_stream_gives_checkpoints(self, bench: Bench) -> None:
        known, head = bench.schemas(ITEMS), bench.source.head(EPOCH)
        end = bench.read(head.position, known).checkpoints()[-1]
        with bench.streaming(end.position, known, bench.wanted(ITEMS)) as events:
            beats = [next(events) for _ in range(3)]
        assert all(isinstance(beat, Checkpoint) and beat.seq >= end.seq for beat in beats)
        times = [beat.time for beat in beats if isinstance(beat, Checkpoint)]
        assert times == sorted(times)
        assert abs(times[-1] / 1e6 - time.time()) < 60

    def test_two_instances_read_the_same_at_once(self, bench: Bench, factory: Factory) -> None:
        known, head = bench.schemas(ITEMS, WORDS), bench.source.head(EPOCH)
        self._mixture(bench)
        mark = bench.mark()
        other = factory()
        other.open()
        try:
            assert other.identity(head.position) == bench.source.identity(head.position)
            with bench.streaming(head.position, known, bench.wanted(ITEMS, WORDS)) as events:
                first = Read([next(events)])
                second = bench.read(head.position, known, mark=mark, source=other)
                assert bench.until(events, mark, first).all_changes() == second.all_changes()
        finally:
            other.close()

    def test_a_cut_stream_is_transient_and_goes_on_from_its_last_checkpoint(self, bench: Bench) -> None:
        known, head = bench.schemas(ITEMS, WORDS), bench.source.head(EPOCH)
        with bench.streaming(head.position, known, bench.wanted(ITEMS, WORDS)) as events:
            self._mixture(bench)
            read = bench.until(events, bench.mark())
            checkpoint = read.checkpoints()[-1]
            self._mixture(bench, 1)
            mark = bench.mark()
            next(events)
            bench.hands.cut()
            with pytest.raises(TransientError):  # noqa: PT012 - what was on its way still comes
                for _ in range(1000):
                    next(events)
        rest = bench.read(checkpoint.position, known, mark=mark)
        whole = bench.read(head.position, known, mark=mark)
        assert Read([*read.events, *rest.events]).all_changes() == whole.all_changes()

    def test_a_slow_connection_loses_nothing(self, bench: Bench, slow_factory: Factory) -> None:
        known, head = bench.schemas(ITEMS, WORDS), bench.source.head(EPOCH)
        self._mixture(bench)
        mark = bench.mark()
        slow = slow_factory()
        slow.open()
        try:
            read = bench.read(head.position, known, mark=mark, source=slow)
        finally:
            slow.close()
        assert read.all_changes() == bench.read(head.position, known, mark=mark).all_changes()

    # -- helpers

    @staticmethod
    def _mixture(bench: Bench, part: int = 0) -> None:
        """Transactions of one and of two tables, with every kind of row change, on keys of this part."""
        for number in range(part * 100, part * 100 + 6):
            with bench.hands.transaction() as tx:
                for i in range(5):
                    tx.put(ITEMS, (number * 10 + i, f"n{number}", i))
                tx.put(WORDS, (f"word{number}", number))
                tx.change(ITEMS, (number * 10,), (number * 10 + 9, "moved", None))
                tx.delete(ITEMS, (number * 10 + 1,))
            bench.put(ITEMS, (-1, f"again {number}", number))
        with bench.hands.transaction() as tx:
            tx.delete(WORDS, (f"word{part * 100 + 3}",))
            tx.change(WORDS, (f"word{part * 100 + 4}",), (f"WORD{part * 100 + 4}", 44))

    @staticmethod
    def _parted(read: Read, change: SchemaChange) -> None:
        """All rows before a statement are of the old schema and older, all behind it of the new one and newer."""
        parts = between(read, lambda event: event is change)
        for behind, events in parts.items():
            for event in events:
                if isinstance(event, ChangeBatch) and event.table == change.table:
                    assert ((event.seq > change.seq) == behind).all()
                    if behind:
                        assert event.schema.columns == change.schema.columns
                if isinstance(event, Checkpoint):
                    assert (event.seq >= change.seq) == behind
                    if change.kind in {Ddl.CREATE, Ddl.ALTER}:
                        assert (event.seq >= change.schema.version) == behind

    large: int
