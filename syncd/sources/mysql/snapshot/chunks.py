"""Chunks of a table: boundaries found by walking the key's own index, so that skew of the values means nothing.

Each boundary is the key of the n-th row behind the last one (`ORDER BY key LIMIT 1 OFFSET n-1`, a scan of index entries
only), so a chunk holds n rows whatever the gaps between them; n comes from the table's mean row length.
"""

# ruff: noqa: S608 - names are quoted, values are literals of ours

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa

from syncd.errors import FatalError, Unsupported
from syncd.model import Chunk, Column, KeyValue, TableSchema
from syncd.sources.mysql import types
from syncd.sources.mysql.connect import Connection, quoted, rows
from syncd.sources.mysql.indexes import Indexes, UniqueIndex, indexes
from syncd.sources.mysql.schema import ordered
from syncd.sources.mysql.snapshot.literal import between

Normal = Callable[[TableSchema, tuple[KeyValue, ...]], tuple[KeyValue, ...]]

_UNKNOWN_ROW = 256
_MOST_ROWS = 4_000_000


def walk(
    connection: Connection, schema: TableSchema, chunk_bytes: int, after: Chunk | None, normal: Normal
) -> Iterator[Chunk]:
    """The chunks behind `after`, each found when it is asked for; `normal` makes a bound into `identity` values."""
    if after is not None and after.upper is None:
        return
    number, lower = (after.number + 1, after.upper) if after else (0, None)
    index = walkable(connection, schema)
    step = rows_per_chunk(connection, schema, chunk_bytes) if index else 0
    while True:
        upper = _boundary(connection, schema, index, lower, step) if index else None
        yield Chunk(
            schema.table,
            number,
            lower,
            upper,
            lower and normal(schema, lower),
            upper and normal(schema, upper),
            step,
        )
        if upper is None:
            return
        number, lower = number + 1, upper


def walkable(connection: Connection, schema: TableSchema) -> UniqueIndex | None:
    """The index over the key in whose order chunks can be cut; None: the table is one chunk."""
    if not schema.key or not all(ordered(schema.column(name)) for name in schema.key):
        return None
    known = indexes(connection, [schema.table]).get(schema.table, Indexes())
    return next((i for i in known.keys if i.columns == schema.key and i.down is not None), None)


def rows_per_chunk(connection: Connection, schema: TableSchema, chunk_bytes: int) -> int:
    """How many rows of the table's mean length make `chunk_bytes`, from the server's own estimates."""
    sql = "SELECT table_rows, data_length FROM information_schema.tables WHERE table_schema = %s AND table_name = %s"
    found = rows(connection, sql, schema.table)
    if not found:
        raise FatalError(
            f"table {schema.table} is gone", table=str(schema.table), hint="resync or drop it from the job", code="E183"
        )
    count, size = int(found[0][0] or 0), int(found[0][1] or 0)
    mean = max(1, size // count) if count > 100 else _UNKNOWN_ROW
    return max(1, min(_MOST_ROWS, chunk_bytes // mean))


def _boundary(
    connection: Connection, schema: TableSchema, index: UniqueIndex, lower: tuple[KeyValue, ...] | None, step: int
) -> tuple[KeyValue, ...] | None:
    """The key of the `step`-th row above `lower`; None when there are fewer."""
    names = ", ".join(_selected(schema.column(name)) for name in schema.key)
    order = ", ".join(quoted(name) for name in schema.key)
    where = between(schema.key, lower, None)
    sql = (
        f"SELECT {names} FROM {quoted(*schema.table)} FORCE INDEX ({quoted(index.name)})"
        f"{' WHERE ' + where if where else ''} ORDER BY {order} LIMIT 1 OFFSET {step - 1}"
    )
    found = rows(connection, sql, table=str(schema.table))
    return tuple(_checked(schema, schema.key, found[0])) if found else None


def _selected(column: Column) -> str:
    name = quoted(column.name)
    return f"{name} + 0" if types.base_type(column.source_type) == "bit" else name


def _checked(schema: TableSchema, key: Sequence[str], values: Sequence[object]) -> Iterator[KeyValue]:
    for name, value in zip(key, values, strict=True):
        kind = schema.column(name).type
        moment = pa.types.is_temporal(kind)
        # The driver gives back as text what is no date.
        if not isinstance(value, int | str | bytes | Decimal | date | datetime | timedelta) or (
            moment and isinstance(value, str)
        ):
            table = str(schema.table)
            raise Unsupported(
                f"table {table}, key column {name}: {value!r} cannot bound a chunk",
                table=table,
                hint="mend the row, then `syncd jobs resume`",
                code="E187",
            )
        yield value
