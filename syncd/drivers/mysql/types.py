"""The parts of a COLUMN_TYPE, as information_schema and SHOW CREATE TABLE write it."""

from __future__ import annotations

import re
from collections.abc import Iterable

INTEGERS = {"tinyint": 8, "smallint": 16, "mediumint": 32, "int": 32, "integer": 32, "bigint": 64}
"""Bits of the smallest number of a processor that holds them."""
TEXTS = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext"}
BINARIES = {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"}
_MEMBER = re.compile(r"'((?:[^'\\]|\\.|'')*)'", re.DOTALL)
_ESCAPE = re.compile(r"''|\\(.)", re.DOTALL)
_ESCAPED = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}
_ESCAPES = {"'": "''", "\\": r"\\", "\0": r"\0", "\n": r"\n", "\r": r"\r", "\x1a": r"\Z"}
_SPECIAL = re.compile("['\\\\\0\n\r\x1a]")
_TYPE = re.compile(r"^(\w+)(?:\((.*)\))?(.*)$", re.DOTALL)


def base_type(column_type: str) -> str:
    """First word of COLUMN_TYPE: "decimal(18,4) unsigned" -> "decimal"."""
    match = _TYPE.match(column_type)
    return match[1].lower() if match else column_type


def arguments(column_type: str) -> str:
    """What stands in the parentheses of COLUMN_TYPE, "" without any."""
    match = _TYPE.match(column_type)
    return (match[2] or "") if match else ""


def is_unsigned(column_type: str) -> bool:
    match = _TYPE.match(column_type)
    return match is not None and "unsigned" in match[3].lower()


def members(column_type: str) -> list[str]:
    """The members of an ENUM or SET in order."""
    return [unescaped(inner) for inner in _MEMBER.findall(arguments(column_type))]


def listed(names: Iterable[str]) -> str:
    """What COLUMN_TYPE has in its parentheses for such members."""
    return ",".join(f"'{_SPECIAL.sub(lambda found: _ESCAPES[found[0]], name)}'" for name in names)


def unescaped(inner: str) -> str:
    """What stands between the quotes of a text, in the server's own words: a backslash escapes, quotes are doubled."""
    return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]) if found[1] else "'", inner)
