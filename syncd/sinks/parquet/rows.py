"""From a batch of changes to the rows of a file, and those that cannot be; the order and the versions of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from syncd.errors import FatalError
from syncd.model import ChangeBatch, Op, Target
from syncd.sinks.parquet.defaults import fill
from syncd.sinks.parquet.table import DELETED, VERSION, State
from syncd.sinks.parquet.types import nullable, stored, to_store
from syncd.spi import Ticket


def build(target: Target, batch: ChangeBatch, state: State, *, zero_date_null: bool) -> tuple[pa.Table, dict[int, str]]:
    """The rows to write, sorted by key with the last version of each, and the refused ones: index -> reason.

    Left out: rows with a seq below the table's floor, and deletes where the target ignores them. Columns that the table
    got after `target` hold their default.
    """
    kept = batch.seq >= np.uint64(state.marks(target).floor)
    if target.deletes == "ignore":
        kept &= batch.op != Op.DELETE
    deleted = batch.op == Op.DELETE
    refused = {i: why for i, why in _refused(target, batch, deleted, zero_date_null).items() if kept[i]}
    kept[list(refused)] = False
    names = {c.name for c in target.schema.columns}
    arrays = [
        _as(to_store(_values(batch, c.name)), stored(c.type))
        if c.name in names
        else pa.repeat(fill(batch.table, c), len(batch))
        for c in state.schema.columns
    ]
    arrays += [pa.array(batch.seq, pa.uint64()), pa.array(deleted)]
    rows = pa.Table.from_arrays(arrays, schema=state.columns).filter(pa.array(kept))
    return (last_versions(rows, state.key) if state.key else rows), refused


def _as(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The table's column may be wider than the target's."""
    return values if values.type == kind else values.cast(kind)


def _values(batch: ChangeBatch, name: str) -> pa.Array:
    at = batch.rows.schema.get_field_index(name)
    if at < 0:
        raise FatalError(f"{batch.table}: the batch has no column {name}", table=str(batch.table))
    return batch.rows.column(at)


def _refused(target: Target, batch: ChangeBatch, deleted: NDArray[np.bool_], zero_date_null: bool) -> dict[int, str]:
    """NULLs where the source has none. A tombstone needs its key alone."""
    found: dict[int, str] = {}
    for column in target.schema.columns:
        key = column.name in target.schema.identity
        values = _values(batch, column.name)
        if not values.null_count or nullable(column, key, zero_date_null=zero_date_null):
            continue
        missing = np.asarray(values.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)
        if not key and target.deletes != "soft":
            missing &= ~deleted
        for row in np.flatnonzero(missing):
            found.setdefault(int(row), f"{batch.table}.{column.name}: NULL in a column that has none")
    return found


def token(batch: ChangeBatch, ticket: Ticket, owner: str) -> str:
    """The same for a call that is repeated, also by the next owner of the lanes; another one for any other call.

    Rows out of lanes are told by their place there; a chunk's by its writer's count, since its rows may all be alike.
    """
    told = hashlib.blake2b(owner.encode(), digest_size=16)
    places = sorted((*lane, mark.offset, mark.incarnation) for lane, mark in ticket.marks.items())
    told.update(repr(places or (ticket.epoch, ticket.number)).encode())
    told.update(batch.op.tobytes())
    told.update(batch.seq.tobytes())
    return told.hexdigest()


def order(table: pa.Table, names: Sequence[str]) -> pa.Array:
    """Indices that sort by these columns; equal rows stay in their order."""
    # By numbers, since a name with a dot in it would be taken for a path.
    plain = pa.table([table.column(name) for name in names], names=[str(i) for i in range(len(names))])
    return pc.sort_indices(plain, [(name, "ascending") for name in plain.column_names])


def last_versions(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """Sorted by key, the newest row of each."""
    table = table.take(order(table, [*key, VERSION])).combine_chunks()
    if len(table) < 2:
        return table
    last = np.ones(len(table), dtype=np.bool_)
    last[:-1] = False
    for name in key:
        values = table.column(name)
        last[:-1] |= pc.not_equal(values.slice(1), values.slice(0, len(table) - 1)).to_numpy()
    return table.filter(pa.array(last))


def live(table: pa.Table) -> pa.Table:
    return table.filter(pc.invert(table.column(DELETED)))
