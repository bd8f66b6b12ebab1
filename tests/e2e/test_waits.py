"""`syncd status` while a sink is away or in trouble: what waits for what, for how long, and how that is known."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from syncd import control
from syncd.ops.status import facts as facts_of
from syncd.ops.status import wait_lines
from tests.e2e import harness
from tests.e2e.harness import Running, order, running
from tests.e2e.workload import TABLES, Workload
from tests.services.database import Database

pytestmark = pytest.mark.mariadb


def status(run: Running) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "syncd", "status", "--service", str(run.folder / "syncd.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def lines(run: Running) -> list[str]:
    jobs = control.status(run.service) if run.queue is not None else []
    return [line for job in jobs for line in wait_lines(job)]


def hangs(run: Running) -> None:
    """A write that takes long, and so can say nothing."""
    order(run.folder, delay=6)

    def told() -> bool:
        return any("deliver/copy: delivering" in line and "no answer yet" in line for line in lines(run))

    run.wait_for(lambda: told() and state(run) == "WAITING", 120)


def state(run: Running) -> str:
    return control.status(run.service)[0].state


def test_each_table_that_waits_for_its_sink(mariadb_database: Database, tmp_path: Path) -> None:
    Workload(mariadb_database, seed=3).create(rows=300)
    with running(tmp_path, mariadb_database.port, mariadb_database.name, "arrival") as run:
        run.wait_live(len(TABLES), 120)
        order(tmp_path, fail_every=1)
        mariadb_database.execute("UPDATE items SET n = 7", "UPDATE words SET n = 7")
        run.wait_for(lambda: len(lines(run)) == 2 and state(run) == "WAITING", 120)
        text = status(run)
        for table in ("items", "words"):
            line = rf"deliver/copy: {mariadb_database.name}\.{table} waits for [\d.]+ s: write \d+ fails by order"
            assert re.search(line + r".*; attempt \d+ \(by the daemon, heard [\d.]+ s ago\)", text), text
        facts = facts_of(control.status(run.service)[0])
        assert len(json.loads(control.as_json(facts))["waits"]) == 2
        hangs(run)
        order(tmp_path)
        run.wait_applied(60)
        run.wait_for(lambda: not lines(run) and state(run) == "RUNNING", 120)
        assert run.terminate() == 0
        run.assert_equal()


def test_a_sink_that_is_away_from_the_start(
    mariadb_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mariadb_database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    monkeypatch.setitem(harness.SINKS, "away", 'clickhouse: {{url: "http://127.0.0.1:1/copy"}}')
    with running(tmp_path, mariadb_database.port, mariadb_database.name, "away") as run:
        run.wait_for(lambda: any("deliver/copy: lanes" in line for line in lines(run)), 120)
        run.wait_for(lambda: state(run) == "WAITING", 120)
        assert re.search(r"deliver/copy: lanes 0 waits for [\d.]+ s: .*127\.0\.0\.1:1", status(run))
        assert run.terminate() == 0


def test_a_source_that_is_away_from_the_start(tmp_path: Path) -> None:
    with running(tmp_path, 1, "nowhere", "arrival") as run:
        run.wait_for(lambda: any("planner waits for" in line and "be reached" in line for line in lines(run)), 120)
        run.wait_for(lambda: state(run) == "WAITING", 120)
        assert run.terminate() == 0
