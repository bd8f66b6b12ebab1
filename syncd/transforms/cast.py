"""CAST: the same value in another type, or none. What would be rounded, cut or wrapped raises ArrowInvalid.

`CAST(x AS type)` takes `TYPES`. Texts are read strictly: no spaces, no trailing letters, no empty text for 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat
from sqlglot import exp

from syncd.transforms import numbers
from syncd.transforms.operand import Kind, Operand, refused

TYPES: Final = "tinyint, smallint, int, bigint (each also unsigned), signed, unsigned, decimal(p,s), double, char(n), date, datetime(f)"  # noqa: E501
LONGEST_VARCHAR: Final = 16383
"""Characters of utf8mb4 in a VARCHAR: a row has 65535 bytes."""
NAMES: Final = {
    pa.int8(): "tinyint",
    pa.int16(): "smallint",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.uint8(): "tinyint unsigned",
    pa.uint16(): "smallint unsigned",
    pa.uint32(): "int unsigned",
    pa.uint64(): "bigint unsigned",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.date32(): "date",
    pa.timestamp("us"): "datetime(6)",
    pa.timestamp("us", "UTC"): "timestamp(6)",
}
"""How the source would spell each Arrow type."""
_INTEGERS: Final = {
    exp.DType.TINYINT: pa.int8(),
    exp.DType.SMALLINT: pa.int16(),
    exp.DType.INT: pa.int32(),
    exp.DType.BIGINT: pa.int64(),
    exp.DType.UTINYINT: pa.uint8(),
    exp.DType.USMALLINT: pa.uint16(),
    exp.DType.UINT: pa.uint32(),
    exp.DType.UBIGINT: pa.uint64(),
}
_TEXTS: Final = {exp.DType.CHAR, exp.DType.VARCHAR, exp.DType.NCHAR, exp.DType.TEXT}
_DIGITS, _SCALE = 65, 30  # of a DECIMAL at the server
_WHOLE = r"\A[+-]?[0-9]+\z"
_DECIMAL = r"\A[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\z"
_FLOAT = r"\A[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\z"
_DAY = r"(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-[0-9]{2}-[0-9]{2}"
_DATE = rf"\A{_DAY}\z"
_MOMENT = rf"\A{_DAY}(?:[ T][0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(?:\.[0-9]{{1,6}})?)?\z"
_DAY_US: Final = 86_400_000_000
_FLOAT_TEXT: Final = "a floating-point number has no text that all systems agree on"


@dataclass(frozen=True, slots=True)
class Target:
    """`size`: characters of a text (0: any number), digits of the fraction of a DATETIME's seconds."""

    kind: Kind
    type: pa.DataType
    source_type: str
    size: int = 0


def target(node: Any) -> Target:
    """What a type in a CAST means. ConfigError: not one of `TYPES`."""
    to, sizes = node.this, [int(p.this.name) for p in node.expressions if isinstance(p, exp.DataTypeParam)]
    if to in _INTEGERS and not sizes:
        return Target("int", _INTEGERS[to], NAMES[_INTEGERS[to]])
    if to == exp.DType.DECIMAL:
        precision, scale = (*sizes, 0)[:2] if sizes else (10, 0)
        if not (0 < precision <= _DIGITS and 0 <= scale <= min(precision, _SCALE)):
            raise refused(f"there is no DECIMAL({precision},{scale})", hint="65 digits, 30 of them behind the point")
        return Target("decimal", _decimal(precision, scale), f"decimal({precision},{scale})")
    if to == exp.DType.DOUBLE and not sizes:
        return Target("float", pa.float64(), "double")
    if to in _TEXTS and sizes != [0]:
        return Target("text", pa.string(), "", sizes[0] if sizes else 0)
    if to == exp.DType.DATE:
        return Target("date", pa.date32(), "date")
    if to == exp.DType.DATETIME and (not sizes or sizes[0] <= 6):
        size = sizes[0] if sizes else 0
        return Target("date", pa.timestamp("us"), f"datetime({size})" if size else "datetime", size)
    raise refused(f"a cast to {node.sql(dialect='mysql').lower()}", hint=f"there is: {TYPES}")


def _decimal(precision: int, scale: int) -> pa.DataType:
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def settled_decimal(kind: pa.DataType) -> pa.DataType:
    """The type of a published column. ConfigError: no server has one that wide."""
    if kind.precision > _DIGITS or kind.scale > _SCALE:
        what = f"the result has {kind.precision} digits, {kind.scale} of them behind the point"
        raise refused(what, hint="cast it, or what it is made of, to a narrower decimal")
    return _decimal(kind.precision, kind.scale)


def cast(operand: Operand, to: Target) -> Operand:
    """The operand in another type. ConfigError: no value of the one is a value of the other."""
    inner = numbers.as_number(operand) if operand.kind == "truth" else operand
    length = to.size or _length(inner) if to.kind == "text" else 0
    if inner.kind == "null":
        nothing = pa.scalar(None, to.type)
        return Operand(to.kind, lambda rows: nothing, type=to.type, source_type=to.source_type, length=length)
    json = inner.kind == "other" and pat.is_string(inner.type)
    route = _ROUTES.get(("text" if json else inner.kind, to.kind))
    if route is None or (json and to.kind != "text"):
        raise refused(f"a cast of {inner.shown()} to {to.source_type or 'char'}", hint=_why(inner, to))

    if to.kind == "text" and (inner.source_type.startswith("bit") or "zerofill" in inner.source_type):
        what = f"{inner.shown()} as a text: the server gives its bytes, or zeros in front"
        raise refused(what, hint="cast it to bigint unsigned first")

    def run(rows: Any) -> Any:
        values = inner.run(rows)
        if isinstance(values, pa.Scalar):
            return route(pa.array([values.as_py()], values.type), inner, to)[0]
        return route(values, inner, to)

    rule = inner.rule if to.kind == "text" and inner.kind == "text" else None
    return Operand(to.kind, run, None, "", to.type, rule, inner.table, to.source_type, length)


def _why(inner: Operand, to: Target) -> str:
    if inner.kind == "float" and to.kind == "text":
        return f"{_FLOAT_TEXT}: cast it to a decimal first"
    if pat.is_string(inner.type) and inner.kind == "other":
        return "take a value out of it by ->> first"
    return ""


def as_text(operand: Operand) -> Operand:
    """As CAST(x AS CHAR) has it."""
    return operand if operand.kind == "text" else cast(operand, Target("text", pa.string(), ""))


def _length(operand: Operand) -> int:
    """Characters that the text of a value has at most; 0: any number."""
    match operand.kind:
        case "int":
            return 20
        case "decimal":
            return int(numbers.decimal_type(operand).precision) + 3
        case "null":
            return 1
        case "date":
            return 10 if pat.is_date(operand.type) else 26
        case _:
            return operand.length


# -- each way of casting: an array, what it is, what it becomes


def _must(good: Any) -> None:
    """Each value that is not NULL must be good."""
    if not pc.all(good).as_py() and len(good) and pc.any(pc.invert(good)).as_py():
        raise pa.ArrowInvalid("a value without an exact one in the other type")


def _written(values: pa.Array, pattern: str) -> pa.Array:
    _must(pc.match_substring_regex(values, pattern))
    return pc.ascii_ltrim(values, characters="+")


def _exactly(values: pa.Array, _: Operand, to: Target) -> pa.Array:
    return values.cast(to.type)


def _text_to_int(values: pa.Array, _: Operand, to: Target) -> pa.Array:
    return _written(values, _WHOLE).cast(to.type)


def _int_to_decimal(values: pa.Array, _: Operand, to: Target) -> pa.Array:
    return values.cast(pa.decimal256(20, 0)).cast(to.type)


def _float_to_decimal(values: pa.Array, _: Operand, to: Target) -> pa.Array:
    return values.cast(pa.string()).cast(to.type)  # the shortest text that means this number


def _text_to_decimal(values: pa.Array, _: Operand, to: Target) -> pa.Array:
    return _written(values, _DECIMAL).cast(to.type)


def _decimal_to_float(values: pa.Array, _: Operand, to: Target) -> pa.Array:
    return values.cast(pa.string()).cast(to.type)  # the nearest; Arrow's own way is off by a bit now and then


def _text_to_float(values: pa.Array, _: Operand, to: Target) -> pa.Array:
    numbers_ = _written(values, _FLOAT).cast(to.type)
    _must(pc.is_finite(numbers_))
    return numbers_


def _to_text(values: pa.Array, inner: Operand, to: Target) -> pa.Array:
    if inner.kind == "decimal":
        values = _plain_decimals(values)
    elif pat.is_timestamp(values.type):
        digits = _fraction(inner)
        values = pc.utf8_slice_codeunits(values.cast(pa.string()), 0, 20 + digits if digits else 19)
    else:
        values = values.cast(pa.string())
        if inner.source_type.startswith("year"):
            values = pc.utf8_lpad(values, 4, "0")
    if to.size:
        _must(pc.less_equal(pc.utf8_length(values), to.size))
    return values


def _plain_decimals(values: pa.Array) -> pa.Array:
    """Without exponents, which Arrow gives to very small numbers."""
    shown = values.cast(pa.string())
    odd = pc.match_substring(shown, "E")
    if not pc.any(odd).as_py():
        return shown
    odd = pc.fill_null(odd, fill_value=False)
    plain = [f"{value:f}" for value in values.filter(odd).to_pylist()]
    return pc.replace_with_mask(shown, odd, pa.array(plain, pa.string()))


def _fraction(operand: Operand) -> int:
    """How many digits of a second a DATETIME or TIMESTAMP has; 6 where nothing says so."""
    name, _, rest = operand.source_type.partition("(")
    if not name.startswith(("datetime", "timestamp")):
        return 6
    return int(rest.partition(")")[0]) if rest else 0


def _to_date(values: pa.Array, inner: Operand, to: Target) -> pa.Array:
    if inner.kind == "text":
        values = _written(values, _DATE if pat.is_date(to.type) else _MOMENT).cast(to.type)
    elif pat.is_date(to.type) and pat.is_timestamp(values.type):
        _every(values, _DAY_US)
        return values.cast(to.type)
    else:
        values = values.cast(to.type)
    if pat.is_timestamp(to.type):
        _every(values, 10 ** (6 - to.size))
    return values


def _every(moments: pa.Array, micros: int) -> None:
    """Moments must be multiples of so many microseconds."""
    count = moments.cast(pa.int64())
    _must(pc.equal(pc.multiply(pc.divide(count, micros), micros), count))


_ROUTES: Final[dict[tuple[str, str], Callable[[pa.Array, Operand, Target], pa.Array]]] = {
    ("int", "int"): _exactly,
    ("decimal", "int"): _exactly,
    ("float", "int"): _exactly,
    ("text", "int"): _text_to_int,
    ("int", "decimal"): _int_to_decimal,
    ("decimal", "decimal"): _exactly,
    ("float", "decimal"): _float_to_decimal,
    ("text", "decimal"): _text_to_decimal,
    ("int", "float"): _exactly,
    ("decimal", "float"): _decimal_to_float,
    ("float", "float"): _exactly,
    ("text", "float"): _text_to_float,
    ("int", "text"): _to_text,
    ("decimal", "text"): _to_text,
    ("text", "text"): _to_text,
    ("date", "text"): _to_text,
    ("date", "date"): _to_date,
    ("text", "date"): _to_date,
}
