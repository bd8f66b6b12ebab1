"""One table is loaded anew while the others go on: `syncd jobs resync`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from syncd import control
from syncd.state import Phase
from tests.e2e.test_change import Changed
from tests.e2e.test_daemon import syncd
from tests.e2e.workload import TABLES, Workload
from tests.services.database import Database

pytestmark = pytest.mark.mariadb

DEATHS = {"deliver.swapped": 2, "snapshot.added": 1, "change.saved": 1}


def test_a_table_is_loaded_anew_while_the_others_go_on(mariadb_database: Database, tmp_path: Path) -> None:
    """One that was halted at capture, and one that somebody has changed at a sink; the daemon dies on the way, and once
    more behind the swap."""
    shop = mariadb_database
    workload = Workload(shop, seed=7)
    workload.create(rows=2000)
    run = Changed(tmp_path, shop.port, shop.name, "arrival", chunk_bytes=20_000)
    text = run.path.read_text() + f'  olap: {{clickhouse: {{url: "chdb:///{tmp_path}/ch"}}}}\n'
    text += "policy: {ddl: {reload: halt-table}}\n"
    run.path.write_text(text)
    run.start()
    try:
        run.wait_live(len(TABLES))
        run.wait_copies(2 * len(TABLES))
        shop.execute("ALTER TABLE words MODIFY n VARCHAR(20)")
        run.wait_for(run.halted, 60)
        run.wait_applied()
        with sqlite3.connect(tmp_path / "sink.db") as file:
            some = "SELECT key FROM rows WHERE name = ?1 LIMIT 100"
            file.execute(f"DELETE FROM rows WHERE name = ?1 AND key IN ({some})", (f"{shop.name}.pairs",))

        service = ("--service", str(tmp_path / "syncd.yaml"))
        assert "there is: " in syncd("jobs", "resync", "chaos", "--table", "no.such", *service).stderr
        run.die_at(DEATHS)
        workload.start()
        for table in ("words", "pairs"):
            assert syncd("jobs", "resync", "chaos", "--table", f"{shop.name}.{table}", *service).returncode == 0
        run.wait_for(lambda: not run.deaths_to_come(), 120)
        run.wait_for(lambda: not run.state.resyncs() and not any(r.shadow for r in run.state.tables()), 120)
        workload.stop()
        run.assert_copies(text, 2 * len(TABLES))
        assert not run.state.halts()
        epochs = {(record.sink, record.table.name): record.epoch for record in run.state.tables()}
        assert all((epochs[sink, "items"] < epochs[sink, "words"]) for sink in ("copy", "olap"))
        assert [*run.copies().values()] == [Phase.LIVE] * 2 * len(TABLES)

        renamed = text.replace(
            "tables:\n", f'tables:\n  "{shop.name}.items": {{columns: {{rename: {{note: memo}}}}}}\n'
        )
        code, says, _ = run.apply(renamed, "--yes")
        assert (code, "resnapshot, loaded anew under other settings (rename)" in says) == (0, True), says
        run.wait_for(lambda: not run.state.resyncs() and run.copies()["olap", "items"] is Phase.LIVE, 120)
        run.wait_for(lambda: "memo" in {c.name for c in run.published("items").columns}, 120)
        shop.execute("UPDATE items SET note = 'later' WHERE n % 2 = 0")
        run.assert_copies(renamed, 2 * len(TABLES))

        before = max(record.epoch for record in run.state.tables())
        run.die_at({"change.forgotten": 1})
        assert syncd("jobs", "resync", "chaos", *service).returncode == 0
        run.wait_for(lambda: not run.deaths_to_come(), 60)
        run.wait_for(lambda: all(r.epoch > before and not r.shadow for r in run.state.tables()), 120)
        shop.execute("UPDATE items SET note = 'last' WHERE n % 3 = 0")
        run.assert_copies(renamed, 2 * len(TABLES))
        with pytest.raises(Exception, match="E167"):
            control.resync(run.service, "chaos", "no.such")
        assert run.terminate() == 0
    finally:
        workload.stop()
        run.close()
