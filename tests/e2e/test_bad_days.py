"""Bad days: what goes wrong is said with place, reason and code; neighbours go on; mended, the copy comes out right."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd import control
from syncd.catalogue import CATALOGUE
from syncd.errors import StateError
from syncd.state import FORMAT, Phase
from tests.e2e.harness import Running, running
from tests.services.database import Database, fresh_database, user
from tests.services.fixtures import PrivateServer
from tests.services.small_disk import small_disk

pytestmark = pytest.mark.mariadb

ROWS = 400


def syncd(run: Running, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command; whatever it says, it says without a stack trace and with known codes."""
    words = [sys.executable, "-m", "syncd", *arguments, "--service", str(run.folder / "syncd.yaml")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    assert set(re.findall(r"\[([CE]\d+)\]", done.stdout + done.stderr)) <= set(CATALOGUE)
    return done


def fill(database: Database) -> None:
    database.execute(
        "CREATE TABLE a (id INT PRIMARY KEY, v VARCHAR(200))",
        "CREATE TABLE b (id INT PRIMARY KEY, v VARCHAR(200))",
    )
    for table in "ab":
        database.many(f"INSERT INTO {table} VALUES (%s, %s)", [(i, f"value {i}" * 4) for i in range(ROWS)])


@pytest.fixture
def pair(mariadb_database: Database) -> Database:
    """Two tables of a few rows."""
    fill(mariadb_database)
    return mariadb_database


def edit(run: Running, old: str, new: str) -> None:
    text = run.path.read_text()
    assert old in text
    run.path.write_text(text.replace(old, new))


def ends(run: Running, code: int, *says: str, seconds: float = 120) -> None:
    """The daemon ends by itself with this exit code, and its last words say these things, once and without a stack."""
    run.wait_for(lambda: not run.alive, seconds, restart=False)
    assert run._process is not None
    assert run._process.returncode == code, run.tail()
    last = run.tail(1)
    for word in says:
        assert word in last, run.tail()
    assert "Traceback" not in run.log.read_text()


def halted(run: Running, table: str) -> str:
    """Why capture has halted the table; waits for it."""
    run.wait_for(lambda: table in run.halted(), 120, restart=False)
    return run.halted()[table]


def right(run: Running, *tables: str) -> None:
    run.wait_applied()
    results = control.reconcile(run.service, run.job, tables)
    assert results
    assert all(result.right for result in results), results


# -- the way to the source


@pytest.mark.parametrize(
    ("grants", "password", "code", "says", "mend"),
    [
        (
            "SELECT, REPLICATION SLAVE",
            "old",
            "E181",
            "Access denied for user 'copier'",
            "SET PASSWORD FOR {} = PASSWORD('pw')",
        ),
        ("REPLICATION SLAVE", "pw", "E160", "SELECT grants", "GRANT SELECT ON *.* TO {}"),
        ("SELECT", "pw", "E182", "GRANT REPLICATION SLAVE ON *.*", "GRANT REPLICATION SLAVE ON *.* TO {}"),
    ],
)
def test_an_account_that_may_not(
    pair: Database, tmp_path: Path, grants: str, password: str, code: str, says: str, mend: str
) -> None:
    with user(pair, f"{grants} ON *.*", password=password, name="copier"):
        run = Running(tmp_path, pair.port, pair.name, "arrival")
        edit(run, "root@127", "copier@127")
        edit(run, ", heartbeat", ", password: pw, heartbeat")
        try:
            run.start()
            ends(run, 4, says, f"[{code}]")
            pair.execute(mend.format("copier@'127.0.0.1'"))
            run.wait_live(2)
            pair.execute("UPDATE a SET v = 'mended' WHERE id < 9")
            run.wait_applied()
            assert run.terminate() == 0
            run.assert_equal()
        finally:
            run.close()


def test_a_password_that_changes_while_live(pair: Database, tmp_path: Path) -> None:
    with user(pair, "SELECT, REPLICATION SLAVE ON *.*", password="pw", name="copier"):
        run = Running(tmp_path, pair.port, pair.name, "arrival")
        edit(run, "root@127", "copier@127")
        edit(run, ", heartbeat", ", password: pw, heartbeat")
        try:
            run.start()
            run.wait_live(2)
            pair.execute("SET PASSWORD FOR copier@'127.0.0.1' = PASSWORD('new')")
            pair.execute("KILL USER copier@'127.0.0.1'")
            ends(run, 4, "refused the log-in", "[E181]")
            assert "pw" not in re.sub(r"\S*/\S*", "", run.log.read_text())
            pair.execute("UPDATE a SET v = 'meanwhile' WHERE id < 9")
            edit(run, "password: pw", "password: new")
            run.start()
            run.wait_applied()
            assert run.terminate() == 0
            run.assert_equal()
        finally:
            run.close()


def test_a_server_id_that_another_reader_takes(pair: Database, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    runs = [Running(folder, pair.port, pair.name, "arrival") for folder in (tmp_path, tmp_path / "other")]
    try:
        for run in runs:
            edit(run, ", heartbeat", ", server_id: 4242, heartbeat")
        runs[0].start()
        runs[0].wait_live(2)
        runs[1].start()
        ends(runs[0], 4, "another reader of the log took this job's server_id", "[E190]")
        edit(runs[0], "4242", "4243")
        pair.execute("UPDATE a SET v = 'meanwhile' WHERE id < 9")
        runs[0].wait_applied()
        assert runs[0].terminate() == 0
        runs[0].assert_equal()
    finally:
        for run in runs:
            run.close()


def test_a_server_without_a_log(private_mariadb: PrivateServer, tmp_path: Path) -> None:
    with fresh_database(private_mariadb("--skip-log-bin")) as database:
        fill(database)
        with running(tmp_path, database.port, database.name, "arrival") as run:
            ends(run, 4, "the server writes no binary log; start it with --log-bin", "[E186]")


def test_a_server_that_dies_and_a_log_that_is_purged(private_mariadb: PrivateServer, tmp_path: Path) -> None:
    server = private_mariadb()
    with fresh_database(server) as database:
        fill(database)
        with running(tmp_path, database.port, database.name, "arrival") as run:
            run.wait_live(2)
            server.kill()
            run.wait_for(lambda: "be reached" in str(control.status(run.service)[0].waits.get("capture")), 120)
            run.wait_for(lambda: control.status(run.service)[0].state == "WAITING", 120)
            server.start()
            database.execute("UPDATE a SET v = 'back' WHERE id < 9")
            run.wait_applied()
            assert run.terminate() == 0
            run.assert_equal()
            # Now the log goes while nobody reads it. A restart lets go of every reader that the server still counts.
            database.execute("UPDATE a SET v = 'in the lost part' WHERE id = 1", "DELETE FROM b WHERE id = 2")
            server.restart()
            database.execute("FLUSH BINARY LOGS")
            if database.query("SHOW VARIABLES LIKE 'slave_connections_needed_for_purge'"):  # newer ones keep the log
                database.execute("SET GLOBAL slave_connections_needed_for_purge = 0")
            ((last, *_),) = database.query("SHOW MASTER STATUS")

            def purged() -> bool:  # a server keeps the log before the last until its engine has caught up
                database.execute(f"PURGE BINARY LOGS TO '{last}'")
                return len(database.query("SHOW BINARY LOGS")) == 1

            run.wait_for(purged, 120, restart=False)
            run.start()
            ends(run, 4, "resync", "[E151]")
            edit(run, "queue: {", "policy: {position_lost: resnapshot}\nqueue: {")
            run.start()
            run.wait_for(lambda: run.events("job_begins_anew"), 60)
            run.wait_live(2)
            right(run)
            assert run.terminate() == 0
            done = syncd(run, "jobs", "forget", "chaos")
            assert done.returncode == 0, done.stderr
            (tmp_path / "sink.db").unlink()
            run.wait_live(2)
            run.wait_applied()
            assert run.terminate() == 0
            run.assert_equal()


# -- the log and the tables


def test_a_session_in_statement_format_halts_its_table_and_shows_no_value(pair: Database, tmp_path: Path) -> None:
    with running(tmp_path, pair.port, pair.name, "arrival") as run:
        run.wait_live(2)
        pair.execute("SET SESSION binlog_format = STATEMENT", "UPDATE a SET v = 'geheim' WHERE id = 7")
        pair.execute("UPDATE b SET v = 'row' WHERE id = 7")
        reason = halted(run, f"{pair.name}.a")
        assert "UPDATE a SET v = ? WHERE id = ?" in reason
        assert "SET GLOBAL binlog_format = ROW" in reason
        right(run, f"{pair.name}.b")
        said = syncd(run, "jobs", "resume", "chaos", "--table", f"{pair.name}.a")
        assert f"{pair.name}.a cannot go on, and must be loaded anew" in said.stdout
        assert said.returncode == 4
        assert run.terminate() == 4
        assert "geheim" not in run.log.read_text()
        assert b"geheim" not in b"".join(p.read_bytes() for p in run.service.data.rglob("*") if p.is_file())


def test_a_server_that_writes_statements_is_named_at_the_start(private_mariadb: PrivateServer, tmp_path: Path) -> None:
    with fresh_database(private_mariadb("--binlog-format=MIXED")) as database:
        fill(database)
        with running(tmp_path, database.port, database.name, "arrival") as run:
            run.wait_live(2)
            assert "binlog_format is MIXED; the log must hold rows, not statements" in run.log.read_text()
            database.execute("UPDATE a SET v = 'a statement' WHERE id = 7")
            database.execute("UPDATE b SET v = UUID() WHERE id = 7")  # only this is written as a row
            assert "SET GLOBAL binlog_format = ROW" in halted(run, f"{database.name}.a")
            right(run, f"{database.name}.b")


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        pytest.param("DROP TABLE a", "DROP TABLE", marks=pytest.mark.nightly),
        ("RENAME TABLE a TO z", "RENAME TABLE"),
        ("ALTER TABLE a DROP COLUMN v", "column v is gone"),
        pytest.param("TRUNCATE a", "", marks=pytest.mark.nightly),
    ],
)
def test_a_table_that_changes_in_the_middle_of_its_snapshot(
    pair: Database, tmp_path: Path, statement: str, says: str
) -> None:
    pair.execute("INSERT INTO a SELECT id + 1000, v FROM a", "INSERT INTO a SELECT id + 5000, v FROM a")
    pair.execute("ANALYZE TABLE a")  # of old estimates the server may make two large chunks, done at the same time
    slow = {"chunk_bytes": 8_000, "extra": "throttle: {rows_per_s: 300}\n"}
    with running(tmp_path, pair.port, pair.name, "arrival", **slow) as run:
        run.wait_for(lambda: loading(run, "a"), 120)
        pair.execute(statement, "UPDATE b SET v = 'on' WHERE id < 9")
        if not says:
            pair.execute("INSERT INTO a VALUES (3, 'after')")
            run.wait_live(2)
            run.wait_applied()
            assert run.terminate() == 0
            run.assert_equal()
            return
        if says.startswith("column"):  # it was read by its old columns; loaded anew, by itself, it has the new ones
            run.wait_for(lambda: run.events("resync_begins"), 120)
            run.wait_live(2)
            right(run)
            assert says in run.events("table_halted")[0]["error"]
            return
        reason = halted(run, f"{pair.name}.a")
        assert says in reason
        assert "[E155]" in reason
        others = ["b", *(["z"] if "RENAME" in statement else [])]  # z comes with its rows, and is loaded for them
        run.wait_for(lambda: all(run.phases().get(f"{pair.name}.{name}") is Phase.LIVE for name in others))
        for name in others:
            right(run, f"{pair.name}.{name}")
        assert run.terminate() == 4
        assert "Traceback" not in run.log.read_text()


def loading(run: Running, table: str) -> bool:
    """Some chunks of it are written, and not all."""
    if run.queue is None:
        return False
    found = [row for job in control.status(run.service) for row in job.tables if row.record.table.name == table]
    return any(row.chunks_done > 0 and row.record.phase is Phase.SNAPSHOT for row in found)


def test_rows_over_max_allowed_packet(private_mariadb: PrivateServer, tmp_path: Path) -> None:
    """Written while it was larger: they are read all the same, from the table and from the log."""
    server = private_mariadb("--max-allowed-packet=64M")
    with fresh_database(server) as database:
        database.execute(
            "CREATE TABLE big (id INT PRIMARY KEY, v LONGTEXT)", "INSERT INTO big VALUES (1, REPEAT('x', 5 << 20))"
        )
        database.execute("SET GLOBAL max_allowed_packet = 1 << 20")
        with running(tmp_path, database.port, database.name, "arrival") as run:
            run.wait_live(1)
            database.execute("UPDATE big SET v = CONCAT(LEFT(v, 10), 'y') WHERE id = 1")
            run.wait_applied()
            database.execute("SET GLOBAL max_allowed_packet = 64 << 20")
            database.execute("INSERT INTO big VALUES (2, REPEAT('ü', 4 << 20))")
            database.execute("SET GLOBAL max_allowed_packet = 1 << 20")
            run.wait_applied()
            assert run.terminate() == 0
            run.assert_equal()


# -- this machine


def sql(file: Path, statement: str) -> None:
    connection = sqlite3.connect(file)
    connection.execute(statement)
    connection.commit()
    connection.close()


def damages(state: Path) -> dict[str, tuple[Callable[[], object], str]]:
    """Name -> what to do to the saved state, and what is said then."""
    file = state / "queue.db"

    def spoil() -> None:
        data = bytearray(file.read_bytes())
        data[4096:16384] = os.urandom(12288)
        file.write_bytes(data)

    newer = (
        f"""UPDATE state SET value = CAST(REPLACE(CAST(value AS TEXT), '"format": {FORMAT}', '"format": 99') AS BLOB)"""
    )
    return {
        "a newer queue": (lambda: sql(file, "PRAGMA user_version = 99"), "written by a newer syncd (format 99"),
        "newer state": (lambda: sql(file, f"{newer} WHERE key LIKE '%/meta'"), "has format 99"),
        "spoilt pages": (spoil, "queue.db: damaged: "),
        "no database": (lambda: file.write_bytes(b"garbage " * 1000), "queue.db: damaged: "),
        "a spoilt record": (
            lambda: sql(file, "UPDATE state SET value = CAST('{' AS BLOB) WHERE key LIKE '%/table/%'"),
            "in the saved state is damaged",
        ),
        "a spoilt job": (
            lambda: sql(file, "UPDATE state SET value = CAST('{' AS BLOB) WHERE key LIKE '%/meta'"),
            "job/chaos/meta in the saved state is damaged",
        ),
    }


def test_state_that_is_newer_or_damaged(pair: Database, tmp_path: Path) -> None:
    with running(tmp_path, pair.port, pair.name, "arrival") as run:
        run.wait_live(2)
        assert run.terminate() == 0
        (file,) = run.service.data.rglob("queue.db")
        run.close_queue()
        sql(file, "PRAGMA wal_checkpoint(TRUNCATE)")  # pages that are still in the WAL would heal the damage
        shutil.copytree(file.parent, tmp_path / "kept")
        for name, (damage, says) in damages(file.parent).items():
            damage()
            done = syncd(run, "run", str(run.path))
            assert (done.returncode, says in done.stderr, "[E153]" in done.stderr) == (4, True, True), (name, done)
            with pytest.raises(StateError, match=re.escape(says)):
                control.status(run.service)
            shutil.rmtree(file.parent)
            shutil.copytree(tmp_path / "kept", file.parent)
        pair.execute("UPDATE a SET v = 'after all' WHERE id < 9")
        run.start()
        run.wait_applied()
        assert run.terminate() == 0
        run.assert_equal()


@pytest.mark.parametrize("worker", ["capture", "deliver/copy"])
def test_a_queue_whose_files_are_taken_away_while_it_runs(pair: Database, tmp_path: Path, worker: str) -> None:
    """Who starts then would make an empty one and wait there for ever."""
    with running(tmp_path, pair.port, pair.name, "arrival") as run:
        run.wait_live(2)
        victim = run.workers()[worker]
        run.close_queue()
        for file in run.service.data.rglob("queue.db*"):
            file.unlink()
        os.kill(victim, signal.SIGKILL)
        ends(run, 4, "its queue is not the one that the last start of syncd worked with", "[E153]")


@pytest.fixture
def small_data(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "data", 30) as disk:
        yield disk


def fill_up(file: Path) -> None:
    with file.open("wb", buffering=0) as out:
        while True:
            out.write(b"x" * 65536)


def test_a_full_disk(pair: Database, tmp_path: Path, small_data: Path) -> None:
    with running(tmp_path, pair.port, pair.name, "arrival") as run:
        run.wait_live(2)
        ballast = small_data / "ballast"
        with pytest.raises(OSError, match="No space"):
            fill_up(ballast)
        for n in range(10):
            pair.execute(f"UPDATE a SET v = CONCAT(id, '{'y' * 150}', {n})")
        run.wait_for(lambda: "disk is full" in str(control.status(run.service)[0].waits.get("capture")), 120)
        run.wait_for(lambda: control.status(run.service)[0].state == "WAITING", 120)
        assert run.terminate() == 0
        with pytest.raises(OSError, match="No space"):
            fill_up(small_data / "rest")
        done = syncd(run, "run", str(run.path))
        says = "syncd.lock: No space left on device; syncd keeps its data there; free some space on that file system"
        assert (done.returncode, says in done.stderr, "[C129]" in done.stderr) == (2, True, True), done
        (small_data / "rest").unlink()
        before = len(run.events("queue_full"))
        run.start()
        run.wait_for(lambda: len(run.events("queue_full")) > before, 120, restart=False)
        ballast.unlink()
        run.wait_applied()
        assert run.terminate() == 0
        run.assert_equal()
        assert "Traceback" not in run.log.read_text()
        run.close()


CLOCK = """\
import os, time
_ns, _path = time.time_ns, os.environ["TEST_CLOCK"]

def _ahead():
    with open(_path) as file:
        return int(file.read() or 0)

time.time_ns = lambda: _ns() + _ahead() * 10**9
time.time = lambda: time.time_ns() / 1e9
"""


def test_a_clock_that_jumps(pair: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock that syncd's processes read, forth by a day and back by two, while loading and while live."""
    site, clock = tmp_path / "site", tmp_path / "clock"
    site.mkdir()
    (site / "sitecustomize.py").write_text(CLOCK)
    clock.write_text("0")
    monkeypatch.setenv("TEST_CLOCK", str(clock))
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    pair.execute("ANALYZE TABLE a")
    slow = {"chunk_bytes": 8_000, "extra": "throttle: {rows_per_s: 300}\n"}
    with running(tmp_path, pair.port, pair.name, "versioned", **slow) as run:
        run.wait_for(lambda: loading(run, "a"), 120)
        for seconds in (86_400, -86_400):
            clock.write_text(str(seconds))
            pair.execute(
                f"UPDATE a SET v = 'at {seconds}' WHERE id < 50", f"DELETE FROM b WHERE id = {abs(seconds) % 97}"
            )
            run.wait_live(2, 120)
            pair.execute("UPDATE a SET id = -id WHERE id BETWEEN 60 AND 70")
            run.wait_applied(60)
        ended = run.events("worker_died") + run.events("worker_frozen")
        assert [event for event in ended if event["worker"] == "capture"] == []
        assert run.terminate() == 0
        run.assert_equal()
