"""read(): rows by their keys, read behind a head; a key without a row is a DELETE."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pyarrow as pa

from syncd.model import Op, TableSchema, column_of, plain_rows
from tests.integration.mysql_tools import opened, schema_of
from tests.services.database import Database


def keys_of(schema: TableSchema, *columns: list[object]) -> pa.RecordBatch:
    fields = [schema.arrow().field(name) for name in schema.key]
    arrays = [column_of(values, field.type) for values, field in zip(columns, fields, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def test_rows_and_absences(database: Database, tmp_path: Path) -> None:
    database.execute(
        "CREATE TABLE t (a INT, b DATETIME(6), v VARCHAR(9), e ENUM('x','y') NOT NULL, PRIMARY KEY (a, b))",
        "INSERT INTO t VALUES (1, '2024-01-01', 'one', 'y'), (1, '2024-01-02 03:04:05.000006', 'two', 'x')",
        "INSERT INTO t VALUES (2, '2024-01-01', 'no', 'x'), (3, '0000-05-06', 'old', 'x')",
    )
    old = "0000-05-06 00:00:00.000000"  # a year that Python has not
    first, second = (datetime.fromisoformat(t) for t in ("2024-01-01", "2024-01-02T03:04:05.000006"))
    with opened(database, tmp_path) as source:
        schema = schema_of(source, database)
        head = source.head(3)
        database.execute("INSERT INTO t VALUES (9, '2024-01-01', 'new', 'x')")
        batch = source.read(schema, keys_of(schema, [1, 1, 7, 9, 1, 3], [first, second, first, first, first, old]), 3)
    assert batch.rows.schema.names == ["a", "b", "v", "e"]
    rows = zip(batch.op.tolist(), plain_rows(batch.rows.columns), strict=True)
    got = sorted(((op, *row) for op, row in rows), key=str)
    assert got == [
        (Op.READ, 1, first, "one", "y"),
        (Op.READ, 1, second, "two", "x"),
        (Op.READ, 3, old, "old", "x"),
        (Op.READ, 9, first, "new", "x"),
        (Op.DELETE, 7, first, None, None),
    ]
    assert len(set(batch.seq.tolist())) == 1
    assert int(batch.seq[0]) > head.seq


def test_text_keys_are_found_as_the_server_compares_them(database: Database, tmp_path: Path) -> None:
    database.execute(
        "CREATE TABLE t (k VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT)",
        "INSERT INTO t VALUES ('Straße', 1), ('b', 2)",
    )
    with opened(database, tmp_path) as source:
        schema = schema_of(source, database)
        batch = source.read(schema, keys_of(schema, ["STRASE ", "B", "c", "C "]), 1)
    got = dict(zip(batch.rows["k"].to_pylist(), batch.op.tolist(), strict=True))
    assert got == {"Straße": Op.READ, "b": Op.READ, "C ": Op.DELETE}
    assert batch.rows["_key_k"].null_count == 0


def test_many_keys_by_index(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (a INT, b INT, PRIMARY KEY (a, b))")
    database.many("INSERT INTO t VALUES (%s, %s)", [(n % 10, n) for n in range(5_000)])
    wanted = list(range(0, 6_000, 3))
    with opened(database, tmp_path) as source:
        schema = schema_of(source, database)
        batch = source.read(schema, keys_of(schema, [n % 10 for n in wanted], list(wanted)), 1)
        connection = source._reader._connection
        assert connection is not None
        with connection.cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
            stepped = sum(int(n) for name, n in cursor.fetchall() if name.endswith(("_next", "_prev")))
    assert (batch.op == Op.READ).sum() == len([n for n in wanted if n < 5_000])
    assert (batch.op == Op.DELETE).sum() == len([n for n in wanted if n >= 5_000])
    assert stepped < 3_000


def test_no_keys(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (a INT PRIMARY KEY, e ENUM('x'))")
    with opened(database, tmp_path) as source:
        schema = schema_of(source, database)
        assert len(source.read(schema, keys_of(schema, []), 1)) == 0
