"""A table's name as text, and values as Python has them, and back."""

from __future__ import annotations

from datetime import date, datetime

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from syncd.model import TableId, column_of, plain_rows

parts = st.text(st.sampled_from("ab.` "), min_size=1, max_size=6)
tables = st.builds(TableId, parts, parts)


@given(tables, tables)
def test_no_two_tables_have_one_text_and_each_is_found_again(one: TableId, other: TableId) -> None:
    assert (str(one) == str(other)) == (one == other)
    assert TableId.parse(str(one)) == one


def test_texts() -> None:
    assert str(TableId("shop", "orders")) == "shop.orders"
    assert str(TableId("my.db", "t")) == "`my.db`.t"
    assert str(TableId("my", "db.t`s")) == "my.`db.t``s`"
    assert TableId.parse("my.db.t") == TableId("my", "db.t")
    assert TableId.parse("no dot") == TableId("no dot", "")


def test_dates_of_a_year_that_python_has_not() -> None:
    days = pa.array([-719_528, None, 0], pa.int32()).cast(pa.date32())
    moments = days.cast(pa.timestamp("us"))
    rows = plain_rows([days, pa.chunked_array([moments])])
    first = datetime(1970, 1, 1)  # noqa: DTZ001
    assert rows == [("0000-01-01", "0000-01-01 00:00:00.000000"), (None, None), (date(1970, 1, 1), first)]
    for column, values in zip((days, moments), zip(*rows, strict=True), strict=True):
        assert column_of(values, column.type).equals(column)
    assert column_of([1, None], pa.int8()).to_pylist() == [1, None]
