"""Resync by range: the keys of the rows that a condition names, at the source and at the sinks.

The condition is answered by Arrow, as filters are. Of the source's rows it decides which are read again; of a sink's,
which of them the source is asked for, too: those that it has no more, or that do not meet the condition there. All are
written by REFRESH, so that it does no harm to name too many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from syncd.errors import ConfigError
from syncd.model import Bound, Chunk, Column, TableId, TableSchema, Target, plain_rows
from syncd.ops.reconcile import Key, bounds, compare_rows, table_of
from syncd.spi import Sink, Source
from syncd.state import SchemaPair
from syncd.transforms import Transform
from syncd.transforms.where import Filter, Tree, compile_filter

Limits = tuple[int | None, int | None]
"""lower < key <= upper, of a key that is one column of whole numbers; None: no limit."""


@dataclass(frozen=True)
class Span:
    """Of one table. `rows`: keys that meet the condition at the source, as they are published; `extra`: sink -> those
    that do so there only."""

    table: TableId
    rows: list[Key] = field(repr=False)
    extra: dict[str, list[Key]] = field(repr=False)

    @property
    def keys(self) -> set[Key]:
        return {*self.rows, *(key for keys in self.extra.values() for key in keys)}


@dataclass(frozen=True)
class Asked:
    """A condition on a table. ConfigError: it names what the table, or its rows at the sinks, do not have."""

    tree: Tree
    pair: SchemaPair
    transform: Transform

    def at_source(self, source: Source, chunk_bytes: int) -> pa.Table:
        """The keys of the rows there, as they are published."""
        wanted = compile_filter(self.tree, self.pair.source)
        lower, upper = self.limits
        batches = (
            self.transform.apply(batch.take(_true(wanted, batch.rows)))
            for chunk in _chunks(source, self.pair.source, chunk_bytes, lower, upper)
            for batch in source.scan(self.pair.source, chunk, 0)
        )
        return self._keys(batch.rows for batch in batches)

    def at_sink(self, sink: Sink, target: Target) -> pa.Table:
        """The same of a sink's rows. Of the source's columns, those are there that go along as they are."""
        shown = {step.column.name: step.source for step in self.transform.steps if not (step.computed or step.mask)}
        columns = [column for column in target.schema.columns if column.name in shown and not column.normal_of]
        own = replace(self.pair.source, columns=tuple(replace(c, name=shown[c.name]) for c in columns))
        wanted = self._compiled(own)

        def kept(rows: pa.RecordBatch) -> pa.RecordBatch:
            values = [rows.column(column.name) for column in columns]
            there = pa.RecordBatch.from_arrays(values, names=[column.name for column in own.columns])
            return rows.take(pa.array(_true(wanted, there)))

        bound, (lower, upper) = bounds(self.transform, target.schema), self.limits
        ends: list[Bound | None] = [
            bound((end,), (end,)) if bound is not None and end is not None else None for end in (lower, upper)
        ]
        return self._keys(map(kept, sink.scan(target, *ends)))

    def _compiled(self, schema: TableSchema) -> Filter:
        try:
            return compile_filter(self.tree, schema)
        except ConfigError as error:
            raise ConfigError(
                f"{error.what}, as the sinks have it: a column that is masked, computed or left out tells nothing of "
                "rows that only they have",
                hint="name other columns, or `syncd reconcile --full --repair` the table",
                code=error.code,
            ) from error

    @property
    def schema(self) -> TableSchema:
        """The published table, of its key alone."""
        names = {*self.pair.published.key, *self.pair.published.identity}
        return replace(self.pair.published, columns=tuple(c for c in self.pair.published.columns if c.name in names))

    def _keys(self, batches: Iterable[pa.RecordBatch]) -> pa.Table:
        schema = self.schema.arrow()
        return table_of(schema, (batch.select(schema.names) for batch in batches))

    @property
    def limits(self) -> Limits:
        """What of the key's order must be looked at."""
        (first, *more) = (self.pair.source.column(name) for name in self.pair.source.key)
        if more or not pa.types.is_integer(first.type):
            return None, None
        return _of_type(limits(self.tree, first), first.type)


def span(asked: Asked, source: Source, sinks: Iterator[tuple[str, Sink, Target]], chunk_bytes: int) -> Span:
    """`sinks`: each is open until the next one is asked for."""
    rows = asked.at_source(source, chunk_bytes)
    extra = {name: compare_rows(asked.schema, rows, asked.at_sink(sink, target)).extra for name, sink, target in sinks}
    keys = plain_rows([rows.column(name) for name in asked.schema.key])
    return Span(asked.pair.source.table, keys, extra)


def _true(wanted: Filter, rows: pa.RecordBatch) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The places of the rows that meet it; not where SQL says UNKNOWN."""
    answers = pc.fill_null(wanted.keep(rows), fill_value=False).to_numpy(zero_copy_only=False)
    return np.flatnonzero(answers)


def _chunks(
    source: Source, schema: TableSchema, chunk_bytes: int, lower: int | None, upper: int | None
) -> Iterator[Chunk]:
    before = None if lower is None else Chunk(schema.table, 0, None, (lower,), None, (lower,))
    for chunk in source.chunks(schema, chunk_bytes, before):
        begins = chunk.lower[0] if chunk.lower is not None else None
        if upper is not None and isinstance(begins, int) and begins >= upper:
            return
        yield chunk


def limits(tree: Tree, column: Column) -> Limits:
    """Between which values of a column of whole numbers every row is that can meet the condition."""
    match tree:
        case exp.Paren():
            return limits(tree.this, column)
        case exp.And():
            return _both(limits(tree.this, column), limits(tree.expression, column))
        case exp.Between():
            low, high = _number(tree.args["low"]), _number(tree.args["high"])
            return (None if low is None else low - 1, high) if _is(tree.this, column) else (None, None)
        case exp.EQ() | exp.GT() | exp.GTE() | exp.LT() | exp.LTE():
            return _compared(tree, column)
    return None, None


def _of_type(ends: Limits, kind: pa.DataType) -> Limits:
    """The same with ends that are values of the column."""
    (lower, upper), info = ends, np.iinfo(kind.to_pandas_dtype())
    lower = None if lower is None or lower < info.min else min(lower, int(info.max))
    upper = None if upper is None or upper > info.max else max(upper, int(info.min))
    return lower, upper


def _both(one: Limits, other: Limits) -> Limits:
    lowers, uppers = ([end for end in ends if end is not None] for ends in zip(one, other, strict=True))
    return max(lowers, default=None), min(uppers, default=None)


_TURNED = {exp.GT: exp.LT, exp.GTE: exp.LTE, exp.LT: exp.GT, exp.LTE: exp.GTE, exp.EQ: exp.EQ}


def _compared(tree: Tree, column: Column) -> Limits:
    kind, left, right = type(tree), tree.this, tree.expression
    if _is(right, column):
        kind, left, right = _TURNED[kind], right, left
    value = _number(right)
    if value is None or not _is(left, column):
        return None, None
    lower = {exp.EQ: value - 1, exp.GT: value, exp.GTE: value - 1}.get(kind)
    upper = {exp.EQ: value, exp.LT: value - 1, exp.LTE: value}.get(kind)
    return lower, upper


def _is(node: Tree, column: Column) -> bool:
    return isinstance(node, exp.Column) and node.name.lower() == column.name.lower()


def _number(node: Tree) -> int | None:
    if isinstance(node, exp.Neg):
        value = _number(node.this)
        return None if value is None else -value
    whole = isinstance(node, exp.Literal) and not node.is_string and node.name.isdigit()
    return int(node.name) if whole else None
