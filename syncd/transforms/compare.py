"""Which comparison two operands need; like goes with like, everything else is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from syncd.transforms import numbers, text
from syncd.transforms.operand import KERNELS, Operand, Rows, refused

_NUMBERS: Final = {"int", "decimal", "float", "truth"}
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d)?)?")


def comparison(sign: str, left: Operand, right: Operand) -> Operand:
    """`left sign right`, true, false or null."""
    if sign == "<=>":
        return _null_safe(left, right)
    if "null" in (left.kind, right.kind):
        return _always_null(left, right)
    if left.kind in _NUMBERS and right.kind in _NUMBERS:
        _year(left, right)
        return numbers.compared(sign, left, right)
    if "date" in (left.kind, right.kind):
        return _dates(sign, left, right)
    if left.kind == right.kind == "text":
        if left.literal is not None and right.literal is not None:
            raise refused("a comparison of two constants")
        _ordered(sign, left, right)
        return text.compared(sign, left, right)
    raise refused(f"{left.shown()} and {right.shown()} are not of one kind", hint="compare like with like")


def within(left: Operand, items: Sequence[Operand]) -> Operand:
    """`left IN (items)`."""
    words = [item for item in items if item.kind == "text" and item.literal is not None]
    same_rule = left.rule is not None and not any(word.rule for word in words)
    if left.kind == "text" and left.literal is None and len(words) == len(items) and same_rule:
        assert left.rule is not None
        return text.equals_any(left, [str(word.literal) for word in words], left.rule)
    answers = [comparison("=", left, item).run for item in items]
    return Operand.of_truth(lambda rows: reduce(pc.or_kleene, [run(rows) for run in answers]))


def _null_safe(left: Operand, right: Operand) -> Operand:
    a, b = left.run, right.run
    if "null" in (left.kind, right.kind):
        return Operand.of_truth(lambda rows: pc.and_(pc.is_null(a(rows)), pc.is_null(b(rows))))
    equal = comparison("=", left, right).run

    def run(rows: Rows) -> Any:
        both_null = pc.and_(pc.is_null(a(rows)), pc.is_null(b(rows)))
        return pc.or_(pc.fill_null(equal(rows), fill_value=False), both_null)

    return Operand.of_truth(run)


def _always_null(left: Operand, right: Operand) -> Operand:
    other = right if left.kind == "null" else left

    def run(rows: Rows) -> Any:
        values = other.run(rows)
        return pa.scalar(None, pa.bool_()) if isinstance(values, pa.Scalar) else pa.nulls(len(values), pa.bool_())

    return Operand.of_truth(run)


def _ordered(sign: str, left: Operand, right: Operand) -> None:
    """ENUM and SET compare as texts for equality; their order is not that of their texts."""
    for side in (left, right):
        if sign not in {"=", "<>"} and side.source_type.startswith(("enum", "set")):
            raise refused(f"{side.shown()} has an order of its own", hint="use IN")


def _year(left: Operand, right: Operand) -> None:
    for side, other in ((left, right), (right, left)):
        if side.source_type.startswith("year") and other.literal is not None and other.literal < 100:
            raise refused(f"{side.shown()} is a year, and the number has two digits", hint="write it with four")


def _dates(sign: str, left: Operand, right: Operand) -> Operand:
    column = left if left.kind == "date" and left.type is not None else right
    zoned = _is_zoned(column)
    sides = [_moments(side, zoned=zoned) for side in (left, right)]
    kernel = KERNELS[sign]
    return Operand.of_truth(lambda rows: kernel(sides[0](rows), sides[1](rows)))


def _is_zoned(side: Operand) -> bool:
    kind: Any = side.type
    return pat.is_timestamp(kind) and kind.tz is not None


def _moments(side: Operand, *, zoned: bool) -> Any:
    """The side as timestamps in microseconds, all with a time zone or all without."""
    if side.kind == "text" and side.literal is not None:
        return _constant(side, zoned=zoned)
    if side.kind != "date" or side.type is None:
        raise refused(f"{side.shown()} is no date", hint="compare dates with '2026-05-01' or '2026-05-01 12:00:00'")
    if zoned != _is_zoned(side):
        raise refused(f"{side.shown()} and the other side differ in what they say of time zones")
    to = pa.timestamp("us", "UTC" if zoned else None)
    return lambda rows: side.run(rows).cast(to)


def _constant(side: Operand, *, zoned: bool) -> Any:
    written = str(side.literal)
    try:
        value = datetime.fromisoformat(written) if _DATE.fullmatch(written) else None
    except ValueError:
        value = None
    if value is None:
        raise refused(f"'{written}' is not a date", hint="write '2026-05-01' or '2026-05-01 12:00:00'")
    if zoned and value.tzinfo is None:
        hint = f"write '{value:%Y-%m-%d %H:%M:%S}+00:00'"
        raise refused(f"'{written}' has no time zone, and the column is a TIMESTAMP", hint=hint)
    if not zoned and value.tzinfo is not None:
        raise refused(f"'{written}' has a time zone, and the column has none")
    micros = (value.replace(tzinfo=value.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    scalar = pa.scalar(micros, pa.timestamp("us", "UTC" if zoned else None))
    return lambda rows: scalar
