"""ALTER TABLE by chance: the schemas that the log's reader computes are those that the server had at that point.

The statements run first, each followed by a row, and the server is asked after each. Then the log is read from the
start, so that the server's present is that of the end, as at a restart far behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pymysql
from hypothesis import HealthCheck, Phase, given, settings, target
from hypothesis import strategies as st

from syncd.errors import Unsupported
from syncd.model import ChangeBatch, Checkpoint, Column, Ddl, Op, Position, SchemaChange, TableSchema
from syncd.sources.mysql import MySQLSource
from syncd.sources.mysql.binlog.expressions import alike
from syncd.sources.mysql.types import base_type
from tests.integration.alters import Alters
from tests.integration.log_tools import here, log_end
from tests.integration.mysql_tools import found, opened, schema_of, whole
from tests.services.database import Database
from tests.services.fuzz import examples

TABLES = [
    "k INT PRIMARY KEY, a INT, b VARCHAR(20), c DATETIME",
    "k VARCHAR(9) NOT NULL, a INT NOT NULL DEFAULT 4, n TEXT, b VARCHAR(20), PRIMARY KEY (k, a), KEY (b), KEY (n(5))",
    "a BIGINT, k INT NOT NULL, b CHAR(5), UNIQUE u (k), KEY i1 (a)",
]
STEPS = 8


class Seen(NamedTuple):
    statement: str
    schema: TableSchema
    rows: list[dict[str, Any]]


@settings(max_examples=examples(3), deadline=None, suppress_health_check=[*HealthCheck], phases=[Phase.generate])
@given(seed=st.integers(0, 2**32))
def test_each_alter_gives_the_table_that_the_server_had(database: Database, tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    ((version,),) = database.query("SELECT VERSION()")
    alters = Alters(random, mariadb="MariaDB" in version, old=version.startswith("8.0.1"))
    database.execute("DROP TABLE IF EXISTS t, mark", "CREATE TABLE mark (n INT PRIMARY KEY)")
    database.execute(f"CREATE TABLE t ({random.choice(TABLES)}) DEFAULT CHARSET utf8mb4")
    with opened(database, tmp_path, policy={"zero_date": "null"}) as source:
        start, first = log_end(database), schema_of(source, database)
        seen = ran(database, source, alters, first)
        compared = compare(database, source, start, first, seen)
    target(compared)


def ran(database: Database, source: MySQLSource, alters: Alters, schema: TableSchema) -> list[Seen]:
    """The statements that the server took, with the table after each and the row that was then written."""
    seen: list[Seen] = []
    with closing(database.connect(sql_mode="NO_ENGINE_SUBSTITUTION")) as connection, connection.cursor() as cursor:
        for number in range(STEPS * 4):
            if len(seen) == STEPS:
                break
            statement = alters.statement(schema)
            try:
                cursor.execute(statement)
            except pymysql.err.Error:
                continue
            now = found(source, database)
            schema = now.schema
            rows = [] if now.refusals or not schema.key else a_row(cursor, source, schema)
            cursor.execute(f"INSERT INTO mark VALUES ({number})")
            seen.append(Seen(statement, schema, rows))
            if not rows:
                break
    return seen


def a_row(cursor: Any, source: MySQLSource, schema: TableSchema) -> list[dict[str, Any]]:
    """The only row of the table, written anew, as a scan gives it."""
    cursor.execute("DELETE FROM t")
    key = ", ".join(f"`{name}`" for name in schema.key)
    # a zero date in the key; an empty text that MariaDB's JSON does not take
    with suppress(Unsupported, pymysql.err.OperationalError):
        cursor.execute(f"INSERT IGNORE INTO t ({key}) VALUES ({', '.join('7' for _ in schema.key)})")
        return list(whole(source, schema).to_pylist())
    return []


def compare(database: Database, source: MySQLSource, start: Position, known: TableSchema, seen: list[Seen]) -> int:
    """How many statements were compared: up to the first one that the reader does not follow."""
    told = [one.statement for one in seen]
    parts = iter(by_mark(database, source, start, known))
    for number, one in enumerate(seen):
        changes, rows = next(parts)
        assert len(changes) < 2, told
        for change in changes:
            if change.kind is Ddl.OTHER:
                return number
            assert change.kind is Ddl.ALTER, told
            assert change.before == known, told
            known = change.schema
        assert differences(known, one.schema) == [], told[: number + 1]
        assert rows == one.rows, told
    return len(seen)


def by_mark(
    database: Database, source: MySQLSource, start: Position, known: TableSchema
) -> Iterator[tuple[list[SchemaChange], list[dict[str, Any]]]]:
    """What the log says between the rows of the table `mark`: changes of the table, and rows inserted."""
    marks, end = schema_of(source, database, "mark"), log_end(database)
    schemas = {known.table: known, marks.table: marks}
    stream = source.stream(start, 1, schemas, schemas.__contains__, lambda of: ())
    found: list[tuple[int, Any]] = []
    with closing(stream):  # type: ignore[type-var]
        for given_out in stream:
            if isinstance(given_out, SchemaChange):
                found.append((given_out.seq, given_out))
                if given_out.kind is Ddl.OTHER:
                    break  # what follows is decoded no more
            elif isinstance(given_out, ChangeBatch):
                rows = zip(given_out.seq.tolist(), given_out.op, given_out.rows.to_pylist(), strict=True)
                found += [
                    (seq, None if given_out.table == marks.table else row) for seq, op, row in rows if op == Op.INSERT
                ]
            elif isinstance(given_out, Checkpoint) and here(given_out.position) >= here(end):
                break
    changes: list[SchemaChange] = []
    inserted: list[dict[str, Any]] = []
    for _, what in sorted(found, key=lambda pair: pair[0]):
        if isinstance(what, SchemaChange):
            changes.append(what)
        elif what is None:
            yield changes, inserted
            changes, inserted = [], []
        else:
            inserted.append(what)
    yield changes, inserted


def differences(mine: TableSchema, there: TableSchema) -> list[object]:
    names = ("table", "key", "key_from", "comment", "dialect", "collation", "partitions")
    wrong: list[object] = [name for name in names if getattr(mine, name) != getattr(there, name)]
    wrong += [*set(mine.indexes).symmetric_difference(there.indexes)]
    if [c.name for c in mine.columns] != [c.name for c in there.columns]:
        return [*wrong, "columns"]
    pairs = zip(mine.columns, there.columns, strict=True)
    return wrong + [pair for pair in pairs if not same(*pair)]


def same(mine: Column, there: Column) -> bool:
    texts = replace(there, default=mine.default, generated=mine.generated, filled=mine.filled)
    spelled = alike(mine.generated, there.generated) and alike(mine.filled, there.filled)
    return mine == texts and spelled and value(mine, there) == value(there, there)


def value(column: Column, there: Column) -> object:
    """The default, in one form for each type; a column that was added holds it in the form that rows have it in."""
    base, text = base_type(column.source_type), column.default
    if text is None or (there.default is None and base in {"enum", "binary"} and not column.nullable):
        return None
    if base == "bit":
        return int(text[2:-1], 2) if text.startswith("b'") else int(text)
    if base in {"binary", "varbinary"}:
        data = bytes.fromhex(text[2:]) if text.startswith("0x") else text.encode()
        return data.rstrip(b"\0")
    try:
        return Decimal(text)
    except InvalidOperation:
        plain = text.rstrip("0").removesuffix(".") if "." in text else text
        return plain.removesuffix(" 00:00:00")
