"""What reconcile calls missing, extra and different."""

from __future__ import annotations

import io
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import pyarrow as pa
import pytest
from rich.console import Console

from syncd import control, demo
from syncd.cli import COMPARED
from syncd.model import Column, TableId, TableSchema
from syncd.ops.reconcile import Result, Verdict, bounds, compare_rows, surplus
from syncd.transforms import build
from tests.unit.transforms.tables import rule

SCHEMA = TableSchema(
    TableId("shop", "t"),
    1,
    (
        Column("a", pa.int64(), False),
        Column("b", pa.string(), False),
        Column("x", pa.float64()),
        Column("d", pa.decimal128(10, 2)),
    ),
    ("a", "b"),
    "primary",
)


def rows(*values: tuple[object, ...]) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(["a", "b", "x", "d"], row, strict=True)) for row in values], schema=SCHEMA.arrow()
    )


def test_equal_rows_are_right_in_any_order() -> None:
    one = rows((1, "x", float("nan"), Decimal("1.00")), (2, "y", None, None))
    other = rows((2, "y", None, None), (1, "x", float("nan"), Decimal("1.00")))
    assert not compare_rows(SCHEMA, one, other).keys


def test_floats_are_compared_by_their_bits() -> None:
    left, right = (pa.concat_tables([rows((1, "x", None, None)), rows((2, "y", zero, None))]) for zero in (0.0, -0.0))
    assert compare_rows(SCHEMA, left, left).keys == set()
    assert [str(each.columns) for each in compare_rows(SCHEMA, left, right).different] == ["{'x': (0.0, -0.0)}"]
    assert surplus(left, right) == [(2, "y", 0.0, None)]


def test_dates_of_the_year_0_are_named() -> None:
    schema = replace(SCHEMA, columns=(Column("k", pa.date32(), False), Column("d", pa.date32())), key=("k",))
    days = pa.array([-719_528, -719_527], pa.int32()).cast(pa.date32())
    left = pa.Table.from_arrays([days, days], schema=schema.arrow())
    right = pa.Table.from_arrays([days[:1], days[1:]], schema=schema.arrow())
    result = compare_rows(schema, left, right)
    assert result.missing == [("0000-01-02",)]
    assert {each.key: each.columns for each in result.different} == {
        ("0000-01-01",): {"d": ("0000-01-01", "0000-01-02")}
    }
    assert surplus(left, right) == [("0000-01-01", "0000-01-01"), ("0000-01-02", "0000-01-02")]


def test_each_kind_of_difference_is_named() -> None:
    left = rows((1, "only left", 1.0, None), (2, "both", 1.0, Decimal("1.00")), (3, "null", None, None))
    right = rows((9, "only right", 1.0, None), (2, "both", 1.0, Decimal("1.01")), (3, "null", 0.0, None))
    result = compare_rows(SCHEMA, left, right)
    assert result.missing == [(1, "only left")]
    assert result.extra == [(9, "only right")]
    assert {each.key: each.columns for each in result.different} == {
        (2, "both"): {"d": (Decimal("1.00"), Decimal("1.01"))},
        (3, "null"): {"x": (None, 0.0)},
    }


def test_keys_that_differ_in_one_column_only_are_two_rows() -> None:
    result = compare_rows(SCHEMA, rows((1, "a", None, None)), rows((1, "b", None, None)))
    assert (result.missing, result.extra) == ([(1, "a")], [(1, "b")])


def test_rows_without_a_key_are_counted() -> None:
    one = (1, "x", float("nan"), Decimal("1.00"))
    left = rows(one, one, (2, "y", None, None), (2, "y", None, None), (3, "z", 0.0, None))
    right = rows((2, "y", None, None), one, (3, "z", None, None), one, (2, "y", None, None))
    assert surplus(left, rows(*map(tuple, (row.values() for row in left.to_pylist()[::-1])))) == []
    assert surplus(left, right) == [(3, "z", 0.0, None)]
    assert surplus(right, left) == [(3, "z", None, None)]
    assert surplus(rows(*[(2, "y", None, None)] * 5), left) == [(2, "y", None, None)] * 3


def test_rows_of_every_type_are_counted() -> None:
    table = pa.table(
        {
            "bytes": pa.array([b"a", None]),
            "time": pa.array([1, None], pa.duration("us")),
            "at": pa.array([1, None], pa.timestamp("us", "UTC")),
            "day": pa.array([1, None], pa.date32()),
            "wide": pa.array([Decimal("1.5"), None], pa.decimal256(65, 30)),
            "small": pa.array([1, None], pa.uint8()),
            "_sum": pa.array([True, None]),
        }
    )
    assert surplus(table, table.slice(1)) == [tuple(table.slice(0, 1).to_pylist()[0].values())]


RIGHT = Result(SCHEMA.table, "copy", rows=3)
WRONG = Result(SCHEMA.table, "copy", rows=3, missing=1)
UNKNOWN = Result(SCHEMA.table, "copy", unsettled="the table is gone")


@pytest.mark.parametrize(
    ("results", "left_out", "verdict", "code", "says"),
    [
        ([RIGHT, RIGHT], {}, "right", 0, "Both ends hold the same values."),
        ([RIGHT, WRONG, UNKNOWN], {}, "differs", 1, "The two ends differ."),
        ([RIGHT, UNKNOWN], {}, "not compared", 4, "Not every table was compared to the end."),
        ([RIGHT], {"shop.u": "it has no key"}, "not compared", 4, "Not every table was compared to the end."),
        ([], {}, "not compared", 4, "Not every table was compared to the end."),
    ],
)
def test_what_was_not_compared_is_not_right(
    monkeypatch: pytest.MonkeyPatch,
    results: list[Result],
    left_out: dict[str, str],
    verdict: Verdict,
    code: int,
    says: str,
) -> None:
    monkeypatch.setattr(control, "reconcile", lambda *_: results)
    monkeypatch.setattr(control, "left_out", lambda *_: left_out)
    shown = io.StringIO()
    found = demo._compare(Console(file=shown), cast("Any", None), cast("Any", None))
    assert (found, COMPARED[found]) == (verdict, code)
    assert shown.getvalue().strip() == says
    assert [result.right for result in results] == [result is RIGHT for result in results]


@pytest.mark.parametrize(
    ("settings", "becomes"),
    [
        ({}, (1, "x")),
        ({"add": {"shard": "s"}}, (1, "x")),
        ({"add": {"shard": "s", "n": 7}, "key": ("shard", "a", "n", "b")}, ("s", 1, 7, "x")),
        ({"rename": {"a": "b", "b": "a"}, "key": ("a", "b")}, (1, "x")),
        ({"key": ("b", "a")}, None),
        ({"add": {"shard": "s"}, "key": ("b", "shard", "a")}, None),
    ],
)
def test_bounds_of_a_chunk_are_those_of_the_key_that_the_job_gives(settings: dict[str, Any], becomes: object) -> None:
    """The sink is asked for the rows between them, in the order of its own key."""
    transform = build(replace(rule(**settings), table=SCHEMA.table), SCHEMA)
    made = bounds(transform, transform.schema)
    assert (made and made((1, "x"), (1, "x"))) == (becomes and (becomes, becomes))
    assert made is None or made(None, None) is None
