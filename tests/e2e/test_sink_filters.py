"""Two sinks, each with a filter of its own: what enters, leaves, moves and goes, while it is loaded and after."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from syncd import control
from syncd.state import Phase
from tests.e2e.test_change import Changed
from tests.e2e.workload import Workload
from tests.services.database import Database

pytestmark = pytest.mark.mariadb

WHERE = {
    "copy": {"items": "n % 2 = 0", "pairs": "v < 60 OR a > 90", "visits": "n > 1"},
    "lake": {"items": "note IS NOT NULL", "pairs": "NOT b = 'k1'", "visits": "n IN (0, 2)"},
}
"""Sink -> table -> condition; `words` goes to both whole."""
TABLES = ("items", "pairs", "visits", "words")


class Filtered(Changed):
    def __init__(self, folder: Path, shop: Database) -> None:
        where = {
            sink: ", ".join(f'{shop.name}.{table}: "{text}"' for table, text in conditions.items())
            for sink, conditions in WHERE.items()
        }
        copy = f"sqlite_arrival: {{{{path: {folder}/copy.db}}}}\n    where: {{{{{where['copy']}}}}}"
        lake = f"  lake: {{sqlite_versioned: {{path: {folder}/lake.db}}, where: {{{where['lake']}}}}}\n"
        super().__init__(folder, shop.port, shop.name, copy, extra=lake, rule="keyless: append", chunk_bytes=6000)
        self.shop = shop

    def rows(self, sink: str, table: str) -> Counter[tuple[Any, ...]]:
        """What the sink holds; each row as often as it is there."""
        published = self.published(table)
        names = [column.name for column in published.columns if not column.normal_of]
        made = self.parts.make_sink(sink)
        made.open()
        try:
            found = made.scan(self.parts.target(sink, published), None, None)
            return Counter(tuple(row.values()) for part in found for row in part.select(names).to_pylist())
        finally:
            made.close()

    def assert_filtered(self, text: str, where: dict[str, dict[str, str]]) -> None:
        """By plain SELECTs with the same conditions, and by reconcile; all is applied."""
        self.wait_copies(2 * len(TABLES))
        self.wait_applied()
        for sink, conditions in where.items():
            for table in TABLES:
                wanted = Counter(self.shop.query(f"SELECT * FROM {table} WHERE {conditions.get(table, 'TRUE')}"))
                assert self.rows(sink, table) == wanted, (sink, table)
        self.assert_copies(text, 2 * len(TABLES))


def test_each_sink_gets_the_rows_that_it_asks_for(mariadb_database: Database, tmp_path: Path) -> None:
    """Under kills at every stage. A column that goes halts its table at the sink that looks at it, until another filter
    loads it anew there."""
    shop = mariadb_database
    load = Workload(shop, seed=11, pause=0.01)
    load.create(rows=900)
    shop.execute("CREATE TABLE visits (id INT, n INT)")
    shop.many("INSERT INTO visits VALUES (%s, %s)", [(n, n % 4) for n in range(40)])
    run = Filtered(tmp_path, shop)
    text = run.path.read_text()
    run.die_at({"snapshot.chunk_written": 3, "deliver.written": 9})
    run.start()
    try:
        load.start()
        run.wait_for(lambda: run.queue is not None and len(run.copies()) == 2 * len(TABLES))
        run.kill()
        run.wait_for(lambda: {*run.copies().values()} <= {Phase.CATCH_UP, Phase.LIVE} and run.copies())
        shop.many("INSERT INTO visits VALUES (%s, %s)", [(n, n % 4) for n in range(40, 60)])
        run.wait_for(lambda: not run.deaths_to_come() and load.statements > 800)
        load.stop()
        run.assert_filtered(text, WHERE)
        before = {(r.sink, r.table.name): r.epoch for r in run.state.tables()}

        shop.execute("ALTER TABLE items CHANGE note remark VARCHAR(60) NULL")
        load_more(shop)
        run.wait_for(lambda: Phase.HALTED in run.copies().values())
        (halted,) = [r for r in run.state.tables() if r.phase is Phase.HALTED]
        assert (halted.sink, halted.table.name) == ("lake", "items")
        setting = f"sinks.lake.where.{shop.name}.items: {shop.name}.items has no column 'note'; there is: id, n, remark"
        assert setting in halted.reason
        run.wait_for(lambda: run.rows("copy", "items") == Counter(shop.query("SELECT * FROM items WHERE n % 2 = 0")))

        code, says, fault = run.apply(other := text.replace("note IS NOT NULL", "remark IS NULL OR n < 50"), "--yes")
        assert (code, "the job starts anew" in says) == (0, True), (says, fault)
        loaded = f"sinks.lake.where: resnapshot, {shop.name}.items is loaded anew at lake under another `where`"
        assert [line.count(loaded) for line in says.splitlines() if "resnapshot" in line] == [1]
        load_more(shop)
        where = {**WHERE, "lake": {**WHERE["lake"], "items": "remark IS NULL OR n < 50"}}
        run.assert_filtered(other, where)
        after = {(r.sink, r.table.name): r.epoch for r in run.state.tables()}
        assert [place for place in before if before[place] != after[place]] == [("lake", "items")]

        harm(tmp_path / "lake.db")
        results = control.reconcile(run.service, control.saved_job(run.service, "chaos"), keep=True)
        wrong = [result for result in results if not result.right]
        assert [(result.sink, result.table.name, result.missing > 0) for result in wrong] == [("lake", "pairs", True)]
        control.repair(run.service, control.saved_job(run.service, "chaos"), results)
        run.wait_for(lambda: not run.state.refreshes())
        run.assert_filtered(other, where)
        assert run.terminate() == 0
    finally:
        load._stop.set()
        run.close()


def load_more(shop: Database) -> None:
    """Rows enter and leave, by their values and by their keys."""
    shop.execute(
        "UPDATE items SET n = n + 1 WHERE id % 3 = 0",
        "UPDATE items SET remark = 'again' WHERE id % 5 = 0",
        "UPDATE items SET remark = NULL WHERE id % 7 = 0",
        "DELETE FROM items WHERE id % 11 = 0",
        "UPDATE IGNORE items SET id = id + 100000 WHERE id % 13 = 0 AND id < 100000",
        "UPDATE pairs SET v = v + 30 WHERE a % 2 = 0",
        "UPDATE IGNORE pairs SET b = 'k1' WHERE a % 4 = 1",
    )


def harm(path: Path) -> None:
    """Behind syncd's back."""
    with closing(sqlite3.connect(path, timeout=60)) as db, db:
        db.execute("DELETE FROM rows WHERE name LIKE '%pairs'")
