"""Names and texts inside of a statement."""

from __future__ import annotations


def quoted(name: str) -> str:
    """An identifier in back quotes."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def text(value: str) -> str:
    """A string literal; control characters are harmless inside of it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
