"""Workers that live and hang: in a frozen server, and in connections that are dead without a word. Each is named, no
status says RUNNING meanwhile, and everything goes on by itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd import control
from syncd.ops import status
from tests.e2e.harness import Running, order, running
from tests.e2e.proxy import proxied
from tests.e2e.workload import TABLES, Workload
from tests.services.database import Database, fresh_database
from tests.services.fixtures import PrivateServer

pytestmark = pytest.mark.mariadb

SLOW = 0.6
"""Seconds of each write: a load that can be caught under way."""


def state_of(run: Running) -> str:
    return control.status(run.service)[0].state


def named(run: Running, *words: str) -> bool:
    """Something that waits is told with one of these words."""
    lines = status.wait_lines(control.status(run.service)[0])
    return any(word in line for word in words for line in lines)


def assert_named(run: Running, told: Callable[[], bool], hangs: Callable[[], bool] = lambda: True) -> None:
    """It is told, and from then on no status says RUNNING while it hangs; two seconds of that are looked at.

    That it is told before a third heartbeat has passed is proved by a clock of their own in tests/unit/engine.
    """
    run.wait_for(lambda: told() and state_of(run) != "RUNNING", 120)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        assert state_of(run) != "RUNNING" or not hangs(), run.tail()
        time.sleep(0.1)


def loading(run: Running) -> bool:
    """Readers are at work, and have not finished."""
    jobs = control.status(run.service) if run.queue is not None else []
    return bool(jobs) and any(row.chunks_done > 0 and row.record.phase == "SNAPSHOT" for row in jobs[0].tables)


def test_a_frozen_server(private_mariadb: PrivateServer, tmp_path: Path) -> None:
    server = private_mariadb()
    with fresh_database(server) as database:
        workload = Workload(database, seed=5)
        workload.create(rows=3000)
        order(tmp_path, delay=SLOW)
        with running(tmp_path, server.port, database.name, "arrival", chunk_bytes=10_000) as run:
            run.wait_for(lambda: loading(run), 120)
            server.freeze()
            assert_named(run, lambda: named(run, "reading chunk", "finding the chunks"))
            server.thaw()
            order(tmp_path)
            run.wait_live(len(TABLES), 120)
            run.wait_for(lambda: state_of(run) == "RUNNING", 120)
            server.freeze()
            assert_named(run, lambda: named(run, "capture waits", "capture: "))
            server.thaw()
            database.execute("UPDATE items SET n = 7")
            run.wait_applied(60)
            run.wait_for(lambda: state_of(run) == "RUNNING" and not named(run, "waits"), 120)
            assert run.terminate() == 0
            run.assert_equal()


@pytest.mark.nightly
def test_connections_that_are_dead_without_a_word(mariadb_database: Database, tmp_path: Path) -> None:
    workload = Workload(mariadb_database, seed=5)
    workload.create(rows=3000)
    order(tmp_path, delay=SLOW)
    with (
        proxied(mariadb_database.port) as proxy,
        running(
            tmp_path, proxy.port, mariadb_database.name, "arrival", chunk_bytes=10_000, source=", read_timeout: 12"
        ) as run,
    ):
        run.wait_for(lambda: loading(run), 120)
        assert proxy.swallow() >= 3
        run.wait_for(lambda: named(run, "reading chunk", "finding the chunks"), 120)
        order(tmp_path)
        run.wait_live(len(TABLES), 120)
        run.wait_for(lambda: state_of(run) == "RUNNING", 120)
        before = len(run.events("capture_waits"))
        assert proxy.swallow() >= 1
        mariadb_database.execute("UPDATE items SET n = 7")
        run.wait_for(lambda: len(run.events("capture_waits")) > before or named(run, "capture"), 120)
        run.wait_applied(120)
        run.wait_for(lambda: state_of(run) == "RUNNING" and not named(run, "waits"), 120)
        assert "worker_died" not in run.log.read_text()
        assert run.terminate() == 0
        run.assert_equal()


def test_a_frozen_reader(mariadb_database: Database, tmp_path: Path) -> None:
    Workload(mariadb_database, seed=5).create(rows=3000)
    order(tmp_path, delay=SLOW)
    with running(tmp_path, mariadb_database.port, mariadb_database.name, "arrival", chunk_bytes=10_000) as run:
        run.wait_for(lambda: loading(run), 120)
        frozen = {name: run.workers()[name] for name in ("reader/1", "planner")}
        for pid in frozen.values():
            os.kill(pid, signal.SIGSTOP)

        def told() -> bool:
            lines = status.wait_lines(control.status(run.service)[0])
            says = r" waits for [\d.]+ s: it is not heard \(by the daemon"
            return all(any(re.match(name + says, line) for line in lines) for name in frozen)

        # in the end the supervisor kills them, and others take their places
        assert_named(run, told, lambda: frozen.items() <= run.workers().items())
        order(tmp_path)
        run.wait_live(len(TABLES), 120)
        run.wait_for(lambda: state_of(run) == "RUNNING" and not named(run, "waits"), 120)
        assert run.terminate() == 0
        run.assert_equal()


@pytest.mark.nightly
def test_an_idle_job_whose_source_has_a_long_heartbeat(mariadb_database: Database, tmp_path: Path) -> None:
    mariadb_database.execute("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    run = Running(tmp_path, mariadb_database.port, mariadb_database.name, "arrival")
    text = run.path.read_text().replace("heartbeat: 0.5", "heartbeat: 5")
    assert "heartbeat: 5" in text
    run.path.write_text(text)
    try:
        run.start()
        run.wait_live(1, 120)

        def runs_after_a_long_silence() -> bool:
            (job,) = control.status(run.service)
            return job.state == "RUNNING" and (job.source_age or 0.0) > 6 * run.service.heartbeat

        run.wait_for(runs_after_a_long_silence, 120)
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
