"""Multi-row statements, each below a number of rows and of bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from syncd.drivers.mysql.connection import quoted
from syncd.sinks.mysql.layout import Layout
from syncd.sinks.mysql.values import joined, key_literals, literals
from syncd.sinks.mysql.words import DELETED, full_name

_KEYS = 1000
"""Keys in one DELETE or UPDATE."""
_UPSERTED_AT_OCEANBASE = 500
"""Rows in one upsert there. Other than an INSERT it has a plan for each number of rows, of 3 kB a row, that takes three
times as long to make as to run: what is left over goes in halves of this, so that there are few plans."""


@dataclass(frozen=True, slots=True)
class Statement:
    """`sql` touches the rows at `index` of the batch."""

    sql: bytes
    index: NDArray[np.int64]


class Writing:
    """The statements for the rows of one batch, whose literals are made once.

    `most_rows`, `most_bytes`: of one statement. A row beyond `most_bytes` has a statement of its own.
    """

    def __init__(self, of: Layout, rows: pa.RecordBatch, most_rows: int, most_bytes: int) -> None:
        self._of, self._rows = of, rows
        self._most_rows, self._most_bytes = most_rows, most_bytes
        self._name = full_name(of.target).encode()
        self._all: pa.Array | None = None
        self._keys: pa.Array | None = None

    def insert(self, index: NDArray[np.int64], *, over: bool) -> Iterator[Statement]:
        """`over`: a row that is there gets the new values."""
        names = [quoted(c.name) for c in self._of.written] + ([quoted(DELETED)] if self._of.soft else [])
        head = b"INSERT INTO " + self._name + b" (" + ", ".join(names).encode() + b") VALUES ("
        tail = b")"
        if over:
            tail += b" ON DUPLICATE KEY UPDATE " + self._update().encode()
        by_plan = over and self._of.limits.oceanbase
        most_rows = min(self._most_rows, _UPSERTED_AT_OCEANBASE) if by_plan else self._most_rows
        yield from self._sliced(self._values(), index, head, b"),(", tail, most_rows, halves=by_plan)

    def _update(self) -> str:
        kept = set(self._of.key) - set(self._of.rewritten_keys)
        names = [c.name for c in self._of.written if c.name not in kept] + ([DELETED] if self._of.soft else [])
        return ", ".join(f"{quoted(name)} = VALUES({quoted(name)})" for name in names or self._of.key[:1])

    def delete(self, index: NDArray[np.int64]) -> Iterator[Statement]:
        yield from self._by_key(index, b"DELETE FROM " + self._name)

    def mark_deleted(self, index: NDArray[np.int64]) -> Iterator[Statement]:
        """Where deletes are soft."""
        yield from self._by_key(
            index, b"UPDATE " + self._name + f" SET {quoted(DELETED)} = 1{self._of.unmoved()}".encode()
        )

    def _by_key(self, index: NDArray[np.int64], head: bytes) -> Iterator[Statement]:
        key = self._of.key
        if len(key) == 1:
            start, between, end = head + f" WHERE {quoted(key[0])} IN (".encode(), b",", b")"
        elif self._of.limits.oceanbase:
            names = ", ".join(quoted(name) for name in key)
            start, between, end = head + f" WHERE ({names}) IN ((".encode(), b"),(", b"))"
        else:
            start, between, end = head + b" WHERE (", b") OR (", b")"
        yield from self._sliced(self._key_texts(), index, start, between, end, min(self._most_rows, _KEYS))

    def _values(self) -> pa.Array:
        if self._all is None:
            columns = [literals(self._column(c.name)) for c in self._of.written]
            if self._of.soft:
                columns.append(pa.repeat(pa.scalar(b"0"), self._rows.num_rows))
            self._all = joined(columns)
        return self._all

    def _key_texts(self) -> pa.Array:
        """What tells each row: its key's literals, or a condition where a server looks rows of values up badly."""
        if self._keys is None:
            types = {column.name: column.source_type for column in self._of.columns}
            columns = [(name, key_literals(self._column(name), types[name])) for name in self._of.key]
            if len(columns) > 1 and not self._of.limits.oceanbase:
                names = [pa.scalar(f"{quoted(name)} = ".encode()) for name, _ in columns]
                conditions = [
                    pc.binary_join_element_wise(name, texts, pa.scalar(b""))
                    for name, (_, texts) in zip(names, columns, strict=True)
                ]
                self._keys = joined(conditions, b" AND ")
            else:
                self._keys = joined([texts for _, texts in columns])
        return self._keys

    def _column(self, name: str) -> pa.Array:
        return self._rows.column(self._rows.schema.get_field_index(name))

    def _sliced(
        self,
        texts: pa.Array,
        index: NDArray[np.int64],
        head: bytes,
        between: bytes,
        tail: bytes,
        most_rows: int,
        *,
        halves: bool = False,
    ) -> Iterator[Statement]:
        """`halves`: of `most_rows` rows, or of a half of it, or of a half of that, and so on."""
        texts = texts.take(pa.array(index))
        ends = np.cumsum(pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64) + len(between))
        room = self._most_bytes - len(head) - len(tail)
        start = 0
        while start < len(index):
            done = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, done + room, side="right"))
            stop = min(max(stop, start + 1), start + most_rows)
            stop = start + _half_of(most_rows, stop - start) if halves else stop
            part = texts.slice(start, stop - start)
            offsets = pa.array([0, len(part)], pa.int32())
            body = pc.binary_join(pa.ListArray.from_arrays(offsets, part), pa.scalar(between))
            yield Statement(b"".join((head, body[0].as_buffer(), tail)), index[start:stop])
            start = stop


def _half_of(most: int, count: int) -> int:
    """The largest of `most` and its halves that is at most `count`."""
    while most > count:
        most //= 2
    return most


def largest(statements: Sequence[Statement]) -> int:
    """Bytes of the largest."""
    return max((len(statement.sql) for statement in statements), default=0)
