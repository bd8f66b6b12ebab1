"""Repair: rows that differ are read again at the source, by REFRESH messages in the lanes of their keys (3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from syncd.model import column_of
from syncd.ops.reconcile import Key
from syncd.spi import Source
from syncd.state import SchemaPair
from syncd.transforms import Transform

AT_ONCE = 1000
"""Keys of one request."""


def requests(
    source: Source, pair: SchemaPair, transform: Transform, keys: Sequence[Key], epoch: int
) -> Iterator[pa.RecordBatch]:
    """The keys as the source has them, with their normalised twins, a part at a time. `keys`: as they are published."""
    for start in range(0, len(keys), AT_ONCE):
        asked = _asked(pair, transform, keys[start : start + AT_ONCE])
        found = source.read(pair.source, asked, epoch).rows
        yield found.select(list(dict.fromkeys((*pair.source.key, *pair.source.identity))))


def _asked(pair: SchemaPair, transform: Transform, keys: Sequence[Key]) -> pa.RecordBatch:
    """The columns of the source's own key; what the job adds to it says nothing more there."""
    names = {step.column.name: step.source for step in transform.steps}
    places = {names.get(name, name): place for place, name in enumerate(pair.published.key)}
    columns = [pair.source.column(name) for name in pair.source.key]
    arrays = [column_of([key[places[c.name]] for key in keys], _plain(c.type)).cast(c.type) for c in columns]
    return pa.RecordBatch.from_arrays(arrays, names=[c.name for c in columns])


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
