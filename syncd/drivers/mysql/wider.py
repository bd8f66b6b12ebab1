"""Which column types hold all values of which others, by COLUMN_TYPE and character set."""

from __future__ import annotations

from typing import Final

from syncd.drivers.mysql.types import BINARIES, INTEGERS, TEXTS, arguments, base_type, is_unsigned, members

_WITHIN: Final = {
    "ascii": {"latin1", "utf8mb3", "utf8", "utf8mb4"},
    "latin1": {"utf8mb3", "utf8", "utf8mb4"},
    "utf8mb3": {"utf8", "utf8mb4"},
    "utf8": {"utf8mb3", "utf8mb4"},
}
"""Character set -> those that have all of its characters."""
_BYTES: Final = {"ascii": 1, "latin1": 1, "utf8mb3": 3, "utf8": 3}
"""Of a character, at most; 4 of all others."""
_LONG: Final = {"tiny": (1 << 8) - 1, "": (1 << 16) - 1, "medium": (1 << 24) - 1, "long": (1 << 32) - 1}
_TIMES: Final = {"time", "datetime", "timestamp"}
DECIMALS: Final = {"decimal", "numeric"}
_SIZED: Final = {"char", "varchar"}


def holds(wide: str, narrow: str, wide_charset: str = "", narrow_charset: str = "") -> bool:
    """Whether each value of the one type but NULL is one of the other, the same one. Of texts both character sets are
    given, or they are the same."""
    one, other = _plain(wide), _plain(narrow)
    characters = wide_charset == narrow_charset or wide_charset in _WITHIN.get(narrow_charset, ())
    if base_type(one) in TEXTS and base_type(other) in TEXTS:
        return characters and _holds_text(one, other, wide_charset, narrow_charset)
    return characters if one == other else _holds_type(one, other)


def _plain(kind: str) -> str:
    """In small letters, but for members."""
    return kind if base_type(kind) in {"enum", "set"} else kind.lower()


def _holds_text(one: str, other: str, wide_charset: str, narrow_charset: str) -> bool:
    kinds = base_type(one), base_type(other)
    if kinds[0] == "char" != kinds[1]:
        return False  # it forgets spaces at the end
    (here, here_bytes), (there, there_bytes) = _room(one, wide_charset), _room(other, narrow_charset)
    converted = kinds[1] in _SIZED or wide_charset != narrow_charset
    return here >= there and here_bytes >= (there * _BYTES.get(wide_charset, 4) if converted else there_bytes)


def _room(kind: str, charset: str) -> tuple[int, int]:
    """Characters and bytes that surely fit, and that may be there."""
    base = base_type(kind)
    if base in _SIZED:
        characters = int(arguments(kind) or 1)
        return characters, characters * _BYTES.get(charset, 4)
    size = _LONG[base.removesuffix("text")]
    return size, size


def _holds_type(one: str, other: str) -> bool:
    kinds = base_type(one), base_type(other)
    if kinds[0] in INTEGERS and kinds[1] in INTEGERS:
        return _bits(one)[0] <= _bits(other)[0] and _bits(one)[1] >= _bits(other)[1]
    if kinds[0] in DECIMALS and kinds[1] in DECIMALS:
        (p, s), (q, t) = digits(one), digits(other)
        return s >= t and p - s >= q - t and is_unsigned(one) <= is_unsigned(other)
    if kinds[0] == kinds[1] and kinds[0] in _TIMES:
        return int(arguments(one) or 0) >= int(arguments(other) or 0)
    if kinds[0] == kinds[1] == "enum":
        return {*members(one)} >= {*members(other)}
    if kinds[0] == kinds[1] == "set":  # a value's text has its members in this order
        return [name for name in members(one) if name in {*members(other)}] == [*members(other)]
    if kinds[0] in BINARIES - {"binary"} and kinds[1] in BINARIES - {"binary"}:
        return _bytes(one) >= _bytes(other)
    return kinds == ("double", "float") and not arguments(one)


def _bits(kind: str) -> tuple[int, int]:
    """The smallest and the largest number."""
    bits = 24 if base_type(kind) == "mediumint" else INTEGERS[base_type(kind)]
    return (0, (1 << bits) - 1) if is_unsigned(kind) else (-(1 << bits - 1), (1 << bits - 1) - 1)


def digits(kind: str) -> tuple[int, int]:
    precision, _, scale = (arguments(kind) or "10,0").partition(",")
    return int(precision), int(scale or 0)


def _bytes(kind: str) -> int:
    base = base_type(kind)
    return int(arguments(kind)) if base == "varbinary" else _LONG[base.removesuffix("blob")]
