"""The order of a collation as bytes: `memcmp` of two keys made here answers as the server's own comparison does.

A key is made of the weights of the string's characters, level by level. What is compared is

    NO PAD     all weights, then the levels behind one another with 0x0000 between them
    PAD SPACE  the weights of each level as if an endless run of spaces followed: spaces at the end are taken away, and
               the level ends in the weight of a space and 0x02; a space inside is followed by 0x01 or 0x03, as the
               first weight behind its run is below or above that of a space

A contraction (several characters with weights of their own) is looked up in the few strings that may hold one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from syncd.errors import FatalError

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

_BELOW, _END, _ABOVE = 1, 2, 3
_GAP = b"\0\0"
_PART = 8192


@dataclass(frozen=True, slots=True)
class Level:
    """Code point c weighs data[offsets[c]:offsets[c + 1]]."""

    offsets: NDArray[np.int32]
    data: Bytes

    def weight(self, character: str) -> bytes:
        point = ord(character)
        return self.data[self.offsets[point] : self.offsets[point + 1]].tobytes()


@dataclass(frozen=True, slots=True)
class Weights:
    """One collation. `unit`: bytes of a weight; `space`: the weight of a space at each level, () without padding.

    `known[c]`: code point c exists in the collation's character set. Without levels the text's own UTF-8 bytes are the
    weights. `contractions`: characters -> their weights of each level.
    """

    unit: int
    space: tuple[int, ...]
    levels: tuple[Level, ...] = ()
    known: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    contractions: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)

    def keys(self, values: pa.Array) -> pa.Array:
        """string -> binary, null for null. FatalError: a character that the character set does not have."""
        # A part's intermediate columns stay in the processor's cache.
        parts = [self._keys(values.slice(start, _PART)) for start in range(0, len(values), _PART)]
        return pa.concat_arrays(parts) if parts else pa.array([], pa.binary())

    def _keys(self, values: pa.Array) -> pa.Array:
        text = _Flat.of(values)
        if not self.levels:
            parts = [text]
        else:
            points = text.points()
            parts = [self._level(number, points, values) for number in range(len(self.levels))]
        if self.space:
            parts = [_padded(part, self.unit, space) for part, space in zip(parts, self.space, strict=True)]
        made = parts[0]
        for part in parts[1:]:
            made = made.joined(part, b"" if self.space else _GAP)
        return made.array(values)

    def plain(self, text: str) -> tuple[bytes, ...]:
        """The weights of each level of one string, character by character: longest contraction first."""
        found = [bytearray() for _ in self.levels]
        longest = max(map(len, self.contractions), default=1)
        at = 0
        while at < len(text):
            size = next((n for n in range(longest, 1, -1) if text[at : at + n] in self.contractions), 1)
            part = text[at : at + size]
            for number, level in enumerate(self.levels):
                found[number] += self.contractions[part][number] if size > 1 else level.weight(part)
            at += size
        return tuple(map(bytes, found))

    def _level(self, number: int, points: _Points, values: pa.Array) -> _Flat:
        level, at = self.levels[number], points.values
        if at.size and (int(at.max()) >= self.known.size or not self.known[at].all()):
            raise FatalError("a text holds a character that its column's character set does not have")
        begin = level.offsets[at].astype(np.int64)
        size = level.offsets[at + 1] - begin
        made = _Flat(_pick(level.data, begin, size), _sum_at(size, points.bounds))
        special = self._contracted(points)
        if not special.size:
            return made
        return made.replaced({int(row): self.plain(values[int(row)].as_py())[number] for row in special})

    def _contracted(self, points: _Points) -> Ints:
        """The rows that hold the first two characters of a contraction beside each other."""
        if not self.contractions or points.values.size < 2:
            return np.zeros(0, np.int64)
        size = self.known.size
        heads, seconds = np.zeros(size, np.bool_), np.zeros(size, np.bool_)
        heads[[ord(text[0]) for text in self.contractions]] = True
        seconds[[ord(text[1]) for text in self.contractions]] = True
        at = np.flatnonzero(heads[points.values[:-1]] & seconds[points.values[1:]])
        return np.unique(np.searchsorted(points.bounds, at, side="right") - 1)


@dataclass(frozen=True, slots=True)
class _Points:
    """Code points of all strings; string i is values[bounds[i]:bounds[i + 1]]."""

    values: Ints
    bounds: Ints


@dataclass(frozen=True, slots=True)
class _Flat:
    """Byte strings: string i is data[bounds[i]:bounds[i + 1]]."""

    data: Bytes
    bounds: Ints

    @classmethod
    def of(cls, values: pa.Array) -> _Flat:
        count = len(values)
        _, offsets, data = values.buffers()
        bounds = np.frombuffer(offsets, np.int32)[values.offset : values.offset + count + 1].astype(np.int64)
        whole = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
        own = whole[bounds[0] : bounds[-1]]
        bounds = bounds - bounds[0]
        if values.null_count:
            size = np.diff(bounds)
            there = np.asarray(values.is_valid().to_numpy(zero_copy_only=False))
            size[~there] = 0
            own = _pick(own, bounds[:-1], size)
            bounds = np.concatenate(([0], np.cumsum(size)))
        return cls(own, bounds)

    def points(self) -> _Points:
        """Decode UTF-8, which Arrow has checked."""
        lead = (self.data & 0xC0) != 0x80
        if lead.all() and not (self.data & 0x80).any():
            return _Points(self.data.astype(np.int64), self.bounds)
        at = np.flatnonzero(lead)
        padded = np.concatenate((self.data, np.zeros(3, np.uint8)))
        first, rest = padded[at].astype(np.int64), [padded[at + k].astype(np.int64) & 0x3F for k in (1, 2, 3)]
        two = (first & 0x1F) << 6 | rest[0]
        three = (first & 0x0F) << 12 | rest[0] << 6 | rest[1]
        four = (first & 0x07) << 18 | rest[0] << 12 | rest[1] << 6 | rest[2]
        values = np.select([first < 0x80, first < 0xE0, first < 0xF0], [first, two, three], four)
        return _Points(values, np.concatenate(([0], np.cumsum(lead)))[self.bounds])

    def joined(self, other: _Flat, between: bytes) -> _Flat:
        """Each string, `between`, and the other's string."""
        count = len(self.bounds) - 1
        mine, theirs, gap = np.diff(self.bounds), np.diff(other.bounds), len(between)
        bounds = np.concatenate(([0], np.cumsum(mine + gap + theirs)))
        out = np.empty(int(bounds[-1]), np.uint8)
        out[_spread(bounds[:-1], mine)] = self.data
        for k, byte in enumerate(between):
            out[bounds[:-1] + mine + k] = byte
        out[_spread(bounds[:-1] + mine + gap, theirs)] = other.data
        assert len(bounds) == count + 1
        return _Flat(out, bounds)

    def replaced(self, rows: Mapping[int, bytes]) -> _Flat:
        """Other bytes for a few strings."""
        pieces = [self.data[a:b] for a, b in zip(self.bounds[:-1], self.bounds[1:], strict=True)]
        for row, data in rows.items():
            pieces[row] = np.frombuffer(data, np.uint8)
        return _Flat(np.concatenate(pieces), np.concatenate(([0], np.cumsum([len(p) for p in pieces]))))

    def array(self, values: pa.Array) -> pa.Array:
        """Arrow binary, null where `values` is."""
        valid = None
        if values.null_count:
            there = np.asarray(values.is_valid().to_numpy(zero_copy_only=False))
            valid = pa.py_buffer(np.packbits(there, bitorder="little"))
        buffers = [valid, pa.py_buffer(self.bounds.astype(np.int32)), pa.py_buffer(np.ascontiguousarray(self.data))]
        return pa.Array.from_buffers(pa.binary(), len(values), buffers)


def _spread(begin: Ints, size: Ints) -> Ints:
    """The places begin[i], begin[i] + 1, ... of `size[i]` bytes each, one after the other."""
    ends = np.cumsum(size)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(begin - (ends - size), size) + np.arange(total)


def _pick(data: Bytes, begin: Ints, size: Ints) -> Bytes:
    return data[_spread(begin, size)]


def _sum_at(size: Ints, bounds: Ints) -> Ints:
    """Bytes before each bound, where item i has `size[i]` bytes."""
    sums: Ints = np.concatenate(([0], np.cumsum(size)))[bounds]
    return sums


def _padded(flat: _Flat, unit: int, space: int) -> _Flat:
    """The PAD SPACE form of one level."""
    units = flat.data if unit == 1 else flat.data.view(">u2")
    values = units.astype(np.int64)
    count = len(flat.bounds) - 1
    bounds = flat.bounds // unit
    row = np.repeat(np.arange(count), np.diff(bounds))
    blank = values == space
    index = np.arange(len(values))
    # The last weight of each string that is no space: what lies behind it is padding.
    last = np.full(count, -1, np.int64)
    np.maximum.at(last, row[~blank], index[~blank])
    kept = index <= last[row]
    # The next weight that is no space, seen from each place.
    following = np.minimum.accumulate(np.where(blank, len(values), index)[::-1])[::-1]
    values, blank, row, following = values[kept], blank[kept], row[kept], values[following[kept]]
    size = unit + blank.astype(np.int64)
    begin = np.cumsum(size) - size + row * (unit + 1)
    whole = np.bincount(row, size, count).astype(np.int64) + unit + 1
    bounds = np.concatenate(([0], np.cumsum(whole)))
    out = np.empty(int(bounds[-1]), np.uint8)
    _put(out, begin, values, unit)
    out[begin[blank] + unit] = np.where(following[blank] < space, _BELOW, _ABOVE)
    _put(out, bounds[1:] - unit - 1, np.full(count, space), unit)
    out[bounds[1:] - 1] = _END
    return _Flat(out, bounds)


def _put(out: Bytes, at: Ints, values: Ints, unit: int) -> None:
    for k in range(unit):
        out[at + k] = values >> 8 * (unit - 1 - k) & 0xFF
