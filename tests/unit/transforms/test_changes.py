"""A filter on changes: rows that leave, rows that enter, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from syncd.engine.lanes import split_key_changes
from syncd.model import Op
from syncd.transforms import build
from tests.unit.transforms.tables import SCHEMA, batch, rule

DE, FR, NO = {"country": "DE"}, {"country": "FR"}, {"country": None}
WHERE = rule(where="country = 'DE'")


def one(op: Op, after: Mapping[str, Any], before: Mapping[str, Any] | None = None, *, refresh: bool = False) -> str:
    """What becomes of one change: the op's name, or "" when it is gone."""
    old = None if before is None else [{"id": 1, **before}]
    out = build(WHERE, SCHEMA).apply(batch([after], [op], old), refresh=refresh)
    return Op(int(out.op[0])).name if len(out) else ""


@pytest.mark.parametrize(
    ("op", "after", "before", "becomes"),
    [
        (Op.READ, DE, None, "READ"),
        (Op.READ, FR, None, ""),
        (Op.READ, NO, None, ""),
        (Op.INSERT, DE, None, "INSERT"),
        (Op.INSERT, FR, None, ""),
        (Op.UPDATE, DE, DE, "UPDATE"),
        (Op.UPDATE, DE, FR, "INSERT"),
        (Op.UPDATE, DE, NO, "INSERT"),
        (Op.UPDATE, FR, DE, "DELETE"),
        (Op.UPDATE, NO, DE, "DELETE"),
        (Op.UPDATE, FR, FR, ""),
        (Op.UPDATE, NO, FR, ""),
        (Op.UPDATE, FR, None, "DELETE"),
        (Op.UPDATE, DE, None, "UPDATE"),
        (Op.DELETE, DE, None, "DELETE"),
        (Op.DELETE, FR, None, ""),
        (Op.DELETE, NO, None, "DELETE"),
    ],
)
def test_what_becomes_of_a_change(op: Op, after: dict[str, Any], before: dict[str, Any] | None, becomes: str) -> None:
    assert one(op, after, before) == becomes


def test_a_row_that_is_read_again_and_does_not_match_is_a_delete() -> None:
    assert one(Op.READ, FR, refresh=True) == "DELETE"
    assert one(Op.READ, DE, refresh=True) == "READ"


def test_before_columns_are_what_the_filter_looks_at() -> None:
    assert build(WHERE, SCHEMA).before_columns == ("country",)
    assert build(rule(where="small > 1 OR email IS NULL"), SCHEMA).before_columns == ("email", "small")
    assert build(rule(), SCHEMA).before_columns == ()


def test_a_row_that_leaves_shows_its_old_key_and_nothing_new() -> None:
    old: list[dict[str, Any]] = [{"id": 50, "country": "DE", "email": "old@example.org"}]
    out = build(WHERE, SCHEMA).apply(batch([{**FR, "id": 5, "email": "new@example.org"}], [Op.UPDATE], old))
    row = out.rows.to_pylist()[0]
    assert {name: value for name, value in row.items() if value is not None} == old[0]
    assert out.before is not None
    assert out.before.to_pylist() == [dict.fromkeys(old[0])]


def test_a_delete_that_may_not_match_shows_its_key_only() -> None:
    out = build(WHERE, SCHEMA).apply(batch([NO], [Op.DELETE]))
    row = out.rows.to_pylist()[0]
    assert {name: value for name, value in row.items() if value is not None} == {"id": 1}


def test_a_row_that_enters_has_no_before_image() -> None:
    old: list[dict[str, Any]] = [{"id": 1, **FR}, {"id": 1, **DE}]
    out = build(WHERE, SCHEMA).apply(batch([DE, DE], [Op.UPDATE, Op.UPDATE], old))
    assert out.before is not None
    assert out.before.to_pylist() == [{"id": None, "country": None}, {"id": 1, "country": "DE"}]


def test_a_missing_before_image_in_a_batch_that_has_some() -> None:
    old: list[dict[str, Any]] = [{"id": 1, **DE}, {"id": None, "country": None}]
    out = build(WHERE, SCHEMA).apply(batch([FR, {**FR, "id": 2}], [Op.UPDATE, Op.UPDATE], old))
    assert [Op(int(op)).name for op in out.op] == ["DELETE", "DELETE"]
    assert out.rows.column("id").to_pylist() == [1, 2]


def test_a_filter_may_look_at_columns_that_are_masked_or_left_out() -> None:
    both = rule(where="country = 'DE' AND email LIKE 'ann%'", exclude=("country",), mask={"email": "redact"})
    old: list[dict[str, Any]] = [{"id": 1, "country": "DE", "email": "ann@example.org"}]
    out = build(both, SCHEMA).apply(batch([{"id": 1, "email": "ann@x.org"}], [Op.UPDATE], old))
    assert "country" not in out.rows.schema.names
    assert out.rows.column("email").to_pylist() == ["***"]
    assert out.before is not None
    assert out.before.to_pylist() == [{"id": 1, "email": "***"}]


def test_order_and_seq_stay() -> None:
    out = build(WHERE, SCHEMA).apply(batch([DE, FR, DE, FR, DE]))
    assert out.seq.tolist() == [1, 3, 5]
    assert len(build(WHERE, SCHEMA).apply(batch([]))) == 0


def test_a_key_with_an_added_column_changes_like_any_other() -> None:
    """The old key is told in full, and only where there was a row before."""
    transform = build(rule(add={"shard": "s1", "note": "x"}, key=("shard", "id")), SCHEMA)
    rows = [{"id": 5}, {"id": 2}, {"id": 3}]
    out = transform.apply(batch(rows, [Op.UPDATE, Op.UPDATE, Op.INSERT], [{"id": 1}, {"id": 2}, {"id": None}]))
    assert out.before is not None
    assert out.before.to_pylist() == [{"id": 1, "shard": "s1"}, {"id": 2, "shard": "s1"}, {"id": None, "shard": None}]
    split = split_key_changes(out)
    keys = [(row["shard"], row["id"]) for row in split.rows.to_pylist()]
    assert [*zip(split.op.tolist(), keys, strict=True)] == [
        (Op.DELETE, ("s1", 1)),
        (Op.INSERT, ("s1", 5)),
        (Op.UPDATE, ("s1", 2)),
        (Op.INSERT, ("s1", 3)),
    ]
