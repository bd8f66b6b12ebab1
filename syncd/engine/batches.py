"""Batches of one schema put together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from syncd.errors import BatchError, FatalError
from syncd.model import ChangeBatch, TableSchema, Target, plain
from syncd.spi import Sink
from syncd.state import TableRecord


def join(schema: TableSchema, parts: Sequence[ChangeBatch]) -> ChangeBatch:
    """All rows of `parts` in that order, without their before-images; an empty batch for no parts."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        empty = pa.RecordBatch.from_pylist([], schema=schema.arrow())
        return ChangeBatch(schema, empty, np.empty(0, np.uint8), np.empty(0, np.uint64))
    table = pa.Table.from_batches([part.rows for part in parts]).unify_dictionaries().combine_chunks()
    return ChangeBatch(
        schema,
        table.to_batches()[0],
        np.concatenate([part.op for part in parts]),
        np.concatenate([part.seq for part in parts]),
        time=max(part.time for part in parts),
        trace=parts[0].trace,
    )


def refused(batch: ChangeBatch, key: Sequence[str], error: BatchError) -> FatalError:
    """What halts the table: how many rows of `batch` a sink has refused, and of the first its key and the reason."""
    index, reason = min(error.rows.items())
    at = ", ".join(f"{name}={plain(batch.rows.column(name)[index])!r}" for name in key) or f"number {index}"
    return FatalError(
        f"{batch.table}: {len(error.rows)} of {len(batch)} rows refused, the first ({at}): {reason}",
        table=str(batch.table),
        hint="mend the row at the source, or the target, then `syncd jobs resume`",
        code="E130",
    )


def refuse_rows(sink: Sink, target: Target, record: TableRecord) -> None:
    """FatalError: the target of a load that has written nothing yet has rows."""
    if any(part.num_rows for part in sink.scan(target, None, None)):
        raise FatalError(
            f"{record.table}: the target at {record.sink} holds rows that this load did not write",
            table=str(record.table),
            hint="remove the table's rows there, then `syncd jobs resume`"
            if target.own
            else "drop the target table, then `syncd jobs resume`",
            code="E192",
        )
