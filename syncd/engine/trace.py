"""Message trajectory: each retained change of one key, and what every operator did with the message that held it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from syncd import codec, partition
from syncd.engine.build import Parts
from syncd.errors import FatalError
from syncd.model import Hop, Kind, Lane, Op, Stored, TableId, TableSchema
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
    wanted = partition.key_text(schema, key)
    key_values = wanted.to_pylist()[0]
    if schema.identity != schema.key:
        # The normalised form of a key under a collation is known to the source alone: every lane is read through.
        lanes, found_hash = [Lane(parts.tag(table), number) for number in range(parts.queues)], None
    else:
        found_hash = int(partition.key_hash(schema, wanted)[0])
        lanes = [Lane(parts.tag(table), int(partition.queues(np.array([found_hash], np.uint64), parts.queues)[0]))]
    for lane in lanes:
        offset = 0
        while stored := queue.poll(parts.topic, lane, offset, POLL_BYTES):
            for item in stored:
                if item.message.kind is Kind.ROWS and (found_hash is None or codec.may_hold(item.message, found_hash)):
                    published = state.schema(table, item.message.schema_version).published
                    yield from _changes(parts, queue, item, published, key_values, lane)
            offset = stored[-1].offset + 1


def _changes(
    parts: Parts, queue: Queue, item: Stored, schema: TableSchema, key: dict[str, object], lane: Lane
) -> Iterator[Change]:
    batch = codec.decode(item.message, schema)
    hits = np.ones(len(batch), bool)
    for name, value in key.items():
        scalar = pa.scalar(value, batch.rows.column(name).type)
        hits &= np.asarray(pc.fill_null(pc.equal(batch.rows.column(name), scalar), fill_value=False), dtype=bool)
    for row in np.flatnonzero(hits):
        record = batch.rows.slice(int(row), 1).to_pylist()[0]
        hops = tuple(
            hop for hop in queue.hops(parts.topic, item.message.trace) if hop.lane == lane and hop.offset == item.offset
        )
        yield Change(
            int(batch.seq[row]),
            Op(int(batch.op[row])),
            lane,
            item.offset,
            item.message.trace,
            item.message.time,
            item.message.captured,
            record,
            hops,
        )
