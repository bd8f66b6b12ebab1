"""Conformance of sources, part one: tables, heads, chunks, scans, single rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from syncd.errors import FatalError, TransientError
from syncd.model import ChangeBatch, Chunk, Head, Op, TableSchema
from syncd.testing.contracts.source_kit import (
    EPOCH,
    ITEMS,
    VISITS,
    WORDS,
    Bench,
    Factory,
    changes_of,
    own,
    rows_of,
)


class Rows:
    """See `source.SourceContract`."""

    def test_tables_are_those_that_are_wanted(self, bench: Bench) -> None:
        bench.hands.create("other")
        found = {one.schema.table: one for one in bench.source.tables(bench.wanted(ITEMS))}
        assert bench.table("other") not in found
        items = found[bench.table(ITEMS)]
        assert own(items.schema) == ["id", "name", "qty"]
        assert items.schema.key == ("id",)
        assert [items.schema.column(name).nullable for name in ("id", "name", "qty")] == [False, True, True]
        assert not items.refusals

    def test_what_is_before_the_head_is_seen_by_a_scan_that_begins_afterwards(self, bench: Bench) -> None:
        for number in range(5):
            bench.put(ITEMS, (number, "x", None))
            bench.source.head(EPOCH)
            assert len(bench.rows(ITEMS)) == number + 1

    def test_the_head_is_below_every_later_change(self, bench: Bench) -> None:
        known = bench.schemas(ITEMS)
        bench.put(ITEMS, (1, "before", None))
        heads = [bench.source.head(EPOCH)]
        for number in range(3):
            bench.put(ITEMS, (10 + number, "after", None))
            heads.append(bench.source.head(EPOCH))
        changes = bench.read(heads[0].position, known).changes(ITEMS)
        assert [row[0] for _, _, row in changes if row[1] == "after"] == [10, 11, 12]
        seqs = [seq for _, seq, row in changes if row[1] == "after"]
        for head, seq in zip(heads, seqs, strict=False):
            assert head.seq < seq
        assert all(a.seq <= b.seq for a, b in pairwise(heads))

    def test_an_older_head_is_a_place_to_begin(self, bench: Bench) -> None:
        """Nothing behind a head is missing from the stream, nothing before it is in it."""
        known = bench.schemas(ITEMS)
        bench.put(ITEMS, (1, "before", None))
        bench.read(bench.source.head(EPOCH).position, known)  # all that was before is visible, and in the log
        head = bench.source.head(EPOCH)
        bench.put(ITEMS, (2, "after", None))
        assert [row[0] for _, _, row in bench.read(head.position, known).changes(ITEMS)] == [2]

    def test_chunks_cover_every_key_once(self, bench: Bench) -> None:
        keys = [*range(-50, 150, 2), 10**12, -(10**12), *range(1000, 1200)]
        bench.put(ITEMS, *((key, f"n{key}", key) for key in keys))
        schema = bench.schema(ITEMS)
        chunks = [*bench.source.chunks(schema, self.chunk_bytes, None)]
        assert len(chunks) > 2
        assert chunks[0].lower is None
        assert chunks[-1].upper is None
        assert all(a.upper == b.lower and a.normal_upper == b.normal_lower for a, b in pairwise(chunks))
        assert [chunk.number for chunk in chunks] == sorted({chunk.number for chunk in chunks})
        assert [chunk.upper is None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        found = [row for chunk in chunks for row in bench.scanned(schema, Chunk.load(chunk.dump()))]
        assert found == [(key, f"n{key}", key) for key in sorted(keys)]

    def test_chunks_go_on_behind_a_chunk(self, bench: Bench) -> None:
        bench.put(ITEMS, *((key, "x", None) for key in range(300)))
        schema = bench.schema(ITEMS)
        chunks = [*bench.source.chunks(schema, self.chunk_bytes, None)]
        for place in range(len(chunks) - 1):
            rest = [*bench.source.chunks(schema, self.chunk_bytes, Chunk.load(chunks[place].dump()))]
            assert rest[0].lower == chunks[place].upper
            assert rest[0].number > chunks[place].number
            assert rest[-1].upper is None
            keys = [row[0] for chunk in rest for row in bench.scanned(schema, chunk)]
            upper = chunks[place].upper
            assert upper is not None
            assert keys == [*range(int(str(upper[0])) + 1, 300)]

    def test_rows_behind_the_last_border_belong_to_the_last_chunk(self, bench: Bench) -> None:
        bench.put(ITEMS, *((key, "x", None) for key in range(300)))
        schema = bench.schema(ITEMS)
        *_, last = bench.source.chunks(schema, self.chunk_bytes, None)
        bench.put(ITEMS, (10**9, "later", None))
        assert bench.scanned(schema, last)[-1] == (10**9, "later", None)

    def test_an_empty_table_is_one_chunk(self, bench: Bench) -> None:
        schema = bench.schema(ITEMS)
        (chunk,) = bench.source.chunks(schema, self.chunk_bytes, None)
        assert (chunk.lower, chunk.upper) == (None, None)
        assert bench.scanned(schema, chunk) == []

    def test_text_keys_are_cut_and_compared_as_the_source_does(self, bench: Bench) -> None:
        words = [f"{a}{b}" for a in "aBcDeF" for b in "xYzäÖ"]
        bench.put(WORDS, *((word, number) for number, word in enumerate(words)))
        bench.put(WORDS, ("AX", -1))  # the row of "ax"
        schema = bench.schema(WORDS)
        chunks = [*bench.source.chunks(schema, 1, None)]
        assert len(chunks) > 1
        found = [row[0] for chunk in chunks for row in bench.scanned(schema, chunk)]
        assert len(found) == len(words)
        assert {word.casefold() for word in found} == {word.casefold() for word in words}

    def test_a_scan_gives_reads_with_the_seq_it_was_told(self, bench: Bench) -> None:
        bench.put(ITEMS, (1, None, None), (2, "ä€😀", -(2**63)), (3, "", 2**63 - 1))
        schema = bench.schema(ITEMS)
        batches = [*bench.source.scan(schema, Chunk(schema.table, 0), 77)]
        assert all((batch.op == Op.READ).all() and (batch.seq == 77).all() for batch in batches)
        assert [row for batch in batches for row in rows_of(batch)] == [
            (1, None, None),
            (2, "ä€😀", -(2**63)),
            (3, "", 2**63 - 1),
        ]

    def test_a_scan_is_of_now(self, bench: Bench) -> None:
        bench.put(ITEMS, (1, "a", None))
        bench.source.head(EPOCH)
        bench.put(ITEMS, (1, "b", None), (2, "new", None))
        assert bench.rows(ITEMS) == [(1, "b", None), (2, "new", None)]

    def test_a_scan_of_a_table_that_is_gone_is_fatal_by_name(self, bench: Bench) -> None:
        schema = bench.schema(ITEMS)
        bench.hands.drop(ITEMS)
        with pytest.raises(FatalError) as caught:
            bench.scanned(schema, Chunk(schema.table, 0))
        assert caught.value.table == str(schema.table)

    def test_a_scan_of_a_table_with_other_columns_is_fatal_by_name(self, bench: Bench) -> None:
        bench.put(ITEMS, (1, "a", 5))
        schema = bench.schema(ITEMS)
        bench.hands.change_type(ITEMS)
        with pytest.raises(FatalError) as caught:
            bench.scanned(schema, Chunk(schema.table, 0))
        assert caught.value.table == str(schema.table)

    def test_a_scan_does_without_a_column_that_came_later(self, bench: Bench) -> None:
        bench.put(ITEMS, (1, "a", 5))
        schema = bench.schema(ITEMS)
        bench.hands.add_column(ITEMS)
        assert bench.scanned(schema, Chunk(schema.table, 0)) == [(1, "a", 5)]

    def test_read_gives_rows_and_says_which_are_not_there(self, bench: Bench) -> None:
        bench.put(ITEMS, *((key, f"n{key}", None) for key in range(10)))
        with bench.hands.transaction() as tx:
            tx.delete(ITEMS, (4,))
            tx.change(ITEMS, (5,), (5, "new", 1))
        head = bench.source.head(EPOCH)
        schema = bench.schema(ITEMS)
        keys = pa.RecordBatch.from_arrays([pa.array([5, 4, 99, 0], schema.column("id").type)], names=["id"])
        batch = bench.source.read(schema, keys, EPOCH)
        found = {row[0]: (Op(int(op)), row[1:]) for op, row in zip(batch.op, rows_of(batch), strict=True)}
        assert found[5] == (Op.READ, ("new", 1))
        assert found[0] == (Op.READ, ("n0", None))
        assert {key for key, (op, _) in found.items() if op is Op.DELETE} == {4, 99}
        assert len(np.unique(batch.seq)) == 1
        assert int(batch.seq[0]) >= head.seq

    def test_what_was_read_is_older_than_what_comes_later(self, bench: Bench) -> None:
        """Guarantee 3: a REFRESH never beats a newer change."""
        known = bench.schemas(ITEMS)
        bench.put(ITEMS, (1, "a", None))
        schema = known[bench.table(ITEMS)]
        head = bench.source.head(EPOCH)
        keys = pa.RecordBatch.from_arrays([pa.array([1], schema.column("id").type)], names=["id"])
        batch = bench.source.read(schema, keys, EPOCH)
        bench.put(ITEMS, (1, "b", None))
        later = [seq for _, seq, row in bench.read(head.position, known).changes(ITEMS) if row[1] == "b"]
        assert int(batch.seq[0]) < later[0]

    def test_a_cut_scan_is_transient_and_whole_when_done_again(self, bench: Bench, factory: Factory) -> None:
        rows = [(key, "x" * 200, key) for key in range(self.large)]
        bench.put(ITEMS, *rows)
        schema = bench.schema(ITEMS)
        batches = bench.source.scan(schema, Chunk(schema.table, 0), 1)
        next(batches)
        bench.hands.cut()
        with pytest.raises(TransientError):
            for _ in batches:
                pass
        bench.source.close()
        bench.source = factory()
        bench.source.open()
        assert bench.rows(ITEMS) == rows

    # -- tables without a key

    def test_one_read_is_of_its_place_whenever_it_is_read(self, bench: Bench) -> None:
        """What is before the place is in it; what comes later is not, and has a larger seq."""
        bench.hands.create(VISITS)
        known = bench.schemas(VISITS)
        start = bench.source.head(EPOCH)
        bench.put(VISITS, (1, "a", None), (1, "a", None), (2, "ä€😀", -(2**63)))
        head, batches = bench.source.scan_once(known[bench.table(VISITS)], EPOCH, 7)
        bench.put(VISITS, (3, "later", None), (1, "a", None))
        found = [change for batch in batches for change in changes_of(batch)]
        assert sorted(found, key=repr) == [(Op.READ, 7, r) for r in [(1, "a", None)] * 2 + [(2, "ä€😀", -(2**63))]]
        changes = bench.read(start.position, known).changes(VISITS)
        assert [(row[0], seq <= head.seq) for _, seq, row in changes] == [
            *((1, True), (1, True), (2, True)),
            *((3, False), (1, False)),
        ]
        behind = bench.read(head.position, known).changes(VISITS)
        assert [row[0] for _, _, row in behind] == [3, 1]

    def test_one_read_under_load(self, bench: Bench) -> None:
        """The same rows, each time, as the log has up to the place."""
        bench.hands.create(VISITS)
        known = bench.schemas(VISITS)
        start = bench.source.head(EPOCH)
        stop = threading.Event()
        failures: list[BaseException] = []

        def write(number: int) -> None:
            try:
                for count in range(100_000):
                    with bench.hands.transaction() as tx:
                        tx.put(VISITS, (count % 3, f"writer {number}", None))
                        tx.put(VISITS, (count, "x" * 100, number))
                    if stop.wait(0.002):
                        return
            except BaseException as error:
                failures.append(error)
                raise

        writers = [threading.Thread(target=write, args=(number,)) for number in range(self.writers)]
        for writer in writers:
            writer.start()
        looks: list[tuple[int, list[tuple[Any, ...]]]] = []
        try:
            for _ in range(8):
                head, batches = _patiently(bench, known[bench.table(VISITS)])
                time.sleep(0.05)
                looks.append((head.seq, [row for batch in batches for row in rows_of(batch)]))
        finally:
            stop.set()
            for writer in writers:
                writer.join()
        assert not failures
        changes = bench.read(start.position, known).changes(VISITS)
        assert len(looks[-1][1]) > len(looks[0][1])
        for seq, rows in looks:
            assert sorted(rows, key=repr) == sorted((row for _, at, row in changes if at <= seq), key=repr)

    def test_one_read_of_a_table_that_was_altered_is_begun_again(self, bench: Bench) -> None:
        """A column that the schema does not know would be lost: rows that are read are not in the stream."""
        bench.hands.create(VISITS)
        schema = bench.schema(VISITS)
        bench.hands.add_column(VISITS)
        with pytest.raises(TransientError):
            bench.source.scan_once(schema, EPOCH, 1)
        bench.put(VISITS, (1, "a", None, 8))
        _, batches = bench.source.scan_once(bench.schema(VISITS), EPOCH, 1)
        assert [row for batch in batches for row in rows_of(batch)] == [(1, "a", None, 8)]
        bench.hands.drop(VISITS)
        with pytest.raises(FatalError) as caught:
            bench.source.scan_once(schema, EPOCH, 1)
        assert caught.value.table == str(schema.table)

    chunk_bytes: int
    large: int
    writers: int


def _patiently(bench: Bench, schema: TableSchema) -> tuple[Head, Iterator[ChangeBatch]]:
    for _ in range(20):
        try:
            return bench.source.scan_once(schema, EPOCH, 1)
        except TransientError as error:
            time.sleep(min(1.0, error.retry_after))
    raise AssertionError("the read could not begin")
