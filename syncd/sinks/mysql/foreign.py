"""What the server's counts of rows say of rows that somebody else has written.

A DELETE counts the rows that it has found. An INSERT ... ON DUPLICATE KEY UPDATE counts 1 for a row that was not there,
2 for one that was, and 0 for one that had the new values already.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from syncd.spi import Foreign

Index = NDArray[np.int64]


class Tally:
    """Of the statements of one transaction. `there`: see `Ticket.there`.

    One difference may hide another one in the same statement; none is told that is not there.
    """

    def __init__(self, there: NDArray[np.bool_] | None) -> None:
        self._there = there
        self._missing = self._extra = 0

    def deleted(self, index: Index, count: int) -> None:
        """`index`: the rows of the statement."""
        if self._there is not None:
            known = int(self._there[index].sum())
            self._missing += max(known - count, 0)
            self._extra += max(count - known, 0)

    def upserted(self, index: Index, count: int) -> None:
        if self._there is None:
            return
        old = int(self._there[index].sum())
        new = len(index) - old
        above, odd = count - (new + 2 * old), (count - new) % 2
        if count < new or above > 0:
            self._extra += max(new - count, above)
        elif odd and not new:
            self._missing += 1

    def foreign(self) -> Foreign | None:
        return None if self._there is None else Foreign(self._missing, self._extra)
