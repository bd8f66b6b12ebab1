"""What the tests of the log share: a table's schema, a stream of a database, and its events up to now."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, cast

import pyarrow as pa
import pymysql

from syncd.model import ChangeBatch, Checkpoint, Column, Op, Position, SchemaChange, TableId, TableSchema
from syncd.sources.mysql import types
from syncd.sources.mysql.binlog.decoder import Event
from syncd.sources.mysql.binlog.position import Order, compare
from syncd.sources.mysql.stream import Options, stream
from tests.services.database import Database, connect

SERVER_ID = 4242


def plain(column: Column, values: pa.Array) -> pa.Array:
    """A twin that is its column's own bytes."""
    return values.cast(pa.binary())


def table(database: Database, name: str) -> TableId:
    return TableId(database.name, name)


def schema(database: Database, name: str) -> TableSchema | None:
    """The table as information_schema tells it now."""
    where = f"table_schema = '{database.name}' AND table_name = '{name}'"
    rows = database.query(
        "SELECT column_name, column_type, IFNULL(character_set_name, ''), IFNULL(collation_name, ''), "
        f"is_nullable = 'YES' FROM information_schema.columns WHERE {where} ORDER BY ordinal_position"
    )
    keys = database.query(
        f"SELECT column_name FROM information_schema.statistics WHERE {where} AND index_name = 'PRIMARY' "
        "ORDER BY seq_in_index"
    )
    if not rows:
        return None
    columns = []
    for column, kind, charset, collation, nullable in rows:
        arrow = types.arrow_type(kind, charset)
        assert arrow is not None, (column, kind, charset)
        columns.append(Column(column, arrow, bool(nullable), kind, charset, collation))
    key = tuple(row[0] for row in keys)
    return TableSchema(table(database, name), 0, tuple(columns), key, "primary" if key else "")


def schemas(database: Database, *names: str) -> dict[TableId, TableSchema]:
    return {table(database, name): cast(TableSchema, schema(database, name)) for name in names}


def log_end(database: Database) -> Position:
    """Behind everything that is in the log now."""
    with closing(connect(database.server)) as connection, connection.cursor() as cursor:
        try:
            cursor.execute("SHOW BINARY LOG STATUS")
        except pymysql.err.ProgrammingError:
            cursor.execute("SHOW MASTER STATUS")
        row = cursor.fetchone()
    assert row is not None
    return Position(json.dumps({"file": row[0], "pos": int(row[1])}))


@contextmanager
def streaming(
    database: Database,
    start: Position,
    known: dict[TableId, TableSchema],
    wanted: Callable[[TableId], bool] | None = None,
    **options: Any,
) -> Iterator[Iterator[Event]]:
    """A stream of the server's log; closed at the end. Without `wanted`: the known tables."""
    chosen = Options(**{"server_id": SERVER_ID, "normalise": plain, "heartbeat": 0.5, **options})
    found = stream(lambda: _connection(database), start, 1, known, wanted or known.__contains__, chosen)
    with closing(cast(Any, found)):
        yield found


def _connection(database: Database) -> Any:
    """As the driver gives it, which knows what to call the server in messages."""
    made: Any = connect(database.server)
    made.syncd_role = "mysql source"
    return made


def until(events: Iterator[Event], end: Position) -> list[Event]:
    """The events up to a checkpoint at or past `end`."""
    found: list[Event] = []
    for event in events:
        found.append(event)
        if isinstance(event, Checkpoint) and here(event.position) >= here(end):
            return found
    raise AssertionError("the stream ended")


def here(position: Position) -> tuple[str, int]:
    data = json.loads(position)
    return data.get("file", ""), data.get("pos", 0)


def read(
    database: Database,
    start: Position,
    known: dict[TableId, TableSchema],
    wanted: Callable[[TableId], bool] | None = None,
    **options: Any,
) -> list[Event]:
    """Everything from `start` to the end of the log."""
    with streaming(database, start, known, wanted, **options) as events:
        return until(events, log_end(database))


def batches(events: list[Event], of: TableId | None = None) -> list[ChangeBatch]:
    found = [event for event in events if isinstance(event, ChangeBatch)]
    for batch in found:
        batch.rows.validate(full=True)
        assert len(batch.rows) == len(batch.op) == len(batch.seq)
    return [batch for batch in found if of is None or batch.table == of]


def changes(events: list[Event]) -> list[SchemaChange]:
    return [event for event in events if isinstance(event, SchemaChange)]


def rows(events: list[Event], of: TableId | None = None) -> list[tuple[Op, dict[str, Any]]]:
    """(op, row) of each change, in order."""
    return [
        (Op(int(op)), row)
        for batch in batches(events, of)
        for op, row in zip(batch.op, batch.rows.to_pylist(), strict=True)
    ]


def seqs(events: list[Event]) -> list[int]:
    return [int(seq) for batch in batches(events) for seq in batch.seq]


def follows(one: Position, other: Position) -> bool:
    return compare(one, other) is Order.AFTER


def versioned(schema_: TableSchema, version: int) -> TableSchema:
    return replace(schema_, version=version)
