"""Integers, floats, BIT, YEAR and DECIMAL out of the log.

DECIMAL is groups of nine decimal digits as big endian integers of four bytes, the first group of the whole part and the
last of the fraction shorter; the first bit is the sign, turned around, and a negative value has all bits turned around
(MySQL `strings/decimal.cc`, decimal2bin).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from syncd.sources.mysql.binlog.arrays import Ints, array, power
from syncd.sources.mysql.binlog.cells import Cells, Convert
from syncd.sources.mysql.binlog.tablemap import DIGIT_BYTES

_GROUP = 9
_NARROW = 18
"""Digits that an int64 holds."""


def integer(size: int, kind: pa.DataType, *, unsigned: bool) -> Convert:
    """Little endian integers of 1, 2, 3, 4 or 8 bytes."""
    dtype = f"<{'u' if unsigned else 'i'}{size if size != 3 else 4}"

    def convert(cells: Cells) -> pa.Array:
        values = cells.views.at(dtype, cells.at)
        if size == 3:
            # moved up to the top of its four bytes, so that the way down brings the sign along
            values = (values << np.uint32(8) >> np.uint32(8)) if unsigned else (values << np.int32(8) >> np.int32(8))
        return array(kind, values, cells.null)

    return convert


def floating(size: int) -> Convert:
    kind = pa.float32() if size == 4 else pa.float64()

    def convert(cells: Cells) -> pa.Array:
        return array(kind, cells.views.at(f"<f{size}", cells.at), cells.null)

    return convert


def bit(size: int) -> Convert:
    """Big endian, 1 to 8 bytes -> uint64."""

    def convert(cells: Cells) -> pa.Array:
        return array(pa.uint64(), cells.views.big(size, cells.at).view(np.uint64), cells.null)

    return convert


def year(cells: Cells) -> pa.Array:
    """One byte, years since 1900; 0 is the year 0000 -> uint16."""
    values = cells.views.data[cells.at].astype(np.uint16)
    return array(pa.uint16(), np.where(values == 0, np.uint16(0), values + np.uint16(1900)), cells.null)


def decimal(precision: int, scale: int, kind: pa.DataType) -> Convert:
    """DECIMAL(precision, scale) -> decimal128 or decimal256 of the same precision and scale."""
    groups = _groups(precision, scale)

    def convert(cells: Cells) -> pa.Array:
        negative = cells.views.data[cells.at] < 0x80
        if precision > _NARROW:
            return array(kind, _wide(cells, groups, negative, kind.bit_width // 32), cells.null)
        return array(kind, _widened(_narrow(cells, groups, negative), kind.bit_width // 64), cells.null)

    return convert


def _groups(precision: int, scale: int) -> list[tuple[int, int, int]]:
    """(offset in the value, bytes, digits) of each group."""
    whole, found, at = precision - scale, [], 0
    digits = [whole % _GROUP] if whole % _GROUP else []
    digits += [_GROUP] * (whole // _GROUP + scale // _GROUP)
    digits += [scale % _GROUP] if scale % _GROUP else []
    for count in digits:
        found.append((at, DIGIT_BYTES[count], count))
        at += DIGIT_BYTES[count]
    return found


def _group(cells: Cells, offset: int, size: int, negative: NDArray[np.bool_]) -> Ints:
    raw = cells.views.big(size, cells.at + offset if offset else cells.at)
    if offset == 0:
        raw ^= 1 << 8 * size - 1
    return raw ^ (-negative.astype(np.int64) & ((1 << 8 * size) - 1))


def _narrow(cells: Cells, groups: list[tuple[int, int, int]], negative: NDArray[np.bool_]) -> Ints:
    """Up to 18 digits: int64."""
    value: Ints | None = None
    for offset, size, digits in groups:
        part = _group(cells, offset, size, negative)
        value = part if value is None else value * power(digits) + part
    assert value is not None
    return np.where(negative, -value, value)


def _widened(values: Ints, words: int) -> Ints:
    out = np.empty((len(values), words), np.int64)
    out[:, 0] = values
    out[:, 1:] = (values >> 63)[:, None]
    return out


def _wide(
    cells: Cells, groups: list[tuple[int, int, int]], negative: NDArray[np.bool_], words: int
) -> NDArray[np.uint32]:
    """More than 18 digits: `words` little endian words of 32 bits, two's complement."""
    out = np.zeros((words, len(cells)), np.uint64)
    for offset, size, digits in groups:
        carry = _group(cells, offset, size, negative).view(np.uint64)
        for word in out:
            word *= np.uint64(power(digits))
            word += carry
            carry = word >> np.uint64(32)
            word &= np.uint64(0xFFFFFFFF)
    carry = negative.astype(np.uint64)
    flip = -negative.astype(np.int64) & 0xFFFFFFFF
    for word in out:
        word ^= flip.view(np.uint64)
        word += carry
        carry = word >> np.uint64(32)
        word &= np.uint64(0xFFFFFFFF)
    return np.ascontiguousarray(out.T.astype(np.uint32))
