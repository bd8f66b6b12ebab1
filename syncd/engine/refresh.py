"""REFRESH: a message that holds only keys. The lane that reaches it reads their rows at the source, and writes those.

What is written was read behind a head that is at or past the message's place, so it is never older than what the lane
has applied; and its seq is never above that of a change whose row it cannot hold, so it never beats a newer one (3).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from syncd import codec, partition
from syncd.engine.build import Parts, clock
from syncd.engine.lanes import split_by_queue
from syncd.errors import FatalError, TransientError
from syncd.failpoints import failpoint
from syncd.model import ChangeBatch, Lane, Message, Op, TableSchema
from syncd.spi import Queue, Source
from syncd.state import SchemaPair, SourceRecord, State

IDLE_SECONDS = 30.0
"""A source that nothing was read at for so long is closed."""


def messages(parts: Parts, pair: SchemaPair, keys: pa.RecordBatch, seq: int) -> Iterator[Message]:
    """One for each lane in which some of these keys are. To be published by who publishes the table's changes.

    `keys`: the key columns and their twins, as the source has them; `seq`: how far capture has published. `pair`: the
    version of the table that holds there.
    """
    asked = _gone(pair.source, keys)
    published = parts.transform_of(pair).apply(asked, refresh=True)
    tag, captured = parts.tag(pair.source.table), clock()
    for queue, part, hashes in split_by_queue(published, parts.queues_of(pair.published)):
        mine = keys.select(list(pair.source.key)).take(pa.array(part.seq.astype(np.int64)))
        yield codec.encode_refresh(pair.source, mine, Lane(tag, queue), parts.source_name, captured, hashes, seq, seq)


def _gone(schema: TableSchema, keys: pa.RecordBatch) -> ChangeBatch:
    """DELETEs of which only the key is known, numbered in the place of their seqs."""
    known, count = set(keys.schema.names), keys.num_rows
    arrays = [keys.column(c.name).cast(c.type) if c.name in known else pa.nulls(count, c.type) for c in schema.columns]
    fields = [pa.field(c.name, c.type) for c in schema.columns]
    rows = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
    return ChangeBatch(schema, rows, np.full(count, Op.DELETE, np.uint8), np.arange(count, dtype=np.uint64))


class Refresher:
    """Reads for one thread. The source is opened when it is first needed, and closed when it is not any more."""

    def __init__(self, parts: Parts, queue: Queue) -> None:
        self._parts = parts
        self._state = State(queue, parts.job.name)
        self._source: Source | None = None
        self._used = 0.0

    def rows(self, message: Message) -> ChangeBatch:
        """What is to be written for the message: published rows, READ or DELETE, one of each key.

        TransientError: the source is away, or is not where the lane is. FatalError: the table cannot be read.
        """
        record = self._state.source()
        assert record is not None
        pair = self._state.schema(message.table, message.schema_version)
        if not pair.published.key:
            raise FatalError(f"{message.table} has no key by which a row could be read", table=str(message.table))
        try:
            source = self._in_log(record)
            found = source.read(pair.source, codec.decode_refresh(message), record.epoch)
        except BaseException:
            self.close()
            raise
        failpoint("refresh.read")
        seq = self._seq(record, message, int(found.seq[0]))
        found = replace(found, seq=np.full(len(found), seq, np.uint64))
        batch = self._parts.transform_of(pair).apply(found, refresh=True)
        return batch.take(partition.last_per_key(pair.published, batch)) if len(batch) else batch

    def _in_log(self, record: SourceRecord) -> Source:
        """The source, open, at the log that capture follows: another server may be behind what was published."""
        self._used = time.monotonic()
        if self._source is not None:
            return self._source
        source = self._source = self._parts.make_source()
        source.open()
        try:
            log_now = source.identity(record.position)
        except FatalError as error:  # of the whole job, and for capture to settle
            raise TransientError(error.what, hint=error.hint, code=error.code, retry_after=5.0) from error
        if log_now != record.log:
            raise TransientError(f"{log_now} answers now, and capture has not seen it yet: it follows {record.log}")
        return source

    def _seq(self, record: SourceRecord, message: Message, head: int) -> int:
        """Of all that the rows may be called the version of: what is behind the read's head may not be in them, and
        columns that a schema change adds behind the message are not."""
        versions = self._state.schemas(message.table)[message.table]
        newer = [version - 1 for version in versions if version > message.schema_version]
        seq = min(head, record.seq, *newer)
        if seq < message.first_seq:
            raise TransientError(
                f"{message.table}: the source does not show all yet that was published", retry_after=0.2
            )
        return seq

    def rest(self) -> None:
        """Close what has not been used for a while."""
        if self._source is not None and time.monotonic() - self._used > IDLE_SECONDS:
            self.close()

    def close(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()
