"""The way to the target: one that is away or refuses, values that are masked, delete policies, views; each compared."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from syncd import control
from syncd.state import Phase
from syncd.testing.clickhouse_http import Front
from tests.e2e.harness import Running, order, running
from tests.e2e.test_bad_days import ends, fill, halted, right, syncd
from tests.services.database import Database

pytestmark = [pytest.mark.mariadb, pytest.mark.chdb]


@pytest.fixture
def pair(mariadb_database: Database) -> Database:
    fill(mariadb_database)
    return mariadb_database


def over_http(run: Running, front: Front, more: str = "") -> None:
    """The sink of the job becomes the server of `front`."""
    text = run.path.read_text()
    head, _, _ = text.partition("    clickhouse:")
    run.path.write_text(f'{head}    clickhouse: {{url: "{front.url}", password: secret}}\n{more}')
    run.job = control.jobs([run.path], run.service)[0]
    run.parts = type(run.parts)(run.job, run.service)


def test_a_target_that_is_away_at_start_and_later(pair: Database, tmp_path: Path) -> None:
    front = Front(tmp_path / "front")
    front.start()
    run = Running(tmp_path, pair.port, pair.name, "clickhouse")
    over_http(run, front)
    try:
        front.kill()
        run.start()
        run.wait_for(lambda: any("[E120]" in reason for reason in waits(run).values()), 60, restart=False)
        # On a busy machine the planner may not have been heard of yet, which is said, too.
        run.wait_for(lambda: {name.partition(":")[0] for name in waits(run)} == {"deliver/copy"}, 60, restart=False)
        front.start()
        run.wait_live(2)
        front.kill()
        pair.execute("UPDATE a SET v = 'while away' WHERE id < 9", "DELETE FROM b WHERE id < 5")
        run.wait_for(lambda: any(f"{pair.name}" in reason for reason in waits(run).values()), 60, restart=False)
        assert {p.value for p in run.phases().values()} == {"LIVE"}
        front.start()
        run.wait_applied()
        run.assert_equal()
        assert run.terminate() == 0
        run.path.write_text(run.path.read_text().replace("password: secret", "password: wrong"))
        run.start()
        ends(run, 4, "516")
    finally:
        run.close()
        front.stop()


def waits(run: Running) -> dict[str, str]:
    if run.queue is None:
        return {}
    return {name: wait.reason for job in control.status(run.service) for name, wait in job.waits.items()}


def test_a_masked_value_is_nowhere(mariadb_database: Database, tmp_path: Path) -> None:
    """Not in the data directory, not in the log, not in what commands say; also when the row is refused, and when it is
    the DEFAULT of a column, in the schema or in a statement."""
    database = mariadb_database
    secrets = ["geheim@example.org", "Geheimrat", "1907-03-29", "anders@example.org", "nachher@example.org"]
    secrets += ["vorgabe@example.org", "Vorgabenrat", "1908-04-30", "neugabe@example.org", "abgelehnt@example.org"]
    columns = f"email VARCHAR(99) NOT NULL DEFAULT '{secrets[5]}', name VARCHAR(99) DEFAULT '{secrets[6]}'"
    columns = f"(id INT PRIMARY KEY, {columns}, born DATE DEFAULT '{secrets[7]}', n INT)"
    database.execute(
        f"CREATE TABLE people {columns}",
        f"INSERT INTO people VALUES (1, '{secrets[0]}', '{secrets[1]}', '{secrets[2]}', 1)",
    )
    run = Running(tmp_path, database.port, database.name, "arrival")
    masks = "{mask: {email: hash, name: redact, born: 'null'}}"
    rest = "mask_salt: salt\npolicy: {ddl: {reload: halt-table}}\n"
    run.path.write_text(run.path.read_text().replace('.*": {}', f'.*": {masks}') + rest)
    run.job = control.jobs([run.path], run.service)[0]
    run.parts = type(run.parts)(run.job, run.service)
    try:
        run.start()
        run.wait_live(1)
        database.execute(
            f"INSERT INTO people VALUES (2, '{secrets[3]}', '{secrets[1]}', '{secrets[2]}', 2)",
            f"UPDATE people SET email = '{secrets[4]}', n = 3 WHERE id = 1",
            "UPDATE people SET n = 4 WHERE id = 2",
        )
        run.wait_applied()
        traced = syncd(run, "trace", "chaos", f"{database.name}.people", "1", "--json")
        assert '"op": "UPDATE"' in traced.stdout, traced
        compared = syncd(run, "reconcile", "chaos", "--full")
        assert compared.returncode == 0, compared
        order(tmp_path, refuse={"n": ["66"]})
        database.execute(f"UPDATE people SET email = '{secrets[9]}', name = '{secrets[9]}', n = 66 WHERE id = 2")
        reason = stopped(run, f"{database.name}.people")
        assert "1 rows refused, the first (id=2): " in reason
        refused = syncd(run, "status").stdout
        assert "(id=2): " in refused
        order(tmp_path)
        assert syncd(run, "jobs", "resume", "chaos").returncode == 0
        database.execute(f"CREATE TABLE more {columns}", f"INSERT INTO more VALUES (1, '{secrets[9]}', '', NULL, 1)")
        run.wait_live(2)
        run.wait_applied()
        database.execute(
            f"ALTER TABLE more MODIFY email VARCHAR(120) NOT NULL DEFAULT '{secrets[8]}', MODIFY n CHAR(9)"
        )
        run.wait_for(run.halted, 60, restart=False)
        (reason,) = run.halted().values()
        assert "ALTER TABLE more MODIFY email VARCHAR(?) NOT NULL DEFAULT ?" in reason
        database.execute(
            "SET SESSION binlog_format = STATEMENT",
            f"UPDATE people SET name = 'Geheimrat Müller' WHERE email = '{secrets[4]}'",
        )
        run.wait_for(lambda: len(run.halted()) == 2, 60, restart=False)
        said = syncd(run, "status").stdout + refused + traced.stdout + compared.stdout
        assert "HALTED at capture" in said
        assert run.terminate() == 4
        everything = run.log.read_bytes() + said.encode()
        everything += b"".join(path.read_bytes() for path in run.service.data.rglob("*") if path.is_file())
        assert b"people" in everything
        assert [text for text in secrets if text.encode() in everything] == []
    finally:
        run.close()


@pytest.mark.parametrize("deletes", ["soft", "ignore"])
def test_delete_policies_compare_as_what_they_are(pair: Database, tmp_path: Path, deletes: str) -> None:
    """Rows that are deleted at the source stay at the target; reconcile takes that as right, and finds what is not."""
    run = Running(tmp_path, pair.port, pair.name, "clickhouse")
    text = run.path.read_text().replace("copy:\n", f"copy:\n    deletes: {deletes}\n")
    run.path.write_text(text.replace('/ch/copy"}', '/ch/copy", current_views: true}'))
    run.job = control.jobs([run.path], run.service)[0]
    run.parts = type(run.parts)(run.job, run.service)
    try:
        run.start()
        run.wait_live(2)
        pair.execute("DELETE FROM a WHERE id < 50", "UPDATE a SET id = -id WHERE id = 60", "DELETE FROM b WHERE id = 1")
        pair.execute("INSERT INTO a VALUES (7, 'again')")
        run.wait_applied()
        right(run)
        compared = syncd(run, "reconcile", "chaos", "--full")
        assert compared.returncode == 0, compared
        assert (f"{pair.name}.a: 50 deleted rows stay at copy" in compared.stdout) == (deletes == "ignore")
        assert run.terminate() == 0
        kept = {row[0]: row[1:] for row in at_target(tmp_path, pair.name, "a")}
        assert kept[7] == ("again", 0)
        assert kept[49] == ("value 49" * 4, 1 if deletes == "soft" else 0)
        assert kept[60][1] == kept[49][1]
        assert kept[-60] == ("value 60" * 4, 0)
        assert len(kept) == 401
        seen = {row[0] for row in at_target(tmp_path, pair.name, "a_current")}
        assert seen == set(kept) - ({*range(50)} - {7} | {60} if deletes == "soft" else set())
    finally:
        run.close()


def at_target(folder: Path, database: str, table: str) -> list[tuple[int, str, int]]:
    """(id, v, marked as deleted) of each row, as a SELECT of the table's user sees it."""
    from syncd.sinks.clickhouse import ClickHouseSink
    from syncd.testing.contracts.sink import made

    sink = made(ClickHouseSink, ClickHouseSink.Options(url=f"chdb://{folder}/ch/copy"), folder)
    assert isinstance(sink, ClickHouseSink)
    sink.open()
    try:
        marked = "_deleted" if "current" not in table else "0"
        sql = f"SELECT id, v, {marked} AS mark FROM `{database}`.`{table}` {'FINAL' if marked == '_deleted' else ''}"
        found = sink._client.select(sql, doing="looking").to_pylist()
        return [(row["id"], row["v"].decode(), row["mark"]) for row in found]
    finally:
        sink.close()


def test_a_value_that_the_target_cannot_hold_and_a_default_that_is_no_date(pair: Database, tmp_path: Path) -> None:
    """Each halts its table, by name; a value that is mended at the source lets the table go on."""
    with running(tmp_path, pair.port, pair.name, "clickhouse") as run:
        run.wait_live(2)
        pair.execute("ALTER TABLE b ADD COLUMN e DATETIME NULL", "SET SESSION sql_mode = ''")
        pair.execute("SET SESSION sql_mode = ''", "UPDATE b SET e = '0000-01-01 00:00:00' WHERE id = 5")
        reason = stopped(run, f"{pair.name}.b")
        assert "rows refused, the first (id=5): " in reason
        assert ".b.e: 0000-01-01 00:00:00.000000 is outside of what the server holds" in reason
        assert reason.endswith("then `syncd jobs resume` [E130]")
        pair.execute(
            "SET SESSION sql_mode = ''",
            "UPDATE a SET v = 'goes on' WHERE id < 5",
            "UPDATE b SET e = '2020-01-01' WHERE id = 5",
        )
        run.wait_for(
            lambda: all(result.right for result in control.reconcile(run.service, run.job, [f"{pair.name}.a"])), 60
        )
        assert syncd(run, "jobs", "resume", "chaos", "--table", f"{pair.name}.b").returncode == 0
        run.wait_live(2, 60)
        right(run)
        pair.execute("SET SESSION sql_mode = ''", "ALTER TABLE a ADD COLUMN d DATE NOT NULL DEFAULT '0000-00-00'")
        assert "ALTER TABLE a ADD COLUMN d DATE NOT NULL" in halted(run, f"{pair.name}.a")
        assert run.terminate() == 4


def stopped(run: Running, table: str) -> str:
    """Why the table halted at the sink; waits for it."""
    run.wait_for(lambda: run.phases()[table] is Phase.HALTED, 60, restart=False)
    (job,) = control.status(run.service)
    return next(row.record.reason for row in job.tables if str(row.record.table) == table)


def test_a_data_directory_with_a_name_too_long_for_a_socket(pair: Database, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    with running(folder, pair.port, pair.name, "clickhouse") as run:
        run.wait_live(2)
        right(run)
        assert run.terminate() == 0


def test_a_port_that_is_taken_is_not_needed(pair: Database, tmp_path: Path) -> None:
    """A dead daemon's socket, or a file of that name, is in nobody's way."""
    run = Running(tmp_path, pair.port, pair.name, "clickhouse")
    try:
        path = run.parts.socket("copy")
        path.parent.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        run.start()
        run.wait_live(2)
        assert run.phases()[f"{pair.name}.a"] is Phase.LIVE
        assert run.terminate() == 0
    finally:
        run.close()
