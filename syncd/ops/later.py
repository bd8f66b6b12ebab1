"""What is left for the cut-over, by the names that it has at the targets: `Found.later`, told again.

A statement that does not fit what the job makes of its table is shown as a comment, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from syncd.engine.build import Parts
from syncd.model import TableId, Target
from syncd.spi import Found, Later, Named
from syncd.transforms import Transform


@dataclass(frozen=True, slots=True)
class Left:
    """`notes`: what a person should know of it. `off`: it is not to be run as it stands."""

    statement: str
    notes: tuple[str, ...] = ()
    off: bool = False

    def lines(self) -> Iterator[str]:
        """As a script has them."""
        yield from (f"-- {note}" for note in self.notes)
        text = f"{self.statement};"
        yield from (f"-- {line}" for line in text.splitlines()) if self.off else [text]


@dataclass(frozen=True)
class _Copied:
    """A table of the job. By a column's name at the source, in small letters: `columns` has that at the target, `lost`
    why there is none."""

    target: Target
    filtered: bool
    columns: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)


class Names:
    """Of the tables that are copied, one for each that was found and not refused."""

    def __init__(self, parts: Parts, copied: Sequence[Found]) -> None:
        self._tables = {found.schema.table: _copied(parts, parts.transform(found.schema)) for found in copied}

    def left(self, found: Found) -> list[Left]:
        """The table's own statements."""
        return [self._left(found.schema.table, later) for later in found.later]

    def _left(self, table: TableId, later: Later) -> Left:
        named = [piece for piece in later.pieces if isinstance(piece, Named)]
        named += [Named(table, column) for column in later.needs]
        why = [*dict.fromkeys(text for name in named if (text := self._lost(name)))]
        why += [*self._not_alone(named)]
        notes = [later.note] if later.note else []
        for other in dict.fromkeys(name.table for name in named if name.table != table):
            notes += self._of_other(other)
        text = "".join(piece if isinstance(piece, str) else self._name(piece, later.quote) for piece in later.pieces)
        return Left(text, (*(f"not to be run as it is: {reason}" for reason in why), *notes), off=bool(why))

    def _lost(self, name: Named) -> str:
        copied = self._tables.get(name.table)
        return copied.lost.get(name.column.lower(), "") if copied is not None else ""

    def _not_alone(self, named: Sequence[Named]) -> Iterator[str]:
        """Keys and counters of a target in which several tables are."""
        for table in dict.fromkeys(name.table for name in named if name.column):
            copied = self._tables.get(table)
            if copied is not None and copied.target.own:
                columns = ", ".join(name for name, _ in copied.target.own)
                yield f"{_place(copied.target)} has the rows of several tables, told apart by {columns}"

    def _of_other(self, other: TableId) -> list[str]:
        copied = self._tables.get(other)
        if copied is None:
            return [f"{other} is not copied by this job: it is named here as at the source"]
        return [f"{_place(copied.target)} lacks the rows that `where` leaves out"] if copied.filtered else []

    def _name(self, name: Named, quote: str) -> str:
        copied = self._tables.get(name.table)
        if name.column:
            return _quoted(quote, copied.columns.get(name.column.lower(), name.column) if copied else name.column)
        place = TableId(copied.target.database, copied.target.name) if copied else name.table
        return f"{_quoted(quote, place.database)}.{_quoted(quote, name.beside or place.name)}"


def _place(target: Target) -> TableId:
    return TableId(target.database, target.name)


def _quoted(quote: str, name: str) -> str:
    return quote + name.replace(quote, quote * 2) + quote


def _copied(parts: Parts, transform: Transform) -> _Copied:
    table = transform.source.table
    target = parts.target(next(iter(parts.job.sinks)), transform.schema)
    own = any(sink.where.of(table) for sink in parts.job.sinks.values())
    found = _Copied(target, filtered=own or transform.filter is not None)
    for column in transform.source.columns:
        step = next((step for step in transform.steps if step.source == column.name), None)
        if step is None:
            found.lost[column.name.lower()] = f"{table}.{column.name} is left out"
        elif step.mask or step.computed is not None:
            found.lost[column.name.lower()] = (
                f"{table}.{column.name} is {'masked' if step.mask else 'computed'} by the job"
            )
        else:
            found.columns[column.name.lower()] = step.column.name
    return found
