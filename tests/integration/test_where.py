"""A filter answers as the server does, or refuses: every condition on every row, by real servers."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from syncd.errors import Unsupported
from syncd.model import Column, TableId, TableSchema
from syncd.transforms.where import compile_filter, parse
from tests.services.database import Database

COLLATIONS = [
    "utf8mb4_general_ci",
    "utf8mb4_unicode_ci",
    "utf8mb4_unicode_520_ci",
    "utf8mb4_bin",
    "utf8mb4_nopad_bin",
    "utf8mb4_0900_ai_ci",
    "utf8mb4_0900_as_cs",
    "utf8mb4_0900_bin",
    "latin1_swedish_ci",
    "latin1_general_cs",
]
TEXTS = [
    None,
    "",
    " ",
    "a",
    "A",
    "a ",
    "ab",
    "AB ",
    "b",
    "a_b",
    "a%",
    "aé",
    "é",
    "ÄB",
    "ß",
    "zé",
    "ab\t",
    "a\x01",
    "~",
    "-",
]
WIDE = ["中国", "ДЕ", "\uff21", "Ångström"]

TEXT_CONDITIONS = [
    "t = 'a'",
    "t = 'AB'",
    "t = 'a '",
    "t = ''",
    "t <> 'ab'",
    "t IN ('a', 'B')",
    "t NOT IN ('a', 'ss')",
    "t = 'ss'",
    "t LIKE 'a'",
    "t LIKE 'a%'",
    "t LIKE '_b%'",
    "t LIKE '%b'",
    r"t LIKE 'a\\_b'",
    "t LIKE 'A|%' ESCAPE '|'",
    "t NOT LIKE '%b%'",
    "t IS NULL OR t = 'b'",
    "t <=> 'a'",
    "NOT (t = 'a' AND t LIKE 'a')",
]

NUMBERS = [
    (1, -5, 2**64 - 1, "12.50", 0.5),
    (2, 0, 0, "-0.01", -1e10),
    (3, 7, 2**63, "99999999.99", 0.1),
    (4, None, None, None, None),
    (5, -(2**31), 5, "5.00", 5.0),
]
NUMBER_CONDITIONS = [
    "i = -5",
    "i > -6 AND u < 18446744073709551615",
    "u > i",
    "u = d",
    "d = 12.5",
    "d > 5 OR d < 0",
    "f = 0.1",
    "f > d",
    "i % 3 = -2",
    "i DIV 2 = -2",
    "i DIV 0 IS NULL",
    "-i > 3",
    "i + 1 = 1",
    "d * 2 = 25",
    "d - i > 0",
    "f * 2 = 1",
    "i BETWEEN -5 AND 0",
    "i NOT BETWEEN -5 AND 0",
    "i IN (7, NULL)",
    "i NOT IN (7, NULL)",
    "i",
    "NOT i",
    "i XOR u",
    "i && d",
    "i || NULL",
    "(i = 0) IS TRUE",
    "(i = 0) IS NOT FALSE",
    "(i > 0) = TRUE",
    "i = NULL",
    "i <=> NULL",
    "u > 9223372036854775807",
    "u > -1",
    "u = 1.8446744073709551615e19",
    "d = 99999999.99",
    "d = 99999999.990",
]

DATES = [
    (1, "2024-02-29", "2024-02-29 00:00:00.000000", 2024),
    (2, "1999-12-31", "1999-12-31 23:59:59.999999", 1999),
    (3, None, None, None),
]
DATE_CONDITIONS = [
    "d = '2024-02-29'",
    "d < '2024-02-29 00:00:01'",
    "d > '1999-12-31 00:00:00'",
    "t = '2024-02-29'",
    "t = d",
    "t > d",
    "t > '1999-12-31 23:59:59'",
    "t >= '1999-12-31 23:59:59.999999'",
    "t BETWEEN '1999-01-01' AND '2000-01-01'",
    "d IN ('2024-02-29', '2000-01-01')",
    "d = DATE '2024-02-29'",
    "y = 1999",
    "y < 2000 OR d IS NULL",
]


def compare(database: Database, schema: TableSchema, rows: list[tuple[Any, ...]], conditions: list[str]) -> int:
    """Every condition by the server and by us. How many answers only the server could give."""
    names = [column.name for column in schema.columns]
    refused = 0
    for condition in conditions:
        compiled = compile_filter(parse(condition), schema)
        asked = database.query(f"SELECT {condition} FROM {schema.table.name} ORDER BY id")
        for row, (answer,) in zip(rows, asked, strict=True):
            expected = None if answer is None else bool(answer)
            data = pa.RecordBatch.from_pylist([dict(zip(names, row, strict=True))], schema=schema.arrow())
            try:
                [mine] = compiled.keep(data).to_pylist()
            except Unsupported:
                refused += 1
                continue
            assert mine == expected, (condition, row)
    return refused


def test_texts(database: Database) -> None:
    known = {name for (name,) in database.query("SELECT collation_name FROM information_schema.collations")}
    for collation in (c for c in COLLATIONS if c in known):
        charset = collation.partition("_")[0]
        texts = TEXTS if charset == "latin1" else [*TEXTS, *WIDE]
        rows = [(number, value) for number, value in enumerate(texts)]
        database.execute(
            "DROP TABLE IF EXISTS texts",
            f"CREATE TABLE texts (id INT PRIMARY KEY, t VARCHAR(20) CHARACTER SET {charset} COLLATE {collation})",
        )
        database.many("INSERT INTO texts VALUES (%s, %s)", rows)
        columns = (Column("id", pa.int32(), False), Column("t", pa.string(), True, "varchar(20)", charset, collation))
        schema = TableSchema(TableId(database.name, "texts"), 1, columns, ("id",))
        refused = compare(database, schema, rows, TEXT_CONDITIONS)
        exact = collation.endswith("_bin")
        assert refused == 0 if exact else refused < len(TEXT_CONDITIONS) * len(rows) / 4


def test_numbers(database: Database) -> None:
    database.execute("CREATE TABLE n (id INT PRIMARY KEY, i INT, u BIGINT UNSIGNED, d DECIMAL(10,2), f DOUBLE)")
    database.many("INSERT INTO n VALUES (%s, %s, %s, %s, %s)", NUMBERS)
    columns = (
        Column("id", pa.int32(), False, "int"),
        Column("i", pa.int32(), True, "int"),
        Column("u", pa.uint64(), True, "bigint unsigned"),
        Column("d", pa.decimal128(10, 2), True, "decimal(10,2)"),
        Column("f", pa.float64(), True, "double"),
    )
    rows = [(*row[:3], row[3] and Decimal(row[3]), row[4]) for row in NUMBERS]
    schema = TableSchema(TableId(database.name, "n"), 1, columns, ("id",))
    assert compare(database, schema, rows, NUMBER_CONDITIONS) == 0


def test_dates(database: Database) -> None:
    database.execute("CREATE TABLE dates (id INT PRIMARY KEY, d DATE, t DATETIME(6), y YEAR)")
    database.many("INSERT INTO dates VALUES (%s, %s, %s, %s)", DATES)
    columns = (
        Column("id", pa.int32(), False, "int"),
        Column("d", pa.date32(), True, "date"),
        Column("t", pa.timestamp("us"), True, "datetime(6)"),
        Column("y", pa.uint16(), True, "year"),
    )
    rows = [(i, d and date.fromisoformat(d), t and datetime.fromisoformat(t), y) for i, d, t, y in DATES]
    schema = TableSchema(TableId(database.name, "dates"), 1, columns, ("id",))
    assert compare(database, schema, rows, DATE_CONDITIONS) == 0
