"""Which columns hold all values of which others, and whether MODIFY leaves values as they are."""

from __future__ import annotations

from typing import Final

from syncd.model import Column
from syncd.sources.mysql.types import BINARIES, INTEGERS, TEXTS, arguments, base_type, is_unsigned, members

_WITHIN: Final = {
    "ascii": {"latin1", "utf8mb3", "utf8", "utf8mb4"},
    "latin1": {"utf8mb3", "utf8", "utf8mb4"},
    "utf8mb3": {"utf8", "utf8mb4"},
    "utf8": {"utf8mb3", "utf8mb4"},
}
"""Character set -> those that have all of its characters."""
_BYTES: Final = {"utf8mb4": 4, "utf8mb3": 3, "utf8": 3}
_LONG: Final = {"tiny": (1 << 8) - 1, "": (1 << 16) - 1, "medium": (1 << 24) - 1, "long": (1 << 32) - 1}
_TIMES: Final = {"time", "datetime", "timestamp"}
_DECIMALS: Final = {"decimal", "numeric"}


def holds_all(wide: Column, narrow: Column) -> bool:
    """Whether each value of `narrow` but NULL is one of `wide`, the same one; NULL is a question of its own."""
    one, other = wide.source_type.lower(), narrow.source_type.lower()
    if not one or not other:
        return wide.type == narrow.type and one == other
    if base_type(one) in TEXTS and base_type(other) in TEXTS:
        return _holds_text(wide, narrow)
    if one == other:
        return wide.charset == narrow.charset or wide.charset in _WITHIN.get(narrow.charset, ())
    return _holds_type(one, other)


def _holds_text(wide: Column, narrow: Column) -> bool:
    if wide.charset != narrow.charset and wide.charset not in _WITHIN.get(narrow.charset, ()):
        return False
    kinds = base_type(wide.source_type), base_type(narrow.source_type)
    if kinds[0] == "char" != kinds[1]:
        return False  # it forgets spaces at the end
    (here, here_bytes), (there, there_bytes) = _room(wide), _room(narrow)
    converted = kinds[1] in _SIZED or wide.charset != narrow.charset
    return here >= there and here_bytes >= (there * _BYTES.get(wide.charset, 1) if converted else there_bytes)


_SIZED: Final = {"char", "varchar"}


def _room(column: Column) -> tuple[int, int]:
    """Characters and bytes that surely fit, and that may be there."""
    base, wide = base_type(column.source_type), _BYTES.get(column.charset, 1)
    if base in _SIZED:
        characters = int(arguments(column.source_type) or 1)
        return characters, characters * wide
    size = _LONG[base.removesuffix("text")]
    return size, size


def _holds_type(one: str, other: str) -> bool:
    kinds = base_type(one), base_type(other)
    if kinds[0] in INTEGERS and kinds[1] in INTEGERS:
        return _bits(one)[0] <= _bits(other)[0] and _bits(one)[1] >= _bits(other)[1]
    if kinds[0] in _DECIMALS and kinds[1] in _DECIMALS:
        (p, s), (q, t) = _digits(one), _digits(other)
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


def _digits(kind: str) -> tuple[int, int]:
    precision, _, scale = (arguments(kind) or "10,0").partition(",")
    return int(precision), int(scale or 0)


def _bytes(kind: str) -> int:
    base = base_type(kind)
    return int(arguments(kind)) if base == "varbinary" else _LONG[base.removesuffix("blob")]


def may_change(old: Column, new: Column, *, strict: bool) -> bool:
    """Whether values that are there may be others after MODIFY, without an error.

    A strict session refuses what does not fit; but it rounds, cuts spaces off texts, and gives a TIMESTAMP the time.
    """
    if old.nullable and not new.nullable and (not strict or base_type(new.source_type) == "timestamp"):
        return True
    if holds_all(new, old):
        return False
    exact = base_type(new.source_type)
    same_points = exact in _DECIMALS and _digits(old.source_type)[1] <= _digits(new.source_type)[1]
    refuses = exact in INTEGERS or same_points or exact in {"enum", "set", "varbinary"} | (BINARIES - {"binary"})
    return not (strict and refuses and holds_all(old, new))
