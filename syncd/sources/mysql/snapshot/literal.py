"""Key values and key ranges as SQL, so that the server finds them by index."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal

from syncd.errors import FatalError
from syncd.model import KeyValue
from syncd.sources.mysql.connect import quoted

_US = timedelta(microseconds=1)


def literal(value: KeyValue) -> str:
    """One value; text as utf8mb4, which the server converts to the column's character set. FatalError: a float."""
    match value:
        case bool() | int() | Decimal():
            return str(value)
        case bytes():
            return f"x'{value.hex()}'"
        case str():
            return f"_utf8mb4 x'{value.encode().hex()}'"
        case datetime():
            return f"'{value.replace(tzinfo=None).isoformat(' ', 'microseconds')}'"
        case date():
            return f"'{value.isoformat()}'"
        case timedelta():
            return f"'{_time(value)}'"
    raise FatalError(f"{value!r} cannot stand for a key")


def _time(value: timedelta) -> str:
    micros = value // _US
    seconds, fraction = divmod(abs(micros), 1_000_000)
    return f"{'-' if micros < 0 else ''}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:06}"


def beyond(key: Sequence[str], bound: Sequence[KeyValue], sign: str) -> str:
    """The keys above (">"), or up to and with ("<="), a bound.

    A comparison of rows, `(a, b) > (x, y)`, is read by no optimizer as a range of the index; the form
    `a >= x AND (a > x OR (a = x AND b > y))` is.
    """
    name, value = quoted(key[0]), literal(bound[0])
    if len(key) == 1:
        return f"{name} {sign} {value}"
    strict = sign[0]
    rest = beyond(key[1:], bound[1:], sign)
    return f"{name} {strict}= {value} AND ({name} {strict} {value} OR ({name} = {value} AND {rest}))"


def between(key: Sequence[str], lower: Sequence[KeyValue] | None, upper: Sequence[KeyValue] | None) -> str:
    """lower < key <= upper as a condition; "" without bounds."""
    parts = [beyond(key, lower, ">")] if lower else []
    parts += [beyond(key, upper, "<=")] if upper else []
    return " AND ".join(f"({part})" for part in parts)


def equal(key: Sequence[str], value: Sequence[KeyValue]) -> str:
    return " AND ".join(f"{quoted(name)} = {literal(v)}" for name, v in zip(key, value, strict=True))
