"""Reading back: the live rows of a key range, page by page in key order, as the Arrow types they were written with."""

# ruff: noqa: S608 - every name and value in these statements is quoted by `ddl`

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from syncd.errors import FatalError
from syncd.model import KeyValue, Target
from syncd.sinks.clickhouse.client import Client
from syncd.sinks.clickhouse.ddl import full_name, own_rows, value
from syncd.sinks.clickhouse.rows import DELETED
from syncd.sinks.clickhouse.syntax import quoted
from syncd.sinks.clickhouse.types import restored

Key = tuple[KeyValue, ...]


def scan(client: Client, target: Target, lower: Key | None, upper: Key | None, page: int) -> Iterator[pa.RecordBatch]:
    """Each page is a statement of its own over a range with both ends, so that nothing stays open between two of them.

    Without its upper end FINAL would read on behind the page, to the end of the table.
    """
    if target.append:
        yield from _all(client, target)
        return
    while True:
        end = _page_end(client, target, lower, upper, page)
        got = _page(client, target, lower, end or upper)
        if got.num_rows:
            yield got
        if end is None:
            return
        lower = end


def _page_end(client: Client, target: Target, lower: Key | None, upper: Key | None, page: int) -> Key | None:
    """The key `page` rows on, read in the order of the primary key, all versions counted; None at the end."""
    key = ", ".join(quoted(name) for name in target.schema.identity)
    sql = (
        f"SELECT {key} FROM {full_name(target)} {_where(target, lower, upper)} ORDER BY {key} LIMIT 1 OFFSET {page - 1}"
    )
    found = client.select(sql, doing=f"scanning {full_name(target)}", table=str(target.schema.table))
    if not found.num_rows:
        return None
    columns = [target.schema.column(name) for name in target.schema.identity]
    return tuple(restored(found.column(c.name), c.type)[0].as_py() for c in columns)


def _page(client: Client, target: Target, lower: Key | None, upper: Key | None) -> pa.RecordBatch:
    order = ", ".join(quoted(name) for name in target.schema.identity)
    sql = f"{_select(target)} FINAL {_where(target, lower, upper, f'{DELETED} = 0')} ORDER BY {order}"
    return _typed(target, client.select(sql, doing=f"scanning {full_name(target)}", table=str(target.schema.table)))


def _where(target: Target, lower: Key | None, upper: Key | None, *more: str) -> str:
    conditions = [*more, *([own_rows(target)] if target.own else [])]
    if lower is not None:
        conditions.append(_bound(target, lower, ">", ">"))
    if upper is not None:
        conditions.append(_bound(target, upper, "<", "<="))
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


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
