"""Columns after CONVERT TO CHARACTER SET."""

from __future__ import annotations

from dataclasses import replace

from syncd.model import Column
from syncd.sources.mysql.binlog.server import Server, Unclear, charset_of
from syncd.sources.mysql.binlog.tabled import is_text
from syncd.sources.mysql.types import arrow_type, base_type

_BYTES = {"utf8mb4": 4, "utf8mb3": 3, "utf8": 3, "latin1": 1, "ascii": 1}
_SIZES = {"tinytext": 255, "text": 65535, "mediumtext": 16777215, "longtext": 4294967295}


def converted(column: Column, collation: str, server: Server) -> Column:
    """A TEXT becomes as large as it needs to hold as many characters. Unclear: to or from what is not known."""
    if not is_text(column):
        return column
    charset = charset_of(collation)
    if charset not in _BYTES or column.charset not in _BYTES or arrow_type(column.source_type, charset) is None:
        raise Unclear(f"{column.name} in {charset}")
    kind = base_type(column.source_type)
    if kind in _SIZES and charset != column.charset:
        room = _SIZES[kind] // _BYTES[column.charset] * _BYTES[charset]
        kind = next((name for name, size in _SIZES.items() if room <= size), "longtext")
        column = replace(column, source_type=kind)
    return replace(column, charset=charset, collation=collation)
