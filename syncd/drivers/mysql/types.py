"""The parts of a COLUMN_TYPE, as information_schema and SHOW CREATE TABLE write it."""

from __future__ import annotations

import re

INTEGERS = {"tinyint": 8, "smallint": 16, "mediumint": 32, "int": 32, "integer": 32, "bigint": 64}
"""Bits of the smallest number of a processor that holds them."""
TEXTS = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext"}
BINARIES = {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"}
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
    """The members of an ENUM or SET in order; quotes in the names are doubled in COLUMN_TYPE."""
    return [m.replace("''", "'") for m in re.findall(r"'((?:[^']|'')*)'", arguments(column_type))]
