"""Every type: what the log gives is what a SELECT gives, on each server, also beside mysql-replication's reading."""

from __future__ import annotations

import datetime as dt
import json
import struct
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import WriteRowsEvent

from syncd.errors import Unsupported
from syncd.model import Position
from tests.integration.log_tools import batches, log_end, read, rows, schemas
from tests.services.database import Database

TEXTS = ["''", "'a'", "'Zürich 東京'", "REPEAT('x', 250)", "REPEAT('ß', 60)", "'a\\0b'", "'tail  '"]
LATIN = ["''", "'a'", "'Zürich'", "_binary x'8081828d8e8f90909d9e9fa0ff'", "REPEAT('é', 40)"]
BYTES = ["''", "x'00'", "x'0000ff00'", "x'ff00ff00'", "REPEAT(x'a0', 200)"]
JSONS = [
    "'null'",
    "'[1, -1, 3.5, 1e300, 18446744073709551615, true]'",
    '\'{"b": {"x": []}, "aa": "ü\\\\u0001\\\\n", "a": null}\'',
    "'12345678901234567890.5'",
]

CASES: dict[str, list[str]] = {
    "tinyint": ["0", "1", "-1", "127", "-128"],
    "tinyint unsigned": ["0", "255"],
    "bool": ["true", "false"],
    "smallint": ["32767", "-32768"],
    "smallint unsigned": ["65535"],
    "mediumint": ["8388607", "-8388608", "-1"],
    "mediumint unsigned": ["16777215", "8388608"],
    "int": ["2147483647", "-2147483648"],
    "int unsigned": ["4294967295"],
    "bigint": ["9223372036854775807", "-9223372036854775808"],
    "bigint unsigned": ["18446744073709551615", "0"],
    "float": ["0", "-0.0", "1.1", "3.4028234e38", "-1.17549e-38", "16777217"],
    "double": ["0", "0.1", "1.7976931348623157e308", "-5e-324"],
    "decimal(1,0)": ["9", "-9", "0"],
    "decimal(9,9)": ["0.999999999", "-0.000000001"],
    "decimal(10,0)": ["9999999999", "-9999999999"],
    "decimal(18,4)": ["99999999999999.9999", "-99999999999999.9999", "0.0001", "-0.0001", "0"],
    "decimal(19,2)": ["99999999999999999.99", "-99999999999999999.99"],
    "decimal(38,10)": [
        "9999999999999999999999999999.9999999999",
        "-9999999999999999999999999999.9999999999",
        "-0.0000000001",
    ],
    "decimal(39,1)": ["99999999999999999999999999999999999999.9", "-0.1"],
    "decimal(65,30)": [
        "99999999999999999999999999999999999.999999999999999999999999999999",
        "-1.000000000000000000000000000001",
    ],
    "decimal(65,0)": ["9" * 65, "-" + "9" * 65],
    "bit(1)": ["b'0'", "b'1'"],
    "bit(9)": ["b'111111111'", "b'1'"],
    "bit(64)": ["x'ffffffffffffffff'", "x'8000000000000000'", "b'1'"],
    "year": ["1901", "2155", "0", "2024"],
    "date": ["'0001-01-01'", "'1000-01-01'", "'1969-12-31'", "'2024-02-29'", "'9999-12-31'"],
    "datetime": ["'0001-01-01 00:00:00'", "'2024-02-29 23:59:59'", "'9999-12-31 23:59:59'"],
    "timestamp null": ["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'2001-09-09 01:46:40'"],
    "time": ["'838:59:59'", "'-838:59:59'", "'00:00:00'", "'-00:00:01'", "'25:01:02'"],
    "char(10)": ["''", "'a'", "'tail  '", "'Zürich'"],
    "char(255)": ["REPEAT('東', 255)", "'a'"],
    "varchar(10)": ["''", "'a'", "'tail  '"],
    "varchar(300)": TEXTS,
    "varchar(300) character set utf8mb3": TEXTS,
    "varchar(300) character set latin1": LATIN,
    "varchar(100) character set ascii": ["''", "'plain'"],
    "char(20) character set latin1": ["'Zürich'", "''"],
    "tinytext": TEXTS[:5],
    "text": TEXTS,
    "mediumtext": [*TEXTS, "REPEAT('y', 70000)"],
    "longtext": [*TEXTS, "REPEAT('東京', 40000)"],
    "text character set latin1": LATIN,
    "binary(4)": ["''", "x'00'", "x'61'", "x'610000'", "x'ff00ff00'"],
    "binary(255)": BYTES,
    "varbinary(300)": BYTES,
    "tinyblob": BYTES,
    "blob": BYTES,
    "mediumblob": [*BYTES, "REPEAT(x'0a', 100000)"],
    "longblob": BYTES,
    "enum('x','it''s','ü,')": ["'x'", "'it''s'", "'ü,'", "0"],
    "set('a','b','ü')": ["''", "'a'", "'a,b,ü'", "'b'"],
    "enum('" + "','".join(f"m{n}" for n in range(300)) + "')": ["'m0'", "'m299'"],
    "set('" + "','".join(f"m{n}" for n in range(64)) + "')": ["'m0'", "'m63'", "'m0,m31,m63'"],
    "enum('ä','b') character set latin1": ["'ä'", "'b'"],
    "set('ö','x') character set latin1": ["'ö,x'", "''"],
    "json": JSONS,
}
for digits in (1, 2, 3, 4, 5, 6):
    fraction = "123456"[:digits]
    CASES[f"datetime({digits})"] = [
        f"'2024-02-29 23:59:59.{fraction}'",
        "'1969-12-31 23:59:59.9'",
        "'0001-01-01 00:00:00'",
    ]
    CASES[f"timestamp({digits}) null"] = [f"'2024-02-29 23:59:59.{fraction}'", "'1970-01-01 00:00:01.9'"]
    CASES[f"time({digits})"] = [
        f"'-12:34:56.{fraction}'",
        "'-00:00:00.1'",
        "'838:59:58.9'",
        "'-100:00:00.9'",
        "'00:00:00'",
    ]


WRONG_THERE = ("json", "set", "float", "time", "binary", "varbinary", "bit", "year", "enum")
"""Where mysql-replication reads otherwise: fractions of negative times, lost zero bytes, JSON keys as bytes, sets."""
COMPARED = {
    kind: [v for v in values if v not in LATIN[3:4]]
    for kind, values in CASES.items()
    if not kind.startswith(WRONG_THERE)
}
"""It cannot read the bytes that Windows-1252 leaves open either."""


def fill(database: Database, cases: dict[str, list[str]]) -> Position:
    """Table `every` with a column of each type; row n holds the n-th value of each, then NULL. The position before."""
    columns = ", ".join(f"v{n} {kind}" for n, kind in enumerate(cases))
    database.execute(f"CREATE TABLE every (id INT PRIMARY KEY, {columns})")
    start = log_end(database)
    lines = [
        f"({row}, {', '.join(values[row] if row < len(values) else 'NULL' for values in cases.values())})"
        for row in range(max(map(len, cases.values())) + 1)
    ]
    database.execute("SET SESSION sql_mode = '', time_zone = '+00:00'", f"INSERT INTO every VALUES {', '.join(lines)}")
    return start


@pytest.fixture
def filled(database: Database) -> tuple[Database, Position]:
    return database, fill(database, CASES)


def selected(database: Database) -> list[list[Any]]:
    """Each column as SELECT gives it, in Python's types."""
    shown = ", ".join(f"v{n} + 0e0" if kind == "float" else f"v{n}" for n, kind in enumerate(CASES))
    with (
        closing(database.connect(init_command="SET time_zone = '+00:00'")) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(f"SELECT {shown} FROM every ORDER BY id")
        return [list(column) for column in zip(*cursor.fetchall(), strict=True)]


def canonical(value: Any, kind: str) -> Any:
    if kind.startswith("bit") and isinstance(value, bytes):
        return int.from_bytes(value, "big")
    if kind.startswith("timestamp") and isinstance(value, dt.datetime):
        return value.replace(tzinfo=None)
    if kind.startswith("float") and value is not None:
        return struct.pack("<f", value)
    return value


def test_every_type_is_what_a_select_gives(filled: tuple[Database, Position]) -> None:
    database, start = filled
    found = rows(read(database, start, schemas(database, "every")))
    wrong = {}
    for number, (kind, values) in enumerate(zip(CASES, selected(database), strict=True)):
        mine = [canonical(row[f"v{number}"], kind) for _, row in found]
        theirs = [canonical(value, kind) for value in values]
        if mine != theirs or [type(v) for v in mine] != [type(v) for v in theirs]:
            wrong[kind] = (mine, theirs)
    assert not wrong


def test_signs_beside_years_are_read_whether_the_server_counts_years_or_not(database: Database) -> None:
    database.execute(
        "CREATE TABLE a (id INT UNSIGNED PRIMARY KEY, y YEAR, n INT UNSIGNED, m INT)",
        "CREATE TABLE b (y YEAR, id INT PRIMARY KEY, u INT UNSIGNED, z YEAR, s INT, d DECIMAL(5,2) UNSIGNED, t BIGINT)",
    )
    start, big = log_end(database), 4294967295
    database.execute(
        f"INSERT INTO a VALUES ({big}, 2000, {big}, -1)", f"INSERT INTO b VALUES (2001, -1, {big}, 2002, -2, 1.5, -3)"
    )
    found = [[*row.values()] for _, row in rows(read(database, start, schemas(database, "a", "b")))]
    assert found == [[big, 2000, big, -1], [2001, -1, big, 2002, -2, Decimal("1.50"), -3]]


def test_decimals_have_the_declared_type(filled: tuple[Database, Position]) -> None:
    database, start = filled
    (batch,) = batches(read(database, start, schemas(database, "every")))
    for number, kind in enumerate(CASES):
        if kind.startswith("decimal"):
            assert str(batch.rows.schema.field(f"v{number}").type).split("(")[1] == kind.split("(")[1].replace(
                ",", ", "
            )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_types_are_what_mysql_replication_reads(database: Database) -> None:
    start = fill(database, COMPARED)
    place = json.loads(start)
    mine = [row for _, row in rows(read(database, start, schemas(database, "every")))]
    reader = BinLogStreamReader(
        connection_settings={"host": database.host, "port": database.port, "user": database.user, "password": ""},
        server_id=4343,
        log_file=place["file"],
        log_pos=place["pos"],
        only_events=[WriteRowsEvent],
        only_schemas=[database.name],
    )
    with closing(reader):
        theirs = [list(row["values"].values()) for event in reader for row in event.rows]
    for number, kind in enumerate(COMPARED):
        there = [row[number + 1] for row in theirs]
        if "blob" in kind:  # it gives an empty BLOB as text
            there = [b"" if value == "" else value for value in there]
        assert [row[f"v{number}"] for row in mine] == there, kind


@pytest.mark.parametrize("kind", ["date", "datetime", "timestamp", "datetime(6)", "timestamp(3)"])
def test_zero_dates_follow_the_policy(database: Database, kind: str) -> None:
    database.execute(f"CREATE TABLE z (id INT PRIMARY KEY, v {kind} NULL)")
    start = log_end(database)
    database.execute(
        "SET SESSION sql_mode = ''", "INSERT INTO z VALUES (1, '0000-00-00'), (2, '2020-01-02'), (3, NULL)"
    )
    known = schemas(database, "z")
    with pytest.raises(Unsupported, match=r"z\.v.*zero date") as refused:
        read(database, start, known)
    assert refused.value.table == f"{database.name}.z"
    found = [row["v"] is None for _, row in rows(read(database, start, known, zero_date="null"))]
    assert found == [True, False, True]


def test_a_zero_date_in_a_key_halts_under_any_policy(database: Database) -> None:
    """As NULLs, two keys would be one."""
    database.execute("CREATE TABLE z (v DATE NOT NULL PRIMARY KEY, w DATE NOT NULL)")
    start = log_end(database)
    database.execute("SET SESSION sql_mode = ''", "INSERT INTO z VALUES ('2020-01-02', '0000-00-00')")
    known = schemas(database, "z")
    assert rows(read(database, start, known, zero_date="null"))[0][1]["w"] is None
    database.execute("SET SESSION sql_mode = ''", "INSERT INTO z VALUES ('0000-00-00', 0), ('2020-00-01', 0)")
    with pytest.raises(Unsupported, match=r"z\.v.*zero date.*not possible in a key"):
        read(database, start, known, zero_date="null")


def test_partial_zero_dates_are_zero_dates(database: Database) -> None:
    database.execute("CREATE TABLE z (id INT PRIMARY KEY, v DATE, w DATETIME(3))")
    start = log_end(database)
    database.execute("SET SESSION sql_mode = ''", "INSERT INTO z VALUES (1, '2020-00-10', '2020-10-00 01:02:03')")
    assert rows(read(database, start, schemas(database, "z"), zero_date="null"))[0][1] == {
        "id": 1,
        "v": None,
        "w": None,
    }
    with pytest.raises(Unsupported, match="zero date"):
        read(database, start, schemas(database, "z"))
