"""Tags and subscription expressions."""

from __future__ import annotations

import pytest

from syncd import tags


def test_the_default_tag_is_the_name_at_the_target() -> None:
    assert tags.tag_of("shop", "orders") == "shop.orders"
    assert tags.tag_of("a.b", "c") != tags.tag_of("a", "b.c")
    assert tags.tag_of("my shop", "a|b.c%2E") == "my%20shop.a%7Cb%2Ec%252E"
    assert tags.parse(tags.tag_of("my shop", "a|b")).matches(tags.tag_of("my shop", "a|b"))


@pytest.mark.parametrize(
    ("expression", "matching", "others"),
    [
        ("*", ["shop.orders", "x", ""], []),
        (" shop.orders ", ["shop.orders"], ["orders", "other.orders", "shop.orders2"]),
        ("orders", ["shop.orders", "old.orders", "orders", "a.b.orders"], ["orders.x", "shop.myorders"]),
        ("orders||shop.items", ["x.orders", "shop.items"], ["x.items"]),
        ("vip", ["vip"], ["shop.orders"]),
    ],
)
def test_what_an_expression_matches(expression: str, matching: list[str], others: list[str]) -> None:
    found = tags.parse(expression)
    assert [tag for tag in matching + others if found.matches(tag)] == matching
    selected = found.select(matching + others)
    assert selected is None if expression == "*" else selected == frozenset(matching)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("", "empty"),
        ("a ||", "name 2: empty"),
        ("a || *", "stands alone"),
        ("a | b", "single `|`"),
        ("a b", "holds a space"),
        ("a ||| b", "single `|`"),
    ],
)
def test_what_is_wrong_is_said(expression: str, why: str) -> None:
    with pytest.raises(ValueError, match="subscription") as caught:
        tags.parse(expression)
    assert why in str(caught.value)


def test_the_normal_form_drops_repetitions() -> None:
    assert str(tags.parse("b||a || b")) == "b || a"
    assert str(tags.parse(" * ")) == "*"
    assert tags.parse(str(tags.parse("a||b"))) == tags.parse("a || b")


def test_names_that_match_nothing_are_told() -> None:
    assert tags.parse("orders || itms").unmatched(["shop.orders", "shop.items"]) == ("itms",)
    assert tags.parse("*").unmatched(["a"]) == ()
