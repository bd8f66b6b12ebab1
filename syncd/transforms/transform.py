"""A table's transform: pure, batch in and batch out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from syncd.model import ChangeBatch, Column, Op, TableSchema
from syncd.transforms.masks import mask_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from syncd.transforms.compute import Computed
    from syncd.transforms.where import Filter


@dataclass(frozen=True, slots=True)
class Step:
    """One column: its name at the source, itself behind the transform, its mask or "", what computes it."""

    source: str
    column: Column
    mask: str
    computed: Computed | None = None


@dataclass(frozen=True, slots=True)
class Transform:
    """`source` and `schema`: the table before and behind. Made by `build`.

    Behind are the columns of `steps`, one for each `constants`, and new ones of `computed`.
    """

    source: TableSchema
    schema: TableSchema
    steps: tuple[Step, ...]
    constants: tuple[pa.Scalar, ...]
    computed: tuple[Step, ...]
    filter: Filter | None
    salt: bytes = field(repr=False)
    arrow: pa.Schema = field(repr=False)

    @property
    def before_columns(self) -> tuple[str, ...]:
        """Columns whose old values decide whether a changed row was there before; by the source's names."""
        return self.filter.columns if self.filter is not None else ()

    @property
    def saved(self) -> TableSchema:
        """`source` as it may be stored: without the DEFAULTs of columns that are masked, replaced or left out."""
        shown = {step.source for step in self.steps if not step.mask and step.computed is None}
        columns = tuple(c if c.name in shown else replace(c, default=None) for c in self.source.columns)
        return self.source if columns == self.source.columns else replace(self.source, columns=columns)

    @property
    def is_identity(self) -> bool:
        """Nothing to do: every batch comes back as it is."""
        return self.filter is None and self.schema is self.source

    def shaped(self, schema: TableSchema) -> Transform:
        """The same with another table behind it: of the columns, in this order, only those that `schema` has, of its
        types, each of which holds all values of the one here."""
        if schema == self.schema:
            return self
        there = {column.name: column for column in schema.columns}
        added = self.arrow.names[len(self.steps) : len(self.steps) + len(self.constants)]
        return replace(
            self,
            schema=schema,
            steps=tuple(replace(s, column=there[s.column.name]) for s in self.steps if s.column.name in there),
            constants=tuple(value for name, value in zip(added, self.constants, strict=True) if name in there),
            computed=tuple(replace(s, column=there[s.column.name]) for s in self.computed if s.column.name in there),
            arrow=schema.arrow(),
        )

    def apply(self, batch: ChangeBatch, *, refresh: bool = False) -> ChangeBatch:
        """The batch behind the transform; it may have fewer rows, or none.

        With a filter, an update whose row stops matching is a DELETE, one whose row starts matching an INSERT, and one
        that never matched is gone. With `refresh`, a row that is there and does not match is a DELETE, since an older
        one may be at the sinks; without it (a snapshot) it is left out. Unsupported: a value that cannot be compared.
        """
        if self.is_identity:
            return batch
        if self.filter is not None:
            batch = self._filtered(batch, self.filter, refresh=refresh)
        deleted = batch.op == Op.DELETE
        rows = pa.RecordBatch.from_arrays(
            [
                *(self._value(batch.rows, step, deleted) for step in self.steps),
                *self._added(len(batch)),
                *(self._value(batch.rows, step, deleted) for step in self.computed),
            ],
            schema=self.arrow,
        )
        return replace(batch, schema=self.schema, rows=rows, before=self._before(batch.before))

    def _value(self, rows: pa.RecordBatch, step: Step, deleted: NDArray[np.bool_] | None = None) -> Any:
        if step.computed is None:
            values = rows.column(step.source)
        else:
            values = step.computed.values(rows, None if step.column.name in self.schema.key else deleted)
        values = mask_values(values, step.mask, self.salt) if step.mask else values
        return values if values.type == step.column.type else values.cast(step.column.type)

    def _added(self, length: int) -> list[Any]:
        return [pa.repeat(value, length) for value in self.constants]

    def _before(self, before: pa.RecordBatch | None) -> pa.RecordBatch | None:
        """The old values under the same masks and names; columns that are left out are left out here too. An added or
        computed column that is part of the key has its value in them, since who looks at an old key wants all of it;
        other computed ones are left out: a row that had no exact value then may have been mended since."""
        if before is None:
            return None
        given = set(before.schema.names)
        steps = [step for step in self.steps if step.source in given and step.computed is None]
        if not steps:
            return None
        columns = {step.column.name: self._value(before, step) for step in steps}
        added = zip(self.arrow.names[len(self.steps) :], self.constants, strict=False)
        in_key = {name: value for name, value in added if name in self.schema.key}
        in_key |= {s.column.name: self._value(before, s) for s in self.computed if s.column.name in self.schema.key}
        if in_key:
            there = pa.array(_any_valid(before))
            columns |= {name: pc.if_else(there, value, pa.scalar(None, value.type)) for name, value in in_key.items()}
        fields = [pa.field(name, values.type) for name, values in columns.items()]
        return pa.RecordBatch.from_arrays([*columns.values()], schema=pa.schema(fields))

    # -- the filter

    def _filtered(self, batch: ChangeBatch, rows_filter: Filter, *, refresh: bool) -> ChangeBatch:
        now = _true(rows_filter.keep(batch.rows))
        was = self._was(batch, rows_filter)
        update, delete = batch.op == Op.UPDATE, batch.op == Op.DELETE
        read = (batch.op == Op.READ) & refresh
        # A delete without a whole row may be one of a row that matched: it goes on, with its key only.
        bare = delete & ~now & ~self._whole(batch.rows, rows_filter)
        leaves = (update & ~now & was) | (read & ~now)
        enters = update & now & ~was
        op = batch.op.copy()
        op[leaves], op[enters] = Op.DELETE, Op.INSERT
        before = _without(batch.before, enters | leaves | bare)
        out = replace(batch, op=op, rows=self._left(batch, leaves, bare), before=before)
        index = np.flatnonzero(now | leaves | bare)
        return out if len(index) == len(batch) else out.take(index)

    def _was(self, batch: ChangeBatch, rows_filter: Filter) -> NDArray[np.bool_]:
        """Whether the old row matched; true where its old values are not there, which costs a delete too many."""
        before = batch.before
        if before is None or not set(rows_filter.columns) <= set(before.schema.names):
            return np.ones(len(batch), dtype=np.bool_)
        return _true(rows_filter.keep(before)) | ~_any_valid(before)

    def _whole(self, rows: pa.RecordBatch, rows_filter: Filter) -> NDArray[np.bool_]:
        whole = np.ones(rows.num_rows, dtype=np.bool_)
        for name in rows_filter.columns:
            whole &= _true(rows.column(name).is_valid())
        return whole

    def _left(self, batch: ChangeBatch, leaves: NDArray[np.bool_], bare: NDArray[np.bool_]) -> pa.RecordBatch:
        """The rows, where those that leave are as they were before: the filter hides what they are now."""
        hidden = leaves | bare
        if not hidden.any():
            return batch.rows
        old = set() if batch.before is None else set(batch.before.schema.names)
        known = leaves & _any_valid(batch.before) if batch.before is not None else np.zeros_like(leaves)
        keys = {*self.source.key, *self.source.identity}
        columns = []
        for name, values in zip(batch.rows.schema.names, batch.rows.columns, strict=True):
            gone = np.zeros_like(hidden) if name in keys else hidden
            if batch.before is not None and name in old:
                columns.append(_patched(values, gone & ~known, batch.before.column(name), known))
            else:
                columns.append(_patched(values, gone, None, known))
        return pa.RecordBatch.from_arrays(columns, schema=batch.rows.schema)


def _true(answers: pa.BooleanArray) -> NDArray[np.bool_]:
    """SQL's UNKNOWN is not true."""
    values: NDArray[np.bool_] = pc.fill_null(answers, fill_value=False).to_numpy(zero_copy_only=False)
    return values


def _any_valid(rows: pa.RecordBatch) -> NDArray[np.bool_]:
    """Rows that are there at all: a before-image that is missing is null in every column."""
    there = np.zeros(rows.num_rows, dtype=np.bool_)
    for values in rows.columns:
        there |= _true(values.is_valid())
    return there


def _patched(values: Any, gone: NDArray[np.bool_], other: Any, at: NDArray[np.bool_]) -> Any:
    """`values`, null where `gone`, and from `other` where `at`. By `take`, which every Arrow type has."""
    index = np.arange(len(values))
    if other is not None:
        values = pa.concat_arrays([values, other.cast(values.type)])
        index = np.where(at, index + len(at), index)
    return values.take(pa.array(index, mask=gone))


def _without(before: pa.RecordBatch | None, gone: NDArray[np.bool_]) -> pa.RecordBatch | None:
    if before is None or not gone.any():
        return before
    index = pa.array(np.arange(before.num_rows), mask=gone)
    fields = [pa.field(f.name, f.type) for f in before.schema]
    return pa.RecordBatch.from_arrays([values.take(index) for values in before.columns], schema=pa.schema(fields))
