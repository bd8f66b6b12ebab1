"""A sink's own filter over rows as they are published: what of them goes to that sink.

No old values are asked for. A changed row that does not match is a DELETE of its key, whether it matched before or not:
harmless where it is not there. One that starts to match comes whole, as every changed row does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from syncd.model import ChangeBatch, Op, TableSchema

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from syncd.transforms.where import Filter


@dataclass(frozen=True, slots=True)
class SinkFilter:
    """Of one sink, over one version of a table. `filter` None: all rows go there."""

    schema: TableSchema
    filter: Filter | None = None

    def matching(self, batch: ChangeBatch) -> ChangeBatch:
        """The rows that match, of rows that were read, or are only ever added; DELETEs stay, for the sink's policy."""
        if self.filter is None or not len(batch):
            return batch
        keep = self._keep(self.filter, batch)
        return batch if keep.all() else batch.take(np.flatnonzero(keep))

    def changed(self, batch: ChangeBatch) -> ChangeBatch:
        """Changes merged by key, or read again by it: what does not match is a DELETE of its key, with the same seq."""
        if self.filter is None or not len(batch):
            return batch
        gone = ~self._keep(self.filter, batch)
        if not gone.any():
            return batch
        op = batch.op.copy()
        op[gone] = Op.DELETE
        return replace(batch, op=op, rows=self._without(batch.rows, gone))

    def _keep(self, wanted: Filter, batch: ChangeBatch) -> NDArray[np.bool_]:
        """SQL's UNKNOWN is not true. Nothing is asked of a DELETE, which may hold its key alone."""
        keep: NDArray[np.bool_] = batch.op == Op.DELETE
        asked = np.flatnonzero(~keep)
        rows = batch.rows if len(asked) == len(batch) else batch.rows.take(pa.array(asked))
        keep[asked] = pc.fill_null(wanted.keep(rows), fill_value=False).to_numpy(zero_copy_only=False)
        return keep

    def _without(self, rows: pa.RecordBatch, gone: NDArray[np.bool_]) -> pa.RecordBatch:
        """The rows, with no more than their keys where `gone`: the sink is not to have the other values."""
        keys = {*self.schema.key, *self.schema.identity}
        index = pa.array(np.arange(len(gone)), mask=gone)
        columns = [
            values if name in keys else values.take(index)
            for name, values in zip(rows.schema.names, rows.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=rows.schema)
