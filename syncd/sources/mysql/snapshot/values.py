"""Numbers out of wire bytes, a whole column at a time: calendar days, decimals, lengths."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from syncd.errors import FatalError
from syncd.sources.mysql.binlog.arrays import Bools, Ints, Views, array, binary

_EPOCH = np.datetime64("1970-01-01", "D")


def _calendar() -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """For 13 * year + month (month 0 included): day number of its first day, and how many days it has."""
    starts = np.arange("0000-01", "10000-02", dtype="datetime64[M]").astype("datetime64[D]")
    days = (starts - _EPOCH).astype(np.int32)
    firsts, lengths = np.zeros((10000, 13), np.int32), np.zeros((10000, 13), np.int8)
    firsts[:, 1:] = days[:-1].reshape(10000, 12)
    lengths[:, 1:] = np.diff(days).reshape(10000, 12)
    return firsts.ravel(), lengths.ravel()


_FIRST_DAY, _MONTH_LENGTH = _calendar()


def day_numbers(year: Ints, month: Ints, day: Ints) -> tuple[Ints, Bools]:
    """Days since 1970-01-01, and which of them are no dates (month or day 0, 31 February)."""
    at = year * 13 + month
    if at.size and (int(at.max()) >= _FIRST_DAY.size or int(month.max()) > 12):
        raise FatalError("a date on the wire is out of range")
    wrong = (day == 0) | (day > _MONTH_LENGTH[at])
    return _FIRST_DAY[at].astype(np.int64) + day - 1, wrong


def lengths(views: Views, at: Ints) -> tuple[Ints, Ints]:
    """Length-encoded integers at `at`: where the values begin, and their lengths."""
    first = views.data[at].astype(np.int64)
    begin = at + 1
    long = np.flatnonzero(first > 250)
    if long.size:
        mark, place = first[long], at[long] + 1
        for code, width in ((252, 2), (253, 3), (254, 8)):
            which = mark == code
            first[long[which]] = views.little(width, place[which])
            begin[long[which]] += width
        if bool(np.isin(mark, (251, 255)).any()) or bool((first[long] < 0).any()):
            raise FatalError("a length on the wire is not one")
    return begin, first


def _digits(views: Views, end: Ints, count: Ints) -> NDArray[np.uint64]:
    """The number written by the `count` (0 to 8) ASCII digits before `end`."""
    count = np.clip(count, 0, 8)
    word = views.at("<u8", np.maximum(end - 8, 0)).astype(np.uint64)
    keep = (np.uint64(64) - count.astype(np.uint64) * np.uint64(8)) & np.uint64(63)
    word = np.where(count > 0, word >> keep << keep, np.uint64(0)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    # Pairs of neighbours are joined three times: 8 digits, 4 twos, 2 fours, one eight.
    word = word * np.uint64(2561) >> np.uint64(8)
    word = (word & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(6553601) >> np.uint64(16)
    joined: NDArray[np.uint64] = (word & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(42949672960001) >> np.uint64(32)
    return joined


def decimals(views: Views, begin: Ints, length: Ints, null: Bools | None, kind: pa.DataType) -> pa.Array:
    """Decimals from their text, which has exactly the column's number of fraction digits."""
    precision, scale = kind.precision, kind.scale
    if precision > 18:
        return binary(views.data, begin, length, null).cast(pa.string()).cast(kind)
    end = begin + length
    minus = (views.data[begin] == ord("-")) & (length > 0)
    whole_end = end - scale - (1 if scale else 0)
    whole = whole_end - begin - minus
    value = np.zeros(len(begin), np.int64)
    for group in range((precision - scale + 7) // 8 - 1, -1, -1):
        value = value * 10**8 + _digits(views, whole_end - 8 * group, whole - 8 * group).astype(np.int64)
    for left in range(scale, 0, -8):
        now = min(left, 8) if left == scale or left >= 8 else left
        count = np.full(len(begin), now, np.int64)
        value = value * 10**now + _digits(views, end - (left - now), count).astype(np.int64)
    words = np.empty((len(begin), 2), np.int64)
    words[:, 0] = np.where(minus, -value, value)
    words[:, 1] = words[:, 0] >> 63
    return array(kind, words, null)
