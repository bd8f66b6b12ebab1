"""A table's name as text, and back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncd.model import TableId

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
