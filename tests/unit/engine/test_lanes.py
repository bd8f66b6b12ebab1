"""Key changes become a delete and an insert; every key has one queue."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from syncd import partition
from syncd.engine.lanes import split_by_queue, split_key_changes
from syncd.model import ChangeBatch, Column, Op, TableId, TableSchema

SCHEMA = TableSchema(
    TableId("shop", "t"), 1, (Column("id", pa.int64(), False), Column("v", pa.string())), ("id",), "primary"
)


def batch(rows: list[tuple[int, str, Op, int | None]]) -> ChangeBatch:
    """(key, value, op, old key of an update) -> a batch with seqs 10, 11, ..."""
    return ChangeBatch(
        SCHEMA,
        pa.RecordBatch.from_arrays(
            [pa.array([r[0] for r in rows], pa.int64()), pa.array([r[1] for r in rows])], schema=SCHEMA.arrow()
        ),
        np.array([r[2] for r in rows], np.uint8),
        np.arange(10, 10 + len(rows), dtype=np.uint64),
        pa.RecordBatch.from_arrays([pa.array([r[3] for r in rows], pa.int64())], names=["id"]),
    )


def test_an_update_that_keeps_its_key_stays_an_update() -> None:
    split = split_key_changes(batch([(1, "a", Op.UPDATE, 1), (2, "b", Op.INSERT, None)]))
    assert split.op.tolist() == [Op.UPDATE, Op.INSERT]
    assert split.before is None


def test_a_key_change_is_a_delete_and_an_insert_with_one_seq() -> None:
    split = split_key_changes(batch([(7, "x", Op.INSERT, None), (2, "b", Op.UPDATE, 1), (3, "c", Op.DELETE, None)]))
    assert split.rows.column("id").to_pylist() == [7, 1, 2, 3]
    assert split.op.tolist() == [Op.INSERT, Op.DELETE, Op.INSERT, Op.DELETE]
    assert split.seq.tolist() == [10, 11, 11, 12]


def test_a_swap_of_two_keys_ends_with_both_rows() -> None:
    """1 -> 9, 2 -> 1, 9 -> 2: applied in order the two rows have changed places."""
    split = split_key_changes(batch([(9, "one", Op.UPDATE, 1), (1, "two", Op.UPDATE, 2), (2, "one", Op.UPDATE, 9)]))
    table: dict[int, str] = {1: "one", 2: "two"}
    for row, op in zip(split.rows.to_pylist(), split.op, strict=True):
        if op == Op.DELETE:
            table.pop(row["id"], None)
        else:
            table[row["id"]] = row["v"]
    assert table == {1: "two", 2: "one"}


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=200), st.integers(1, 16))
def test_every_row_goes_to_the_queue_of_its_key_in_its_order(keys: list[int], queues: int) -> None:
    whole = batch([(key, str(n), Op.INSERT, None) for n, key in enumerate(keys)])
    expected = partition.queues(partition.key_hash(SCHEMA, whole.rows), queues)
    seen: list[int] = []
    for queue, part, hashes in split_by_queue(whole, queues):
        assert (np.diff(part.seq.astype(np.int64)) > 0).all()
        assert (partition.key_hash(SCHEMA, part.rows) == hashes).all()
        for seq in part.seq:
            assert expected[int(seq) - 10] == queue
            seen.append(int(seq))
    assert sorted(seen) == [int(seq) for seq in whole.seq]
