"""The values of one column in a window of events, before they are converted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from syncd.errors import FatalError, Unsupported
from syncd.model import TableId
from syncd.sources.mysql.binlog.arrays import Bools, Ints, Views


@dataclass(frozen=True, slots=True)
class Cells:
    """`at`: first byte of each value, in log order; of a null value any place inside of the buffer.

    `size`: bytes of each value where that varies (0 for a null one), else None. `null`: None when no value is.
    """

    views: Views
    at: Ints
    size: Ints | None
    null: Bools | None

    def __len__(self) -> int:
        return len(self.at)


Convert = Callable[[Cells], pa.Array]
"""From the cells of one column to its Arrow array; raises `FatalError` with `table` set."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which column a converter works for: for its errors."""

    table: TableId
    column: str

    def __str__(self) -> str:
        return f"{self.table}.{self.column}"

    def unsupported(self, what: str, hint: str = "") -> Unsupported:
        return Unsupported(f"{self}: {what}", table=str(self.table), hint=hint)

    def malformed(self, what: str) -> FatalError:
        return FatalError(f"{self}: {what} in the log", table=str(self.table), hint="resync the table")


def some(mask: Bools, null: Bools | None) -> bool:
    """True when `mask` holds for any value that is not null."""
    return bool((mask if null is None else mask & ~null).any())
