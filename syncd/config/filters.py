"""A sink's own filters (`sinks.NAME.where`): which condition holds for a table.

One text holds for every table of the sink; in a mapping, table patterns are matched as those of `tables`. A table that
none fits goes to the sink whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from syncd.config.document import Document, Key
from syncd.config.tables import Pattern, check_pattern, fitting, rival, tie
from syncd.errors import ConfigError
from syncd.model import TableId

Where = str | Mapping[str, str] | None
_ALL = Pattern("*.*")


@dataclass(frozen=True, slots=True)
class Condition:
    """`key`: where it stands in the job file. `text` is not shown: a value in it may come from a secret."""

    key: Key
    text: str

    def __repr__(self) -> str:
        return f"Condition({self.key})"


class Filters:
    """Those of one sink."""

    def __init__(self, document: Document, sink: str, where: Where) -> None:
        self._document = document
        self._where = where
        self._rules = [*_rules(("sinks", sink, "where"), where)]

    def of(self, table: TableId) -> Condition | None:
        """None: all rows of the table go to the sink. ConfigError: two patterns fit alike."""
        found = fitting(self._rules, table)
        if (other := rival(found)) is not None:
            raise tie(self._document, (*found[0][1].key[:-1], other.text), table, found[0][0])
        return found[0][1] if found else None

    def marks(self, mark: Callable[[str], str]) -> Where:
        """What the file says, with `mark` of each condition in its place."""
        if isinstance(self._where, str):
            return mark(self._where)
        return {pattern: mark(condition) for pattern, condition in (self._where or {}).items()} or None

    def unmatched(self, tables: Collection[TableId]) -> Iterator[Condition]:
        """Those whose pattern fits none of the tables."""
        for pattern, condition in self._rules:
            if not any(pattern.match(table) for table in tables):
                yield condition


def _rules(key: Key, where: Where) -> Iterator[tuple[Pattern, Condition]]:
    if isinstance(where, str):
        yield _ALL, Condition(key, where)
        return
    for text, condition in (where or {}).items():
        yield Pattern(text), Condition((*key, text), condition)


def check(document: Document, sink: str, where: Where) -> Iterator[ConfigError]:
    """Faults of patterns and of the conditions' syntax: which columns there are is known when the job is planned."""
    from syncd.transforms.where import parse  # sqlglot is slow to load: only who filters pays for it

    key: Key = ("sinks", sink, "where")
    for text, condition in {"": where}.items() if isinstance(where, str) else (where or {}).items():
        at = (*key, text) if text else key
        if text:
            yield from check_pattern(document, text, key)[1]
        try:
            parse(condition)
        except ConfigError as error:
            yield document.fault(at, error.what, code=error.code, hint=error.hint)
