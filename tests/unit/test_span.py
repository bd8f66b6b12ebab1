"""Resync by range: what of a key's order a condition leaves, and which keys it names at the two ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from syncd import control
from syncd.errors import ConfigError, FatalError
from syncd.model import Bound, ChangeBatch, Chunk, Column, Head, Position, TableId, TableSchema, Target
from syncd.ops.span import Asked, limits, span
from syncd.spi import Sink, Source
from syncd.state import Phase, SchemaPair, TableRecord
from syncd.transforms import build
from syncd.transforms.where import parse
from tests.unit.transforms.tables import rule

ID = Column("id", pa.int32(), False, "int")
SCHEMA = TableSchema(
    TableId("shop", "t"),
    1,
    (ID, Column("v", pa.int64(), True, "bigint"), Column("secret", pa.int64(), True, "bigint")),
    ("id",),
    "primary",
)


@pytest.mark.parametrize(
    ("condition", "ends"),
    [
        ("id = 7", (6, 7)),
        ("id > 7 AND ID <= 9", (7, 9)),
        ("id >= 7 AND v = 3", (6, None)),
        ("id BETWEEN -5 AND 9 AND (id < 4)", (-6, 3)),
        ("10 > id AND 2 <= id", (1, 9)),
        ("id > 7 OR id < 3", (None, None)),
        ("NOT id > 7", (None, None)),
        ("id > 7.5", (None, None)),
        ("id > v", (None, None)),
        ("v BETWEEN 1 AND 2", (None, None)),
    ],
)
def test_limits(condition: str, ends: tuple[int | None, int | None]) -> None:
    assert limits(parse(condition), ID) == ends


class Ends:
    """A source and a sink that hold these rows, by id; `asked`: the limits of each read."""

    def __init__(self, schema: TableSchema, rows: dict[int, tuple[int, int]]) -> None:
        self.schema, self.rows, self.asked = schema, rows, list[object]()

    def chunks(self, schema: TableSchema, chunk_bytes: int, after: Chunk | None) -> Iterator[Chunk]:
        lower = after.upper if after else None
        for number, upper in enumerate([(100,), (200,), None]):
            if lower is None or upper is None or upper > lower:
                yield Chunk(schema.table, number, lower, upper, lower, upper)
                lower = upper

    def scan(self, of: TableSchema | Target, lower: Any, upper: Any) -> Iterator[Any]:
        if isinstance(of, TableSchema):
            lower, upper = lower.lower, lower.upper
        else:
            lower, upper = (end and cast(Bound, end).key for end in (lower, upper))
        self.asked.append((lower, upper))
        low, high = (lower or (-1000,))[0], (upper or (1000,))[0]
        found = [(i, *values) for i, values in self.rows.items() if low < i <= high]
        arrays = [pa.array([row[n] for row in found], column.type) for n, column in enumerate(self.schema.columns)]
        rows = pa.RecordBatch.from_arrays(arrays, schema=self.schema.arrow())
        many = np.zeros(len(found), np.uint8)
        yield ChangeBatch(self.schema, rows, many, many.astype(np.uint64)) if isinstance(of, TableSchema) else rows


def named(condition: str, source: Ends, sink: Ends, **settings: Any) -> tuple[list[Any], list[Any]]:
    transform = build(rule(**settings), SCHEMA)
    sink.schema = transform.schema
    asked = Asked(parse(condition), SchemaPair(SCHEMA, transform.schema), transform)
    target = Target(transform.schema, "shop", "t", "apply")
    found = span(asked, cast(Source, source), iter([("copy", cast(Sink, sink), target)]), 1000)
    return sorted(found.rows), sorted(found.extra["copy"])


def test_keys_of_both_ends() -> None:
    source = Ends(SCHEMA, {5: (1, 0), 50: (1, 0), 150: (1, 0), 250: (2, 0)})
    sink = Ends(SCHEMA, {5: (1, 0), 51: (1, 0), 150: (2, 0), 250: (1, 0), 300: (9, 0)})
    assert named("v = 1 AND id > 10", source, sink) == ([(50,), (150,)], [(51,), (250,)])
    assert (source.asked, sink.asked) == ([((10,), (100,)), ((100,), (200,)), ((200,), None)], [((10,), None)])
    assert named("id <= 150 AND id > 99999999999", source, sink) == ([], [])
    source.asked.clear()
    assert named("id BETWEEN 60 AND 150", source, sink) == ([(150,)], [])
    assert source.asked == [((59,), (100,)), ((100,), (200,))]


def test_under_other_names_and_hidden_ones() -> None:
    source = Ends(SCHEMA, {5: (1, 8), 6: (1, 9)})
    sink = Ends(SCHEMA, {7: (1, 8)})
    assert named("v = 1", source, sink, rename={"v": "value", "id": "number"}) == ([(5,), (6,)], [(7,)])
    with pytest.raises(ConfigError, match=r"no column 'secret', as the sinks have it.*\[C124\]"):
        named("secret = 8", source, sink, mask={"secret": "null"})
    with pytest.raises(ConfigError, match=r"shop.t has no column 'w'; there is: id, v, secret"):
        named("w = 8", source, sink)
    with pytest.raises(ConfigError, match="is not in the subset of SQL"):
        named("v = (SELECT 1)", source, sink)


def test_rows_that_the_job_leaves_out_are_not_read() -> None:
    source, sink = Ends(SCHEMA, {5: (1, 8), 6: (1, 9)}), Ends(replace(SCHEMA), {5: (1, 8), 6: (1, 9)})
    assert named("v = 1", source, sink, where="secret = 8") == ([(5,)], [(6,)])


def test_a_table_that_is_not_there_yet_is_not_looked_at() -> None:
    """Where another sink has it already, that one is."""
    head = Head(Position("log:1"), 1)
    new, begun = (TableRecord(SCHEMA.table, "a", phase, head) for phase in (Phase.NEW, Phase.SNAPSHOT))
    live, anew = replace(new, sink="b", phase=Phase.LIVE), replace(begun, sink="c", shadow="_syncd_2")

    def asked(*records: TableRecord) -> list[str]:
        state = SimpleNamespace(tables=lambda: [*records], halts=dict)
        found = control._with_lanes(cast("Any", state), cast("Any", SimpleNamespace(name="shop")), SCHEMA.table)
        return [record.sink for record in found]

    assert asked(new, live, anew) == ["b", "c"]
    with pytest.raises(FatalError, match="NEW at a; HALTED at d: why; its load reads all of its rows"):
        asked(new, replace(begun, sink="d").halted("why", 1))
    with pytest.raises(FatalError, match="NEEDS_RESYNC at b; `syncd jobs resync` without --where"):
        asked(replace(live, phase=Phase.NEEDS_RESYNC))
