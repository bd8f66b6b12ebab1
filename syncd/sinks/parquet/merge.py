"""Merging files into one, and what else replaces files. Safe at every line: no row is ever in no file.

A merged file is finished under another name, renamed, and only then are the files removed whose rows it has. Until then
a row is there twice: with a key as the same version, which changes nothing; without one the merged file names the files
that it replaces, and they count no more, also when a write that is repeated makes one of them again.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from syncd.sinks.parquet import disk
from syncd.sinks.parquet.pages import PAGE_BYTES, REPLACES, Part, merged, opened, replaced
from syncd.sinks.parquet.table import MERGED, WRITTEN, State, Table

REMEMBERED = 10_000
"""Writes that a table without a key knows again after they were merged."""
_FORMAT = {"compression": "zstd", "write_page_checksum": True}


def due(files: Sequence[Path], at_least: int) -> list[Path]:
    """The files that are to be merged now: all of a size, eight-fold at most, and all smaller ones.

    Without the lock, some may have gone meanwhile.
    """
    tiers = {}
    for file in files:
        with suppress(FileNotFoundError):
            tiers[file] = (file.stat().st_size >> 16).bit_length() // 3
    for tier in sorted({*tiers.values()}):
        if sum(t == tier for t in tiers.values()) >= at_least:
            return [file for file, its in tiers.items() if its <= tier]
    return []


def tidy(table: Table, at_least: int, rows: int) -> None:
    """Merge what is due; the lock is held."""
    state = table.known()
    files = table.files()
    if not state.key:
        with ExitStack() as stack:
            dead = replaced(opened(stack, [file for file in files if file.name.startswith(MERGED)], state))
        table.remove([file for file in files if file.name in dead])
        files = [file for file in files if file.name not in dead]
    while chosen := due(files, at_least):
        merge(table, state, chosen, rows)
        files = table.files()


def merge(table: Table, state: State, files: Sequence[Path], rows: int) -> Path:
    """One file for several, with a row at least; the lock is held."""
    stem = f"{MERGED}{uuid.uuid4().hex}"
    with ExitStack() as stack:
        parts = opened(stack, files, state)
        own = {} if state.key else {REPLACES: json.dumps(_names(parts)).encode()}
        store(table, stem, merged(parts, state, rows), state.columns.with_metadata(own), rows)
    table.remove(files)
    return table.folder / f"{stem}.parquet"


def _names(parts: Sequence[Part]) -> list[str]:
    """Of these files and of those that they have replaced, the newest last."""
    aged = sorted(parts, key=lambda part: part.path.stat().st_mtime_ns)
    return [name for part in aged for name in (*part.replaces(), part.path.name)][-REMEMBERED:]


def rewrite(table: Table, state: State, file: Path, change: Callable[[pa.Table], pa.Table], rows: int) -> None:
    """Each page of a file changed, under its name; the lock is held."""
    with ExitStack() as stack:
        (part,) = opened(stack, [file], state)
        schema = state.columns.with_metadata(part.schema.metadata)
        store(table, file.stem, map(change, part.pages(rows, None)), schema, rows)


def store(table: Table, stem: str, pages: Iterable[pa.Table], schema: pa.Schema, rows: int) -> bool:
    """A file of the table, durable, in the place of one of the same name; none when there are no rows."""
    part = table.folder / f"{disk.PART}{stem}"
    count = 0
    with pq.ParquetWriter(part, schema, **_FORMAT) as writer:
        for group in _grouped(pages, rows):
            writer.write_table(group.cast(schema))
            count += len(group)
    if count:
        disk.fsync(part)
        part.rename(table.folder / f"{stem}.parquet")
    else:
        part.unlink()
        (table.folder / f"{stem}.parquet").unlink(missing_ok=True)
    disk.fsync(table.folder)
    return count > 0


def _grouped(pages: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Row groups of about as many rows, or of PAGE_BYTES."""
    held: list[pa.Table] = []
    for page in pages:
        held.append(page)
        if sum(map(len, held)) >= rows or sum(part.nbytes for part in held) >= PAGE_BYTES:
            yield pa.concat_tables(held)
            held = []
    if any(map(len, held)):
        yield pa.concat_tables(held)


def write(rows: pa.Table, file: object, page_rows: int) -> None:
    """A write's rows into an open file."""
    groups = max(1, -(-rows.nbytes // PAGE_BYTES), -(-len(rows) // page_rows))
    pq.write_table(rows, file, row_group_size=max(1, -(-len(rows) // groups)), **_FORMAT)


def written(token: str) -> str:
    return f"{WRITTEN}{token}.parquet"
