"""Reading back: the live rows of a key range, page by page in key order, as the Arrow types they were written with."""

# ruff: noqa: S608 - every name and value in these statements is quoted by `ddl`

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from syncd.errors import FatalError
from syncd.model import KeyValue, Target
from syncd.sinks.clickhouse.client import Client
from syncd.sinks.clickhouse.ddl import full_name, quoted, value
from syncd.sinks.clickhouse.rows import DELETED
from syncd.sinks.clickhouse.types import restored

Key = tuple[KeyValue, ...]


def scan(client: Client, target: Target, lower: Key | None, upper: Key | None, page: int) -> Iterator[pa.RecordBatch]:
    """Each page is one statement that goes on behind the last key, so that nothing stays open between two of them."""
    if target.append:
        yield from _all(client, target)
        return
    identity = target.schema.identity
    while True:
        got = _page(client, target, lower, upper, page)
        if got.num_rows:
            yield got
        if got.num_rows < page:
            return
        lower = tuple(got.column(name)[-1].as_py() for name in identity)


def _page(client: Client, target: Target, lower: Key | None, upper: Key | None, page: int) -> pa.RecordBatch:
    order = ", ".join(quoted(name) for name in target.schema.identity)
    where = [f"{DELETED} = 0"]
    if lower is not None:
        where.append(_bound(target, lower, ">", ">"))
    if upper is not None:
        where.append(_bound(target, upper, "<", "<="))
    sql = f"{_select(target)} FINAL WHERE {' AND '.join(where)} ORDER BY {order} LIMIT {page}"
    return _typed(target, client.select(sql, doing=f"scanning {full_name(target)}", table=str(target.schema.table)))


def _all(client: Client, target: Target) -> Iterator[pa.RecordBatch]:
    sql = f"{_select(target)} WHERE {DELETED} = 0"
    for batch in client.stream(sql, doing=f"scanning {full_name(target)}", table=str(target.schema.table)):
        yield _typed(target, pa.Table.from_batches([batch]))


def _select(target: Target) -> str:
    return f"SELECT {', '.join(quoted(c.name) for c in target.schema.columns)} FROM {full_name(target)}"


def _bound(target: Target, key: Key, sign: str, last: str) -> str:
    """`(a, b) sign key`, spelled out: the primary index prunes by single columns, not by tuples."""
    names = target.schema.identity
    if len(key) != len(names):
        raise FatalError(f"{target.schema.table}: a bound of {len(key)} values for a key of {len(names)} columns")
    parts = [(quoted(n), value(v, target.schema.column(n).type)) for n, v in zip(names, key, strict=True)]
    condition = f"{parts[-1][0]} {last} {parts[-1][1]}"
    for name, literal in reversed(parts[:-1]):
        condition = f"({name} {sign}= {literal} AND ({name} {sign} {literal} OR {condition}))"
    return condition


def _typed(target: Target, table: pa.Table) -> pa.RecordBatch:
    schema = target.schema.arrow()
    if not table.num_columns:
        return pa.RecordBatch.from_arrays([pa.array([], f.type) for f in schema], schema=schema)
    arrays = [restored(table.column(f.name), f.type) for f in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
