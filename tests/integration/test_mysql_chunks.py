"""Chunks cover the key space without gap or overlap, whatever the keys, and each costs about the same."""

from __future__ import annotations

import itertools
import random
import time
import uuid
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from syncd.model import Chunk, TableSchema
from syncd.sources.mysql import MySQLSource
from tests.integration.mysql_tools import opened, schema_of, whole
from tests.services.database import Database

KEYS: dict[str, tuple[str, Any]] = {
    "tinyint": ("k TINYINT PRIMARY KEY", lambda r, i: (i % 256 - 128,)),
    "bigint": ("k BIGINT PRIMARY KEY", lambda r, i: (r.randrange(-(2**63), 2**63),)),
    "unsigned": ("k BIGINT UNSIGNED PRIMARY KEY", lambda r, i: (r.randrange(2**64),)),
    "decimal": ("k DECIMAL(30,5) PRIMARY KEY", lambda r, i: (Decimal(r.randrange(-(10**30), 10**30)).scaleb(-5),)),
    "binary": ("k VARBINARY(12) PRIMARY KEY", lambda r, i: (r.randbytes(r.randint(0, 12)),)),
    "padded": ("k BINARY(6) PRIMARY KEY", lambda r, i: (r.randbytes(r.randint(0, 3)) + r.choice([b"", b"\0", b" "]),)),
    "bit": ("k BIT(40) PRIMARY KEY", lambda r, i: (r.getrandbits(40),)),
    "date": (
        "k DATE PRIMARY KEY",
        lambda r, i: (f"{r.randint(1000, 9999)}-{r.randint(1, 12):02}-{r.randint(1, 28):02}",),
    ),
    "datetime": (
        "k DATETIME(6) PRIMARY KEY",
        lambda r, i: (f"{r.randint(1000, 9999)}-01-01 00:00:{r.randint(0, 59):02}.{r.randrange(10**6):06}",),
    ),
    "timestamp": (
        "k TIMESTAMP(3) PRIMARY KEY",
        lambda r, i: (f"2024-03-31 0{r.randint(0, 9)}:{r.randint(0, 59):02}:01.{i % 1000:03}",),
    ),
    "time": (
        "k TIME(3) PRIMARY KEY",
        lambda r, i: (f"{r.choice(['', '-'])}{r.randint(0, 838)}:00:00.{r.randrange(999):03}",),
    ),
    "year": ("k YEAR PRIMARY KEY", lambda r, i: (1901 + i % 255,)),
    "ci": (
        "k VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY",
        lambda r, i: ("".join(r.choices("aAbBäÄ éE\tz", k=r.randint(0, 8))),),
    ),
    "bin": (
        "k VARCHAR(20) COLLATE utf8mb4_bin PRIMARY KEY",
        lambda r, i: ("".join(r.choices("aA ä😀\t", k=r.randint(0, 8))),),
    ),
    "latin1": (
        "k VARCHAR(20) CHARACTER SET latin1 PRIMARY KEY",
        lambda r, i: ("".join(r.choices("aAäÄ€ß ", k=r.randint(0, 8))),),
    ),
    "uuid": ("k CHAR(36) CHARACTER SET ascii PRIMARY KEY", lambda r, i: (str(uuid.UUID(int=r.getrandbits(128))),)),
    "uuid_binary": ("k BINARY(16) PRIMARY KEY", lambda r, i: (uuid.UUID(int=r.getrandbits(128)).bytes,)),
    "uuid_ordered": ("k BINARY(16) PRIMARY KEY", lambda r, i: (ordered(r, i),)),
    "composite": (
        "k INT, l VARCHAR(9) COLLATE utf8mb4_unicode_ci, m BIGINT UNSIGNED, PRIMARY KEY (k, l, m)",
        lambda r, i: (r.randint(-3, 3), r.choice("aAbB "), r.randrange(50)),
    ),
    "unique": ("k INT NOT NULL, n INT, UNIQUE (k), KEY (n)", lambda r, i: (r.randrange(10**6),)),
    "enum": ("k ENUM('z','a','m'), l INT, PRIMARY KEY (k, l)", lambda r, i: (r.choice("zam"), i)),
}


def ordered(rng: random.Random, number: int) -> bytes:
    """A UUID of version 7: milliseconds, then chance."""
    return (1_700_000_000_000 + number // 10).to_bytes(6, "big") + b"\x70" + rng.randbytes(9)


def cut(source: MySQLSource, schema: TableSchema, chunk_bytes: int) -> list[Chunk]:
    chunks = list(source.chunks(schema, chunk_bytes, None))
    assert [c.number for c in chunks] == list(range(len(chunks)))
    assert chunks[0].lower is None
    assert chunks[-1].upper is None
    assert all(
        a.upper == b.lower is not None and a.normal_upper == b.normal_lower for a, b in itertools.pairwise(chunks)
    )
    assert [Chunk.load(c.dump()) for c in chunks] == chunks
    return chunks


def fill(database: Database, keys: Sequence[tuple[Any, ...]], names: Sequence[str]) -> None:
    marks = ", ".join(["%s"] * len(names))
    database.many(f"INSERT IGNORE INTO t ({', '.join(names)}) VALUES ({marks})", keys)


@pytest.mark.parametrize("name", KEYS)
def test_no_gap_and_no_overlap(database: Database, tmp_path: Path, name: str) -> None:
    columns, make = KEYS[name]
    rng = random.Random(7)
    database.execute(f"CREATE TABLE t ({columns}, pad VARCHAR(10) DEFAULT 'x')", "SET sql_mode = ''")
    rows = [make(rng, i) for i in range(700)]
    names = ["k", "l", "m"][: len(rows[0])]
    fill(database, rows, names)
    database.execute("ANALYZE TABLE t")
    with opened(database, tmp_path) as source:
        schema = schema_of(source, database)
        everything = whole(source, schema).select(list(schema.identity)).to_pylist()
        chunks = cut(source, schema, 2_000)
        parts = [whole(source, schema, chunk) for chunk in chunks]
        assert (len(chunks) > 3) == (name != "enum")
        read = [row for part in parts for row in part.select(list(schema.identity)).to_pylist()]
        assert len(read) == len(everything)
        assert sorted(map(str, read)) == sorted(map(str, everything))
        if name != "enum":
            bounds_hold(schema, chunks, [part.select(list(schema.identity)).to_pylist() for part in parts])
        for chunk in chunks[1:-1:5]:
            assert next(iter(source.chunks(schema, 2_000, chunk))).lower == chunk.upper


def bounds_hold(schema: TableSchema, chunks: Sequence[Chunk], parts: Sequence[list[dict[str, Any]]]) -> None:
    """What a sink sees when it compares the identity columns itself is what the server gave."""
    for chunk, part in zip(chunks, parts, strict=True):
        for row in part:
            key = tuple(_naive(v) for v in row.values())
            assert chunk.normal_lower is None or tuple(map(_naive, chunk.normal_lower)) < key
            assert chunk.normal_upper is None or key <= tuple(map(_naive, chunk.normal_upper))


def _naive(value: Any) -> Any:
    return value.replace(tzinfo=None) if hasattr(value, "tzinfo") else value


def test_an_empty_table_is_one_chunk(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE u (id INT)")
    with opened(database, tmp_path) as source:
        assert len(cut(source, schema_of(source, database), 1000)) == 1
        keyless = schema_of(source, database, "u")
        assert keyless.key == ()
        assert len(cut(source, keyless, 1000)) == 1


def test_the_last_chunk_has_no_follower(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    with opened(database, tmp_path) as source:
        schema = schema_of(source, database)
        last = cut(source, schema, 1000)[-1]
        assert list(source.chunks(schema, 1000, last)) == []


@pytest.mark.parametrize(
    ("columns", "sql"),
    [
        # 90 % of the rows in 1 % of the range, and a gap of 2^60
        ("k BIGINT PRIMARY KEY", "SELECT IF(n % 10 = 0, n * 1000, 500000 + n) + IF(n > 45000, 1 << 60, 0)"),
        ("k CHAR(36) CHARACTER SET ascii PRIMARY KEY", "SELECT UUID()"),
        ("k BINARY(16) PRIMARY KEY", "SELECT UNHEX(LEFT(SHA2(n, 256), 32))"),
        # as of version 7: milliseconds, then chance
        (
            "k BINARY(16) PRIMARY KEY",
            "SELECT UNHEX(CONCAT('018BCFE5', LPAD(HEX(n DIV 10), 4, '0'), LEFT(SHA2(n, 256), 20)))",
        ),
        ("k INT, l BIGINT, PRIMARY KEY (k, l)", "SELECT n > 1000, n"),
    ],
    ids=["skewed", "uuid", "uuid_binary", "uuid_ordered", "composite"],
)
def test_every_chunk_costs_the_same(database: Database, tmp_path: Path, columns: str, sql: str) -> None:
    """By rows that the server steps over, not by the clock: none more than three times the median, none a full scan."""
    database.execute(f"CREATE TABLE t ({columns}, pad VARCHAR(200) DEFAULT '')")
    numbers = "(SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d AS n FROM digits a, digits b, digits c"
    numbers += ", digits e, digits f)"
    into = "(k, l, pad)" if "l BIGINT" in columns else "(k, pad)"
    database.execute(
        "CREATE TABLE digits (d INT)",
        "INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)",
        f"INSERT IGNORE INTO t {into} {sql}, REPEAT('x', 100) FROM {numbers} n WHERE n < 50000",
        "ANALYZE TABLE t",
    )
    with opened(database, tmp_path) as source:
        schema = schema_of(source, database)
        asking = source._link("asking")
        steps: list[int] = []
        walk = source.chunks(schema, 400_000, None)
        before = stepped(asking)
        chunks = []
        for chunk in walk:
            now = stepped(asking)
            steps.append(now - before)
            before = now
            chunks.append(chunk)
        # The server samples a few pages for its count of rows, so the mean length may be some times too large.
        assert 8 < len(chunks) < 150
        assert max(steps) < 3 * sorted(steps)[len(steps) // 2] + 100
        reads = []
        for chunk in chunks:
            connection = source._reader._connection
            start = stepped(connection) if connection else 0
            rows = whole(source, schema, chunk).num_rows
            cost = stepped(source._reader._connection) - start
            assert cost <= rows + 300, (chunk, cost, rows)
            reads.append(rows)
        assert max(reads) <= 3 * sorted(reads)[len(reads) // 2]


def stepped(connection: Any) -> int:
    """Index entries and rows that the session has stepped over."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(
            int(count)
            for name, count in cursor.fetchall()
            if name.lower() in {"handler_read_next", "handler_read_rnd_next", "handler_read_prev"}
        )


def test_a_descending_index(mysql9_database: Database, tmp_path: Path) -> None:
    mysql9_database.execute(
        "CREATE TABLE t (a INT, b INT, PRIMARY KEY (a DESC, b DESC))",
        "CREATE TABLE u (a INT, b INT, PRIMARY KEY (a DESC, b))",
    )
    mysql9_database.many("INSERT INTO t VALUES (%s, %s)", [(n // 7, n) for n in range(400)])
    mysql9_database.execute("INSERT INTO u SELECT * FROM t", "ANALYZE TABLE t", "ANALYZE TABLE u")
    with opened(mysql9_database, tmp_path) as source:
        schema = schema_of(source, mysql9_database)
        chunks = cut(source, schema, 2_000)
        assert len(chunks) > 3
        assert sum(whole(source, schema, chunk).num_rows for chunk in chunks) == 400
        assert len(cut(source, schema_of(source, mysql9_database, "u"), 2_000)) == 1


def test_readers_need_not_wait_for_the_walk(mariadb_database: Database, tmp_path: Path) -> None:
    """The first chunk is there before the last is looked for."""
    mariadb_database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    mariadb_database.many("INSERT INTO t VALUES (%s)", [(n,) for n in range(5_000)])
    with opened(mariadb_database, tmp_path) as source:
        schema = schema_of(source, mariadb_database)
        walk = source.chunks(schema, 5_000, None)
        began = time.monotonic()
        first = next(walk)
        assert whole(source, schema, first).num_rows == first.rows
        assert time.monotonic() - began < 30
        mariadb_database.execute("INSERT INTO t VALUES (-5), (100000)")
        rest = list(walk)
        assert sum(whole(source, schema, chunk).num_rows for chunk in rest) == 5_001 - first.rows
