"""Message trajectory: each retained change of one key, and what every operator did with the message that held it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from syncd import codec, partition
from syncd.engine.build import Parts
from syncd.errors import FatalError
from syncd.model import ChangeBatch, Hop, Kind, Lane, Op, Stored, TableId, TableSchema, column_of, plain, plain_rows
from syncd.spi import Queue
from syncd.state import State

POLL_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the key. `committed`, `captured`: microseconds; `hops`: what came after the queue, by operator."""

    seq: int
    op: Op
    lane: Lane
    offset: int
    trace: int
    committed: int
    captured: int
    row: dict[str, object]
    hops: tuple[Hop, ...]


def trace(parts: Parts, queue: Queue, table: TableId, key: str) -> Iterator[Change]:
    """Found through the key's lane, the key filter of each message, and the key itself; never by hash alone."""
    state = State(queue, parts.job.name)
    versions = state.schemas(table)[table]
    schema = versions[max(versions)].published
    if not schema.key:
        hint = "look for the row at both ends; `syncd reconcile` counts how often each is there"
        raise FatalError(f"{table} has no key by which a row could be traced", table=str(table), hint=hint, code="E193")
    wanted: pa.RecordBatch | None = partition.key_text(schema, key)
    if schema.identity != schema.key:
        # Under a collation other texts are the same key. Only the source can say which, and has, in each row's twin.
        lanes = [Lane(parts.tag(table), number) for number in range(parts.queues)]
        same = (batch.rows for _, batch in _holding(parts, queue, lanes, schema, wanted, None))
        wanted = next((rows.select(list(schema.identity)) for rows in same), None)
    if wanted is None:
        return
    key_hash = partition.key_hash(schema, wanted)
    lane = Lane(parts.tag(table), int(partition.queues(key_hash, parts.queues)[0]))
    for item, change in _holding(parts, queue, [lane], schema, wanted, int(key_hash[0])):
        yield _change(parts, queue, item, change, lane)


def _holding(
    parts: Parts, queue: Queue, lanes: list[Lane], schema: TableSchema, wanted: pa.RecordBatch, key_hash: int | None
) -> Iterator[tuple[Stored, ChangeBatch]]:
    """Each retained row with the values of `wanted`, alone in a batch; messages whose filter denies the hash are not
    decoded."""
    state = State(queue, parts.job.name)
    for lane in lanes:
        offset = 0
        while stored := queue.poll(parts.topic, lane, offset, POLL_BYTES):
            for item in stored:
                if item.message.kind is Kind.ROWS and (key_hash is None or codec.may_hold(item.message, key_hash)):
                    published = state.schema(schema.table, item.message.schema_version).published
                    batch = codec.decode(item.message, published)
                    for row in np.flatnonzero(_equal(batch.rows, wanted)):
                        yield item, batch.slice(int(row), 1)
            offset = stored[-1].offset + 1


def _equal(rows: pa.RecordBatch, wanted: pa.RecordBatch) -> NDArray[np.bool_]:
    """Which rows have the values of the one row `wanted`, in its columns."""
    hits = np.ones(rows.num_rows, bool)
    for name in wanted.schema.names:
        column, value = rows.column(name), column_of([plain(wanted.column(name)[0])], rows.column(name).type)[0]
        same = pc.fill_null(pc.equal(column, value), fill_value=False)
        hits &= np.asarray(same, dtype=bool)
    return hits


def _change(parts: Parts, queue: Queue, item: Stored, change: ChangeBatch, lane: Lane) -> Change:
    hops = tuple(
        hop for hop in queue.hops(parts.topic, item.message.trace) if hop.lane == lane and hop.offset == item.offset
    )
    return Change(
        int(change.seq[0]),
        Op(int(change.op[0])),
        lane,
        item.offset,
        item.message.trace,
        item.message.time,
        item.message.captured,
        dict(zip(change.rows.schema.names, *plain_rows(change.rows.columns), strict=True)),
        hops,
    )
