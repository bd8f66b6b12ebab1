"""What a copy goes without while it is synced, as statements for the cut-over whose names can be other ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from syncd.model import TableId
from syncd.sources.mysql.connect import quoted
from syncd.sources.mysql.created import Check, ForeignKey, plain
from syncd.spi import Later, Named

_NAME = r"(?:`(?:[^`]|``)*`|[^\s`\"(),.]+)"
_PLACE = rf"{_NAME}(?:\s*\.\s*{_NAME})?"
_HEAD = re.compile(
    rf"(CREATE\s(?:.*?\s)??TRIGGER\s+(?:IF\s+NOT\s+EXISTS\s+)?)(?:{_NAME}\s*\.\s*)?({_NAME})"
    rf"(\s+(?:BEFORE|AFTER)\s+[A-Z ]+?\s+ON\s+){_PLACE}(\s+FOR\s+EACH\s+ROW\b)",
    re.IGNORECASE | re.DOTALL,
)


def counter(table: TableId, value: int, columns: tuple[str, ...]) -> Later:
    """`columns`: the one that is counted."""
    return Later(("ALTER TABLE ", Named(table), f" AUTO_INCREMENT = {value}"), columns)


def foreign_key(table: TableId, key: ForeignKey) -> Later:
    other = TableId(key.database or table.database, key.table)
    head = ("ALTER TABLE ", Named(table), f" ADD CONSTRAINT {quoted(key.name)} FOREIGN KEY (")
    names = (*_listed(table, key.columns), ") REFERENCES ", Named(other), " (", *_listed(other, key.to))
    return Later((*head, *names, f"){key.rules}"))


def check(table: TableId, of: Check) -> Later:
    name = f"CONSTRAINT {quoted(of.name)} " if of.name else ""
    head = ("ALTER TABLE ", Named(table), f" ADD {name}CHECK ")
    condition = (Named(table, text) if is_name else text for text, is_name in of.parts())
    return Later((*head, *condition, *([" NOT ENFORCED"] if of.off else [])))


def _listed(table: TableId, columns: Sequence[str]) -> Iterator[str | Named]:
    for place, column in enumerate(columns):
        yield from ([", "] if place else [])
        yield Named(table, column)


def trigger(table: TableId, text: str) -> Later:
    """`text`: as it was written. Its body stays so: it is a program, and may name anything."""
    head = _HEAD.match(text)
    if head is None:
        return Later((text,), note=f"a trigger of {table}, with all of its names as at the source")
    begin, name, on, end = head.groups()
    note = f"the body of trigger {plain(name)} is the source's: what it names may be called otherwise here"
    pieces = (begin, Named(table, beside=plain(name)), on, Named(table), end + text[head.end() :])
    return Later(pieces, note=note)
