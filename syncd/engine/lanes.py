"""From a batch of changes to its lanes: key changes split in two, rows sent to the queue of their key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from syncd import partition
from syncd.model import ChangeBatch, Op


def split_key_changes(batch: ChangeBatch) -> ChangeBatch:
    """An UPDATE that changed its key becomes a DELETE of the old key and an INSERT of the new one, both with its seq.

    Needs the key columns' old values in `before`; they are dropped from it afterwards. The DELETE's other columns hold
    the after-image's values.
    """
    if batch.before is None or not batch.schema.key:
        return batch
    keys = [*dict.fromkeys((*batch.schema.key, *batch.schema.identity))]
    moved = _moved(batch, keys)
    others = [name for name in batch.before.schema.names if name not in keys]
    before = batch.before.select(others) if others else None
    if not moved.any():
        return replace(batch, before=before)
    index = np.repeat(np.arange(len(batch)), 1 + moved)
    leaving = np.zeros(len(index), bool)
    leaving[np.flatnonzero(moved) + np.arange(int(moved.sum()))] = True
    at, old = pa.array(index), pa.array(leaving)
    rows = batch.rows.take(at)
    for name in keys:
        place = rows.schema.get_field_index(name)
        column = pc.if_else(old, batch.before.column(name).take(at), rows.column(place))
        rows = rows.set_column(place, rows.schema.field(place), column)
    op = batch.op[index]
    op[leaving] = Op.DELETE
    arrived = moved[index] & ~leaving
    op[arrived] = Op.INSERT
    return replace(batch, rows=rows, op=op, seq=batch.seq[index], before=None if before is None else before.take(at))


def _moved(batch: ChangeBatch, keys: list[str]) -> NDArray[np.bool_]:
    """Which rows are UPDATEs with another key than before."""
    assert batch.before is not None
    moved = np.zeros(len(batch), bool)
    for name in keys:
        differs = pc.not_equal(batch.before.column(name), batch.rows.column(name))
        moved |= np.asarray(pc.fill_null(differs, fill_value=False), dtype=bool)
    moved &= batch.op == Op.UPDATE
    return moved


def split_by_queue(batch: ChangeBatch, queues: int) -> Iterator[tuple[int, ChangeBatch, NDArray[np.uint64]]]:
    """(queue, the batch's rows of that queue in their order, their key hashes); a keyless table goes to queue 0."""
    if not batch.schema.key:
        yield 0, batch, np.empty(0, np.uint64)
        return
    hashes = partition.key_hash(batch.schema, batch.rows)
    if queues == 1:
        yield 0, batch, hashes
        return
    place = partition.queues(hashes, queues)
    order = np.argsort(place, kind="stable")
    sorted_batch, hashes = batch.take(order), hashes[order]
    borders = np.searchsorted(place[order], np.arange(queues + 1))
    for queue in range(queues):
        start, end = int(borders[queue]), int(borders[queue + 1])
        if end > start:
            yield queue, sorted_batch.slice(start, end - start), hashes[start:end]
