"""The daemon from outside: status, pause and resume, drain, frozen processes, a second daemon, exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from syncd import control
from syncd.ops import settle
from syncd.state import Phase
from tests.e2e.harness import Running, running
from tests.e2e.workload import TABLES, Workload
from tests.services.database import Database

pytestmark = pytest.mark.mariadb


def syncd(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "syncd", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def shop(mariadb_database: Database) -> Database:
    Workload(mariadb_database, seed=3).create(rows=300)
    return mariadb_database


def state_of(run: Running) -> str:
    return control.status(run.service)[0].state


def test_a_frozen_worker_is_seen_and_loses_its_place(shop: Database, tmp_path: Path) -> None:
    with running(tmp_path, shop.port, shop.name, "arrival") as run:
        run.wait_live(len(TABLES))
        run.wait_for(lambda: state_of(run) == "RUNNING", 120)
        capture = run.workers()["capture"]
        os.kill(capture, signal.SIGSTOP)
        run.wait_for(lambda: state_of(run) == "STALLED", 120)
        shop.execute("UPDATE items SET n = 7")
        os.kill(capture, signal.SIGCONT)
        run.wait_for(lambda: state_of(run) == "RUNNING", 120)
        run.wait_applied()
        assert run.terminate() == 0
        run.assert_equal()


def test_pause_and_resume(shop: Database, tmp_path: Path) -> None:
    with running(tmp_path, shop.port, shop.name, "arrival") as run:
        run.wait_live(len(TABLES))
        assert run.queue is not None
        control.pause(run.service, "chaos", table=f"{shop.name}.items")
        shop.execute("UPDATE items SET n = 7", "UPDATE words SET n = 7")
        run.wait_for(lambda: waiting(run, "words") == 0 and waiting(run, "items") > 0, 120)
        control.resume(run.service, "chaos", table=f"{shop.name}.items")
        run.wait_applied()
        service = ("--service", str(tmp_path / "syncd.yaml"))
        assert syncd("jobs", "pause", "chaos", "--source", *service).returncode == 0
        assert syncd("jobs", "pause", "chaos", "--source", "--sink", "copy", *service).returncode == 2
        time.sleep(1)
        shop.execute("UPDATE items SET n = 8")
        ((facts,), head) = control.status(run.service), settle.source_head(run.parts, run.queue)
        time.sleep(1)
        assert not settle.applied(run.parts, run.queue, head)
        assert facts.paused == ("the source",)
        assert "PAUSED: the source" in syncd("status", *service).stdout
        assert syncd("jobs", "resume", "chaos", "--source", *service).returncode == 0
        run.wait_applied()
        assert run.terminate() == 0
        run.assert_equal()


def test_parts_of_a_job_by_name(shop: Database, tmp_path: Path) -> None:
    """Paused at one sink, shown as such, resumed; what has no such name is refused; a job is stopped and goes on."""
    service = ("--service", str(tmp_path / "syncd.yaml"))
    with running(tmp_path, shop.port, shop.name, "arrival") as run:
        run.wait_live(len(TABLES))
        for words, says in (
            (("jobs", "pause", "chaos", "--table", "no.such"), f"there is: {shop.name}.items, {shop.name}.pairs"),
            (("jobs", "stop", "chaos", "--sink", "other"), "job chaos has no sink 'other'; there is: copy [E167]"),
            (("jobs", "resume", "other"), "there is: chaos [E167]"),
            (("jobs", "forget", "other"), "there is: chaos [E167]"),
            (("reconcile", "chaos", "--full", "--table", "no.such"), "job chaos has no table 'no.such'"),
            (("trace", "chaos", f"{shop.name}.pairs", "1"), "1 values for the key columns (a, b); write 42, or a,b"),
            (("trace", "chaos", "items", "1"), f"'items' is not database.table; there is: {shop.name}.items, "),
            (("trace", "chaos", "no.such", "1"), f"no table 'no.such'; there is: {shop.name}.items, "),
            (("trace", "chaos", f"{shop.name}.items", "no"), "'no' is no key: 'id' is of type int32"),
        ):
            done = syncd(*words, *service)
            assert (done.returncode, done.stdout, says in done.stderr) == (2, "", True), (words, done)
        part = ("--table", f"{shop.name}.items", "--sink", "copy")
        assert syncd("jobs", "stop", "chaos", *part, *service).returncode == 0
        shop.execute("UPDATE items SET n = 7", "UPDATE words SET n = 7")
        run.wait_for(lambda: waiting(run, "words") == 0 and waiting(run, "items") > 0, 120)
        shown = [line.split() for line in syncd("status", *service).stdout.splitlines() if f"{shop.name}." in line]
        assert ["PAUSED:", "table", f"{shop.name}.items", "at", "sink", "copy"] in shown
        rows = [line[2:4] for line in shown if line[0] != "PAUSED:"]
        assert rows == [["LIVE,", "paused"], ["LIVE", "1/1"], ["LIVE", "1/1"]]
        assert syncd("jobs", "stop", "chaos", *service).returncode == 0
        run.wait_for(lambda: state_of(run) == "STOPPED" and set(run.workers()) == {"run"}, 120)
        assert syncd("jobs", "resume", "chaos", *part, *service).returncode == 0
        assert state_of(run) == "STOPPED", "what was said of the job itself holds on"
        assert syncd("jobs", "resume", "chaos", *service).returncode == 0
        run.wait_applied()
        assert run.terminate() == 0
        run.assert_equal()


def waiting(run: Running, table: str) -> int:
    rows = control.status(run.service)[0].tables
    return next(row.waiting for row in rows if row.record.table.name == table)


def test_a_second_daemon_on_the_same_directory_is_refused(shop: Database, tmp_path: Path) -> None:
    with running(tmp_path, shop.port, shop.name, "arrival") as run:
        run.wait_live(len(TABLES))
        done = syncd("run", str(run.path), "--service", str(tmp_path / "syncd.yaml"))
        assert done.returncode == 4
        assert "is in use by the syncd process" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_ddl_that_cannot_be_followed_halts_that_table_alone(shop: Database, tmp_path: Path) -> None:
    extra = "policy: {ddl: {reload: halt-table}}\n"
    with running(tmp_path, shop.port, shop.name, "arrival", extra=extra) as run:
        run.wait_live(len(TABLES))
        shop.execute("ALTER TABLE words MODIFY n VARCHAR(9)", "UPDATE items SET n = 5")
        run.wait_for(run.halted, 120)
        run.wait_applied()
        halted = run.halted()
        assert list(halted) == [f"{shop.name}.words"]
        assert "values of n may have changed with its type: ALTER TABLE words MODIFY" in halted[f"{shop.name}.words"]
        shown = syncd("status", "--service", str(tmp_path / "syncd.yaml")).stdout
        assert re.search(r"\.words HALTED at capture [\d.]+ s ago: .*MODIFY n", shown), shown
        results = {
            result.table.name: result for result in control.reconcile(run.service, run.job, [f"{shop.name}.items"])
        }
        assert results["items"].right


def test_a_table_that_is_created_while_live_is_copied(shop: Database, tmp_path: Path) -> None:
    with running(tmp_path, shop.port, shop.name, "arrival") as run:
        run.wait_live(len(TABLES))
        shop.execute(
            "CREATE TABLE fresh (id INT PRIMARY KEY, v VARCHAR(9))", "INSERT INTO fresh VALUES (1,'a'),(2,NULL)"
        )
        run.wait_live(len(TABLES) + 1)
        run.wait_applied()
        assert run.phases()[f"{shop.name}.fresh"] is Phase.LIVE
        assert run.terminate() == 0
        run.assert_equal()


def test_an_edited_job_file_that_contradicts_the_state_is_refused(shop: Database, tmp_path: Path) -> None:
    """Each edit by its place; put back, the job goes on."""
    edits = {
        "queues: 4": ("queues: 5", r"job\.yaml:6:\d+ queue\.queues: the saved state was made with 4"),
        "sink.db": ("other.db", r"sinks\.copy\.sqlite_arrival: the saved state was made with '.*/sink\.db'"),
        "tags: '*'": ("tags: 'a || b'", r"sinks\.copy\.tags: the saved state was made with '\*'"),
        "deletes: apply": ("deletes: ignore", r"sinks\.copy\.deletes: the saved state was made with 'apply'"),
        "mask_salt: grain": (
            "mask_salt: other",
            r"mask_salt: the saved state, and rows at .* with another",
        ),
        "mode: snapshot+cdc": ("mode: cdc", r"mode: the saved state was made with snapshot\+cdc"),
    }
    extra = "    tags: '*'\n    deletes: apply\nmask_salt: grain\nmode: snapshot+cdc\n"
    with running(tmp_path, shop.port, shop.name, "arrival", extra=extra) as run:
        run.wait_live(len(TABLES))
        assert run.terminate() == 0
        text = run.path.read_text()
        for before, (after, said) in edits.items():
            assert text.count(before) == 1, before
            run.path.write_text(text.replace(before, after))
            done = syncd("run", str(run.path), "--service", str(tmp_path / "syncd.yaml"))
            assert done.returncode == 2, (after, done.stderr)
            assert re.search(said, done.stderr), done.stderr
            assert "[C140]" in done.stderr
        run.path.write_text(text)
        run.start()
        shop.execute("UPDATE items SET n = n + 1")
        run.wait_applied()
        assert run.terminate() == 0
        run.assert_equal()


def test_a_refused_table_is_left_out_by_its_name(shop: Database, tmp_path: Path) -> None:
    """Also in a job that has run."""
    shop.execute("CREATE TABLE `a.place` (id INT PRIMARY KEY, at POINT)")
    place = f"{shop.name}.`a.place`"
    with running(tmp_path, shop.port, shop.name, "arrival") as run:
        run.wait_live(len(TABLES))
        assert run.halted().keys() == {place}
        assert run.terminate() == 4
        text = run.path.read_text()
        run.path.write_text(text.replace("tables:\n", f'tables:\n  "{place}": {{skip: true}}\n'))
        run.start()
        shop.execute("UPDATE items SET n = n + 1", "INSERT INTO `a.place` VALUES (1, NULL)")
        run.wait_applied()
        assert run.halted() == {}
        assert run.terminate() == 0
        run.assert_equal()


def test_a_job_that_is_forgotten_while_it_is_stopped_begins_with_the_next_daemon(
    shop: Database, tmp_path: Path
) -> None:
    service = ("--service", str(tmp_path / "syncd.yaml"))
    with running(tmp_path, shop.port, shop.name, "arrival") as run:
        run.wait_live(len(TABLES))
        assert syncd("jobs", "forget", "chaos", *service).returncode == 4
        assert syncd("jobs", "stop", "chaos", *service).returncode == 0
        run.wait_for(lambda: syncd("jobs", "forget", "chaos", *service).returncode == 0, 120)
        (tmp_path / "sink.db").unlink()
        done = syncd("jobs", "resume", "chaos", *service)
        assert (done.returncode, "no job 'chaos'" in done.stderr) == (2, True), done
        time.sleep(1)  # ten looks of the daemon
        assert control.status(run.service) == []
        assert run.alive
        assert run.terminate() == 0
        run.start()
        run.wait_live(len(TABLES))
        run.wait_applied()
        assert run.terminate() == 0
        run.assert_equal()


def test_commands_open_the_queue_that_the_daemon_has_and_no_start_takes_another_one(
    shop: Database, tmp_path: Path
) -> None:
    options = f"path: {tmp_path}/big, max_bytes: 1073741824"
    with running(tmp_path, shop.port, shop.name, "arrival", queue=options) as run:
        run.wait_live(len(TABLES))
        service = ("--service", str(tmp_path / "syncd.yaml"))
        (facts,) = [json.loads(line) for line in syncd("status", "--json", *service).stdout.splitlines()]
        assert (facts["job"], facts["queue_limit"], len(facts["tables"])) == ("chaos", 1 << 30, len(TABLES))
        assert syncd("jobs", "pause", "chaos", *service).returncode == 0
        assert run.terminate() == 0
        run.close_queue()
        text = run.path.read_text()
        run.path.write_text(text.replace(f"{tmp_path}/big", f"{tmp_path}/other"))
        done = syncd("run", str(run.path), *service)
        assert done.returncode == 2
        assert (
            f"job.yaml:6:37 queue.embedded.path: this is another queue than {tmp_path}/data works with" in done.stderr
        )
        assert f'{{"embedded": {{"path": "{tmp_path}/big"}}}}' in done.stderr
        assert "[C140]" in done.stderr
        assert [job.job for job in control.status(run.service)] == ["chaos"]
        shutil.rmtree(tmp_path / "other")
        (tmp_path / "big").rename(tmp_path / "other")  # with its files it is the same queue
        run.start()
        run.wait_for(lambda: "other" in (run.service.data / "queue.json").read_text(), 120, restart=False)
        run.wait_for(lambda: state_of(run) == "PAUSED", 120, restart=False)
        assert run.terminate() == 0
        shutil.rmtree(tmp_path / "other")
        done = syncd("run", str(run.path), *service)
        assert (done.returncode, "is not the one that the last start" in done.stderr) == (4, True)


def test_an_unreachable_source_is_waited_for(tmp_path: Path) -> None:
    with running(tmp_path, 1, "nowhere", "arrival") as run:
        run.wait_for(lambda: bool(run.events("unreachable")), 120, restart=False)
        assert run.alive
        assert "Traceback" not in run.tail(100)
        assert run.terminate() == 0


def test_trace_follows_a_key_through_its_operators(shop: Database, tmp_path: Path) -> None:
    with running(tmp_path, shop.port, shop.name, "arrival") as run:
        run.wait_live(len(TABLES))
        shop.execute(
            "INSERT INTO items VALUES (-5, 1, 'first', NULL, NULL)",
            "UPDATE items SET note = 'second' WHERE id = -5",
            "DELETE FROM items WHERE id = -5",
            "INSERT INTO words VALUES ('Mango', -1), ('other', -2)",
            "UPDATE words SET word = 'MANGO' WHERE n = -1",
            "DELETE FROM words WHERE word = 'mángo'",
        )
        run.wait_applied()

        def traced(table: str, key: str) -> list[dict[str, Any]]:
            service = str(tmp_path / "syncd.yaml")
            done = syncd("trace", "chaos", f"{shop.name}.{table}", key, "--json", "--service", service)
            assert done.returncode == 0, done.stderr
            return [json.loads(line) for line in done.stdout.splitlines()]

        changes = traced("items", "-5")
        assert [change["op"] for change in changes] == ["INSERT", "UPDATE", "DELETE"]
        assert [change["row"]["note"] for change in changes] == ["first", "second", "second"]
        assert all(change["hops"][0]["outcome"] == "ok" for change in changes)
        for spelling in ("Mango", "MANGO"):  # one key under its collation, however it was spelt meanwhile
            found = [(change["op"], change["row"]["word"]) for change in traced("words", spelling)]
            assert found == [("INSERT", "Mango"), ("DELETE", "Mango"), ("INSERT", "MANGO"), ("DELETE", "MANGO")]
