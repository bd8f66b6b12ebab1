"""The command line with odd arguments: what is wrong is said in one line with its code, and the exit code fits."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from syncd import cli, control, logs
from syncd.catalogue import CATALOGUE
from syncd.config import load_job
from syncd.testing.servers.ports import free_port
from tests import plugins
from tests.services.database import Database

Syncd = Callable[[str], tuple[int, str, str]]
"""A command line -> exit code, stdout, stderr."""

JOB = """\
job: shop
source: {{mysql: {{url: "mysql://root@127.0.0.1:{port}"}}}}
tables: {{"{database}.*": {{}}}}
sinks: {{copy: {{sqlite_versioned: {{path: sink.db}}}}}}
"""


@pytest.fixture
def syncd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Syncd]:
    """Runs in a folder of its own; the log's set-up, which is the whole process's, is put back."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "syncd.yaml").write_text(f"plugin_paths: [{plugins.FOLDER}]\n")
    for name in (logs.LEVEL, logs.FORMAT):
        monkeypatch.setenv(name, os.environ.get(name, "info" if name == logs.LEVEL else "auto"))

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["syncd", *shlex.split(line)])
        code: int | str | None = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        assert isinstance(code, int)
        return code, said.out, said.err

    yield run
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("line", "says", "code"),
    [
        ("explain X999", "no error has the code 'X999'", "C109"),
        ("explain ''", "no error has the code ''", "C109"),
        ("schema table", "there is no schema of 'table'; job or service", "C109"),
        ("--log-level loud plugins", "--log-level loud; debug, info", "C109"),
        ("--log-format pretty plugins", "--log-format pretty; auto, text", "C109"),
        ("validate no.yaml", "no.yaml: cannot be read: No such file", "C101"),
        ("validate empty", "empty: holds no job file", "C101"),
        ("check empty", "empty: holds no job file", "C101"),
        ("plan empty", "empty: holds no job file", "C101"),
        ("run empty", "empty: holds no job file", "C101"),
        ("run", "jobs: there is no such file or folder; name a job file, or make this folder", "C101"),
        ("validate bad.yaml no.yaml", "bad.yaml:1:6", "C102"),
        ("status", "syncd-data holds no syncd data", "E166"),
        ("status --data bad.yaml", "bad.yaml holds no syncd data", "E166"),
        ("status --service bad.yaml", "bad.yaml:1:6", "C102"),
        ("jobs pause shop", "holds no syncd data", "E166"),
        ("jobs pause shop --sink ''", "--sink is empty; give it a value, or leave it out", "C109"),
        ("jobs resync shop --table ''", "--table is empty; give it a value, or leave it out", "C109"),
        ("jobs resync shop --table a.b --where ''", "--where is empty; give it a value, or leave it out", "C109"),
        ("jobs pause sh\udce4p", r"'sh\udce4p' is no text in UTF-8", "C109"),
        ("jobs resync shop --table a.b --where n='\udce4'", r"'n=\udce4' is no text in UTF-8", "C109"),
        ("trace shop shop.users 1", "holds no syncd data", "E166"),
        ("run right.yaml --data bad.yaml", "bad.yaml: File exists; syncd keeps its data there; name another", "C129"),
        ("run right.yaml --data bad.yaml/x", "bad.yaml/x: Not a directory; syncd keeps its data there", "C129"),
        ("demo --keep bad.yaml", "--keep bad.yaml: File exists; name a folder", "C109"),
        ("demo --keep .", "--keep .: the folder is not empty; name a new or an empty one", "C109"),
        ("demo --keep /proc/x", "--keep /proc/x: No such file or directory; name a folder", "C109"),
        ("reconcile shop --full", "holds no syncd data", "E166"),
        ("reconcile shop", "give --full", "C130"),
        ("init shop http://x", "not the URL of a source", "C109"),
        (
            "init mysql://h:abc/shop http://x",
            "the port of the source's URL is no number up to 65535; as in mysql://",
            "C109",
        ),
        (
            "init mysql://h/shop http://x:70000",
            "the port of the sink's URL is no number up to 65535; as in http://",
            "C109",
        ),
        ("init postgres://x/y http://x", "'postgres' is not the scheme of a source", "C109"),
    ],
)
def test_odd_arguments(syncd: Syncd, tmp_path: Path, line: str, says: str, code: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.yaml").write_text("job: [\n")
    (tmp_path / "right.yaml").write_text(JOB.format(port=1, database="x"))
    exit_code, out, err = syncd(line)
    assert (exit_code, out) == (2, "")
    assert says in err
    assert f"[{code}]" in err
    assert set(re.findall(r"\[([CE]\d+)\]", err)) <= set(CATALOGUE)
    assert "Traceback" not in err


def test_all_faults_of_several_files(syncd: Syncd, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("job: [\n")
    _, _, err = syncd("validate bad.yaml no.yaml")
    assert [line.split(":")[0] for line in err.splitlines()] == ["bad.yaml", "no.yaml"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", [("warning", "heard"), ("error", "heard")]),
        ("--log-level error", [("error", "heard")]),
        ("--log-format text", None),
    ],
)
def test_the_log_is_as_the_service_file_says_but_for_the_command_line(
    syncd: Syncd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, said: list[tuple[str, str]] | None
) -> None:
    (tmp_path / "syncd.yaml").write_text("log: {level: warning, format: json}\n")
    log = structlog.get_logger()

    def speak(*_: object) -> list[object]:
        for level in ("info", "warning", "error"):
            getattr(log, level)("heard")
        return []

    monkeypatch.setattr(control, "status", speak)
    code, out, err = syncd(f"{options} status")
    assert (code, out) == (0, "")
    if said is None:
        assert (err.count("heard"), err.count("{")) == (2, 0)
    else:
        assert [(word["level"], word["event"]) for word in map(json.loads, err.splitlines())] == said
    assert os.environ[logs.LEVEL] == ("error" if "error" in options else "warning")  # so that workers have it, too


def test_jobs_with_other_settings_of_their_one_queue(syncd: Syncd, tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    queues = {"a": "queues: 3", "b": "embedded: {sync: FULL}", "c": "embedded: {keep_hours: 1, path: there}"}
    for name, queue in queues.items():
        text = JOB.format(port=1, database="x").replace("job: shop", f"job: {name}")
        (tmp_path / f"jobs/{name}.yaml").write_text(f"{text}queue: {{{queue}}}\n")
    code, out, err = syncd("validate jobs")
    assert (code, out) == (2, "")
    keep, path = err.splitlines()
    assert path.startswith("jobs/c.yaml:5:41 queue.embedded.path: path is there here, and queue in jobs/a.yaml; ")
    assert keep.startswith("jobs/c.yaml:5:32 queue.embedded.keep_hours: keep_hours is 1.0 here, and 24.0 in jobs/a")
    assert path.endswith("[C128]")
    assert syncd("validate jobs/a.yaml jobs/b.yaml")[0] == 0


def test_the_schema_knows_the_plugins_of_the_service_file(syncd: Syncd) -> None:
    code, out, _ = syncd("schema job")
    sinks = json.loads(out)["$defs"]["SinkBlock"]["properties"]
    assert code == 0
    assert {"clickhouse", "sqlite_arrival", "sqlite_versioned"} <= set(sinks)
    assert "faults_file" in sinks["sqlite_versioned"]["properties"]


@pytest.mark.parametrize(
    "words",
    [
        "",
        "init",
        "check",
        "validate",
        "plan",
        "run",
        "status",
        "jobs",
        "reconcile",
        "trace",
        "plugins",
        "demo",
        "schema",
    ]
    + [f"jobs {verb}" for verb in ("pause", "resume", "stop", "forget")]
    + ["schema", "explain"],
)
def test_help(syncd: Syncd, words: str) -> None:
    code, out, _ = syncd(f"{words} --help")
    assert code == 0
    assert "Usage:" in out
    assert "--help" in out


def test_init_writes_what_validates_whatever_the_name(syncd: Syncd, tmp_path: Path) -> None:
    for database in ('sh"op', "größe", "a'b", "with space", "back\\slash"):
        code, out, _ = syncd(f"init {shlex.quote(f'mysql://h:1/{database}')} chdb:///tmp/x/y")
        assert code == 0
        (tmp_path / "job.yaml").write_text(out)
        assert [*load_job(tmp_path / "job.yaml").spec.tables] == [f"{database}.*"]


@pytest.mark.mariadb
def test_check_tells_faults_of_the_file_from_a_server_that_is_away(
    syncd: Syncd, mariadb_database: Database, tmp_path: Path
) -> None:
    mariadb_database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    job = tmp_path / "job.yaml"
    job.write_text(JOB.format(port=mariadb_database.port, database=mariadb_database.name))
    assert syncd("check job.yaml")[0] == 0
    job.write_text(job.read_text().replace('"}}\ntables', '", password: wrong}}\ntables'))
    code, out, _ = syncd("check job.yaml")
    assert code == 2
    assert "error source" in out
    assert "refused the log-in" in out
    assert "[E181]" in out
    assert "ok sink copy: connected" in out
    job.write_text(JOB.format(port=free_port(), database="x"))
    code, out, _ = syncd("check job.yaml")
    assert code == 3
    assert "[E120]" in out
    assert syncd("plan job.yaml")[0] == 3
    assert not (tmp_path / "syncd-data").exists()


@pytest.mark.mariadb
def test_plan_cuts_nothing_and_refuses_by_name(syncd: Syncd, mariadb_database: Database, tmp_path: Path) -> None:
    mariadb_database.execute(
        "CREATE TABLE things (id BIGINT UNSIGNED PRIMARY KEY, kind ENUM('a','b') NOT NULL DEFAULT 'a', t TIME(3))",
        "INSERT INTO things VALUES (1, 'a', NULL), (2, 'b', '-01:00:00')",
        "CREATE TABLE heap (a INT)",
        "CREATE TABLE places (id INT PRIMARY KEY, place GEOMETRY)",
    )
    job = JOB.format(port=mariadb_database.port, database=mariadb_database.name)
    job = job.replace("sqlite_versioned: {path: sink.db}", f'clickhouse: {{url: "chdb://{tmp_path}/ch/copy"}}')
    (tmp_path / "job.yaml").write_text(job)
    code, out, err = syncd("plan job.yaml")
    assert code == 2, err
    assert "…" not in out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    name = mariadb_database.name
    assert f"{name}.things about 2 rows, 16,384 bytes" in lines
    assert "id bigint(20) unsigned UInt64 key" in lines
    assert "kind enum('a','b') LowCardinality(String) the member's name" in lines
    assert "t time(3) Nullable(Int64) microseconds" in lines
    assert "ENGINE = ReplacingMergeTree(_version, _deleted)" in lines
    assert any("refused" in line and "no primary key" in line for line in lines)
    assert any("refused" in line and "geometry is not supported" in line for line in lines)
    assert not (tmp_path / "ch" / "copy" / "data").exists()


@pytest.mark.mariadb
def test_names_that_look_like_markup(syncd: Syncd, mariadb_database: Database, tmp_path: Path) -> None:
    """They are planned, copied, shown and compared as they are written."""
    mariadb_database.execute(
        "CREATE TABLE `a[/x]b` (`id[/y]` INT PRIMARY KEY, kind ENUM('[/q]','[red]') NOT NULL)",
        "INSERT INTO `a[/x]b` VALUES (1, '[/q]')",
        "CREATE TABLE `log[old]` (id INT PRIMARY KEY)",
    )
    job = JOB.format(port=mariadb_database.port, database=mariadb_database.name)
    (tmp_path / "job.yaml").write_text(job + "mode: snapshot\n")
    code, out, err = syncd("plan job.yaml")
    assert code == 0, err
    for part in ("log[old]", "a[/x]b", "id[/y]", "enum('[/q]','[red]')"):
        assert part in out
    assert syncd("run job.yaml")[0] == 0
    for command in ("status", "reconcile shop --full"):
        _, out, _ = syncd(command)
        assert f"{mariadb_database.name}.a[/x]b " in out
        assert f"{mariadb_database.name}.log[old] " in out


@pytest.mark.mariadb
def test_a_tag_that_no_table_has_is_warned_of(syncd: Syncd, mariadb_database: Database, tmp_path: Path) -> None:
    mariadb_database.execute("CREATE TABLE orders (id INT PRIMARY KEY)", "CREATE TABLE users (id INT PRIMARY KEY)")
    job = JOB.format(port=mariadb_database.port, database=mariadb_database.name)
    job = job.replace("{path: sink.db}}", '{path: sink.db}, tags: "users || ordres"}')
    (tmp_path / "job.yaml").write_text(job + "mode: snapshot\n")
    said = "warning job.yaml:4:57 sinks.copy.tags: no table has the tag 'ordres' -> did you mean 'orders'?"
    for command in ("check", "plan"):
        code, out, _ = syncd(f"{command} job.yaml")
        assert (code, said in out.splitlines(), out.count("no table has")) == (0, True, 1)
    code, _, err = syncd("--log-format json --log-level warning run job.yaml")
    assert code == 0
    (word,) = [json.loads(line) for line in err.splitlines()]
    assert (word["event"], word["at"]) == ("tag_unmatched", "job.yaml:4:57 sinks.copy.tags")
    assert "'ordres'" in word["what"]


@pytest.mark.mariadb
def test_patterns_that_fit_nothing_and_views_are_warned_of(
    syncd: Syncd, mariadb_database: Database, tmp_path: Path
) -> None:
    name = mariadb_database.name
    mariadb_database.execute(
        "CREATE TABLE users (id INT PRIMARY KEY)",
        "CREATE TABLE orders (id INT PRIMARY KEY)",
        "CREATE VIEW v_users AS SELECT * FROM users",
        "CREATE SEQUENCE numbers",
    )
    job = JOB.format(port=mariadb_database.port, database=name)
    rules = f'"{name}.*": {{}}, {name}.ordrs: {{skip: true}}, "shpo.*": {{}}'
    (tmp_path / "job.yaml").write_text(job.replace(f'"{name}.*": {{}}', rules) + "mode: snapshot\n")
    place = len(f'tables: {{"{name}.*": {{}}, ') + 1
    after = place + len(f"{name}.ordrs: {{skip: true}}, ")
    fits, grants = "no table at the source fits it", "look at its spelling, and at the account's SELECT grants"
    said = [
        f"warning job.yaml:3:{place} tables.{name}.ordrs: {fits} -> did you mean '{name}.orders'?",
        f"warning job.yaml:3:{after} tables.shpo.*: {fits} -> {grants}",
        f"warning {name}.numbers: it is a sequence: '{name}.*' leaves it out",
        f"warning {name}.v_users: it is a view, which has no rows in the log: '{name}.*' leaves it out",
    ]
    for command in ("check", "plan"):
        code, out, _ = syncd(f"{command} job.yaml")
        assert (code, [line for line in out.splitlines() if line in said]) == (0, said)
        assert "refused" not in out
    line = [sys.executable, "-m", "syncd", "--log-format", "json", "--log-level", "warning", "run", "job.yaml"]
    ran = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    words = [json.loads(line) for line in ran.stderr.splitlines()]
    assert (ran.returncode, {word["event"] for word in words}) == (0, {"job_tables"})
    told = [f"warning {word['at']}: {word['what']}{' -> ' if word['hint'] else ''}{word['hint']}" for word in words]
    assert told == said

    (tmp_path / "job.yaml").write_text(job.replace(f'"{name}.*"', f'"{name}.v_users"'))
    code, out, _ = syncd("plan job.yaml")
    assert (code, out.count("refused: ")) == (2, 1)
    assert "refused: it is a view, which has no rows in the log" in out
    assert out.endswith(f"0 of 1 tables would be copied, about 0 rows, 0 bytes\nnot copied: {name}.v_users\n")

    (tmp_path / "job.yaml").write_text(job.replace(f'"{name}.*"', '"shpo.*"'))
    for command in ("check", "plan"):
        code, out, _ = syncd(f"{command} job.yaml")
        assert code == 2
        assert "error tables: job shop: no table to copy; " in out
        assert "[E160]" in out
        assert "0 rows" not in out


@pytest.mark.mariadb
def test_every_column_that_is_not_there_is_told_and_the_job_file_is_to_be_mended(
    syncd: Syncd, mariadb_database: Database, tmp_path: Path
) -> None:
    name = mariadb_database.name
    mariadb_database.execute("CREATE TABLE users (id INT PRIMARY KEY)", "CREATE TABLE orders (id INT PRIMARY KEY)")
    rules = f"{name}.users: {{mask: {{mail: hash, phone: hash}}, columns: {{exclude: [note]}}}}"
    job = JOB.format(port=mariadb_database.port, database=name)
    job = job.replace(f'"{name}.*": {{}}', f"{rules}, {name}.orders: {{}}")
    (tmp_path / "job.yaml").write_text(job + "mode: snapshot\n")
    code, out, _ = syncd("plan job.yaml")
    assert (code, out.count("[C124]")) == (2, 3)
    for column in ("mail", "phone", "note"):
        assert re.search(rf"refused: job.yaml:3:\d+ tables.{name}.users.*: {name}.users has no column '{column}'", out)
    code, _, err = syncd("--log-level error run job.yaml")
    (last,) = [line for line in err.splitlines() if line.startswith("shop: ")]
    assert code == 4
    assert last.startswith(f"shop: {name}.users: not copied: job.yaml:3:")
    assert last.endswith("[C124]; mend the job file, and `syncd apply` it [E152]")
