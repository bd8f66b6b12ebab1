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
    """The values of one column: first bytes in `views`, sizes (None: fixed), nulls (None: none is null)."""

    column: int
    views: Views
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
        nulls, place, skip, limit = _Nulls(views, at), at + self.bitmap, 0, views.data.size - 16
        for index, column in enumerate(self.columns):
            null = nulls.of(index) if self._nullable[index] else None
            if column.size and null is None:
                skip += column.size
                continue
            if skip:
                place, skip = place + skip, 0
            if column.size and null is not None:
                place = place + np.where(null, 0, column.size)
                continue
            first, size = _variable(views, place, column.prefix, null)
            place = first + size
            if column.prefix > 2:
                place = np.minimum(place, limit)
        return place + skip if skip else place

    def cells(self, views: Views, at: Ints, columns: frozenset[int]) -> Iterator[Cell]:
        """The asked columns of images that `ends` has found whole; fixed ones side by side are looked up together."""
        nulls, place, run = _Nulls(views, at), at + self.bitmap, _Run(views)
        for index, column in enumerate(self.columns[: max(columns, default=-1) + 1]):
            null = nulls.of(index) if self._nullable[index] else None
            if column.size and null is None:
                run.add(index if index in columns else None, column.size)
                continue
            yield from run.cells(place)
            place = run.after(place)
            if column.size and null is not None:
                found = Cell(index, views, place, None, null)
                place = place + np.where(null, 0, column.size)
            else:
                first, size = _variable(views, place, column.prefix, null)
                found = Cell(index, views, first, size, null)
                place = first + size
            if index in columns:
                yield found
        yield from run.cells(place)


def _variable(views: Views, place: Ints, prefix: int, null: Bools | None) -> tuple[Ints, Ints]:
    """First byte and size of values that begin with their size; a null one has neither."""
    size = views.little(prefix, place)
    if null is None:
        first: Ints = place + prefix
    else:
        size[null] = 0
        first = place + np.where(null, 0, prefix)
    return first, size


class _Run:
    """Columns of a fixed size that follow each other in all images, none of them null."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._size = 0
        self._asked: list[tuple[int, int]] = []
        self._end = 0

    def add(self, asked: int | None, size: int) -> None:
        if asked is not None:
            self._asked.append((asked, self._size))
            self._end = self._size + size
        self._size += size

    def cells(self, place: Ints) -> Iterator[Cell]:
        """The asked ones among them; `place`: where the run begins in each image."""
        if not self._asked:
            return
        views, first = self._views, self._asked[0][1]
        at = place + first if first else place
        if len(self._asked) > 1:
            views, at = views.packed(self._end - first, at)
        for index, offset in self._asked:
            yield Cell(index, views, at + (offset - first) if offset > first else at, None, None)

    def after(self, place: Ints) -> Ints:
        """One past the run; the next one begins."""
        size, self._size, self._asked = self._size, 0, []
        return place + size if size else place


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
