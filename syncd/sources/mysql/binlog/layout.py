"""Where the columns of row images lie: images are walked many at a time, one step a column.

A row image is a bitmap of its nulls and the values of its columns that are not null, without gaps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from syncd.sources.mysql.binlog.arrays import Bools, Ints, Views
from syncd.sources.mysql.binlog.tablemap import ColumnMap


class Cell(NamedTuple):
    """The values of one column: first bytes, sizes (None: fixed), nulls (None: none is null)."""

    column: int
    at: Ints
    size: Ints | None
    null: Bools | None


class Layout:
    """The row images of one TABLE_MAP."""

    def __init__(self, columns: tuple[ColumnMap, ...]) -> None:
        self.columns = columns
        self.bitmap = (len(columns) + 7) // 8
        self._nullable = [column.nullable for column in columns]

    def ends(self, views: Views, at: Ints) -> Ints:
        """One past the last byte of each image that begins at `at`.

        Never past the padding behind the data; an end behind its event means a malformed event. IndexError: likewise.
        """
        ((_, end),) = self._walk(views, at, frozenset())
        return end

    def cells(self, views: Views, at: Ints, columns: frozenset[int]) -> Iterator[Cell]:
        """The asked columns of images that `ends` has found whole."""
        for cell, _ in self._walk(views, at, columns):
            if cell is not None:
                yield cell

    def _walk(self, views: Views, at: Ints, asked: frozenset[int]) -> Iterator[tuple[Cell | None, Ints]]:
        """A step for each asked column; without any, one step at the end."""
        last = max(asked, default=len(self.columns) - 1)
        nulls = _Nulls(views, at)
        place, skip, limit = at + self.bitmap, 0, views.data.size - 16
        for index, column in enumerate(self.columns[: last + 1]):
            null = nulls.of(index) if self._nullable[index] else None
            if null is None and column.size and index not in asked:
                skip += column.size
                continue
            if skip:
                place, skip = place + skip, 0
            if column.size:
                if index in asked:
                    yield Cell(index, place, None, null), place
                place = place + (column.size if null is None else np.where(null, 0, column.size))
                continue
            size = views.little(column.prefix, place)
            if null is not None:
                size[null] = 0
            prefix: int | Ints = column.prefix if null is None else np.where(null, 0, column.prefix)
            first = place + prefix
            if index in asked:
                yield Cell(index, first, size, null), first
            place = first + size
            if column.prefix > 2:
                place = np.minimum(place, limit)
        if not asked:
            yield None, place + skip


class _Nulls:
    """The null bitmaps of many images, a byte of them at a time; most bytes hold no null at all."""

    def __init__(self, views: Views, at: Ints) -> None:
        self._views, self._at = views, at
        self._index = -1
        self._byte: np.ndarray[tuple[int], np.dtype[np.uint8]] | None = None

    def of(self, column: int) -> Bools | None:
        index = column >> 3
        if index != self._index:
            byte = self._views.data[self._at + index]
            self._byte, self._index = (byte if byte.any() else None), index
        if self._byte is None:
            return None
        null: Bools = (self._byte >> (column & 7) & 1).astype(bool)
        return null if null.any() else None
