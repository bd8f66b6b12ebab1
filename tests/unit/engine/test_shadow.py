"""The names of tables that are loaded beside a target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.engine.shadow import MOST_BYTES, shadow_name

names = st.text(st.sampled_from("a_é漢😀"), min_size=1, max_size=64)
suffixes = st.sampled_from(["_syncd_7", "_syncd_12345", "_syncd_0123456789ab_7", "_syncd_ba9876543210_7"])


@given(names, names, suffixes, suffixes)
def test_no_name_is_too_long_and_no_two_are_alike(one: str, other: str, its: str, others: str) -> None:
    found, second = shadow_name(one, its), shadow_name(other, others)
    assert len(found.encode()) <= MOST_BYTES
    assert found.endswith(its)
    assert (found == second) == ((one, its) == (other, others))


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("orders", "orders_syncd_7"),
        ("o" * 52, "o" * 52 + "_syncd_7"),
        ("o" * 53, "o" * 39 + "_08bfb1e248d0_syncd_7"),
        ("é" * 40, "é" * 19 + "_cb7e03370256_syncd_7"),
    ],
)
def test_the_names_are_those_of_a_load_that_is_under_way(target: str, found: str) -> None:
    """They must stay what they are: a daemon that is upgraded goes on with them."""
    assert shadow_name(target, "_syncd_7") == found
