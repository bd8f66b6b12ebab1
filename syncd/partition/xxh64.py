"""XXH64 (seed 0) of many byte strings at once, in NumPy: each step is taken by all strings that have it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(p)
    for p in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
)
_SEEDS = tuple(np.uint64(s) for s in (0x60EA27EEADC0B5D6, 0xC2B2AE3D27D4EB4F, 0, 0x61C8864E7A143579))
_BLOCK = 8192  # strings in one go: the working set of a block stays in the second-level cache


def xxh64(data: NDArray[np.uint8], offsets: I64) -> U64:
    """The hash of each string `data[offsets[i]:offsets[i + 1]]`."""
    count = len(offsets) - 1
    out = np.empty(count, np.uint64)
    # A word may be read at any byte, so the last strings need bytes behind them.
    padded = np.concatenate([data, np.zeros(8, np.uint8)])
    for first in range(0, count, _BLOCK):
        borders = offsets[first : first + _BLOCK + 1]
        out[first : first + _BLOCK] = _hash(padded, borders[:-1], np.diff(borders))
    return out


def _hash(data: NDArray[np.uint8], starts: I64, lengths: I64) -> U64:
    words, halves = _overlapping(data, "<u8", 8), _overlapping(data, "<u4", 4)
    h = _stripes(words, starts, lengths) + lengths.view(np.uint64)
    at = starts + (lengths & ~31)
    rest = (lengths & 31) >> 3
    for step in range(3):
        rows = _where(rest > step)
        h[rows] = _rotl(h[rows] ^ _round(words[at[rows] + 8 * step]), 27) * _P1 + _P4
    at = starts + (lengths & ~7)
    rows = _where((lengths & 4) != 0)
    h[rows] = _rotl(h[rows] ^ (halves[at[rows]].astype(np.uint64) * _P1), 23) * _P2 + _P3
    at = starts + (lengths & ~3)
    rest = lengths & 3
    for step in range(3):
        rows = _where(rest > step)
        h[rows] = _rotl(h[rows] ^ (data[at[rows] + step].astype(np.uint64) * _P5), 11) * _P1
    return _avalanche(h)


def _stripes(words: NDArray[np.unsignedinteger[Any]], starts: I64, lengths: I64) -> U64:
    """The state after all whole 32-byte stripes of each string."""
    h = np.full(len(starts), _P5)
    long = np.flatnonzero(lengths >= 32)
    if not len(long):
        return h
    stripes = lengths[long] >> 5
    lanes = [np.full(len(long), seed) for seed in _SEEDS]
    for stripe in range(int(stripes.max())):
        rows = _where(stripes > stripe)
        at = starts[long][rows] + 32 * stripe
        for k, lane in enumerate(lanes):
            lane[rows] = _round(words[at + 8 * k], lane[rows])
    merged = _rotl(lanes[0], 1) + _rotl(lanes[1], 7) + _rotl(lanes[2], 12) + _rotl(lanes[3], 18)
    for lane in lanes:
        merged = (merged ^ _round(lane)) * _P1 + _P4
    h[long] = merged
    return h


def _where(mask: NDArray[np.bool_]) -> I64 | slice:
    """An index of the set places; a slice, which copies nothing, when that is all of them or none."""
    places = np.flatnonzero(mask)
    if len(places) == len(mask):
        return slice(None)
    return places if len(places) else slice(0, 0)


def _overlapping(data: NDArray[np.uint8], dtype: str, width: int) -> NDArray[np.unsignedinteger[Any]]:
    """`data` seen as words that overlap, one beginning at each byte."""
    return np.ndarray((len(data) - width + 1,), dtype, data.data, strides=(1,))


def _round(word: NDArray[np.unsignedinteger[Any]], state: U64 | None = None) -> U64:
    x = word.astype(np.uint64, copy=False) * _P2
    if state is not None:
        x += state
    return _rotl(x, 31) * _P1


def _rotl(x: U64, bits: int) -> U64:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


def _avalanche(h: U64) -> U64:
    h ^= h >> np.uint64(33)
    h *= _P2
    h ^= h >> np.uint64(29)
    h *= _P3
    h ^= h >> np.uint64(32)
    return h
