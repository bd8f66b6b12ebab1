"""Every value of a table at both ends, read by plain SELECTs and compared here: nothing of syncd's takes part.

Both ends are brought to one text per value: numbers as digits, times as digits, bytes as hex, floats as Python's repr.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import clickhouse_connect
import pyarrow as pa
import pyarrow.compute as pc
from pymysql.cursors import SSCursor

from tests.services.database import Database

PARTS = 50
"""Active parts of a table after any load: the engine begins to hold inserts up at a thousand."""
Row = tuple[str | None, ...]
Select = Callable[[str, dict[str, str]], Counter[Row]]
"""Called with a table's name and its columns' types by name: its rows."""

BINARY = {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"}
TIMES = {"datetime", "timestamp"}
FLOATS = {"float", "double"}
TEXTS = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "json"}


def columns_of(database: Database) -> dict[str, dict[str, str]]:
    """Table -> column -> type's name."""
    rows = database.query(
        "SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS "
        f"WHERE TABLE_SCHEMA = '{database.name}' ORDER BY TABLE_NAME, ORDINAL_POSITION"
    )
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = kind.lower()
    return found


# -- the source


def server_rows(database: Database, table: str, columns: dict[str, str]) -> Counter[Row]:
    """Of the source, or of a target that speaks its protocol."""
    with (
        closing(database.connect(conv={}, init_command="SET time_zone = '+00:00'")) as connection,
        closing(connection.cursor(SSCursor)) as cursor,
    ):
        cursor.execute(f"SELECT {', '.join(_asked(*column) for column in columns.items())} FROM {table}")
        values = [*zip(*cursor.fetchall(), strict=True)]  # of no rows there are no columns
    found = [_all_told(kind, column) for kind, column in zip(columns.values(), values, strict=False)]
    return Counter(zip(*found, strict=True))


def _all_told(kind: str, column: tuple[Any, ...]) -> list[str | None]:
    return [None if value is None else _told(kind, value) for value in column]


def _asked(name: str, kind: str) -> str:
    if kind in BINARY:
        return f"HEX({name})"
    if kind in TIMES:
        return f"DATE_FORMAT({name}, '%Y-%m-%d %H:%i:%s.%f')"
    if kind in FLOATS:
        return f"{name} + 0e0"  # a FLOAT as such is told with six digits
    return f"{name} + 0" if kind == "bit" else name


def _told(kind: str, value: str) -> str:
    if kind in FLOATS:
        return repr(float(value))
    if kind == "json":  # each server writes them in its own way
        return json.dumps(json.loads(value, parse_int=Decimal, parse_float=Decimal), sort_keys=True, default=str)
    return str(_micros(value)) if kind == "time" else value


def _micros(text: str) -> int:
    hours, minutes, seconds = text.lstrip("-").split(":")
    whole, _, part = seconds.partition(".")
    size = (int(hours) * 3600 + int(minutes) * 60 + int(whole)) * 10**6 + int(part.ljust(6, "0") or 0)
    return -size if text.startswith("-") else size


# -- the sink


def sink_rows(found: pa.Table, columns: dict[str, str]) -> Counter[Row]:
    if not len(found):
        return Counter()
    return Counter(zip(*(_texts(kind, found.column(name)) for name, kind in columns.items()), strict=True))


def _texts(kind: str, column: pa.ChunkedArray) -> list[str | None]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if kind in TIMES:
        texts: list[str | None] = pc.strftime(column, "%Y-%m-%d %H:%M:%S").to_pylist()
        return texts
    if kind == "time":
        column = column.cast(pa.int64())
    how: Callable[[Any], str] = str
    if kind in BINARY:
        how = _hex
    elif kind in FLOATS:
        how = repr
    elif kind == "decimal":
        how = _digits
    elif kind == "json":
        column, how = column.cast(pa.string()), partial(_told, "json")
    elif kind in TEXTS and pa.types.is_binary(column.type):
        how = bytes.decode
    return [None if value is None else how(value) for value in column.to_pylist()]


def _hex(value: bytes) -> str:
    return value.hex().upper()


def _digits(value: Any) -> str:
    return format(value, "f")


@contextmanager
def clickhouse(folder: Path, database: str) -> Iterator[Select]:
    """The embedded engine in `folder`, which no other process may hold."""
    client = clickhouse_connect.get_client(interface="chdb", path=str(folder))

    def select(table: str, columns: dict[str, str]) -> Counter[Row]:
        there = f"SELECT name FROM system.columns WHERE database = '{database}' AND table = '{table}' ORDER BY position"
        names = bytes(client.raw_query(there, fmt="TabSeparatedRaw")).decode().split()
        assert [name for name in names if not name.startswith("_")] == [*columns]
        parts = f"SELECT count() FROM system.parts WHERE active AND database = '{database}' AND table = '{table}'"
        assert int(client.raw_query(parts, fmt="TabSeparatedRaw")) < PARTS
        rows = f"SELECT {', '.join(columns)} FROM {database}.{table} FINAL WHERE _deleted = 0"
        binary = (
            "SETTINGS output_format_arrow_string_as_string = 0, output_format_arrow_low_cardinality_as_dictionary = 0"
        )
        body = client.raw_query(f"{rows} {binary}", fmt="ArrowStream")
        return sink_rows(pa.ipc.open_stream(body).read_all() if body else pa.table({}), columns)

    try:
        yield select
    finally:
        client.close()


def parquet(folder: Path, table: str, columns: dict[str, str]) -> Counter[Row]:
    """By plain Arrow, as docs/sinks/parquet.md says. Of a key that has a twin, that one is grouped by."""
    place = folder / table
    schema = pa.ipc.read_schema(pa.py_buffer((place / "_schema").read_bytes()))
    twins = {(field.metadata or {}).get(b"normal_of", b"").decode(): field.name for field in schema}
    if not any(place.glob("*.parquet")):
        return Counter()
    rows = documented()(place, *(twins.get(name, name) for name in json.loads(schema.metadata[b"key"])))
    assert [name for name in rows.column_names if not name.startswith("_")] == [*columns]
    assert len([*place.glob("*.parquet")]) < PARTS
    return sink_rows(rows, columns)


def documented() -> Callable[..., pa.Table]:
    """What the page on the Parquet sink gives to strangers."""
    page = (Path(__file__).parents[2] / "docs" / "sinks" / "parquet.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("\ncurrent(")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    current: Callable[..., pa.Table] = names["current"]
    return current


# -- both


def differences(database: Database, select: Select) -> tuple[int, list[str]]:
    """(rows at the source, what differs: one line a table that does)."""
    total, wrong = 0, []
    for table, columns in columns_of(database).items():
        wanted = server_rows(database, table, columns)
        found = select(table, columns)
        total += wanted.total()
        missing, extra = wanted - found, found - wanted
        if missing or extra:
            samples = f"at the source alone {[*missing][:3]}; at the sink alone {[*extra][:3]}"
            wrong.append(f"{table}: {missing.total()} and {extra.total()} rows at one end only; {samples}")
    return total, wrong
