"""Targets whose names differ in their case alone, at a sink that does not tell upper from lower case in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from syncd.engine.build import Parts
from syncd.model import TableId
from syncd.state import Phase, TableRecord


class Namesakes:
    """Of the tables of one sink; the first of each name has it. `tables`: in the order in which they come."""

    def __init__(self, parts: Parts, tables: Iterable[TableId]) -> None:
        self._parts = parts
        self._first: dict[TableId, TableId] = {}
        for table in tables:
            if parts.wants(table):
                self._first.setdefault(folded(parts.rule(table).to), table)

    def refuse(self, table: TableId, sink: str, folds: Callable[[], str]) -> None:
        """`folds`: asked of the sink only where there is such a pair. ConfigError (C127): another one has the name."""
        rule = self._parts.rule(table)
        other = self._first.get(folded(rule.to), table)
        place = self._parts.rule(other).to
        if place == rule.to or not (why := folds()):
            return
        raise self._parts.job.fault(
            ("tables", rule.pattern, "to") if rule.to_given else ("tables", rule.pattern),
            f"{table} goes to {rule.to}, {other} goes to {place}, and these are one table at sink {sink}, where {why}",
            code="C127",
            hint="give one of them a name (`to`) that differs in more than its case",
            of_key=not rule.to_given,
        )


def by_place(records: Iterable[TableRecord]) -> list[TableId]:
    """Those that are at the sink already, then those on their way there, then the others; by name."""
    return [record.table for record in sorted(records, key=lambda r: (how_new(r), r.table))]


def how_new(record: TableRecord) -> int:
    """0 for a table that is at the sink, 1 for one on its way there, 2 for others."""
    phase = record.resume or record.phase
    if phase is Phase.LIVE or record.opened or record.shadow:
        return 0
    return 2 if phase in {Phase.NEW, Phase.HALTED} else 1


def difference(source: str, sink: str) -> str:
    """What it means where the source tells upper from lower case in names and the sink does not; "" for no matter.

    Both: the answer of `folds`.
    """
    if source or not sink:
        return ""
    return (
        f"{sink}, and the source tells upper from lower case in the names of databases and tables: here they may be "
        "kept in small letters, and two that differ in their case alone are one"
    )


def folded(table: TableId) -> TableId:
    """The same for names that differ in their case alone."""
    return TableId(table.database.lower(), table.name.lower())
