"""DATE, DATETIME, TIMESTAMP and TIME out of the log, in the formats since MySQL 5.6 and in the older ones.

Source of the formats: MySQL `sql-common/my_time.cc` (my_datetime_packed_from_binary and its siblings). The newer ones
are big endian, with a fraction of (digits + 1) / 2 bytes behind the seconds.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from syncd.sources.mysql.binlog.arrays import Bools, Ints, array
from syncd.sources.mysql.binlog.cells import Cells, Convert, Place, some

_US = 1_000_000
_FRACTION = (1, 10_000, 100, 1)
"""Microseconds of one unit of a fraction of 0, 1, 2 or 3 bytes."""


def days(year: Ints, month: Ints, day: Ints) -> Ints:
    """Days since 1970-01-01 in the Gregorian calendar, also before its beginning."""
    shifted = year - (month <= 2)
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    found: Ints = era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
    return found


def no_date(year: Ints, month: Ints, day: Ints) -> Bools:
    """Month or day 0, or a day that its month does not have: what ALLOW_INVALID_DATES lets in."""
    wrong: Bools = (month == 0) | (month > 12) | (day == 0)
    late = np.flatnonzero(day > 28)  # few, so that months are measured for few
    if late.size:
        year, month = year[late], month[late]
        leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
        length = np.where(month == 2, 28 + leap, 30 + ((month + (month >> 3)) & 1))
        wrong[late] |= day[late] > length
    return wrong


class ZeroDates:
    """The job's `zero_date` policy for one column: "null" makes them NULL, "fail" halts the table,
    and so does "key", a column's in which NULLs would make one key of two, whatever the job says."""

    def __init__(self, place: Place, policy: str) -> None:
        self._place, self._policy = place, policy

    def settle(self, zero: Bools, null: Bools | None) -> Bools | None:
        """The null mask after the policy was applied to the values where `zero` holds."""
        if not some(zero, null):
            return null
        if self._policy != "null":
            raise self._place.unsupported(
                "a date that is none: a zero date (0000-00-00, 2024-02-31 or alike)",
                hint="mend the rows, or set `policy: {zero_date: 'null'}` and resync the table (not possible in a key)",
            )
        return zero if null is None else zero | null


def date(zero: ZeroDates) -> Convert:
    """Three bytes, little endian: day 5 bits, month 4, year 15 -> date32."""

    def convert(cells: Cells) -> pa.Array:
        raw = cells.views.little(3, cells.at)
        day, month = raw & 31, raw >> 5 & 15
        null = zero.settle(no_date(raw >> 9, month, day), cells.null)
        return array(pa.date32(), days(raw >> 9, month, day).astype(np.int32), null)

    return convert


def datetime(size: int, zero: ZeroDates) -> Convert:
    """Five bytes: 1 bit set, year * 13 + month 17 bits, day 5, hour 5, minute 6, second 6; then the fraction."""
    tail = size - 5

    def convert(cells: Cells) -> pa.Array:
        raw = cells.views.big(size, cells.at)
        fraction = (raw & ((1 << 8 * tail) - 1)) * _FRACTION[tail] if tail else 0
        raw = raw >> 8 * tail & 0x7FFFFFFFFF
        months, day = raw >> 22, raw >> 17 & 31
        year = months // 13
        month = months - year * 13
        null = zero.settle(no_date(year, month, day), cells.null)
        seconds = (raw >> 12 & 31) * 3600 + (raw >> 6 & 63) * 60 + (raw & 63)
        return array(pa.timestamp("us"), (days(year, month, day) * 86400 + seconds) * _US + fraction, null)

    return convert


def timestamp(size: int, zero: ZeroDates) -> Convert:
    """Four bytes of seconds since 1970 UTC, then the fraction; 0 is the zero date -> timestamp in UTC."""
    tail = size - 4

    def convert(cells: Cells) -> pa.Array:
        raw = cells.views.big(size, cells.at)
        null = zero.settle(raw == 0, cells.null)
        fraction = (raw & ((1 << 8 * tail) - 1)) * _FRACTION[tail] if tail else 0
        return array(pa.timestamp("us", "UTC"), (raw >> 8 * tail) * _US + fraction, null)

    return convert


def time(size: int) -> Convert:
    """Three bytes: hour 10 bits, minute 6, second 6 with an offset of 0x800000; then the fraction -> duration.

    A negative time is the negative of the whole number, seconds and fraction together.
    """
    tail = size - 3

    def convert(cells: Cells) -> pa.Array:
        signed = cells.views.big(size, cells.at) - (1 << 8 * size - 1)
        raw = np.abs(signed)
        fraction = (raw & ((1 << 8 * tail) - 1)) * _FRACTION[tail] if tail else 0
        raw >>= 8 * tail
        value = ((raw >> 12) * 3600 + (raw >> 6 & 63) * 60 + (raw & 63)) * _US + fraction
        return array(pa.duration("us"), np.where(signed < 0, -value, value), cells.null)

    return convert


def old_datetime(zero: ZeroDates) -> Convert:
    """Eight bytes, little endian: the decimal digits YYYYMMDDhhmmss."""

    def convert(cells: Cells) -> pa.Array:
        raw = cells.views.little(8, cells.at)
        clock, calendar = raw % 1_000_000, raw // 1_000_000
        year, month, day = calendar // 10_000, calendar // 100 % 100, calendar % 100
        null = zero.settle(no_date(year, month, day), cells.null)
        seconds = clock // 10_000 * 3600 + clock // 100 % 100 * 60 + clock % 100
        return array(pa.timestamp("us"), (days(year, month, day) * 86400 + seconds) * _US, null)

    return convert


def old_timestamp(zero: ZeroDates) -> Convert:
    """Four bytes, little endian: seconds since 1970 UTC."""

    def convert(cells: Cells) -> pa.Array:
        raw = cells.views.little(4, cells.at)
        return array(pa.timestamp("us", "UTC"), raw * _US, zero.settle(raw == 0, cells.null))

    return convert


def old_time(cells: Cells) -> pa.Array:
    """Three bytes, little endian, signed: the decimal digits hhmmss."""
    raw = cells.views.little(3, cells.at)
    raw -= (raw >> 23) << 24
    clock = np.abs(raw)
    value = (clock // 10_000 * 3600 + clock // 100 % 100 * 60 + clock % 100) * _US
    return array(pa.duration("us"), np.where(raw < 0, -value, value), cells.null)
