"""Tables that change their names while a job follows them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from syncd.model import TableId
from syncd.state import Phase
from tests.e2e.harness import Running, running
from tests.services.database import Database

POLICY = "policy: {ddl: {drop_table: apply, rename_table: apply}}\n"
ROWS = 300


def right(run: Running, *names: str) -> None:
    """These are at the source, and become LIVE and equal: those that are to be loaded anew are LIVE before, too."""
    wanted = {TableId(run.database, name): Phase.LIVE for name in names}

    def settled() -> bool:
        found = {record.table: record.phase for record in run.records() if not record.shadow}
        if wanted.items() <= found.items():
            results = [result for result in run.reconcile() if result.table in wanted]
            return len(results) == len(names) and all(result.right for result in results)
        return False

    run.wait_for(settled, 60)


@pytest.mark.mariadb
def test_rows_go_with_the_name(mariadb_database: Database, tmp_path: Path) -> None:
    """To a new name, to one that was there before, in exchange, to one that was dropped; the daemon dies on the way."""
    source = mariadb_database
    for name in "ab":
        source.execute(
            f"CREATE TABLE {name} (id INT PRIMARY KEY, v VARCHAR(20))",
            f"INSERT INTO {name} SELECT seq, '{name}' FROM seq_1_to_{ROWS}",
        )
    with running(tmp_path, source.port, source.name, "arrival", chunk_bytes=2_000, extra=POLICY) as run:
        run.wait_live(2, 60)
        run.die_at({"barrier.acted": 1})
        source.execute("UPDATE a SET v = 'late'", "RENAME TABLE a TO c", "INSERT INTO c VALUES (-1, 'c')")
        right(run, "b", "c")
        source.execute("RENAME TABLE b TO a", "DELETE FROM a WHERE id < 9")
        source.execute(
            "CREATE TABLE b (id INT PRIMARY KEY, v VARCHAR(20), w INT)", "INSERT INTO b VALUES (7, 'new', 1)"
        )
        right(run, "a", "b", "c")
        source.execute("RENAME TABLE a TO x, c TO a, x TO c", "UPDATE a SET v = 'was c'", "UPDATE c SET v = 'was b'")
        right(run, "a", "b", "c")
        run.die_at({"deliver.swapped": 1})
        source.execute("DROP TABLE b", "RENAME TABLE a TO b", "INSERT INTO b VALUES (-2, 'b')")
        right(run, "b", "c")
        assert not run.deaths_to_come()
        assert run.terminate() == 0
        assert {name: len(run.copied(name)) for name in "abc"} == {"a": 0, "b": ROWS + 2, "c": ROWS - 8}
        assert run.copied("a") == Counter()
