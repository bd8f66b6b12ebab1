"""From a batch of changes to the Arrow table that is inserted, and the rows that cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from syncd.errors import FatalError
from syncd.model import ChangeBatch, Op, Target
from syncd.sinks.clickhouse.limits import Limits, outside, shown
from syncd.sinks.clickhouse.types import Making, nullable

VERSION, DELETED = "_version", "_deleted"


@dataclass(frozen=True, slots=True)
class Built:
    """`rows`: what to insert. `refused`: index in the batch -> reason."""

    rows: pa.Table
    refused: dict[int, str]


def build(target: Target, batch: ChangeBatch, making: Making, limits: Limits, floor: int) -> Built:
    """Every column of the target, then `_version` and `_deleted`. Guarantee 6: a value as it was, or a reason.

    Rows with a seq below `floor` are left out: a TRUNCATE has removed them.
    """
    kept = _kept(target, batch, floor)
    if kept is not None:
        batch = batch.take(kept)
    deleted = batch.op == Op.DELETE
    refused: dict[int, str] = {}
    columns = [_column(target, i, batch, deleted, making, limits, refused) for i in range(len(target.schema.columns))]
    names = [c.name for c in target.schema.columns]
    arrays = [*columns, pa.array(batch.seq, pa.uint64()), pa.array(deleted.astype(np.uint8), pa.uint8())]
    rows = pa.Table.from_arrays(arrays, names=[*names, VERSION, DELETED])
    if refused:
        good = np.ones(len(batch), dtype=np.bool_)
        good[list(refused)] = False
        rows = rows.filter(pa.array(good))
    if kept is not None:
        refused = {int(kept[i]): reason for i, reason in refused.items()}
    return Built(rows, refused)


def _kept(target: Target, batch: ChangeBatch, floor: int) -> NDArray[np.int64] | None:
    """The rows that the policy and the floor let through; None for all."""
    kept = batch.seq >= np.uint64(floor)
    if target.deletes == "ignore":
        kept &= batch.op != Op.DELETE
    return None if kept.all() else np.flatnonzero(kept)


def _column(
    target: Target,
    index: int,
    batch: ChangeBatch,
    deleted: NDArray[np.bool_],
    making: Making,
    limits: Limits,
    refused: dict[int, str],
) -> pa.Array:
    """One column as it is inserted; adds to `refused` the rows whose value would not arrive as it is."""
    column = target.schema.columns[index]
    at = batch.rows.schema.get_field_index(column.name)
    if at < 0:
        raise FatalError(f"{target.schema.table}: the batch has no column {column.name}", table=str(batch.table))
    values = batch.rows.column(at)
    key = column.name in target.schema.identity
    # A tombstone needs its key alone: the source may leave the other columns out, or have had there what is not held.
    asked = np.ones(len(batch), np.bool_) if key or target.deletes == "soft" else ~deleted
    if values.null_count and not nullable(column, key, making):
        missing = np.asarray(pc.is_null(values).to_numpy(zero_copy_only=False), dtype=np.bool_)
        _refuse(refused, missing & asked, f"{target.schema.table}.{column.name}: NULL in a column that has none")
        values = _filled(values)
    wrong = outside(values, limits)
    if wrong is not None:
        bounds = limits.of(values.type)
        assert bounds is not None
        for row in np.flatnonzero(wrong & asked):
            text = f"{target.schema.table}.{column.name}: {values[int(row)].cast(pa.string()).as_py()} is outside of "
            refused.setdefault(int(row), f"{text}what the server holds, {shown(values.type, bounds)}")
        values = pc.if_else(pa.array(wrong), _zero(values.type), values)
    return _sent(values)


def _refuse(refused: dict[int, str], rows: NDArray[np.bool_], reason: str) -> None:
    for row in np.flatnonzero(rows):
        refused.setdefault(int(row), reason)


def _filled(values: pa.Array) -> pa.Array:
    """NULLs as the type's zero, which the table's type takes; only tombstones keep such a row."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pc.fill_null(values, pa.scalar("", kind))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pc.fill_null(values, pa.scalar(b"", kind))
    if pa.types.is_decimal(kind):
        return pc.fill_null(values, pa.scalar(Decimal(0), kind))
    return pc.fill_null(values, _zero(kind))


def _zero(kind: pa.DataType) -> pa.Scalar:
    return pa.scalar(0, pa.int32() if pa.types.is_date32(kind) else pa.int64()).cast(kind)


def _sent(values: pa.Array) -> pa.Array:
    """Durations travel as their number; a dictionary names each value once, or ClickHouse refuses it.

    An ENUM with a member `''` has it twice: as that, and as the server's error value.
    """
    if pa.types.is_dictionary(values.type) and len(values.dictionary.unique()) < len(values.dictionary):
        return values.dictionary_decode().dictionary_encode()
    return values.view(pa.int64()) if pa.types.is_duration(values.type) else values
