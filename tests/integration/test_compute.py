"""A computed column has the server's own value of the same expression, or none: random rows on real servers."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from syncd.errors import Unsupported
from syncd.model import Column, TableId, TableSchema
from syncd.transforms.compute import Computed, compile_column, parse
from tests.services.database import Database
from tests.services.fuzz import SLOW, examples

LETTERS = "aBz09 @,-._'\\\"éÄ中😀\t"
TEXT = st.text(LETTERS, max_size=12)
NUMERIC = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.decimals(-9999, 9999, places=3, allow_nan=False).map(str),
    st.sampled_from(["", " 1", "1 ", "+7", "007", ".5", "5.", "-.25", "1e2", "0x1F", "abc", "1.23456", "-0"]),
)
DATED = st.one_of(
    st.dates().map(str),
    st.datetimes().map(str),
    st.sampled_from(["2024-02-30", "2024-1-1", "20240229", "", "2024-02-29 00:00:00", "2024-02-29T01:02:03.5"]),
)
LEAF = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.just(1.5), st.just(-0.25), TEXT)
TREE = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b c", "é"]), inner),
    max_leaves=6,
)
ROW = st.tuples(
    st.none() | TEXT,
    st.none() | TEXT,
    st.none() | NUMERIC,
    st.none() | DATED,
    st.none() | st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 2**64 - 1),
    st.none() | st.decimals(-(10**8), 10**8, places=3, allow_nan=False),
    st.none() | st.integers(-(2**40), 2**40).map(lambda n: n / 1024),
    st.none() | st.dates(),
    st.none() | st.datetimes().map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)),
    # MariaDB leaves letters that are written as \u00e9 as they are, here they become letters.
    st.none() | TREE.map(lambda tree: json.dumps(tree, ensure_ascii=False)),
)
COLUMNS = (
    ("t", "VARCHAR(40) COLLATE utf8mb4_bin", pa.string()),
    ("u", "VARCHAR(40) COLLATE utf8mb4_bin", pa.string()),
    ("n", "VARCHAR(40) COLLATE utf8mb4_bin", pa.string()),
    ("s", "VARCHAR(40) COLLATE utf8mb4_bin", pa.string()),
    ("i", "INT", pa.int32()),
    ("w", "BIGINT UNSIGNED", pa.uint64()),
    ("d", "DECIMAL(12,3)", pa.decimal128(12, 3)),
    ("f", "DOUBLE", pa.float64()),
    ("day", "DATE", pa.date32()),
    ("at", "DATETIME(3)", pa.timestamp("us")),
    ("doc", "JSON", pa.string()),
)
EXACT = [
    "concat(t, ' ', u)",
    "concat(t, i, d, day, at)",
    "concat_ws('-', t, u, i)",
    "substring(t, 2, 3)",
    "substring(t, -3, 2)",
    "substring(t, -3)",
    "substring(t, 0)",
    "substring(t, 3, 0)",
    "upper(t)",
    "lower(t)",
    "trim(t)",
    "ltrim(t)",
    "rtrim(t)",
    "coalesce(t, u, 'none')",
    "coalesce(d, i)",
    "coalesce(i, w)",
    "coalesce(day, DATE '2024-01-01')",
    "if(i > 0, t, u)",
    "if(t = 'a' or i is null, 1, 0.5)",
    "case when i > 0 then d when i < 0 then i else 7 end",
    "case when t like 'a%' then day end",
    "i + 1 - 2 * i",
    "i * i + 1",
    "d * d + i",
    "d - 0.0005",
    "-d",
    "f * 2 + i",
    "i % 7",
    "i div 7",
    "i > 3 and d is not null",
    "i <=> NULL",
    "round(d, 1)",
    "round(d)",
    "round(-d * 10, 2)",
    "date(at)",
    "cast(i as char)",
    "cast(w as char)",
    "cast(d as char)",
    "cast(day as char)",
    "cast(at as char)",
    "cast(d as decimal(20,6))",
    "cast(w as decimal(20,0))",
    "cast(i as decimal(12,2))",
    "cast(day as datetime)",
    "cast(at as datetime(6))",
    "json_extract(doc, '$')",
    "json_extract(doc, '$.a')",
    "json_extract(doc, '$.\"b c\".a')",
    "json_extract(doc, '$[0].é')",
    "json_unquote(json_extract(doc, '$.a'))",
    "json_unquote(json_extract(doc, '$[1]'))",
]
"""Each row has the server's value."""
OR_REFUSED = [
    "cast(i as unsigned)",
    "cast(w as signed)",
    "cast(d as signed)",
    "cast(n as signed)",
    "cast(n as decimal(20,4))",
    "cast(d as decimal(9,1))",
    "cast(f as decimal(30,6))",
    "cast(f as signed)",
    "cast(s as date)",
    "cast(s as datetime(6))",
    "cast(at as date)",
    "cast(at as datetime)",
    "cast(t as char(3))",
]
"""Each row has the server's value, or none where the server would warn, round or cut."""
OTHERWISE = [
    ("t || u", "concat(t, u)"),
    ("doc -> '$.a[0]'", "json_extract(doc, '$.a[0]')"),
    ("doc ->> '$[0]'", "json_unquote(json_extract(doc, '$[0]'))"),
    ("cast(i as double)", "i + 0e0"),
    ("cast(d as double)", "d + 0e0"),
    ("split(t, ' ', 1)", "substring_index(t, ' ', 1)"),
    ("split(t, ' ', -1)", "substring_index(t, ' ', -1)"),
    ("split(t, 'a', 2)", "if(instr(t, 'a') = 0, NULL, substring_index(substring_index(t, 'a', 2), 'a', -1))"),
]
"""What the server writes in another way."""


def values(made: Computed, rows: pa.RecordBatch) -> list[Any]:
    """Row by row where one has no exact value: that one's is Unsupported itself."""
    try:
        return [*made.values(rows).to_pylist()]
    except Unsupported:
        found: list[Any] = []
        for at in range(rows.num_rows):
            try:
                found += made.values(rows.slice(at, 1)).to_pylist()
            except Unsupported:
                found.append(Unsupported)
        return found


def test_the_value_of_the_server(database: Database) -> None:
    names = ["id", *(name for name, *_ in COLUMNS)]
    database.execute(f"CREATE TABLE c (id INT PRIMARY KEY, {', '.join(f'{name} {sql}' for name, sql, _ in COLUMNS)})")
    columns = [Column("id", pa.int32(), False, "int")]
    columns += [
        Column(
            name, kind, True, sql.partition(" COLLATE")[0].lower(), "utf8mb4", "utf8mb4_bin" if "CHAR" in sql else ""
        )
        for name, sql, kind in COLUMNS
    ]
    schema = TableSchema(TableId(database.name, "c"), 1, tuple(columns), ("id",), "primary")
    asked = [*((each, each) for each in (*EXACT, *OR_REFUSED)), *OTHERWISE]
    made = [compile_column("x", parse(mine), schema, b"") for mine, _ in asked]
    seen = dict.fromkeys(OR_REFUSED, 0)

    # Not made smaller: what fails is told by its expression and its row.
    @settings(max_examples=examples(8), deadline=None, suppress_health_check=SLOW, phases=[Phase.generate])
    @given(st.lists(ROW, min_size=30, max_size=60))
    def same(rows: list[tuple[Any, ...]]) -> None:
        database.execute("DELETE FROM c")
        statement = f"INSERT INTO c VALUES ({', '.join(['%s'] * len(names))})"
        database.many(statement, [(number, *row) for number, row in enumerate(rows)])
        there = database.query("SELECT * FROM c ORDER BY id")
        data = pa.RecordBatch.from_pylist([dict(zip(names, row, strict=True)) for row in there], schema=schema.arrow())
        theirs = database.query(f"SELECT {', '.join(sql for _, sql in asked)} FROM c ORDER BY id")
        for place, (mine, _) in enumerate(asked):
            for row, value, answer in zip(there, values(made[place], data), theirs, strict=True):
                if value is Unsupported and mine in seen:
                    seen[mine] += 1
                    continue
                assert value == answer[place], (mine, row)

    same()
    assert all(seen.values())
