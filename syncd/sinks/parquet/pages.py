"""Reading files of a table: in key order, page by page, with the last version of each key.

Each file is sorted by key and has a key once. Of each, one page is held; the smallest last key of these pages is as far
as all files are known, and goes out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from syncd.errors import FatalError, TransientError
from syncd.model import Target
from syncd.sinks.parquet.defaults import fill
from syncd.sinks.parquet.errors import mapping
from syncd.sinks.parquet.rows import last_versions, order
from syncd.sinks.parquet.table import MERGED, State, Table

PAGE_BYTES = 16 << 20
"""A page has fewer rows where they are large."""
TRIES = 100
REPLACES = b"syncd_replaces"
"""In the metadata of a merged file without a key: the names of the files whose rows it has."""
_READ = ds.ParquetFragmentScanOptions(pre_buffer=False, use_buffered_stream=True, page_checksum_verification=True)


class Part:
    """One open file: it can be read to its end also when it is removed meanwhile."""

    def __init__(self, path: Path, state: State) -> None:
        self.path = path
        self._state = state
        self._file = pa.OSFile(str(path))
        with mapping(f"opening {path}", str(state.schema.table)):
            self.fragment = ds.ParquetFileFormat().make_fragment(self._file)
            self.schema = self.fragment.physical_schema
            self.metadata = self.fragment.metadata
        self._compare()

    def close(self) -> None:
        self._file.close()

    def _compare(self) -> None:
        wanted = self._state.columns
        wrong = [
            f"column {f.name} is {f.type}, {wanted.field(f.name).type} is wanted"
            for f in self.schema
            if f.name in wanted.names and wanted.field(f.name).type != f.type and f.name not in self._state.former
        ]
        lacks = {*self._state.key, *wanted.names[-2:]} - {*self.schema.names}
        wrong += [f"column {name} is missing" for name in sorted(lacks)]
        if wrong:
            raise FatalError(
                f"{self.path} does not fit: {'; '.join(wrong)}",
                table=str(self._state.schema.table),
                hint="take away the files that syncd did not write, then `syncd jobs resume`",
            )

    def replaces(self) -> list[str]:
        """Names of the files whose rows are in this one, of a table without a key."""
        found: list[str] = json.loads((self.schema.metadata or {}).get(REPLACES, b"[]"))
        return found

    def count(self, condition: pc.Expression) -> int:
        with mapping(f"reading {self.path}", str(self._state.schema.table)):
            return int(self.fragment.count_rows(filter=condition))

    def pages(self, rows: int, condition: pc.Expression | None) -> Iterator[pa.Table]:
        """With all columns of the table: rows that were written before one was added hold its default."""
        size = sum(self.metadata.row_group(i).total_byte_size for i in range(self.metadata.num_row_groups))
        fitting = PAGE_BYTES * max(self.metadata.num_rows, 1) // max(size, 1)
        with mapping(f"reading {self.path}", str(self._state.schema.table)):
            for batch in self.fragment.to_batches(
                schema=self.schema,
                filter=condition,
                batch_size=max(1, min(rows, fitting)),
                batch_readahead=1,
                fragment_scan_options=_READ,
                use_threads=False,
            ):
                if batch.num_rows:
                    yield self._whole(batch)

    def _whole(self, batch: pa.RecordBatch) -> pa.Table:
        columns = self._state.columns
        arrays = []
        for field in columns:
            at = batch.schema.get_field_index(field.name)
            if at < 0:
                at = batch.schema.get_field_index(self._state.former.get(field.name, field.name))
            if at >= 0:
                arrays.append(batch.column(at).cast(field.type))
            else:
                value = fill(self._state.schema.table, self._state.schema.column(field.name))
                arrays.append(pa.repeat(value, batch.num_rows))
        return pa.Table.from_arrays(arrays, schema=columns)


def opened(stack: ExitStack, files: Sequence[Path], state: State) -> list[Part]:
    """FileNotFoundError: one was removed since `files` were listed."""
    parts = []
    for file in files:
        parts.append(Part(file, state))
        stack.callback(parts[-1].close)
    return parts


def snapshot(stack: ExitStack, table: Table, state: State, prefix: str = "") -> list[Part]:
    """All files that count, open, as of one moment: none has gone, none was merged since they were listed.

    `prefix`: only those whose names begin so.
    """
    for _ in range(TRIES):
        files = table.files()
        with ExitStack() as attempt:
            try:
                parts = opened(attempt, [file for file in files if file.name.startswith(prefix)], state)
            except FileNotFoundError:
                continue
            if any(file.name.startswith(MERGED) for file in {*table.files()} - {*files}):
                continue
            stack.push(attempt.pop_all())
        dead = set() if state.key else replaced(parts)
        return [part for part in parts if part.path.name not in dead]
    raise TransientError(f"{table.folder}: its files change all the time")


def merged(
    parts: Sequence[Part], state: State, rows: int, condition: pc.Expression | None = None
) -> Iterator[pa.Table]:
    """The last version of each key, in key order; without a key all rows, file by file."""
    sources = [part.pages(rows, condition) for part in parts]
    if not state.key:
        for source in sources:
            yield from source
        return
    cursors = [_Cursor(source, state.key) for source in sources]
    while cursors := [c for c in cursors if c.filled()]:
        ends = pa.concat_tables([c.end() for c in cursors])
        first = ends.take(order(ends, state.key).slice(0, 1))
        bound = [first.column(name)[0] for name in state.key]
        yield last_versions(pa.concat_tables([c.up_to(bound) for c in cursors]), state.key)


class _Cursor:
    def __init__(self, source: Iterator[pa.Table], key: Sequence[str]) -> None:
        self._source = source
        self._key = key
        self.page: pa.Table | None = None

    def filled(self) -> bool:
        if self.page is None or not len(self.page):
            self.page = next(self._source, None)
        return self.page is not None

    def end(self) -> pa.Table:
        """The last key of the page."""
        assert self.page is not None
        return self.page.slice(len(self.page) - 1).select(self._key)

    def up_to(self, bound: Sequence[pa.Scalar]) -> pa.Table:
        """The rows with key <= bound, which leave."""
        page = self.page
        assert page is not None
        keys = [page.column(name) for name in self._key]
        within = pc.less_equal(keys[-1], bound[-1])
        for values, end in zip(reversed(keys[:-1]), reversed(bound[:-1]), strict=True):
            within = pc.or_(pc.less(values, end), pc.and_(pc.equal(values, end), within))
        count = int(np.count_nonzero(within.to_numpy()))
        self.page = page.slice(count)
        return page.slice(0, count)


def own_rows(target: Target, state: State) -> pc.Expression | None:
    """The condition that tells the rows of the target's own table from those of others; None where all are."""
    kinds = {name: state.columns.field(name).type for name, _ in target.own}
    conditions = [pc.field(name) == pa.scalar(value, kinds[name]) for name, value in target.own]
    return reduce(lambda a, b: a & b, conditions) if conditions else None


def between(state: State, lower: Sequence[object] | None, upper: Sequence[object] | None) -> pc.Expression | None:
    """lower < key <= upper, as what Parquet's statistics are asked with."""
    conditions = []
    if lower is not None:
        conditions.append(_bound(state, lower, "greater", "greater"))
    if upper is not None:
        conditions.append(_bound(state, upper, "less", "less_equal"))
    return reduce(lambda a, b: a & b, conditions) if conditions else None


def _bound(state: State, values: Sequence[object], sign: str, last: str) -> pc.Expression:
    if len(values) != len(state.key):
        text = f"{state.schema.table}: a bound of {len(values)} values for a key of {len(state.key)} columns"
        raise FatalError(text, table=str(state.schema.table))
    compare = {
        "greater": lambda a, b: a > b,
        "less": lambda a, b: a < b,
        "less_equal": lambda a, b: a <= b,
    }
    columns = [pc.field(name) for name in state.key]
    ends = [pa.scalar(v, state.columns.field(name).type) for v, name in zip(values, state.key, strict=True)]
    condition = compare[last](columns[-1], ends[-1])
    for column, end in zip(reversed(columns[:-1]), reversed(ends[:-1]), strict=True):
        condition = compare[sign](column, end) | ((column == end) & condition)
    return condition


def replaced(parts: Sequence[Part]) -> set[str]:
    """Names of the files whose rows are in these."""
    return {name for part in parts for name in part.replaces()}
