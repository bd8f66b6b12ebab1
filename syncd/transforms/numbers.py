"""Numbers and truth values in filters: exact for whole and decimal numbers, doubles where a float takes part."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from syncd.transforms.operand import KERNELS, Operand, Rows, Run, refused

_WHOLE = re.compile(r"[0-9]+")
_INT64: Final = range(-(1 << 63), 1 << 63)
_DIGITS: Final = 76


def literal(text: str) -> Operand:
    """A number as MySQL reads it: whole, decimal, or a double when it has an exponent."""
    if _WHOLE.fullmatch(text) and int(text) in _INT64:
        return _int(int(text))
    if "e" in text.lower():
        value = float(text)
        return Operand("float", lambda rows: pa.scalar(value, pa.float64()), literal=value)
    return _decimal(Decimal(text))


def _int(value: int) -> Operand:
    return Operand("int", lambda rows: pa.scalar(value, pa.int64()), literal=value)


def _decimal(value: Decimal) -> Operand:
    if len(value.as_tuple().digits) > _DIGITS:
        raise refused("a number with too many digits")
    return Operand("decimal", lambda rows: pa.scalar(value), literal=value, type=pa.scalar(value).type)


def truth(operand: Operand) -> Operand:
    """An operand as a condition: a number is true when it is not 0."""
    if operand.kind == "truth":
        return operand
    if operand.kind == "null":
        return Operand.of_truth(operand.run)
    if operand.kind in {"int", "float", "decimal"}:
        return compared("<>", operand, _int(0))
    raise refused(f"{operand.shown()} is not a condition", hint="compare it with something")


def as_number(operand: Operand) -> Operand:
    """A condition counts as 1 or 0, NULL as a number that is not known."""
    if operand.kind == "null":
        return Operand("int", lambda rows: pa.scalar(None, pa.int64()), type=pa.int64())
    if operand.kind != "truth":
        return operand
    return Operand("int", lambda rows: operand.run(rows).cast(pa.int64()), type=pa.int64())


def negated(operand: Operand) -> Operand:
    value = as_number(operand)
    if isinstance(value.literal, int):
        return _int(-value.literal)
    if isinstance(value.literal, Decimal):
        # -9223372036854775808 is read as minus a number that is one too large.
        least = value.literal == -_INT64.start
        return _int(_INT64.start) if least else _decimal(-value.literal)
    if isinstance(value.literal, float):
        number = -value.literal
        return Operand("float", lambda rows: pa.scalar(number, pa.float64()), literal=number)
    if value.kind == "int":
        run = _int64(value)
        return Operand("int", lambda rows: pc.negate_checked(run(rows)), type=pa.int64())
    if value.kind in {"float", "decimal"}:
        return Operand(value.kind, lambda rows: pc.negate(value.run(rows)), type=value.type)
    raise refused(f"a minus before {operand.shown()}")


def arithmetic(sign: str, left: Operand, right: Operand) -> Operand:
    """`+ - *` on numbers, `DIV` and `%` on whole ones; NULL where either side is, or the divisor is 0."""
    a, b = as_number(left), as_number(right)
    for side in (a, b):
        if side.kind not in {"int", "decimal", "float"}:
            raise refused(f"{side.shown()} in arithmetic")
    if sign in {"DIV", "%"}:
        if (a.kind, b.kind) != ("int", "int"):
            raise refused(f"{sign} of numbers that are not whole")
        return Operand("int", _division(sign, _int64(a), _int64(b)), type=pa.int64())
    if a.kind == b.kind == "int":
        kernel = {"+": pc.add_checked, "-": pc.subtract_checked, "*": pc.multiply_checked}[sign]
        return Operand("int", _both(kernel, _int64(a), _int64(b)), type=pa.int64())
    if "float" in (a.kind, b.kind):
        kernel = {"+": pc.add, "-": pc.subtract, "*": pc.multiply}[sign]
        return Operand("float", _both(kernel, _double(a), _double(b)), type=pa.float64())
    kernel = {"+": pc.add, "-": pc.subtract, "*": pc.multiply}[sign]
    run = _both(kernel, _decimals(a), _decimals(b))
    return Operand("decimal", run, type=_result(kernel, a, b))


def _result(kernel: Callable[[Any, Any], Any], a: Operand, b: Operand) -> pa.DataType:
    empty = [pa.array([], decimal_type(side)) for side in (a, b)]
    try:
        return kernel(*empty).type
    except pa.ArrowException as error:
        raise refused("arithmetic with more than 76 digits") from error


def compared(sign: str, left: Operand, right: Operand) -> Operand:
    """Two numbers."""
    kernel = KERNELS[sign]
    a, b = as_number(left), as_number(right)
    if "float" in (a.kind, b.kind):
        return Operand.of_truth(_both(kernel, _double(a), _double(b)))
    if a.kind == b.kind == "int" and not _is_wide(a) and not _is_wide(b):
        return Operand.of_truth(_both(kernel, _int64(a), _int64(b)))
    scale = max(decimal_type(a).scale, decimal_type(b).scale)
    whole = max(decimal_type(side).precision - decimal_type(side).scale for side in (a, b))
    if whole + scale > _DIGITS:
        raise refused("a comparison with more than 76 digits")
    common = pa.decimal256(whole + scale, scale)
    return Operand.of_truth(_both(kernel, _cast(a.run, common), _cast(b.run, common)))


def _is_wide(operand: Operand) -> bool:
    return operand.type is not None and operand.type == pa.uint64()


def decimal_type(operand: Operand) -> pa.DataType:
    """A decimal type that holds every value of the operand."""
    if operand.kind == "int" or operand.type is None:
        return pa.decimal256(20, 0)
    return pa.decimal256(operand.type.precision, max(operand.type.scale, 0))


def _cast(run: Run, to: pa.DataType, *, safe: bool = True) -> Run:
    def cast(rows: Rows) -> Any:
        values = run(rows)
        if pat.is_boolean(values.type):
            values = values.cast(pa.int64())
        return values if values.type == to else values.cast(to, safe=safe)

    return cast


def _int64(operand: Operand) -> Run:
    return _cast(operand.run, pa.int64())


def _double(operand: Operand) -> Run:
    # Beyond 2^53 whole numbers are rounded, as the server rounds them.
    return _cast(operand.run, pa.float64(), safe=False)


def _decimals(operand: Operand) -> Run:
    return _cast(operand.run, decimal_type(operand))


def _both(kernel: Callable[[Any, Any], Any], left: Run, right: Run) -> Run:
    return lambda rows: kernel(left(rows), right(rows))


def _division(sign: str, left: Run, right: Run) -> Run:
    def run(rows: Rows) -> Any:
        a, b = left(rows), right(rows)
        divisor = pc.if_else(pc.equal(b, 0), pa.scalar(None, pa.int64()), b)
        whole = pc.divide_checked(a, divisor)
        return whole if sign == "DIV" else pc.subtract_checked(a, pc.multiply_checked(whole, divisor))

    return run
