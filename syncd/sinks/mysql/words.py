"""Names, texts and numbers inside of a statement, under the session's sql_mode."""

from __future__ import annotations

from syncd.drivers.mysql.connection import quoted
from syncd.model import Target

DELETED = "_deleted"
"""The sink's own column where deletes are `soft`: 1 in rows that are deleted."""
BOOK = "_syncd"
"""The sink's own table in every database that it writes to; see `book`."""


def text(value: str) -> str:
    """A string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def full_name(target: Target) -> str:
    return quoted(target.database, target.name)
