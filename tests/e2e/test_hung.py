"""Workers that live and hang: in a frozen server, and in connections that are dead without a word. Each is named, no
status says RUNNING meanwhile, and everything goes on by itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from syncd import control
from tests.e2e.harness import Running, running
from tests.e2e.proxy import proxied
from tests.e2e.workload import TABLES, Workload
from tests.services.database import Database, fresh_database
from tests.services.fixtures import PrivateServer

pytestmark = pytest.mark.mariadb

HEARTBEAT = 0.5
SLACK = 1.5
"""Seconds: the machine of a test does other things, too."""
SLOW = '{"delay": 0.3}'


def state_of(run: Running) -> str:
    return control.status(run.service)[0].state


def named(run: Running, *words: str) -> bool:
    """Something that waits is told with one of these words."""
    lines = control.wait_lines(control.status(run.service)[0])
    return any(word in line for word in words for line in lines)


def assert_named_until(run: Running, seconds: float, *words: str) -> None:
    """Three heartbeats from now on, no status says RUNNING, and one of the words is told."""
    time.sleep(3 * HEARTBEAT + SLACK)
    end, told = time.monotonic() + seconds, False
    while time.monotonic() < end:
        assert state_of(run) != "RUNNING", run.tail()
        told = told or named(run, *words)
        time.sleep(0.1)
    assert told, (control.wait_lines(control.status(run.service)[0]), run.tail())


def loading(run: Running) -> bool:
    """Readers are at work, and have not finished."""
    jobs = control.status(run.service) if run.queue is not None else []
    return bool(jobs) and any(row.chunks_done > 0 and row.record.phase == "SNAPSHOT" for row in jobs[0].tables)


def test_a_frozen_server(private_mariadb: PrivateServer, tmp_path: Path) -> None:
    server = private_mariadb()
    with fresh_database(server) as database:
        workload = Workload(database, seed=5)
        workload.create(rows=3000)
        (tmp_path / "faults").write_text(SLOW)
        with running(tmp_path, server.port, database.name, "arrival", chunk_bytes=10_000) as run:
            run.wait_for(lambda: loading(run), 60)
            server.freeze()
            assert_named_until(run, 3, "reading chunk", "finding the chunks")
            server.thaw()
            (tmp_path / "faults").unlink()
            run.wait_live(len(TABLES), 60)
            run.wait_for(lambda: state_of(run) == "RUNNING", 20)
            server.freeze()
            assert_named_until(run, 3, "capture waits", "capture: ")
            server.thaw()
            database.execute("UPDATE items SET n = 7")
            run.wait_applied(60)
            run.wait_for(lambda: state_of(run) == "RUNNING" and not named(run, "waits"), 20)
            assert run.terminate() == 0
            run.assert_equal()


def test_connections_that_are_dead_without_a_word(mariadb_database: Database, tmp_path: Path) -> None:
    workload = Workload(mariadb_database, seed=5)
    workload.create(rows=3000)
    (tmp_path / "faults").write_text(SLOW)
    with (
        proxied(mariadb_database.port) as proxy,
        running(
            tmp_path, proxy.port, mariadb_database.name, "arrival", chunk_bytes=10_000, source=", read_timeout: 8"
        ) as run,
    ):
        run.wait_for(lambda: loading(run), 60)
        assert proxy.swallow() >= 3
        run.wait_for(lambda: named(run, "reading chunk", "finding the chunks"), 8)
        (tmp_path / "faults").unlink()
        run.wait_live(len(TABLES), 60)
        run.wait_for(lambda: state_of(run) == "RUNNING", 20)
        assert proxy.swallow() >= 1
        mariadb_database.execute("UPDATE items SET n = 7")
        run.wait_for(lambda: len(run.events("capture_waits")) > 1 or named(run, "capture"), 10)
        run.wait_applied(30)
        run.wait_for(lambda: state_of(run) == "RUNNING" and not named(run, "waits"), 20)
        assert "worker_died" not in run.log.read_text()
        assert run.terminate() == 0
        run.assert_equal()


def test_a_frozen_reader(mariadb_database: Database, tmp_path: Path) -> None:
    Workload(mariadb_database, seed=5).create(rows=3000)
    (tmp_path / "faults").write_text(SLOW)
    with running(tmp_path, mariadb_database.port, mariadb_database.name, "arrival", chunk_bytes=10_000) as run:
        run.wait_for(lambda: loading(run), 60)
        for name in ("reader/1", "planner"):
            os.kill(run.workers()[name], signal.SIGSTOP)
        assert_named_until(run, 2, "reader/1 waits for")
        lines = control.wait_lines(control.status(run.service)[0])
        for name in ("reader/1", "planner"):
            assert any(re.match(rf"{name} waits for [\d.]+ s: it is not heard \(by the daemon", line) for line in lines)
        (tmp_path / "faults").unlink()
        run.wait_live(len(TABLES), 60)
        run.wait_for(lambda: state_of(run) == "RUNNING" and not named(run, "waits"), 20)
        assert run.terminate() == 0
        run.assert_equal()


def test_an_idle_job_whose_source_has_a_long_heartbeat(mariadb_database: Database, tmp_path: Path) -> None:
    mariadb_database.execute("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    run = Running(tmp_path, mariadb_database.port, mariadb_database.name, "arrival")
    run.path.write_text(run.path.read_text().replace("heartbeat: 0.5", "heartbeat: 5"))
    try:
        run.start()
        run.wait_live(1, 60)
        run.wait_for(lambda: state_of(run) == "RUNNING", 20)
        end, states = time.monotonic() + 12, set()
        while time.monotonic() < end:
            states.add(state_of(run))
            time.sleep(0.2)
        assert states == {"RUNNING"}
        shown = subprocess.run(
            [sys.executable, "-m", "syncd", "status", "--service", str(tmp_path / "syncd.yaml")],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        assert re.search(r"\.t +copy +LIVE +1/1 +1 +0 +[\d.]+ s ago", shown), shown
        assert run.terminate() == 0
    finally:
        run.close()
