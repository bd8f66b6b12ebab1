"""What reconcile calls missing, extra and different."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa

from syncd.model import Column, TableId, TableSchema
from syncd.ops.reconcile import compare_rows, surplus

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
