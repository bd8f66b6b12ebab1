"""REFRESH at a real server: rows that changed without a line in the log are read when their lane comes to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from syncd import control
from syncd.engine import refresh
from syncd.errors import ConfigError
from syncd.model import TableId
from syncd.ops.repair import requests
from syncd.state import State
from tests.e2e.harness import Running, running
from tests.e2e.test_bad_days import ROWS, fill, right
from tests.e2e.test_daemon import syncd
from tests.services.database import Database


def publish(run: Running, table: str, keys: list[int]) -> None:
    """As capture would: behind all that it has published."""
    assert run.queue is not None
    state = State(run.queue, run.job.name)
    source, versions = state.source(), state.schemas()[TableId(run.database, table)]
    assert source is not None
    asked = pa.RecordBatch.from_pydict({"id": pa.array(keys, pa.int32())})
    messages = [*refresh.messages(run.parts, versions[max(versions)], asked, source.seq)]
    lease = run.queue.acquire(f"job/{run.job.name}/refresh", "a test", 10.0)
    assert lease is not None
    run.queue.publish(lease, run.parts.topic, messages, {})
    run.queue.release(lease)


def asked(run: Running) -> dict[str, object]:
    """Requests that capture has not taken up."""
    assert run.queue is not None
    return {**State(run.queue, run.job.name).refreshes()}


@pytest.mark.mariadb
def test_rows_are_read_again(mariadb_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies when it has read them; a row that is gone is deleted, as is one that does not match any more."""
    fill(mariadb_database)
    mariadb_database.execute(
        "CREATE TABLE w (id VARCHAR(9) COLLATE utf8mb4_general_ci PRIMARY KEY, v VARCHAR(9))",
        "INSERT INTO w VALUES ('Ä', 'x'), ('b', 'y'), ('C ', 'z')",
    )
    address = mariadb_database.port, mariadb_database.name
    with running(tmp_path, *address, "arrival", rule="where: \"v <> 'hidden'\"") as run:
        run.wait_live(3)
        mariadb_database.execute(
            "SET sql_log_bin = 0",
            "DELETE FROM a WHERE id < 5",
            "UPDATE a SET v = 'unseen' WHERE id BETWEEN 5 AND 9",
            "UPDATE a SET v = 'hidden' WHERE id BETWEEN 10 AND 14",
            f"INSERT INTO a VALUES ({ROWS + 7}, 'new')",
        )
        run.die_at({"refresh.read": 1})
        mariadb_database.execute("UPDATE a SET v = 'seen' WHERE id = 9")
        publish(run, "a", [*range(20), ROWS + 7, ROWS + 8])
        mariadb_database.execute("UPDATE a SET v = 'last' WHERE id IN (8, 16)", "DELETE FROM a WHERE id = 17")
        run.wait_for(lambda: not run.deaths_to_come(), 60)
        right(run)

        # unseen by the log, at a row that the sink lacks, one that it has too many, and one that differs
        mariadb_database.execute(
            "SET sql_log_bin = 0",
            "DELETE FROM a WHERE id = 30",
            "UPDATE a SET v = 'other' WHERE id = 31",
            f"INSERT INTO a VALUES ({ROWS + 31}, 'new')",
            "DELETE FROM w WHERE id = 'a'",
            "UPDATE w SET v = 'new' WHERE id = 'c'",
        )
        words = ("reconcile", run.job.name, "--full", "--repair", "--service", str(tmp_path / "syncd.yaml"))
        shown = syncd(*words, "--dry-run")
        said = f"{run.database}.a at copy: 3 rows are read again: 1 written, 1 deleted, 1 replaced, as they are then"
        assert (shown.returncode, said in shown.stdout.replace("\n", " ")) == (1, True), shown.stdout
        assert asked(run) == {}
        assert "more rows differ" not in shown.stdout
        fewer = syncd(*words, "--dry-run", "--show", "0", "--table", f"{run.database}.a").stdout
        assert (f"{run.database}.a at copy: 3 more rows differ" in fewer, "replaced" in fewer) == (True, True), fewer
        assert "saved: 5 rows" in syncd(*words, "--yes").stdout
        run.wait_for(lambda: asked(run) == {}, 60)
        right(run)

        # a range, of which the sink has what the source has no more, and what is out of it at the source by now
        mariadb_database.execute(
            "SET sql_log_bin = 0",
            "DELETE FROM a WHERE id = 40",
            "UPDATE a SET v = 'hidden' WHERE id = 41",
            "UPDATE a SET id = 1041, v = 'new' WHERE id = 42",
            f"INSERT INTO a VALUES ({ROWS + 41}, 'new')",
        )
        table = f"{run.database}.a"
        service = ("--service", str(tmp_path / "syncd.yaml"))
        for wrong, says in [("w = 3", f"{table} has no column 'w'"), ("id = ", "C120"), ("SLEEP(9)", "C120")]:
            with pytest.raises(ConfigError, match=says):
                control.span(run.service, run.job, table, wrong)
        with pytest.raises(ConfigError, match="E167"):
            control.span(run.service, run.job, "no.such", "id = 3")
        where = ("--where", f"id BETWEEN 40 AND {2 * ROWS} OR v = 'new'")
        refused = syncd("jobs", "resync", run.job.name, "--table", table, *where, *service)  # nobody can be asked here
        span = refused.stdout.replace("\n", " ")
        rows = mariadb_database.query(f"SELECT COUNT(*) FROM a WHERE ({where[1]}) AND v <> 'hidden'")[0][0]
        said = f"{table} at copy: {rows} rows are read again and written; 3 rows that meet the condition there only"
        assert (said in span, "[C109]" in refused.stderr, asked(run)) == (True, True, {}), span

        def held() -> bool:
            assert run.queue is not None
            return any(state.live for state in run.queue.leases(f"job/{run.job.name}/wish"))

        def nobody_waits(*given: Any) -> Iterator[pa.RecordBatch]:
            assert not held()
            yield from requests(*given)
            assert asked(run) == {}, "all are saved at once"

        monkeypatch.setattr(control, "requests", nobody_waits)
        run.die_at({"refresh.read": 1})
        assert control.read_again(run.service, run.job, control.span(run.service, run.job, table, where[1])) == rows + 3
        run.wait_for(lambda: asked(run) == {} and not run.deaths_to_come(), 60)
        right(run)
        assert run.terminate() == 0
        run.assert_equal()
