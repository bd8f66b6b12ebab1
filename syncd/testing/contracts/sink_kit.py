"""What the conformance suite of sinks writes with: a small table, batches from tuples, and what is live afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from syncd.model import (
    Bound,
    ChangeBatch,
    Column,
    Ddl,
    KeyValue,
    Lane,
    Op,
    SchemaChange,
    TableId,
    TableSchema,
    Target,
)
from syncd.spi import Context, Mark, Sink, Ticket

Change = tuple[Op, int, tuple[Any, ...]]
"""(op, seq, the row's values in the order of the columns)."""

Factory = Callable[[], Sink]
"""Makes a new, closed instance of the sink under test, on the same target each time. Picklable (functools.partial)."""

OWNER = "job/sink"
ACT = Ticket(OWNER, 1, 0)
"""With which acts are done."""
LANE = Lane("t", 0)
READ, INSERT, UPDATE, DELETE = Op.READ, Op.INSERT, Op.UPDATE, Op.DELETE

ITEMS = TableSchema(
    table=TableId("shop", "items"),
    version=1,
    columns=(
        Column("id", pa.int64(), nullable=False, source_type="bigint"),
        Column("name", pa.string(), nullable=False, source_type="varchar(2000)"),
        Column("qty", pa.int64(), source_type="bigint"),
    ),
    key=("id",),
    key_from="primary",
)
KEYLESS = replace(ITEMS, table=TableId("shop", "visits"), key=(), key_from="")


def made(plugin: Callable[[Any, Context], Sink], options: Any, directory: Path) -> Sink:
    """A new, closed instance. `partial(made, MySink, options, tmp_path)` is a Factory that can be pickled."""
    return plugin(options, Context(OWNER, directory))


def target(schema: TableSchema = ITEMS, **policies: Any) -> Target:
    return Target(schema, "shop", schema.table.name, **policies)


def batch(schema: TableSchema, changes: Sequence[Change]) -> ChangeBatch:
    """A batch of these changes, in their order."""
    columns = list(zip(*(values for _, _, values in changes), strict=True)) or [()] * len(schema.columns)
    arrays = [_array(values, c.type) for values, c in zip(columns, schema.columns, strict=True)]
    rows = pa.RecordBatch.from_arrays(arrays, schema=schema.arrow())
    ops = np.array([op for op, _, _ in changes], dtype=np.uint8)
    return ChangeBatch(schema, rows, ops, np.array([seq for _, seq, _ in changes], dtype=np.uint64))


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_dictionary(kind):
        return pa.array(values, kind)
    # As MySQL gives an ENUM: "" is in front of its members, of which one may be "", too.
    coded = pa.array(values, kind.value_type).dictionary_encode()
    words = pa.concat_arrays([pa.array([""], kind.value_type), coded.dictionary])
    return pa.DictionaryArray.from_arrays(pc.add(coded.indices, 1).cast(kind.index_type), words)


def gone(schema: TableSchema, row: Sequence[Any]) -> tuple[Any, ...]:
    """A deleted row of which the source gives the key alone."""
    keep = {*schema.key, *schema.identity}
    return tuple(v if c.name in keep else None for v, c in zip(row, schema.columns, strict=True))


@dataclass
class Writer:
    """Writes as one owner under one epoch, and counts. `lane` None: without marks, as a chunk's writer does."""

    sink: Sink
    target: Target
    owner: str = OWNER
    epoch: int = 1
    lane: Lane | None = LANE
    number: int = 0
    seqs: dict[str, int] = field(default_factory=dict)

    def ticket(self, changes: Sequence[Change]) -> Ticket:
        """The next call's ticket; its mark says that the lane has got past these changes."""
        self.number += 1
        if self.lane is None:
            return Ticket(self.owner, self.epoch, self.number)
        self.seqs["source"] = max(seq for _, seq, _ in changes)
        return Ticket(self.owner, self.epoch, self.number, {self.lane: Mark(self.number, "queue-1", dict(self.seqs))})

    def write(self, *changes: Change) -> Ticket:
        ticket = self.ticket(changes)
        self.sink.write(self.target, batch(self.target.schema, changes), ticket)
        return ticket


def bound(key: tuple[KeyValue, ...] | None) -> Bound | None:
    """Of a key without twins, or of the twins where the sink holds them."""
    return None if key is None else Bound(key, key)


def rows(
    sink: Sink, of: Target, lower: tuple[KeyValue, ...] | None = None, upper: tuple[KeyValue, ...] | None = None
) -> list[tuple[Any, ...]]:
    """The live rows of a range as tuples, in the order in which they came."""
    return [tuple(row.values()) for part in sink.scan(of, bound(lower), bound(upper)) for row in part.to_pylist()]


def live(sink: Sink, of: Target) -> dict[Any, tuple[Any, ...]]:
    """Key -> the other columns, of a table whose key is its first column; each key once."""
    found = rows(sink, of)
    keyed = {row[0]: row[1:] for row in found}
    assert len(keyed) == len(found), f"keys come more than once: {sorted(row[0] for row in found)}"
    return keyed


def change(kind: Ddl, of: Target, seq: int) -> SchemaChange:
    return SchemaChange(kind, of.schema, seq, f"{kind.value} of the test")


def altered(
    before: Target, after: Target, seq: int, *renamed: tuple[str, str], kept: tuple[str, ...] = ()
) -> SchemaChange:
    """An ALTER from the one to the other."""
    text = "alter of the test"
    return SchemaChange(Ddl.ALTER, after.schema, seq, text, before=before.schema, renamed=renamed, kept=kept)


def with_columns(schema: TableSchema, *columns: Column) -> TableSchema:
    """The next version of the schema, with these columns."""
    return replace(schema, version=schema.version + 1, columns=columns)


def with_column(schema: TableSchema, column: Column, at: int) -> TableSchema:
    """The schema after `column` was added as the `at`-th."""
    columns: Iterable[Column] = (*schema.columns[:at], column, *schema.columns[at:])
    return replace(schema, version=schema.version + 1, columns=tuple(columns))
