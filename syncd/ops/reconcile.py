"""Reconcile: every value of a table at both ends, chunk by chunk; what is missing, extra or different.

A table without a key is compared as a whole, by how often each row is there.

A live table is never still: a chunk with differences is looked at again. The source is read, everything committed by
then is applied, the sink is read, and the source once more: a key differs when it does so each time, while its row at
the source has stood still. One that never stands still so long is not compared, which is said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from syncd.model import Bound, ChangeBatch, Chunk, KeyValue, TableId, TableSchema, Target, plain, plain_rows
from syncd.spi import Sink, Source
from syncd.transforms import SinkFilter, Transform

SAMPLES = 20
ROUNDS = 3
"""A key is said to differ when it has differed each time, with everything applied in between."""


Key = tuple[object, ...]
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class Different:
    """One row that is at both ends with other values: column -> (source, sink)."""

    key: Key
    columns: dict[str, tuple[object, object]]


@dataclass
class Result:
    """One table at one sink. `missing`: rows the sink lacks; `extra`: rows the source lacks. Samples are capped.

    `kept`: rows the source lacks and the sink is to keep, since its delete policy is `ignore`. `unsettled`: why the
    table was not compared to the end, so that changes on their way may count as differences; "" when it was. `keys`: of
    all rows that differ, where they were asked for (`repair`).
    """

    table: TableId
    sink: str
    rows: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    kept: int = 0
    missing_keys: list[Key] = field(default_factory=list)
    extra_keys: list[Key] = field(default_factory=list)
    samples: list[Different] = field(default_factory=list)
    unsettled: str = ""
    keys: list[Key] = field(default_factory=list, repr=False)

    @property
    def differs(self) -> bool:
        return bool(self.missing or self.extra or self.different)

    @property
    def unnamed(self) -> int:
        """Rows that differ and are not among the samples."""
        named = len(self.missing_keys) + len(self.extra_keys) + len(self.samples)
        return self.missing + self.extra + self.different - named

    @property
    def right(self) -> bool:
        """Compared to the end, and nothing differs."""
        return not (self.differs or self.unsettled)


Verdict = Literal["right", "differs", "not compared"]


def verdict(results: Collection[Result], left_out: Collection[str]) -> Verdict:
    """Of all tables together: "not compared" where nothing differs, but not every table was compared to its end."""
    if any(result.differs for result in results):
        return "differs"
    return "right" if results and not left_out and all(result.right for result in results) else "not compared"


@dataclass(frozen=True)
class Comparison:
    """What one look at one chunk has found: every key that is missing, extra or different, with the wrong values."""

    rows: int
    missing: list[Key]
    extra: list[Key]
    different: list[Different]
    kept: int = 0

    @property
    def keys(self) -> set[Key]:
        return {*self.missing, *self.extra, *(each.key for each in self.different)}

    def only(self, keys: set[Key]) -> Comparison:
        return Comparison(
            self.rows,
            [key for key in self.missing if key in keys],
            [key for key in self.extra if key in keys],
            [each for each in self.different if each.key in keys],
            self.kept,
        )


def reconcile(
    source: Source,
    sink: Sink,
    sink_name: str,
    schema: TableSchema,
    transform: Transform,
    target: Target,
    chunk_bytes: int,
    settle: Callable[[], str],
    *,
    sink_filter: SinkFilter | None = None,
    keep: bool = False,
    samples: int = SAMPLES,
) -> Result:
    """Compare one table. `settle` waits until what is committed now has been applied; it answers why it cannot be.
    `sink_filter`: the sink's own filter. `keep`: the result has all keys that differ. `samples`: so many rows of each
    kind are told."""
    published = _published(transform, sink_filter)
    result = Result(schema.table, sink_name)
    if not target.schema.key:
        found, result.unsettled = _counted(source, sink, schema, published, target, settle)
        _add(result, found, samples)
        return result
    moving: set[Key] = set()
    for left, right in _ends(source, sink, schema, transform, published, target, chunk_bytes):
        found, moved, result.unsettled = _looked_at(target, left, right, result.unsettled, settle)
        moving |= moved
        _add(result, found, samples)
        result.keys += found.keys if keep else ()
    if moving and not result.unsettled:
        some = ", ".join(map(str, sorted(moving, key=repr)[:SAMPLES]))
        result.unsettled = f"{len(moving)} rows changed at the source whenever they were compared: {some}"
    return result


def differing(
    source: Source,
    sink: Sink,
    schema: TableSchema,
    transform: Transform,
    target: Target,
    sink_filter: SinkFilter,
    chunk_bytes: int,
    beat: Callable[[], None],
) -> Iterator[set[Key]]:
    """The keys of a table that differ at one look at both ends, part by part: also those of changes on their way.
    `beat` is called with each batch that is read."""
    published = _published(transform, sink_filter)
    for left, right in _ends(source, sink, schema, transform, published, target, chunk_bytes, beat):
        yield _judged(target, compare_rows(target.schema, left(), right())).keys


Look = Callable[[], pa.Table]
Published = Callable[[ChangeBatch], pa.RecordBatch]
"""Rows of the source -> those that a sink is to have, as it is to have them."""


def _published(transform: Transform, sink_filter: SinkFilter | None) -> Published:
    if sink_filter is None:
        return lambda batch: transform.apply(batch).rows
    return lambda batch: sink_filter.matching(transform.apply(batch)).rows


def _ends(
    source: Source,
    sink: Sink,
    schema: TableSchema,
    transform: Transform,
    published: Published,
    target: Target,
    chunk_bytes: int,
    beat: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Look, Look]]:
    """The rows of each part of a table, at the source and at the sink, to be read as often as one likes."""
    for chunks, lower, upper in _parts(source.chunks(schema, chunk_bytes, None), transform, target):

        def left(chunks: Sequence[Chunk] = chunks) -> pa.Table:
            batches = (published(batch) for chunk in chunks for batch in source.scan(schema, chunk, 0))
            return table_of(target.schema.arrow(), _beating(batches, beat))

        def right(lower: Bound | None = lower, upper: Bound | None = upper) -> pa.Table:
            return table_of(target.schema.arrow(), _beating(sink.scan(target, lower, upper), beat))

        yield left, right


def _beating(batches: Iterator[pa.RecordBatch], beat: Callable[[], None]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        beat()
        yield batch


def _parts(
    chunks: Iterator[Chunk], transform: Transform, target: Target
) -> Iterator[tuple[Sequence[Chunk], Bound | None, Bound | None]]:
    """Chunks of the source, and the bounds of the same rows in the target's key. A job's key that has the source's
    columns in another order has no such bounds: the table is one part then."""
    bound = bounds(transform, target.schema)
    if bound is None:
        yield [*chunks], None, None
        return
    for chunk in chunks:
        yield [chunk], bound(chunk.lower, chunk.normal_lower), bound(chunk.upper, chunk.normal_upper)


Values = tuple[KeyValue, ...] | None


def bounds(transform: Transform, published: TableSchema) -> Callable[[Values, Values], Bound | None] | None:
    """From values of the source's key, and of its identity, to those of the published one, where an added column has
    its one value; None: the source's columns are in another order there."""
    shown = {step.source: step.column.name for step in transform.steps}
    behind = (column.name for column in transform.schema.columns[len(transform.steps) :])
    added = dict(zip(behind, transform.constants, strict=False))  # a transform that does nothing has no steps
    own = [shown.get(name, name) for name in transform.source.identity]
    if [name for name in published.identity if name not in added] != own:
        return None

    def filled(names: Sequence[str], values: tuple[KeyValue, ...]) -> tuple[KeyValue, ...]:
        left = iter(values)
        return tuple(added[name].as_py() if name in added else next(left) for name in names)

    def bound(key: Values, normal: Values) -> Bound | None:
        if key is None or normal is None:
            return None
        return Bound(filled(published.key, key), filled(published.identity, normal))

    return bound


def _looked_at(
    target: Target,
    left: Look,
    right: Look,
    unsettled: str,
    settle: Callable[[], str],
) -> tuple[Comparison, set[Key], str]:
    """One chunk, looked at as often as it takes: what differs, the keys not compared, and what `settle` has said."""
    found = _judged(target, compare_rows(target.schema, left(), right()))
    suspects, moving = found.keys, set[Key]()
    for _ in range(ROUNDS):
        if not suspects or unsettled:
            break
        before = left()
        unsettled = settle()
        if unsettled:
            break
        there, after = right(), left()
        found = _judged(target, compare_rows(target.schema, after, there))
        suspects &= found.keys
        moving |= compare_rows(target.schema, before, after).keys
    return found.only(suspects - moving), suspects & moving, unsettled


def _counted(
    source: Source, sink: Sink, schema: TableSchema, published: Published, target: Target, settle: Callable[[], str]
) -> tuple[Comparison, str]:
    """A table without a key: how often each row is at either end; the key of a difference is the whole row. With what
    differs goes what `settle` has said last.

    Rows are only added: what the sink has before the source is read must be there, and what the source has must be at
    the sink once everything is applied. A TRUNCATE in between is the reason to look again.
    """
    wanted, whole = target.schema.arrow(), Chunk(schema.table, 0)
    found, suspects, unsettled = Comparison(0, [], [], []), None, ""
    for _ in range(ROUNDS):
        before = table_of(wanted, sink.scan(target, None, None))
        left = table_of(wanted, (published(batch) for batch in source.scan(schema, whole, 0)))
        unsettled = settle()
        after = before if unsettled else table_of(wanted, sink.scan(target, None, None))
        found = _judged(target, Comparison(len(left), surplus(left, after), surplus(before, left), []))
        suspects = found.keys if suspects is None else suspects & found.keys
        if not suspects or unsettled:
            break
    return found.only(suspects or set()), unsettled if suspects else ""


def surplus(one: pa.Table, other: pa.Table) -> list[Key]:
    """The rows of `one` that `other` has not, or not as often; each as often as it is too many."""
    names = [str(place) for place in range(one.num_columns)]  # the columns' own could be that of the sum
    both = pa.concat_tables(
        [
            table.rename_columns(names).append_column("", pa.array(np.full(len(table), n)))
            for table, n in ((one, 1), (other, -1))
        ]
    )
    counts = both.group_by(names).aggregate([("", "sum")])
    more = counts.filter(pc.greater(counts.column("_sum"), 0))
    rows = zip(plain_rows([more.column(name) for name in names]), more.column("_sum").to_pylist(), strict=True)
    return [row for row, times in sorted(rows, key=repr) for _ in range(times)]


def _add(total: Result, part: Comparison, samples: int) -> None:
    total.rows += part.rows
    total.missing += len(part.missing)
    total.extra += len(part.extra)
    total.different += len(part.different)
    total.kept += part.kept
    total.missing_keys += part.missing[: samples - len(total.missing_keys)]
    total.extra_keys += part.extra[: samples - len(total.extra_keys)]
    total.samples += part.different[: samples - len(total.samples)]


def _judged(target: Target, found: Comparison) -> Comparison:
    """What a sink that ignores deletes has and the source has not is right."""
    return replace(found, extra=[], kept=len(found.extra)) if target.deletes == "ignore" else found


def table_of(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> pa.Table:
    schema = pa.schema([field.with_nullable(True) for field in schema])  # a twin that a sink does not hold is null
    table = pa.Table.from_batches([batch.cast(schema) for batch in batches], schema=schema)
    for place, kind in enumerate(schema.types):
        if pa.types.is_dictionary(kind):  # joins and comparisons see the words, not their numbers
            table = table.set_column(place, schema.names[place], table.column(place).cast(kind.value_type))
    return table


def compare_rows(schema: TableSchema, left: pa.Table, right: pa.Table) -> Comparison:
    """`left` is the source's, `right` the sink's; both with the schema's columns, keys unique in each."""
    schema = _without_twins(schema, right)
    keys = list(schema.identity)
    pairs = (
        left.select(keys)
        .append_column("_left", pa.array(np.arange(len(left))))
        .join(right.select(keys).append_column("_right", pa.array(np.arange(len(right)))), keys, join_type="full outer")
    )
    at_left, at_right = pairs.column("_left"), pairs.column("_right")
    missing = at_left.filter(pc.is_null(at_right))
    extra = at_right.filter(pc.is_null(at_left))
    both = pc.and_(pc.is_valid(at_left), pc.is_valid(at_right))
    return Comparison(
        len(left),
        _keys(schema, left.take(missing.combine_chunks().sort())),
        _keys(schema, right.take(extra.combine_chunks().sort())),
        _different(schema, left.take(at_left.filter(both)), right.take(at_right.filter(both))),
    )


def _without_twins(schema: TableSchema, sinks: pa.Table) -> TableSchema:
    """Without those that the sink does not hold: there the keys themselves are compared."""
    held = tuple(c for c in schema.columns if not c.normal_of or sinks.column(c.name).null_count < len(sinks))
    return schema if len(held) == len(schema.columns) else replace(schema, columns=held)


def _keys(schema: TableSchema, rows: pa.Table) -> list[Key]:
    return plain_rows([rows.column(name) for name in schema.key])


def _different(schema: TableSchema, left: pa.Table, right: pa.Table) -> list[Different]:
    differs = np.zeros(len(left), bool)
    columns: dict[str, Flags] = {}
    for column in schema.columns:
        name = column.name
        columns[name] = ~_equal(left.column(name), right.column(name))
        if column.source_type == "json":
            _read_json(columns[name], left.column(name), right.column(name))
        differs |= columns[name]
    found = []
    for row in np.flatnonzero(differs):
        key = tuple(plain(left.column(name)[int(row)]) for name in schema.key)
        values = {
            name: (plain(left.column(name)[int(row)]), plain(right.column(name)[int(row)]))
            for name, wrong in columns.items()
            if wrong[row]
        }
        found.append(Different(key, values))
    return found


def _read_json(differs: Flags, left: pa.ChunkedArray, right: pa.ChunkedArray) -> None:
    """Takes out the rows whose texts say the same: a server writes a JSON value in its own way."""
    for row in np.flatnonzero(differs):
        one, other = left[int(row)].as_py(), right[int(row)].as_py()
        if one is not None and other is not None:
            differs[row] = _parsed(one) != _parsed(other)


def _parsed(text: str) -> object:
    try:
        return json.loads(text, parse_int=Decimal, parse_float=Decimal)
    except ValueError:
        return text


def _equal(left: pa.ChunkedArray, right: pa.ChunkedArray) -> Flags:
    """Per row: the same value, or both NULL. Floats are compared by their bits: -0.0 is not 0.0, a NaN is itself."""
    left, right = _bits(left), _bits(right)
    equal = pc.fill_null(pc.equal(left, right), fill_value=False)
    same = pc.or_(equal, pc.and_(pc.is_null(left), pc.is_null(right)))
    return np.asarray(same.to_numpy(zero_copy_only=False), dtype=bool)


def _bits(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Floats as whole numbers of the same bits, anything else as it is."""
    if not pa.types.is_floating(values.type):
        return values
    kind = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[values.type.bit_width]
    return pa.chunked_array([chunk.view(kind) for chunk in values.chunks], kind)
