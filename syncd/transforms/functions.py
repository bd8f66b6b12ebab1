"""The functions of computed columns, over whole columns: what each one does is in docs/transforms.md.

Only JSON is read row by row (`json_path`), since Arrow has no kernel for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from syncd.transforms import json_path, numbers
from syncd.transforms.cast import Target, as_text, cast
from syncd.transforms.collation import Rule, rule_named
from syncd.transforms.masks import hash_values
from syncd.transforms.operand import Operand, Rows, Run, refused

COUNTS: Final[dict[str, tuple[int, int]]] = {
    "concat": (1, 0),
    "concat_ws": (2, 0),
    "split": (3, 3),
    "substring": (2, 3),
    "upper": (1, 1),
    "lower": (1, 1),
    "trim": (1, 1),
    "ltrim": (1, 1),
    "rtrim": (1, 1),
    "coalesce": (1, 0),
    "round": (1, 2),
    "date": (1, 1),
    "json_extract": (2, 2),
    "json_unquote": (1, 1),
    "hash": (1, 1),
}
"""Function -> the least and the largest number of arguments; 0: any number."""
MAY_BE_NULL: Final = {"split", "json_extract", "json_unquote"}
"""NULL although no argument is."""
_ROUND: Final = "half_towards_infinity"  # away from zero, as the server rounds exact numbers


def filled(run: Run, rows: Rows) -> Any:
    """One value a row, also where no column takes part."""
    values = run(rows)
    return pa.repeat(values, rows.num_rows) if isinstance(values, pa.Scalar) else values


def finite(run: Run) -> Run:
    """Doubles that have left their range are no result."""

    def check(rows: Rows) -> Any:
        values = filled(run, rows)
        if len(values) and not pc.min(pc.fill_null(pc.is_finite(values), fill_value=True)).as_py():
            raise pa.ArrowInvalid("beyond the range of doubles")
        return values

    return check


def _text(run: Callable[[Any], Any], of: Operand, length: int) -> Operand:
    """A text made of another one; it compares as that one does."""
    inner = of.run
    return Operand(
        "text", lambda rows: run(filled(inner, rows)), type=pa.string(), rule=of.rule, table=of.table, length=length
    )


def _constant(operand: Operand, what: str) -> Any:
    if operand.literal is None:
        raise refused(f"{what} must be a constant")
    return operand.literal


def _number(operand: Operand, what: str) -> int:
    value = _constant(operand, what)
    if isinstance(value, str | Decimal | float):
        raise refused(f"{what} must be a whole number")
    return int(value)


# -- texts


def concat(parts: Sequence[Operand]) -> Operand:
    """NULL where one of the parts is."""
    texts = [as_text(part) for part in parts]

    def run(rows: Rows) -> Any:
        return pc.binary_join_element_wise(*(_string(t.run(rows)) for t in texts), pa.scalar(""))

    length = sum(each.length for each in texts) if _sized(texts) else 0
    return Operand("text", run, type=pa.string(), rule=_common_rule(texts), length=length)


def concat_ws(parts: Sequence[Operand]) -> Operand:
    """The parts that are not NULL, with the separator between them."""
    separator = str(_constant(parts[0], "the separator of concat_ws"))
    texts = [as_text(part) for part in parts[1:]]

    def run(rows: Rows) -> Any:
        # Not by the kernel's own way of leaving NULLs out, which leaves whole rows out that are all NULL.
        begun = [
            pc.fill_null(pc.binary_join_element_wise(separator, _string(filled(t.run, rows)), ""), "") for t in texts
        ]
        return pc.utf8_slice_codeunits(pc.binary_join_element_wise(*begun, ""), len(separator))

    length = sum(each.length + len(separator) for each in texts) if _sized(texts) else 0
    return Operand("text", run, type=pa.string(), rule=_common_rule(texts), length=length)


def _sized(parts: Sequence[Operand]) -> bool:
    """Whether all texts have a known length."""
    return all(part.length for part in parts)


def _string(values: Any) -> Any:
    return values if pat.is_string(values.type) else values.cast(pa.string())


def _common_rule(parts: Sequence[Operand]) -> Rule | None:
    rules = {part.rule for part in parts if part.literal is None}
    return rules.pop() if len(rules) == 1 else None


def split(arguments: Sequence[Operand]) -> Operand:
    """The n-th part; from the end with a negative n. NULL where there are not so many."""
    of, separator = as_text(arguments[0]), _constant(arguments[1], "the separator of split")
    n = _number(arguments[2], "the number of the part")
    if not isinstance(separator, str) or not separator or not n:
        raise refused("split takes a text, a separator that is not empty, and 1 for the first part (-1 for the last)")

    def run(values: Any) -> Any:
        lists = pc.split_pattern(values, pattern=separator)
        starts, ends = lists.offsets.to_numpy()[:-1], lists.offsets.to_numpy()[1:]
        at = starts + (n - 1) if n > 0 else ends + n
        return lists.values.take(pa.array(at.astype(np.int64), mask=(at < starts) | (at >= ends)))

    return _text(run, of, of.length)


def substring(arguments: Sequence[Operand]) -> Operand:
    """Characters from the one at `start` on; from the end with a negative start; "" where it leads outside."""
    of, start = as_text(arguments[0]), _number(arguments[1], "the start of substring")
    count = _number(arguments[2], "the length of substring") if len(arguments) > 2 else None
    size = of.length if count is None else min(max(count, 0), of.length or count)

    def run(values: Any) -> Any:
        if start == 0 or (count is not None and count < 1):
            return pc.utf8_slice_codeunits(values, 0, 0)
        if start > 0:
            return pc.utf8_slice_codeunits(values, start - 1, None if count is None else start - 1 + count)
        stop = start + count if count is not None and start + count < 0 else None
        shown = pc.utf8_slice_codeunits(values, start, stop)
        return pc.if_else(pc.less(pc.utf8_length(values), -start), pc.utf8_slice_codeunits(values, 0, 0), shown)

    return _text(run, of, max(size, 1) if of.length or count is not None else 0)


def upper(arguments: Sequence[Operand]) -> Operand:
    of = as_text(arguments[0])
    return _text(pc.utf8_upper, of, of.length)


def lower(arguments: Sequence[Operand]) -> Operand:
    of = as_text(arguments[0])
    return _text(pc.utf8_lower, of, of.length)


def trim(arguments: Sequence[Operand]) -> Operand:
    return _trimmed(pc.utf8_trim, arguments)


def ltrim(arguments: Sequence[Operand]) -> Operand:
    return _trimmed(pc.utf8_ltrim, arguments)


def rtrim(arguments: Sequence[Operand]) -> Operand:
    return _trimmed(pc.utf8_rtrim, arguments)


def _trimmed(kernel: Callable[..., Any], arguments: Sequence[Operand]) -> Operand:
    of = as_text(arguments[0])
    return _text(lambda values: kernel(values, characters=" "), of, of.length)


def hashed(of: Operand, salt: bytes) -> Operand:
    value = numbers.as_number(of)
    return Operand("text", lambda rows: hash_values(filled(value.run, rows), salt), type=pa.string(), length=64)


# -- numbers and dates


def round(arguments: Sequence[Operand]) -> Operand:  # noqa: A001 - the name in expressions
    of = numbers.as_number(arguments[0])
    digits = _number(arguments[1], "the digits of round") if len(arguments) > 1 else 0
    if of.kind not in {"int", "decimal"} or digits < 0:
        raise refused(f"round of {of.shown()}", hint="it takes whole and decimal numbers, and digits behind the point")
    kind = numbers.decimal_type(of)
    if of.kind == "int" or digits >= kind.scale:
        return of
    wide, out = pa.decimal256(kind.precision + 1, kind.scale), kind.precision - kind.scale + digits + 1
    narrow = pa.decimal256(out, digits)
    inner = of.run

    def run(rows: Rows) -> Any:
        return pc.round(filled(inner, rows).cast(wide), digits, _ROUND).cast(narrow)

    return Operand("decimal", run, type=narrow)


def date(arguments: Sequence[Operand]) -> Operand:
    of = arguments[0]
    if of.kind != "date" or of.type is None:
        raise refused(f"date of {of.shown()}", hint="a text becomes a date by cast(x as date)")
    return Operand("date", lambda rows: filled(of.run, rows).cast(pa.date32()), type=pa.date32(), source_type="date")


# -- JSON


def json_extract(arguments: Sequence[Operand], *, plain: bool = False) -> Operand:
    """The value at a path, as JSON; `plain`: a text without its quotes."""
    of, path = arguments
    if not (of.kind == "text" or (of.kind == "other" and pat.is_string(of.type))):
        raise refused(f"JSON out of {of.shown()}", hint="it takes JSON and text columns")
    steps = json_path.parse(str(_constant(path, "a path")))

    def run(rows: Rows) -> Any:
        return json_path.extract(filled(of.run, rows), steps, plain=plain)

    return Operand("text", run, type=pa.string(), rule=rule_named("utf8mb4_bin"))


# -- one of several


def coalesce(arguments: Sequence[Operand]) -> Operand:
    unified, frame = _unified(arguments)

    def branch(each: Operand) -> Callable[[Rows], tuple[Any, Any]]:
        def pick(rows: Rows) -> tuple[Any, Any]:
            values = filled(each.run, rows)
            return _flags(pc.is_valid(values)), values.drop_null()

        return pick

    branches = [branch(each) for each in unified]
    return _picked(frame, branches, unified)


def chosen(tests: Sequence[Run], values: Sequence[Operand], otherwise: Operand | None) -> Operand:
    """The value of the first test that is true; nothing is computed of rows for which it is not."""
    given = [*values, otherwise] if otherwise is not None else [*values]
    unified, frame = _unified(given)

    def branch(test: Run | None, each: Operand) -> Callable[[Rows], tuple[Any, Any]]:
        def pick(rows: Rows) -> tuple[Any, Any]:
            if test is None:
                return np.ones(rows.num_rows, bool), filled(each.run, rows)
            yes = _flags(pc.fill_null(filled(test, rows), fill_value=False))
            return yes, filled(each.run, rows.filter(pa.array(yes)))

        return pick

    branches = [branch(test, each) for test, each in zip([*tests, None], unified, strict=False)]
    return _picked(frame, branches, unified)


def _flags(values: Any) -> Any:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=bool)


def _picked(frame: Operand, branches: Sequence[Callable[[Rows], tuple[Any, Any]]], of: Sequence[Operand]) -> Operand:
    """Each branch answers for some of the rows that those before it have left."""
    kind: Any = frame.type

    def run(rows: Rows) -> Any:
        left, parts, places = np.arange(rows.num_rows), [], []
        for pick in branches:
            yes, values = pick(rows)
            parts.append(values.cast(kind))
            places.append(left[yes])
            if yes.all():
                left = left[:0]
                break
            left, rows = left[~yes], rows.filter(pa.array(~yes))
        parts.append(pa.nulls(len(left), kind))
        places.append(left)
        if len(parts) == 2 and not len(left):
            return parts[0]
        return pa.concat_arrays(parts).take(pa.array(np.argsort(np.concatenate(places), kind="stable")))

    texts = [each for each in of if each.type is not None]
    length = max((each.length for each in texts), default=0) if _sized(texts) else 0
    rule = _common_rule(texts) if frame.kind == "text" else None
    return Operand(frame.kind, run, None, "", kind, rule, frame.table, frame.source_type, length)


def _unified(operands: Sequence[Operand]) -> tuple[list[Operand], Operand]:
    """All operands in one type, and an operand that has it."""
    given = [numbers.as_number(o) if o.kind == "truth" else o for o in operands]
    known = [o for o in given if o.kind != "null"]
    if not known:
        raise refused("NULL alone has no type", hint="say which one: cast(NULL as char(10))")
    kinds = {o.kind for o in known}
    if kinds == {"text"}:
        return _nulls(given, Operand("text", known[0].run, type=pa.string(), table=known[0].table))
    if len({(o.type, o.source_type) for o in known}) == 1 and known[0].type is not None:
        return _nulls(given, known[0])
    if kinds <= {"int", "decimal", "float"}:
        to = _common_number(known)
        frame = Operand(to.kind, known[0].run, type=to.type)
        return _nulls([o if o.kind == "null" else _as(o, to) for o in given], frame)
    if len({o.type for o in known}) == 1 and kinds == {"date"}:
        return _nulls(given, Operand("date", known[0].run, type=known[0].type))
    shown = " and ".join(dict.fromkeys(o.shown() for o in known))
    raise refused(f"{shown} are not of one type", hint="cast them to one")


def _nulls(given: Sequence[Operand], frame: Operand) -> tuple[list[Operand], Operand]:
    nothing = pa.scalar(None, frame.type)
    return [o if o.kind != "null" else Operand(frame.kind, lambda rows: nothing) for o in given], frame


def _as(operand: Operand, to: Target) -> Operand:
    if operand.literal is not None or operand.type != to.type:
        return cast(operand, to)
    return operand


def _common_number(of: Sequence[Operand]) -> Target:
    """The type that holds each number exactly; doubles where there is one."""
    if any(o.kind == "float" for o in of):
        return Target("float", pa.float64(), "double")
    if all(o.kind == "int" and o.type != pa.uint64() for o in of):
        return Target("int", pa.int64(), "bigint")
    kinds = [numbers.decimal_type(o) for o in of]
    whole, scale = max(k.precision - k.scale for k in kinds), max(k.scale for k in kinds)
    if whole + scale > 76:
        raise refused("numbers with more than 76 digits together", hint="cast them to narrower decimals")
    return Target("decimal", pa.decimal256(whole + scale, scale), "decimal")
