"""A key as typed on a command line."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from syncd.errors import ConfigError
from syncd.model import Column, TableId, TableSchema
from syncd.partition import key_text


def schema(*types: pa.DataType) -> TableSchema:
    columns = tuple(Column("abc"[n], kind) for n, kind in enumerate(types))
    return TableSchema(TableId("shop", "t"), 1, columns, tuple(c.name for c in columns), "primary")


@pytest.mark.parametrize(
    ("types", "text", "values"),
    [
        ([pa.int64()], "42", [42]),
        ([pa.uint64()], "18446744073709551615", [2**64 - 1]),
        ([pa.int64()], "[42]", [42]),
        ([pa.int64()], '{"a": 42}', [42]),
        ([pa.string()], "a,b", ["a,b"]),
        ([pa.string()], "[not json", ["[not json"]),
        ([pa.string()], '["x"]', ["x"]),
        ([pa.int32(), pa.string()], "7,x y", [7, "x y"]),
        ([pa.int32(), pa.string()], '7, "x,y"', [7, "x,y"]),
        ([pa.int32(), pa.string()], '{"b": "x", "a": 7}', [7, "x"]),
        ([pa.decimal128(10, 2)], "1.50", [Decimal("1.50")]),
        ([pa.date32()], "2026-01-02", [dt.date(2026, 1, 2)]),
        ([pa.timestamp("us")], "2026-01-02 03:04:05.000006", [dt.datetime(2026, 1, 2, 3, 4, 5, 6)]),  # noqa: DTZ001
        ([pa.duration("us")], "-100:00:00.5", [-dt.timedelta(hours=100, seconds=0.5)]),
        ([pa.binary()], "0x00ff", [b"\0\xff"]),
        ([pa.bool_()], "[true]", [True]),
        ([pa.dictionary(pa.int8(), pa.string())], "red", ["red"]),
    ],
)
def test_what_is_typed_becomes_one_row(types: list[pa.DataType], text: str, values: list[Any]) -> None:
    row = key_text(schema(*types), text)
    assert [column.to_pylist() for column in row.columns] == [[value] for value in values]
    assert [field.type for field in row.schema] == types


@pytest.mark.parametrize(
    ("types", "text", "why"),
    [
        ([pa.int64()], "x", "'a' is of type int64: "),
        ([pa.int64(), pa.int64()], "1", "1 values for the key columns (a, b)"),
        ([pa.int64(), pa.int64()], "[1", "not JSON"),
        ([pa.int64()], '{"z": 1}', "names ['z']"),
        ([pa.int64()], "[null]", "a key value is a number"),
        ([pa.binary()], "0xzz", "'a' is of type binary: "),
    ],
)
def test_what_is_no_key_is_refused_with_the_reason(types: list[pa.DataType], text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        key_text(schema(*types), text)
    assert why in str(caught.value)
