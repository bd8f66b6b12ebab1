"""`syncd reconcile` while tables stand still: each is judged by its own lanes, and none is left out unsaid."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from syncd import control
from syncd.state import Phase
from tests.e2e.harness import Running, order, running
from tests.e2e.workload import Workload
from tests.services.database import Database

pytestmark = pytest.mark.mariadb


def command(run: Running, *arguments: str) -> list[str]:
    service = str(run.folder / "syncd.yaml")
    return [sys.executable, "-m", "syncd", "reconcile", "chaos", "--full", *arguments, "--service", service]


def reconcile(run: Running, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(run, *arguments), capture_output=True, text=True, timeout=120, check=False)


def test_a_live_table_beside_tables_that_stand_still(mariadb_database: Database, tmp_path: Path) -> None:
    database, name = mariadb_database, mariadb_database.name
    workload = Workload(database, seed=3)
    workload.create(rows=300)
    database.execute("CREATE TABLE heap (a INT)")
    with running(tmp_path, database.port, name, "arrival") as run:
        run.wait_live(3, 60)
        order(tmp_path, refuse={"word": ["poison"]})
        control.pause(run.service, "chaos", table=f"{name}.pairs")
        database.execute("INSERT INTO words VALUES ('poison', 1)", "UPDATE pairs SET v = -1")
        run.wait_for(lambda: run.phases()[f"{name}.words"] is Phase.HALTED, 120)
        order(tmp_path, delay=3)
        database.execute("UPDATE items SET n = -1")  # on its way for the next three seconds
        results = {result.table.name: result for result in control.reconcile(run.service, run.job)}
        shown = reconcile(run)
        assert (results["items"].right, results["items"].unsettled) == (True, ""), results["items"]
        assert (results["words"].missing, results["words"].missing_keys) == (1, [("poison",)])
        assert "it is HALTED: " in results["words"].unsettled
        assert "refused by order" in results["words"].unsettled
        assert results["pairs"].different == 300
        assert results["pairs"].unsettled == "it is paused"
        assert shown.returncode == 1
        assert f"{name}.words at copy was not compared to the end: it is HALTED: " in shown.stdout
        assert f"{name}.pairs at copy was not compared to the end: it is paused; " in shown.stdout
        assert f"{name}.heap was not compared: not copied: it has no primary key" in shown.stdout
        heap = reconcile(run, "--table", f"{name}.heap")
        assert heap.returncode == 4
        assert "nothing was compared" in heap.stderr
        assert "not copied: " in heap.stdout
        assert reconcile(run, "--table", f"{name}.items").returncode == 0
        database.execute("DROP TABLE pairs")
        gone = {result.table.name: result for result in control.reconcile(run.service, run.job)}
        assert "pairs: dropped, renamed or altered meanwhile" in gone["pairs"].unsettled
        assert gone["items"].right


@pytest.mark.nightly
@pytest.mark.chdb
def test_one_that_is_killed_leaves_nothing(mariadb_database: Database, tmp_path: Path) -> None:
    """Killed early, in the middle and late, beside changes: the daemon goes on, and the next one finds all right."""
    workload = Workload(mariadb_database, seed=3)
    workload.create(rows=3000)
    with running(tmp_path, mariadb_database.port, mariadb_database.name, "clickhouse", chunk_bytes=10_000) as run:
        run.wait_live(3, 60)
        before, began = run.workers(), time.monotonic()
        assert reconcile(run).returncode == 0
        took = time.monotonic() - began
        workload.start()
        ended = []
        try:
            for part in (0.4, 0.6, 0.8, 0.95):
                with subprocess.Popen(command(run), stdout=subprocess.DEVNULL) as process:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(part * took)
                    process.kill()
                ended.append(process.returncode)
        finally:
            workload.stop()
        assert -signal.SIGKILL in ended
        run.wait_applied(60)
        done = reconcile(run)
        assert done.returncode == 0, done.stdout + done.stderr
        after = run.workers()
        assert {name: after[name] for name in ("run", "capture", "deliver/copy")}.items() <= before.items()
        assert run.terminate() == 0


@pytest.mark.chdb
def test_one_that_comes_before_the_process_that_hosts_the_sink(mariadb_database: Database, tmp_path: Path) -> None:
    """The daemon has just been started, and the engine's folder is not free yet."""
    Workload(mariadb_database, seed=4).create(rows=100)
    hold = f"import chdb; held = chdb.connect({str(tmp_path / 'ch' / 'copy')!r}); print('held', flush=True); input()"
    with running(tmp_path, mariadb_database.port, mariadb_database.name, "clickhouse") as run:
        run.wait_live(3, 60)
        run.wait_applied(60)
        assert run.terminate() == 0
        with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            run.start()
            run.wait_for(lambda: run.events("unreachable"), 60, restart=False)
            with ThreadPoolExecutor(1) as pool:
                done = pool.submit(reconcile, run)
                time.sleep(3.0)  # it takes one or two to come to the sink
                assert not done.done(), done.result().stderr
                holder.communicate(b"\n", timeout=60)
            assert done.result().returncode == 0, done.result().stdout + done.result().stderr
        assert run.terminate() == 0


def test_a_row_that_never_stands_still_is_not_called_different(mariadb_database: Database, tmp_path: Path) -> None:
    """The rows beside it are compared; one that is missing among them is found."""
    database = mariadb_database
    Workload(database, seed=3).create(rows=300)
    stop = threading.Event()

    def count() -> None:
        with closing(database.connect()) as connection, connection.cursor() as cursor:
            while not stop.wait(0.002):
                cursor.execute("UPDATE items SET n = n + 1 ORDER BY id LIMIT 1")

    with running(tmp_path, database.port, database.name, "arrival") as run, ThreadPoolExecutor(1) as pool:
        run.wait_live(3, 60)
        ((hot,),) = database.query("SELECT MIN(id) FROM items")
        counting = pool.submit(count)
        try:
            (moving,) = control.reconcile(run.service, run.job, [f"{database.name}.items"])
            with closing(sqlite3.connect(run.folder / "sink.db", timeout=30)) as copy, copy:
                oldest = "SELECT key FROM rows WHERE name = ? ORDER BY seq LIMIT 1"
                copy.execute(f"DELETE FROM rows WHERE key = ({oldest})", (f"{database.name}.items",))
            (result,) = control.reconcile(run.service, run.job, [f"{database.name}.items"])
        finally:
            stop.set()
            counting.result()
        assert (moving.differs, moving.rows) == (False, 300)
        assert moving.unsettled in {"", f"1 rows changed at the source whenever they were compared: ({hot},)"}
        assert (result.missing, result.extra, result.different) == (1, 0, 0)
        assert result.missing_keys != [(hot,)]
