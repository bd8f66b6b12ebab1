"""Multi-row statements of the sinks of MySQL's family."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from syncd.drivers.mysql.connection import Server
from syncd.sinks.mysql.layout import layout
from syncd.sinks.mysql.session import Limits
from syncd.sinks.mysql.statements import Writing
from syncd.sinks.mysql.values import literals
from syncd.testing.contracts.sink_kit import INSERT, ITEMS, batch, target


def sizes(flavour: str, rows: int, *, over: bool, most: int = 2000) -> list[int]:
    """Rows of each statement; together they are all rows, in order."""
    limits = Limits(Server(flavour, (8, 0, 0), "8.0.0"), frozenset({"utf8mb4"}), frozenset({"utf8mb4_bin"}), 1 << 24, 0)
    there = batch(ITEMS, [(INSERT, i, (i, "it's", None)) for i in range(rows)]).rows
    writing = Writing(layout(target(), limits), there, most, 1 << 20)
    found = list(writing.insert(np.arange(rows), over=over))
    assert np.concatenate([s.index for s in found]).tolist() == list(range(rows))
    assert all(s.sql.count(b"'it''s'") == len(s.index) for s in found)
    return [len(s.index) for s in found]


@pytest.mark.parametrize(
    ("flavour", "rows", "over", "most", "want"),
    [
        ("oceanbase", 1437, True, 2000, [500, 500, 250, 125, 62]),
        ("oceanbase", 4, True, 2000, [3, 1]),
        ("oceanbase", 11, True, 8, [8, 2, 1]),
        ("oceanbase", 4437, False, 2000, [2000, 2000, 437]),
        ("mariadb", 4437, True, 2000, [2000, 2000, 437]),
    ],
)
def test_few_sizes_of_upserts_at_oceanbase(flavour: str, rows: int, over: bool, most: int, want: list[int]) -> None:
    """It makes a plan for each."""
    assert sizes(flavour, rows, over=over, most=most) == want


def test_quotes_and_backslashes_are_doubled_wherever_they_are() -> None:
    """Also in a slice, whose bytes lie among those of others."""
    texts = pa.array(["it's", "pla\\in", None, "", "'"])
    want = [b"'it''s'", b"'pla\\\\in'", b"NULL", b"''", b"''''"]
    assert literals(texts).to_pylist() == want
    for first in range(5):
        for count in range(6 - first):
            assert literals(texts.slice(first, count)).to_pylist() == want[first : first + count]
    assert literals(pa.array([], pa.string())).to_pylist() == []
    assert literals(pa.array([b"'\x00"], pa.binary())).to_pylist() == [b"_binary'''\x00'"]
