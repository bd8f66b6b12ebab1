"""Batches of one schema put together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from syncd.model import ChangeBatch, TableSchema


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
