"""Values read by `scan` against what the server itself says of them, on each server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from syncd.errors import FatalError, TransientError, Unsupported
from syncd.model import Chunk, Op, TableId
from syncd.sources.mysql.connect import connect
from tests.integration.mysql_tools import opened, schema_of, whole
from tests.services.database import Database

NINES = "9" * 65
TEXTS = ["", "a", "a  ", " ", "ä€😀", "x" * 250, "y" * 251, "ß" * 300, "\\'\"\n\0\x1a", None]
BYTES = [b"", b"\0", b"\xff\0 ", bytes(range(256)), None]

CASES: list[tuple[str, list[Any], list[Any] | None]] = [
    # column type, values as SQL parameters, values expected (None: the same ones)
    ("TINYINT", [-128, -1, 0, 127, None], None),
    ("TINYINT UNSIGNED", [0, 255, None], None),
    ("BOOLEAN", [True, False, None], [1, 0, None]),
    ("SMALLINT", [-32768, 32767, None], None),
    ("SMALLINT UNSIGNED", [0, 65535], None),
    ("MEDIUMINT", [-8388608, 8388607, -1, None], None),
    ("MEDIUMINT UNSIGNED", [0, 16777215], None),
    ("INT", [-(2**31), 2**31 - 1, None], None),
    ("INT(5) UNSIGNED ZEROFILL", [0, 7, 2**32 - 1], None),
    ("BIGINT", [-(2**63), 2**63 - 1, 0, None], None),
    ("BIGINT UNSIGNED", [0, 2**63, 2**64 - 1, None], None),
    ("DECIMAL(1,0)", ["-9", "0", "9", None], [Decimal(-9), Decimal(0), Decimal(9), None]),
    ("DECIMAL(4,4)", ["-0.0001", "0.9999"], [Decimal("-0.0001"), Decimal("0.9999")]),
    ("DECIMAL(8,3)", ["12345.678", "-0.001", "0"], [Decimal("12345.678"), Decimal("-0.001"), Decimal("0.000")]),
    ("DECIMAL(9,0)", ["-999999999", "100000000"], [Decimal(-999999999), Decimal(100000000)]),
    ("DECIMAL(17,9)", ["-12345678.123456789"], [Decimal("-12345678.123456789")]),
    ("DECIMAL(18,4)", ["99999999999999.9999", "-99999999999999.9999", None, "5"], None),
    ("DECIMAL(18,18)", ["0.123456789012345678", "-0.999999999999999999"], None),
    ("DECIMAL(19,0)", ["9999999999999999999", "-1"], None),
    ("DECIMAL(38,10)", ["-" + "9" * 28 + "." + "9" * 10, "0.0000000001", None], None),
    ("DECIMAL(65,0)", [NINES, "-" + NINES, None], None),
    ("DECIMAL(65,30)", ["9" * 35 + "." + "9" * 30, "-0." + "0" * 29 + "1"], None),
    ("FLOAT", [0.5, -1.25, 3.4e38, 1.1754944e-38, None], None),
    ("DOUBLE", [0.1, -1.7976931348623157e308, 5e-324, 0.0, None], None),
    ("BIT(1)", [1, 0, None], None),
    ("BIT(9)", [511, 256], None),
    ("BIT(64)", [2**64 - 1, 2**63, 0, None], None),
    ("DATE", ["1000-01-01", "9999-12-31", "2024-02-29", None, "1969-12-31"], None),
    ("DATETIME", ["1000-01-01 00:00:00", "9999-12-31 23:59:59", None], None),
    ("DATETIME(3)", ["2024-02-29 12:00:00.001", "2024-02-29 00:00:00"], None),
    ("DATETIME(6)", ["1000-01-01 00:00:00.000001", "9999-12-31 23:59:59.999999", "1969-12-31 23:59:59.5", None], None),
    ("TIMESTAMP(6) NULL", ["1970-01-01 00:00:01", "2038-01-19 03:14:07.499999", None], None),
    ("TIME", ["-838:59:59", "838:59:59", "00:00:00", "-00:00:01", None], None),
    ("TIME(6)", ["-838:59:58.999999", "-00:00:00.000001", "100:00:00.5", "00:00:00"], None),
    ("YEAR", [1901, 2155, 2024, None], None),
    ("CHAR(10)", ["", "a", "ä€😀", None], None),
    ("VARCHAR(300)", TEXTS, None),
    ("VARCHAR(300) CHARACTER SET latin1", ["", "äÄßÿ€", "a  ", None], None),
    ("VARCHAR(30) CHARACTER SET ascii", ["", "abc", None], None),
    ("VARCHAR(30) CHARACTER SET utf8mb3", ["", "ä€", None], None),
    ("TINYTEXT", ["", "ä" * 100, None], None),
    ("TEXT", [*TEXTS, "z" * 65535], None),
    ("MEDIUMTEXT", [*TEXTS, "z" * 70000], None),
    ("LONGTEXT", ["", "z" * 5_000_000, "end", None], None),
    ("BINARY(4)", [b"", b"a", b"abcd", None], [b"\0\0\0\0", b"a\0\0\0", b"abcd", None]),
    ("VARBINARY(300)", BYTES, None),
    ("BLOB", BYTES, None),
    ("LONGBLOB", [b"", b"\xfe" * 3_000_000, None], None),
    ("ENUM('new','it''s','ä','3')", ["new", "it's", "ä", "3", None], None),
    ("SET('a','b','ö')", ["", "a", "a,ö", "a,b,ö", None], None),
]


def _expected(kind: pa.DataType, value: Any) -> Any:
    if value is None or not isinstance(value, str):
        return value
    if pa.types.is_decimal(kind):
        return Decimal(value)
    if pa.types.is_date(kind):
        return date.fromisoformat(value)
    if pa.types.is_timestamp(kind):
        return datetime.fromisoformat(value).replace(tzinfo=UTC if kind.tz else None)
    if pa.types.is_duration(kind):
        hours, minutes, seconds = value.lstrip("-").split(":")
        span = timedelta(hours=int(hours), minutes=int(minutes), microseconds=round(float(seconds) * 1_000_000))
        return -span if value.startswith("-") else span
    return value


def _float32(kind: pa.DataType, value: Any) -> Any:
    return pa.scalar(value, pa.float32()).as_py() if kind == pa.float32() and value is not None else value


def test_every_type_at_its_edges(database: Database, tmp_path: Path) -> None:
    """Each case is a table of its own; read with the value beside the same one in the row before and behind."""
    for number, (kind, values, _) in enumerate(CASES):
        database.execute(f"CREATE TABLE t{number} (id INT PRIMARY KEY, a VARCHAR(5), v {kind}, z INT)")
        rows = [(i, "x" * (i % 4), value, i) for i, value in enumerate(values)]
        database.many(f"INSERT INTO t{number} VALUES (%s, %s, %s, %s)", rows)
    with opened(database, tmp_path) as source:
        for number, (kind, values, wanted) in enumerate(CASES):
            schema = schema_of(source, database, f"t{number}")
            got = whole(source, schema)
            arrow = schema.column("v").type
            assert got["v"].type == arrow
            assert got["id"].to_pylist() == got["z"].to_pylist() == list(range(len(values)))
            expected = [_float32(arrow, _expected(arrow, v)) for v in (wanted if wanted is not None else values)]
            assert got["v"].to_pylist() == expected, kind
            got.validate(full=True)


def test_json_as_the_server_writes_it(database: Database, tmp_path: Path) -> None:
    values = ['{"b": 1, "a": [1, 2.5, null, true, "ä"]}', "null", '"x"', "[]", None]
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, v JSON)")
    database.many("INSERT INTO t VALUES (%s, %s)", list(enumerate(values)))
    with opened(database, tmp_path) as source:
        got = whole(source, schema_of(source, database))["v"].to_pylist()
    assert got == [row[0] for row in database.query("SELECT CAST(v AS CHAR) FROM t ORDER BY id")]


def test_enum_by_number_and_its_error_value(database: Database, tmp_path: Path) -> None:
    database.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, v ENUM('5','3'))",
        "SET sql_mode = ''",
        "INSERT IGNORE INTO t VALUES (1, '3'), (2, 'nothing'), (3, '5')",
    )
    with opened(database, tmp_path) as source:
        got = whole(source, schema_of(source, database))["v"].combine_chunks()
    assert got.indices.to_pylist() == [2, 0, 1]
    assert got.dictionary.to_pylist() == ["", "5", "3"]


def test_many_columns_of_which_many_are_null(database: Database, tmp_path: Path) -> None:
    """Each null bit is at its place: row i has nulls where i has bits."""
    names = [f"c{n}" for n in range(19)]
    kinds = ["INT", "VARCHAR(20)", "DATETIME(6)", "DECIMAL(10,2)", "TIME(3)", "BLOB", "ENUM('a','b')"]
    columns = ", ".join(f"{name} {kinds[n % len(kinds)]}" for n, name in enumerate(names))
    database.execute(f"CREATE TABLE t (id INT PRIMARY KEY, {columns})")
    values = [
        7,
        "text",
        datetime.fromisoformat("2024-01-02T03:04:05.000006"),
        Decimal("1.25"),
        "01:02:03.5",
        b"\0\1",
        "b",
    ]
    rows = []
    for i in range(300):
        bits = (i * 2654435761) >> 3
        rows.append([i, *(None if bits >> n & 1 else values[n % len(kinds)] for n in range(len(names)))])
    database.many(f"INSERT INTO t VALUES ({', '.join(['%s'] * 20)})", rows)
    with opened(database, tmp_path) as source:
        got = whole(source, schema_of(source, database))
    span = timedelta(hours=1, minutes=2, seconds=3, microseconds=500_000)
    for n, name in enumerate(names):
        expected = [span if row[n + 1] == "01:02:03.5" else row[n + 1] for row in rows]
        assert got[name].to_pylist() == expected


@pytest.mark.parametrize("count", [250, 251, 1017])
def test_as_many_columns_as_a_table_may_have(database: Database, tmp_path: Path, count: int) -> None:
    names = [f"c{n}" for n in range(count)]
    database.execute(f"CREATE TABLE t ({' INT, '.join(names)} INT, PRIMARY KEY (c0))")
    row = {name: None if n % 3 == 1 else n for n, name in enumerate(names)}
    database.execute(f"INSERT INTO t VALUES ({', '.join('NULL' if v is None else str(v) for v in row.values())})")
    with opened(database, tmp_path) as source:
        assert whole(source, schema_of(source, database)).to_pylist() == [row]


def test_zero_dates_by_policy(database: Database, tmp_path: Path) -> None:
    database.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, d DATE NOT NULL, m DATETIME(6) NOT NULL)",
        "SET sql_mode = 'ALLOW_INVALID_DATES'",
        "INSERT INTO t VALUES (1, '0000-00-00', '0000-00-00'), (2, '2024-00-10', '2024-01-00 01:02:03')",
        "INSERT INTO t VALUES (3, '2024-02-31', '2024-02-03 01:02:03')",
    )
    with opened(database, tmp_path) as source, pytest.raises(Unsupported, match=f"{database.name}.t, column d"):
        whole(source, schema_of(source, database))
    with opened(database, tmp_path, policy={"zero_date": "null"}) as source:
        schema = schema_of(source, database)
        assert schema.column("d").nullable
        assert schema.column("m").nullable
        got = whole(source, schema)
    assert got["d"].to_pylist() == [None, None, None]
    assert got["m"].to_pylist() == [None, None, datetime.fromisoformat("2024-02-03T01:02:03")]


def test_dates_in_a_key_take_no_null(database: Database, tmp_path: Path) -> None:
    """Whatever the policy, so that a sink which takes no NULLs in a key can hold the table."""
    database.execute("CREATE TABLE t (d DATE NOT NULL, m DATETIME NOT NULL, n DATE NOT NULL, PRIMARY KEY (d, m))")
    with opened(database, tmp_path, policy={"zero_date": "null"}) as source:
        schema = schema_of(source, database)
    assert [column.nullable for column in schema.columns] == [False, False, True]


def test_a_row_of_many_packets(database: Database, tmp_path: Path) -> None:
    """Rows above 16 MB come in several packets; also one whose last packet is empty."""
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, v LONGBLOB, z INT)")
    # 1 (row mark) + 1 (nulls) + 4 (id) + 4 (length) + size + 4 (z) = 2^24 - 1
    exact = (1 << 24) - 1 - 14
    sizes = [10, 17_000_000, exact, 3, 34_000_000]
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL max_allowed_packet = 1073741824")
    with database.connect() as connection, connection.cursor() as cursor:
        for number, size in enumerate(sizes):
            cursor.execute("INSERT INTO t VALUES (%s, REPEAT(%s, %s), %s)", (number, "abcdefg", size // 7 + 1, number))
            cursor.execute("UPDATE t SET v = LEFT(v, %s) WHERE id = %s", (size, number))
    with opened(database, tmp_path) as source:
        got = whole(source, schema_of(source, database))
    assert [len(v) for v in got["v"].to_pylist()] == sizes
    assert got["z"].to_pylist() == list(range(len(sizes)))
    assert got["v"][1].as_py() == (b"abcdefg" * (sizes[1] // 7 + 1))[: sizes[1]]


def test_batches_are_bounded(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    database.many("INSERT INTO t VALUES (%s)", [(n,) for n in range(20_000)])
    database.execute(
        "INSERT INTO t SELECT a.id + 20000 FROM t a",
        *(f"INSERT INTO t SELECT id + {40_000 << n} FROM t" for n in range(3)),
    )
    with opened(database, tmp_path) as source:
        schema = schema_of(source, database)
        batches = list(source.scan(schema, Chunk(schema.table, 0), 99))
    assert max(map(len, batches)) <= 65_536
    assert sum(map(len, batches)) == 320_000
    assert {int(op) for batch in batches for op in set(batch.op.tolist())} == {Op.READ}
    assert {int(seq) for batch in batches for seq in set(batch.seq.tolist())} == {99}


def test_a_scan_that_is_left_half_way(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(2000))")
    database.many("INSERT INTO t VALUES (%s, REPEAT('x', 2000))", [(n,) for n in range(8_000)])
    with opened(database, tmp_path) as source:
        schema = schema_of(source, database)
        scan = source.scan(schema, Chunk(schema.table, 0), 1)
        next(scan)
        scan.close()  # type: ignore[attr-defined]
        assert whole(source, schema).num_rows == 8_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DROP TABLE t", "dropped, renamed or altered"),
        ("RENAME TABLE t TO u", "dropped, renamed or altered"),
        ("ALTER TABLE t DROP COLUMN v", "column v is gone"),
        ("ALTER TABLE t MODIFY v BIGINT", "column v is now bigint"),
        ("ALTER TABLE t MODIFY e ENUM('b','a')", "column e is now enum"),
    ],
)
def test_a_table_that_changed_is_named(database: Database, tmp_path: Path, change: str, said: str) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT, e ENUM('a','b'))", "INSERT INTO t VALUES (1, 1, 'a')")
    with opened(database, tmp_path) as source:
        schema = schema_of(source, database)
        assert whole(source, schema).num_rows == 1
        database.execute(change)
        with pytest.raises(FatalError, match=said) as caught:
            whole(source, schema)
        assert caught.value.table == f"{database.name}.t"


def test_an_error_in_the_middle_of_a_result(database: Database, tmp_path: Path) -> None:
    """KILL QUERY while rows are flowing: the reader says so, and reads again afterwards."""
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(2000))")
    database.many("INSERT INTO t VALUES (%s, REPEAT('x', 2000))", [(n,) for n in range(20_000)])
    with opened(database, tmp_path) as source:
        schema = schema_of(source, database)
        scan = source.scan(schema, Chunk(schema.table, 0), 1)
        next(scan)
        assert source._reader._connection is not None
        database.execute(f"KILL QUERY {source._reader._connection.thread_id()}")
        with pytest.raises(TransientError):
            list(scan)
        assert whole(source, schema).num_rows == 20_000


def test_a_row_above_max_allowed_packet_is_read(database: Database, tmp_path: Path) -> None:
    """The server limits what it takes, not what it gives."""
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, v LONGBLOB)")
    ((before,),) = database.query("SELECT @@GLOBAL.max_allowed_packet")
    try:
        database.execute("SET GLOBAL max_allowed_packet = 67108864")
        database.execute("INSERT INTO t VALUES (1, REPEAT('x', 3000000))", "SET GLOBAL max_allowed_packet = 1048576")
        with opened(database, tmp_path) as source:
            assert len(whole(source, schema_of(source, database))["v"][0].as_py()) == 3_000_000
    finally:
        database.execute(f"SET GLOBAL max_allowed_packet = {before}")


def test_throttle_by_rows(mariadb_database: Database, tmp_path: Path) -> None:
    said: list[tuple[str, dict[str, object]]] = []
    mariadb_database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    mariadb_database.many("INSERT INTO t VALUES (%s)", [(n,) for n in range(3_000)])
    throttle = {"rows_per_s": 4_000.0}
    with opened(
        mariadb_database, tmp_path, throttle=throttle, log=lambda event, **fields: said.append((event, fields))
    ) as source:
        assert whole(source, schema_of(source, mariadb_database)).num_rows == 3_000
    assert [event for event, _ in said] == ["throttled"]
    assert said[0][1]["why"] == "rows_per_s"


def test_throttle_by_running_threads(database: Database, tmp_path: Path) -> None:
    """Six threads wait for a lock, which counts as running, until it is said that they are too many."""
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1), (2)")
    said: list[tuple[str, object]] = []
    with database.connect() as holder, holder.cursor() as cursor, ThreadPoolExecutor(6) as pool:
        cursor.execute("SELECT GET_LOCK('busy', 0)")
        busy = [pool.submit(database.query, "SELECT GET_LOCK('busy', 60), RELEASE_LOCK('busy')") for _ in range(6)]

        def release(event: str, **fields: object) -> None:
            said.append((event, fields["why"]))
            cursor.execute("DO RELEASE_LOCK('busy')")

        while int(database.query("SHOW GLOBAL STATUS LIKE 'Threads_running'")[0][1]) < 7:
            assert not any(one.done() for one in busy)
        with opened(database, tmp_path, throttle={"source_threads_running": 5.0}, log=release) as source:
            assert whole(source, schema_of(source, database)).num_rows == 2
        assert [one.result() for one in busy] == [[(1, 1)]] * 6
    assert said == [("throttled", "source_threads_running"), ("throttle_over", "source_threads_running")]


def test_connect_settings(database: Database, tmp_path: Path) -> None:
    with opened(database, tmp_path) as source:
        connection = connect(source._options)
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT @@time_zone, @@sql_mode, @@character_set_results, @@autocommit")
            assert cursor.fetchone() == ("+00:00", "", "utf8mb4", 1)


def test_a_server_that_cuts_answers(database: Database, tmp_path: Path) -> None:
    """A limit for all who do not say otherwise is no reason to load a part of a table."""
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9))")
    database.many("INSERT INTO t VALUES (%s, %s)", [(i, f"v{i}") for i in range(50)])
    database.execute("SET GLOBAL sql_select_limit = 3", "SET GLOBAL max_join_size = 5")
    try:
        with opened(database, tmp_path) as source:
            got = whole(source, schema_of(source, database))
    finally:
        database.execute("SET GLOBAL sql_select_limit = DEFAULT", "SET GLOBAL max_join_size = DEFAULT")
    assert got.to_pydict() == {"id": [*range(50)], "v": [f"v{i}" for i in range(50)]}


def test_a_server_that_ends_connections_with_transactions(database: Database, tmp_path: Path) -> None:
    """A setting for all who do not say otherwise."""
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    database.execute("SET GLOBAL completion_type = 'RELEASE'")
    try:
        with opened(database, tmp_path) as source:
            schema = schema_of(source, database)
            source.head(1)
            assert [whole(source, schema).to_pydict() for _ in range(2)] == [{"id": [1]}] * 2
            source.head(1)
    finally:
        database.execute("SET GLOBAL completion_type = DEFAULT")


def test_unknown_table_is_not_found(database: Database, tmp_path: Path) -> None:
    with opened(database, tmp_path) as source:
        assert list(source.tables(lambda t: t == TableId(database.name, "none"))) == []
