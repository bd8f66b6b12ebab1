"""`syncd plan` on real servers: an id that is taken, and a log that is gone before the load is done."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from syncd.config import Job, Service, load_job
from syncd.model import Finding
from syncd.ops import look
from syncd.testing.servers import MySQL9, Server
from tests import plugins
from tests.services.database import Database, connect, fresh_database
from tests.services.fixtures import PrivateServer
from tests.services.replication import follow

KINDS = [pytest.param("mariadb", marks=pytest.mark.mariadb), pytest.param("mysql9", marks=pytest.mark.mysql9)]
JOB = """\
job: shop
source: {{mysql: {{url: "mysql://root@127.0.0.1:{port}"{source}}}}}
tables: {{"{database}.*": {{}}}}
sinks:
  one: {{sqlite_arrival: {{path: {folder}/one.db}}}}
  two: {{sqlite_arrival: {{path: {folder}/two.db}}}}
"""


def job(database: Database, folder: Path, source: str = "", more: str = "") -> tuple[Job, Service]:
    path = folder / "job.yaml"
    (folder / "syncd.yaml").write_text(f"plugin_paths: [{plugins.FOLDER}]\n")
    path.write_text(JOB.format(port=database.port, database=database.name, folder=folder, source=source) + more)
    return load_job(path, [plugins.FOLDER]), Service(data=folder / "data")


def findings(database: Database, folder: Path, source: str = "", more: str = "") -> dict[str, Finding]:
    return {f.subject: f for f in look.plan(*job(database, folder, source, more)).findings}


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_id_that_a_replica_has(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    private: PrivateServer = request.getfixturevalue(f"private_{kind}")
    source, replica = private(), private()
    follow(replica, source)
    with fresh_database(source) as database:
        database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
        _await_replica(database)
        found = findings(database, tmp_path, f", server_id: {replica.port}")["server_id"]
        assert (found.level, f"server_id {replica.port} belongs to replica" in found.text) == ("error", True)
        free = findings(database, tmp_path, f", server_id: {replica.port + 70_000}")["server_id"]
        assert (free.level, free.text) == ("ok", f"the job reads the log as {replica.port + 70_000}")
        job(database, tmp_path, f", server_id: {replica.port}")
        done = subprocess.run(
            [sys.executable, "-m", "syncd", "plan", str(tmp_path / "job.yaml")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
            env={**os.environ},
        )
        assert done.returncode == 2, done.stderr
        assert f"error server_id: server_id {replica.port} belongs to replica" in done.stdout


def _await_replica(database: Database) -> None:
    end = time.monotonic() + 30
    statement = "SHOW REPLICAS" if isinstance(database.server, MySQL9) else "SHOW SLAVE HOSTS"
    with closing(connect(database.server)) as connection, connection.cursor() as cursor:
        while not cursor.execute(statement):
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_log_that_is_gone_before_the_load_is_done(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    database: Database = request.getfixturevalue(f"{kind}_database")
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(200))")
    database.many("INSERT INTO t VALUES (%s, %s)", [(n, "x" * 200) for n in range(5000)])
    database.execute("ANALYZE TABLE t")
    ((before,),) = database.query("SELECT @@GLOBAL.binlog_expire_logs_seconds")
    slow = "throttle: {rows_per_s: 1}\n"
    way = "by a consistent snapshot" if kind == "mariadb" else "by GTIDs"
    assert findings(database, tmp_path)["low watermark"].text == f"it is found {way}"
    try:
        database.execute("SET GLOBAL binlog_expire_logs_seconds = 3600")
        found = findings(database, tmp_path, more=slow)["load time"]
        assert found.level == "warning"
        assert "1 rows/s, the throttle; the source keeps its log for 60 minutes" in found.text
        rows = sum(plan.found.rows for plan in look.plan(*job(database, tmp_path)).tables)
        assert 4000 < rows < 6000
        assert f": {rows:,} rows" in found.text  # once for both sinks
        quick = findings(database, tmp_path)["load time"]
        assert (quick.level, "20 MB/s, which is an assumption" in quick.text) == ("ok", True)
        assert findings(database, tmp_path, more=slow + "mode: snapshot\n")["load time"].level == "ok"
        database.execute("SET GLOBAL binlog_expire_logs_seconds = 0")
        assert findings(database, tmp_path, more=slow)["load time"].level == "ok"
    finally:
        database.execute(f"SET GLOBAL binlog_expire_logs_seconds = {before}")


@pytest.mark.mariadb
def test_two_tables_with_one_target(mariadb_database: Database, tmp_path: Path) -> None:
    name = mariadb_database.name
    mariadb_database.execute(*(f"CREATE TABLE {table} (id INT PRIMARY KEY)" for table in ("orders", "old", "other")))
    mariadb_database.execute("CREATE TABLE log (id INT)")
    loaded, service = job(mariadb_database, tmp_path)
    path = Path(loaded.path)
    rules = f'"{name}.*": {{}}, {name}.old: {{to: orders}}, {name}.other: {{to: log}}'
    path.write_text(path.read_text().replace(f'"{name}.*": {{}}', rules))
    refusals = {
        plan.found.schema.table.name: plan.refusals
        for plan in look.plan(load_job(path, [plugins.FOLDER]), service).tables
    }
    assert (refusals["orders"], refusals["other"]) == ((), ())
    what = f"{name}.old and {name}.orders both go to {name}.orders at sink one, and {name}.orders has it"
    assert what in "".join(refusals["old"])
    assert f"{path}:3:" in "".join(refusals["old"])
    assert f"tables.{name}.old.to: " in "".join(refusals["old"])
    assert "no primary key" in "".join(refusals["log"])  # refused itself, it takes no target from another one


@pytest.mark.parametrize("kind", KINDS)
def test_refused_types_that_are_not_null_take_nothing_else_with_them(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    database: Database = request.getfixturevalue(f"{kind}_database")
    database.execute(
        "CREATE TABLE good (id INT PRIMARY KEY)",
        "CREATE TABLE place (id INT PRIMARY KEY, at POINT NOT NULL)",
        "CREATE TABLE word (w VARCHAR(9) CHARACTER SET gbk PRIMARY KEY)",
    )
    tables = {plan.found.schema.table.name: plan.refusals for plan in look.plan(*job(database, tmp_path)).tables}
    assert tables == {
        "good": (),
        "place": ("column at: type point is not supported",),
        "word": ("column w: character set gbk is not supported",),
    }


@pytest.mark.mariadb
def test_what_is_left_for_the_cut_over(mariadb_database: Database, tmp_path: Path) -> None:
    """By the names that tables and columns have at the target; what does not fit there is a comment."""
    database = mariadb_database
    key = "CONSTRAINT {0} FOREIGN KEY ({1}) REFERENCES {2} ({3})"
    database.execute(
        "CREATE TABLE p (id INT AUTO_INCREMENT PRIMARY KEY, e VARCHAR(9), UNIQUE u (e)) AUTO_INCREMENT = 5",
        "CREATE TABLE other (id INT PRIMARY KEY)",
        f"CREATE TABLE c (id INT PRIMARY KEY, p INT, e VARCHAR(9), {key.format('f', 'p', 'p', 'id')}, "
        f"{key.format('g', 'p', 'other', 'id')} ON DELETE RESTRICT, {key.format('h', 'e', 'p', 'e')})",
        "CREATE TRIGGER `t``r` BEFORE INSERT ON c\nFOR EACH ROW\nSET NEW.p = 1",
    )
    path = tmp_path / "job.yaml"
    url = f"mysql://root@127.0.0.1:{database.port}"
    path.write_text(
        f"job: move\nsource: {{mysql: {{url: '{url}'}}}}\n"
        f"tables:\n  {database.name}.p: {{to: copy_of_it.parents, unique: relaxed, where: id > 0, "
        "columns: {rename: {id: number}}}\n"
        f"  {database.name}.c: {{to: copy_of_it.children, columns: {{rename: {{p: parent}}}}, mask: {{e: 'null'}}}}\n"
        f"sinks: {{there: {{mysql: {{url: '{url}/'}}}}, files: {{parquet: {{path: {tmp_path}/files}}}}}}\n"
    )
    command = [sys.executable, "-m", "syncd", "plan", str(path)]
    shown = subprocess.run([*command, "--later"], capture_output=True, text=True, check=True).stdout.splitlines()
    source, child = database.name, "ALTER TABLE `copy_of_it`.`children` ADD CONSTRAINT"
    parents = "`copy_of_it`.`parents`"
    assert shown == [
        "-- copy_of_it.parents lacks the rows that `where` leaves out",
        f"{child} `f` FOREIGN KEY (`parent`) REFERENCES {parents} (`number`);",
        f"-- {source}.other is not copied by this job: it is named here as at the source",
        f"{child} `g` FOREIGN KEY (`parent`) REFERENCES `{source}`.`other` (`id`);",
        f"-- not to be run as it is: {source}.c.e is masked by the job",
        "-- copy_of_it.parents lacks the rows that `where` leaves out",
        f"-- {child} `h` FOREIGN KEY (`e`) REFERENCES {parents} (`e`);",
        "-- the body of trigger t`r is the source's: what it names may be called otherwise here",
        "CREATE DEFINER=`root`@`127.0.0.1` TRIGGER `copy_of_it`.`t``r` BEFORE INSERT ON `copy_of_it`.`children`",
        "FOR EACH ROW",
        "SET NEW.p = 1;",
        f"ALTER TABLE {parents} AUTO_INCREMENT = 5;",
        f"ALTER TABLE {parents} DROP INDEX `u`, ADD UNIQUE INDEX `u` (`e`);",
    ]
    whole = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "left for the cut-over: 4 statements" in whole
    assert "unique index u is made as a plain one" in whole


@pytest.mark.mariadb
def test_many_tables_into_one(mariadb_database: Database, tmp_path: Path) -> None:
    """One table for all of them; one that does not fit is named with its column."""
    database = mariadb_database
    for shard, columns in (("1", "n INT"), ("2", "n BIGINT"), ("3", "n DATE"), ("4", "n INT, m INT")):
        database.execute(f"CREATE TABLE orders_{shard} (id BIGINT PRIMARY KEY, {columns})")
    path, url = tmp_path / "job.yaml", f"mysql://root@127.0.0.1:{database.port}"
    path.write_text(
        f"job: shards\nsource: {{mysql: {{url: '{url}'}}}}\n"
        f"tables: {{'{database.name}.orders_(\\d)': {{to: all.orders, add: {{shard: '\\1'}}, key: [shard, id]}}}}\n"
        f"sinks: {{there: {{mysql: {{url: '{url}/'}}}}, files: {{parquet: {{path: {tmp_path}/files}}}}}}\n"
    )
    planned = look.plan(load_job(path), Service(data=tmp_path / "data")).tables
    refused = {plan.found.schema.table.name: plan.refusals for plan in planned}
    to = f"it goes to all.orders as {database.name}.orders_1 does, and "
    assert refused == {
        "orders_1": (),
        "orders_2": (),
        "orders_3": (f"{to}its column n is date, and that one's int(11): neither holds all values of the other",),
        "orders_4": (f"{to}that one lacks the column m",),
    }
    assert all("PRIMARY KEY (`shard`, `id`)" in plan.sinks["there"].ddl[1] for plan in planned[:2])


@pytest.mark.mariadb
@pytest.mark.oceanbase
def test_names_that_differ_in_their_case_alone(mariadb_database: Database, oceanbase: Server, tmp_path: Path) -> None:
    """At a target that keeps small letters only: `plan` refuses what would be one table, and both warn."""
    database = mariadb_database
    database.execute(*(f"CREATE TABLE `{name}` (id INT PRIMARY KEY)" for name in ("Orders", "orders", "lines")))
    path = tmp_path / "job.yaml"
    path.write_text(
        f"job: move\nsource: {{mysql: {{url: 'mysql://root@127.0.0.1:{database.port}'}}}}\n"
        f"tables: {{{database.name}.*: {{}}}}\n"
        f"sinks: {{there: {{oceanbase: {{url: 'mysql://root@127.0.0.1:{oceanbase.port}/'}}}},"
        f" files: {{parquet: {{path: {tmp_path}/files}}}}}}\n"
    )
    job, service = load_job(path), Service(data=tmp_path / "data")
    planned = look.plan(job, service)
    found = {
        table.found.schema.table.name: [f.text for f in table.sinks["there"].findings if f.level == "error"]
        for table in planned.tables
    }
    name = database.name
    pair = f"{name}.orders goes to {name}.orders, {name}.Orders goes to {name}.Orders"
    assert found == {
        "Orders": [],
        "lines": [],
        "orders": [f"{pair}, and these are one table at sink there, where lower_case_table_names is 1"],
    }
    assert not any(f.level == "error" for table in planned.tables for f in table.sinks["files"].findings)
    for findings in (planned.findings, [finding for finding, _ in look.check(job, service)]):
        (warning,) = [f for f in findings if f.subject == "sink there" and f.level == "warning"]
        assert warning.text.startswith("lower_case_table_names is 1, and the source tells upper from lower case")


@pytest.mark.mariadb
def test_filters_of_a_sink(mariadb_database: Database, tmp_path: Path) -> None:
    """Shown for each table and sink; one that sees masked values, or that no table has, is warned of, and one that does
    not fit its table is an error there."""
    name = mariadb_database.name
    mariadb_database.execute(
        "CREATE TABLE users (id INT PRIMARY KEY, country CHAR(2), email VARCHAR(40))",
        "CREATE TABLE orders (id INT PRIMARY KEY, total INT)",
    )
    loaded, service = job(mariadb_database, tmp_path)
    path = Path(loaded.path)
    rule = f'"{name}.*": {{}}, {name}.users: {{mask: {{email: hash}}, columns: {{rename: {{country: land}}}}}}'
    text = path.read_text().replace(f'"{name}.*": {{}}', rule)
    one = f'{{{name}.users: "land = \'DE\' OR email IS NULL", {name}.order: "id > 1"}}'
    text = text.replace("one.db}", f"one.db}}, where: {one}").replace("two.db}", "two.db}, where: 'country = 1'")
    path.write_text(text)
    planned = look.plan(load_job(path, [plugins.FOLDER]), service)
    users = next(table for table in planned.tables if table.found.schema.table.name == "users")
    shown, masked = users.sinks["one"].findings
    assert (shown.level, shown.subject) == ("ok", f"{name}.users at one")
    assert shown.text == "only the rows where land = 'DE' OR email IS NULL"
    assert (masked.level, "looks at 'email', which is masked (hash)" in masked.text) == ("warning", True)
    for table in planned.tables:
        (wrong,) = table.sinks["two"].findings
        at = f"{path}:6:{text.splitlines()[5].index('country')} sinks.two.where: "
        assert (wrong.level, wrong.subject) == ("error", f"{table.found.schema.table} at two")
        assert wrong.text.startswith(f"{at}{table.found.schema.table} has no column 'country'"), wrong.text
        assert "[C124]" in wrong.text
    (unused,) = [finding for finding in planned.findings if "sinks.one" in finding.subject]
    assert (unused.level, unused.text) == ("warning", "no table of this sink fits it")
    assert unused.todo == f"did you mean '{name}.orders'?"
