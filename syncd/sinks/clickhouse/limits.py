"""Which dates and times this server holds exactly: asked once, since versions differ and older ones clamp silently."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from syncd.sinks.clickhouse.client import Client

_DAY = 86_400_000_000
_LOW = ("0001-01-01", "1900-01-01", "1925-01-01")
_HIGH = ("9999-12-31", "2299-12-31", "2283-11-11")
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NS_LOW, _NS_HIGH = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """First and last day that the server keeps as it is, as days since 1970, for Date32 and for DateTime64."""

    dates: tuple[int, int]
    times: tuple[int, int]

    def of(self, kind: pa.DataType) -> tuple[int, int] | None:
        """Smallest and largest value, in the type's own unit; None for a type without limits."""
        if pa.types.is_date32(kind):
            return self.dates
        if not pa.types.is_timestamp(kind):
            return None
        per_day = 86_400 * _PER_SECOND[kind.unit]
        low, high = self.times[0] * per_day, (self.times[1] + 1) * per_day - 1
        return max(low, _NS_LOW), min(high, _NS_HIGH)


def ask(client: Client) -> Limits:
    """What the server gives back for the days at the ends. Writes nothing."""
    texts = (*_LOW, *_HIGH)
    asked = [f"toString(toDate32OrNull('{t}'))" for t in texts]
    asked += [f"toString(toDateTime64OrNull('{t} 00:00:00', 6, 'UTC'))" for t in texts]
    got = client.text(f"SELECT {', '.join(asked)}", doing="asking for the range of dates").rstrip("\n").split("\t")
    kept_dates = {t for t, g in zip(texts, got, strict=False) if g == t}
    kept_times = {t for t, g in zip(texts, got[len(texts) :], strict=True) if g.startswith(t)}
    return Limits(_range(kept_dates), _range(kept_times))


def _range(kept: set[str]) -> tuple[int, int]:
    low = next((t for t in _LOW if t in kept), "1970-01-01")
    high = next((t for t in _HIGH if t in kept), "2105-12-31")
    return _days(low), _days(high)


def _days(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def outside(values: pa.Array, limits: Limits) -> NDArray[np.bool_] | None:
    """Which values the server would change; None when none (the usual case costs one pass of min and max)."""
    bounds = limits.of(values.type)
    if bounds is None or len(values) == 0:
        return None
    raw = values.view(pa.int32() if pa.types.is_date32(values.type) else pa.int64())
    ends = pc.min_max(raw)
    low, high = ends["min"].as_py(), ends["max"].as_py()
    if low is None or (low >= bounds[0] and high <= bounds[1]):
        return None
    wrong = pc.or_(pc.less(raw, bounds[0]), pc.greater(raw, bounds[1]))
    return np.asarray(pc.fill_null(wrong, False).to_numpy(zero_copy_only=False), dtype=np.bool_)


def shown(kind: pa.DataType, bounds: tuple[int, int]) -> str:
    """The range for people: "1900-01-01 to 2299-12-31"."""
    if pa.types.is_date32(kind):
        return " to ".join(date.fromordinal(719_163 + day).isoformat() for day in bounds)
    per_day = 86_400 * _PER_SECOND[kind.unit]
    return " to ".join(datetime.fromordinal(719_163 + value // per_day).date().isoformat() for value in bounds)
