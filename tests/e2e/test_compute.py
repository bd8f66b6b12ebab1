"""Computed columns, loaded and changed: each sink holds what the server makes of its rows as they are at the end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import running
from tests.e2e.test_bad_days import halted, syncd
from tests.services.database import Database, fresh_database

COLUMNS = {
    "domain": "substring_index(email, '@', -1)",
    "label": "concat(upper(name), '-', id)",
    "amount": "cast(amount as decimal(18,2))",
    "whole": "cast(note as signed)",
    "twice": "amount * 2 + id",
    "city": "json_unquote(json_extract(doc, '$.city'))",
    "size": "case when amount > 50 then 'large' else 'small' end",
    "known": "coalesce(note, 'none')",
    "half": "substring(id, 1, 1)",
}
"""Column -> the server's SQL for it."""
RULE = """\
compute: {domain: "split(email, '@', -1)", label: "upper(name) || '-' || id", Amount: "cast(amount as decimal(18,2))", \
whole: "cast(note as int)", twice: "amount * 2 + id", city: "doc ->> '$.city'", \
size: "case when amount > 50 then 'large' else 'small' end", known: "coalesce(note, 'none')", \
half: "substring(id, 1, 1)"}, key: [half, id], where: "id % 5 <> 0", \
columns: {exclude: [email, name, doc, note], rename: {amount: sum}}\
"""
TABLE = """CREATE TABLE orders (id INT PRIMARY KEY, email VARCHAR(60) NOT NULL, name VARCHAR(20) NOT NULL,
    amount DECIMAL(12,4) NOT NULL, note VARCHAR(20), doc JSON)"""


def fill(database: Database, first: int, last: int, salt: int) -> None:
    rows: list[tuple[Any, ...]] = []
    for n in range(first, last):
        note = None if n % 7 == 0 else str((n * 31 + salt) % 1000)
        doc = None if n % 11 == 0 else f'{{"city": "Köln {n % 9} {salt}", "n": [{n}]}}'
        rows.append(
            (n, f"u{n}@h{n % 4}.s{salt}.org", f"näm{n % 13}", f"{(n * 37 + salt) % 10000 / 100:.2f}", note, doc)
        )
    database.many("REPLACE INTO orders VALUES (%s, %s, %s, %s, %s, %s)", rows)


@pytest.mark.parametrize(
    ("kind", "sink"),
    [
        pytest.param("mariadb", "clickhouse", marks=[pytest.mark.mariadb, pytest.mark.chdb]),
        pytest.param("mysql9", "arrival", marks=pytest.mark.mysql9),
    ],
)
def test_loaded_and_changed(kind: str, sink: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with fresh_database(request.getfixturevalue(kind)) as database:
        database.execute(TABLE)
        fill(database, 0, 2000, 1)
        with running(tmp_path, database.port, database.name, sink, rule=RULE) as run:
            run.wait_live(1)
            fill(database, 500, 700, 2)
            fill(database, 2000, 2200, 3)
            database.execute(
                "DELETE FROM orders WHERE id BETWEEN 100 AND 180",
                "UPDATE orders SET amount = amount + 51, note = NULL WHERE id BETWEEN 200 AND 260",
                "UPDATE orders SET id = id + 90000 WHERE id BETWEEN 300 AND 340",
                "UPDATE orders SET id = id * 10 + 1 WHERE id BETWEEN 400 AND 420",
                "UPDATE orders SET doc = '{\"city\": null}' WHERE id = 21",
                "INSERT INTO orders VALUES (3001, 'at@', 'x', 1, '+07', '{}'), (3002, 'none', '', -0.5, NULL, '[]')",
                "ALTER TABLE orders ADD COLUMN late INT NOT NULL DEFAULT 7",
                "UPDATE orders SET late = 8, amount = 3 WHERE id = 1001",
            )
            run.wait_applied()
            run.assert_equal()
            assert run.terminate() == 0
            shown = syncd(run, "plan", str(run.path)).stdout
            assert "decimal(18,2)" in shown
            assert "varchar(41)" in shown
            asked = ["id", COLUMNS["amount"], "late", *(sql for name, sql in COLUMNS.items() if name != "amount")]
            there = database.query(f"SELECT {', '.join(asked)} FROM orders WHERE id % 5 <> 0")
            assert run.copied("orders") == Counter(there)


@pytest.mark.mariadb
def test_a_value_that_is_not_exact_halts_its_table_and_shows_what_may_be_shown(
    mariadb_database: Database, tmp_path: Path
) -> None:
    """In a load and in the log; the neighbour goes on."""
    database = mariadb_database
    for name in ("loaded", "changed", "fine"):
        database.execute(f"CREATE TABLE {name} (id INT PRIMARY KEY, v VARCHAR(20), hidden VARCHAR(20))")
        database.execute(f"INSERT INTO {name} VALUES (1, '1', '1'), (2, '2', '2'), (3, NULL, NULL)")
    database.execute("UPDATE loaded SET hidden = 'geheim' WHERE id = 2")
    rule = 'compute: {n: cast(v as int), m: cast(hidden as int)}, mask: {hidden: "null"}'
    with running(tmp_path, database.port, database.name, "arrival", rule=rule) as run:
        run.wait_for(lambda: [p.value for p in run.phases().values()].count("LIVE") == 2, 120, restart=False)
        database.execute("UPDATE changed SET v = '2x' WHERE id = 2", "UPDATE fine SET v = '22' WHERE id = 2")
        reason = halted(run, f"{database.name}.changed")
        assert f"{database.name}.changed.n of the row with id = 2: no exact value as int of v = '2x'" in reason
        run.wait_applied()
        said = syncd(run, "status").stdout
        assert f"{database.name}.loaded.m of the row with id = 2: no exact value as int; mend" in said
        run.terminate()
        assert run.copied("fine") == Counter(
            {(1, "1", None, 1, 1): 1, (2, "22", None, 22, 2): 1, (3, None, None, None, None): 1}
        )
        data = b"".join(path.read_bytes() for path in run.service.data.rglob("*") if path.is_file())
        assert b"geheim" not in data + run.log.read_bytes() + said.encode()
