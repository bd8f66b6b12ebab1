"""Normalised keys of a small collation of our own: padding, levels, nulls, slices."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.sources.mysql.weights import Level, Weights

POINTS = 1 << 11
SPACE = 0x20


def level(weigh: dict[str, int], missing: int) -> Level:
    chars = [b"" if chr(p) == "\x01" else weigh.get(chr(p), missing or p).to_bytes(2, "big") for p in range(POINTS)]
    offsets = np.concatenate(([0], np.cumsum([len(c) for c in chars]))).astype(np.int32)
    return Level(offsets, np.frombuffer(b"".join(chars), np.uint8))


@cache
def weights(*, pad: bool, levels: int = 1) -> Weights:
    folded = {chr(p): ord(chr(p).lower()) for p in range(65, 91)} | {"é": ord("e"), "É": ord("e"), "\u00a0": SPACE}
    tables = [level(folded, 0)]
    if levels == 2:
        tables.append(level({chr(p): 9 for p in range(65, 91)}, 2))
    return Weights(2, tuple([SPACE, 2][:levels]) if pad else (), tuple(tables), np.ones(POINTS, np.bool_))


def compared(a: str, b: str, *, pad: bool, levels: int) -> int:
    """The order by definition: unit after unit, the shorter followed by spaces for ever where the collation pads."""
    made = weights(pad=False, levels=levels)
    for number, (one, two) in enumerate(zip(made.plain(a), made.plain(b), strict=True)):
        left, right = ([int.from_bytes(x[i : i + 2], "big") for i in range(0, len(x), 2)] for x in (one, two))
        if pad:
            size = max(len(left), len(right))
            blank = [SPACE, 2][number]
            left, right = (x + [blank] * (size - len(x)) for x in (left, right))
        if left != right:
            return -1 if left < right else 1
    return 0


texts = st.lists(st.text(alphabet="aAbeé \t\x01\u00a0Z", max_size=6), min_size=1, max_size=12)


def check(values: list[str], *, pad: bool, levels: int) -> None:
    keys = weights(pad=pad, levels=levels).keys(pa.array(values, pa.string())).to_pylist()
    for a, one in zip(values, keys, strict=True):
        for b, two in zip(values, keys, strict=True):
            assert (one > two) - (one < two) == compared(a, b, pad=pad, levels=levels), (a, b)


@settings(deadline=None)
@given(texts)
def test_pad_space(values: list[str]) -> None:
    check(values, pad=True, levels=1)


@settings(deadline=None)
@given(texts)
def test_no_pad(values: list[str]) -> None:
    check(values, pad=False, levels=1)


@settings(deadline=None)
@given(texts)
def test_two_levels(values: list[str]) -> None:
    check(values, pad=False, levels=2)
    check(values, pad=True, levels=2)


def test_nulls_slices_and_nothing() -> None:
    made = weights(pad=True)
    values = pa.array(["A", None, "é ", "", "b"])
    keys = made.keys(values)
    assert keys.null_count == 1
    assert keys[2].as_py() == made.keys(pa.array(["E"]))[0].as_py()
    assert made.keys(values.slice(2, 2)).to_pylist() == keys.slice(2, 2).to_pylist()
    assert made.keys(pa.array([], pa.string())).to_pylist() == []
    assert made.keys(pa.array([None], pa.string())).to_pylist() == [None]


def test_large_batches_are_taken_in_parts() -> None:
    made = weights(pad=True)
    values = [f"Name {n} é" for n in range(20_000)]
    keys = made.keys(pa.array(values)).to_pylist()
    for n in (0, 8191, 8192, 19_999):
        assert keys[n] == made.keys(pa.array([values[n]]))[0].as_py()


def test_bytes_as_weights() -> None:
    """A binary collation that pads: UTF-8 bytes are in the order of the code points."""
    made = Weights(1, (SPACE,))
    keys = made.keys(pa.array(["a", "a ", "a\t", "a b", "ä"])).to_pylist()
    assert keys[0] == keys[1]
    assert keys[2] < keys[0] < keys[3] < keys[4]


def test_contractions_are_longest_first() -> None:
    plain = weights(pad=False)
    made = Weights(2, (), plain.levels, plain.known, {"ab": (b"\x07\x00",), "abe": (b"\x08\x00",)})
    keys = made.keys(pa.array(["xab", "abe", "aab", "a", "b"])).to_pylist()
    assert keys == [b"\0x\x07\0", b"\x08\0", b"\0a\x07\0", b"\0a", b"\0b"]
