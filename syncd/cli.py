"""The command line: what `syncd.control` answers, printed for people or with --json for programs.

Commands that ask for no job (init, schema, explain, plugins, demo) call the part that knows.

Exit codes: 0 right, 1 something differs, 2 a fault of configuration, 3 an end cannot be reached, 4 halted, or not
compared, 130 interrupted.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import typer
from rich.text import Text

from syncd import __version__, control, logs, plugins
from syncd import config as configuration
from syncd.catalogue import explain as explain_code
from syncd.config import Faults, Job, Service
from syncd.engine.diff import effect_of
from syncd.errors import ConfigError, PluginError, SyncdError, TransientError
from syncd.model import Finding
from syncd.ops import look
from syncd.ops import status as ops_status
from syncd.ops.reconcile import SAMPLES, Result, Verdict, verdict
from syncd.printing import err, grid_of, out, print_results, show
from syncd.progress import Progress
from syncd.spi import Found

T = TypeVar("T")

RIGHT, DIFFERS, CONFIG, UNREACHABLE, HALTED, INTERRUPTED = 0, 1, 2, 3, 4, 130
COMPARED: dict[Verdict, int] = {"right": RIGHT, "differs": DIFFERS, "not compared": HALTED}

_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
"""What these say of a path is for the user; any other error of the system is a fault of ours."""

app = typer.Typer(
    help="syncd keeps copies of your data right, in other systems.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
jobs_app = typer.Typer(help="Pause, resume or stop jobs, tables and sinks.", no_args_is_help=True)
app.add_typer(jobs_app, name="jobs")

log_said = {"level": "", "format": ""}
"""What the command line says of the log; "": nothing."""

ServicePath = Annotated[Path | None, typer.Option("--service", help="The service file (default: ./syncd.yaml).")]
DataPath = Annotated[Path | None, typer.Option("--data", help="The data directory, before the service file's.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
JobFile = Annotated[Path, typer.Argument(help="A job file.")]


def _text(value: str) -> str:
    """ConfigError: bytes that are no UTF-8, which Python takes in as halves of characters."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        shown = value.encode(errors="backslashreplace").decode()
        hint = "type it in a terminal that speaks UTF-8"
        raise ConfigError(f"'{shown}' is no text in UTF-8", hint=hint, code="C109") from error
    return value


JobName = Annotated[str, typer.Argument(help="A job's name.", callback=_text)]


def main() -> None:
    """The `syncd` command."""
    logs.configure()
    try:
        app()
    except Faults as faults:
        for fault in faults.faults:
            err.print(str(fault))
        sys.exit(CONFIG)
    except SyncdError as error:
        err.print(str(error))
        sys.exit(exit_code(error))
    except OSError as error:
        if error.errno not in _FORBIDDEN or error.filename is None:
            raise
        err.print(f"{error.filename}: {error.strerror}; run as a user who may, or name another path")
        sys.exit(CONFIG)


def exit_code(error: SyncdError) -> int:
    if isinstance(error, ConfigError | PluginError):
        return CONFIG
    return UNREACHABLE if isinstance(error, TransientError) else HALTED


def _service(path: Path | None, data: Path | None = None) -> Service:
    """The service file. What it says of the log holds from here on, where the command line says nothing."""
    loaded = control.service(path, data)
    logs.configure(log_said["level"] or loaded.log.level, log_said["format"] or loaded.log.format)
    return loaded


def _job(path: Path, service: Service) -> Job:
    return control.jobs([path], service)[0]


def _print_findings(findings: Iterable[Finding]) -> bool:
    """Whether none is an error."""
    good = True
    styles = {"ok": "green", "warning": "yellow", "error": "red"}
    for finding in findings:
        out.print(finding.level, style=styles[finding.level], end=" ")
        todo = f" -> {finding.todo}" if finding.todo else ""
        out.print(f"{finding.subject}: {finding.text}{todo}")
        good &= finding.level != "error"
    return good


def version_asked(asked: bool) -> None:
    if asked:
        out.print(f"syncd {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=version_asked, is_eager=True, help="Print it.")
    ] = False,
    log_level: Annotated[
        str,
        typer.Option(
            help="debug, info, warning or error (default: as the service file says, or info).", show_default=False
        ),
    ] = "",
    log_format: Annotated[
        str, typer.Option(help="auto, text or json (default: as the service file says, or auto).", show_default=False)
    ] = "",
) -> None:
    """Options of all commands."""
    if log_level not in {"", "debug", "info", "warning", "error"}:
        raise ConfigError(f"--log-level {log_level}", hint="debug, info, warning or error", code="C109")
    if log_format not in {"", "auto", "text", "json"}:
        raise ConfigError(f"--log-format {log_format}", hint="auto, text or json", code="C109")
    log_said.update(level=log_level, format=log_format)
    logs.configure(log_level or "info", log_format or "auto")


# -- files


@app.command()
def init(
    source: Annotated[str, typer.Argument(help="mysql://user:password@host:port/database")],
    sink: Annotated[str, typer.Argument(help="http://host:8123/database or chdb:///path/database")],
) -> None:
    """Print a job file for two addresses."""
    sys.stdout.write(configuration.skeleton(source, sink))
    if any(urlsplit(url).password for url in (source, sink)):
        err.print("the passwords are left out: the file names the variables that are to hold them")


@app.command()
def validate(
    paths: Annotated[list[Path], typer.Argument(help="Job files or folders.")], service: ServicePath = None
) -> None:
    """Find all faults of job files, without connecting to anything."""
    found = control.jobs(paths, _service(service))
    for job in found:
        _print_findings(job.findings)
        out.print(f"{job.path}: job {job.name} is valid")


@app.command()
def schema(what: Annotated[str, typer.Argument(help="job or service")] = "job", service: ServicePath = None) -> None:
    """Print the JSON Schema of a file, for editors."""
    out.print_json(control.as_json(configuration.json_schema(what, _service(service).plugin_paths)))


@app.command()
def explain(code: Annotated[str, typer.Argument(help="A code such as C107.")]) -> None:
    """Say what an error code means and what to do."""
    try:
        out.print(explain_code(code))
    except KeyError as error:
        raise ConfigError(str(error.args[0]), code="C109") from error


@app.command("plugins")
def list_plugins(service: ServicePath = None, as_json: Json = False) -> None:
    """List sources, sinks and queues."""
    found = plugins.available(_service(service).plugin_paths)
    if as_json:
        for plugin in found:
            print(control.as_json({name: getattr(plugin, name) for name in plugin.__slots__}))  # noqa: T201
        return
    grid = grid_of("kind", "name", "version", "state", "hint")
    for plugin in found:
        grid.add_row(plugin.kind, plugin.name, plugin.version, plugin.state, plugin.hint)
    show(grid)


# -- looking before running


@app.command()
def check(path: JobFile, service: ServicePath = None) -> None:
    """Try connections, grants and server settings."""
    loaded = _service(service)
    findings = [*look.check(_job(path, loaded), loaded)]
    good = _print_findings(finding for finding, _ in findings)
    reached = all(reached for _, reached in findings)
    raise typer.Exit(UNREACHABLE if not reached else RIGHT if good else CONFIG)


@app.command()
def plan(
    path: JobFile,
    service: ServicePath = None,
    later: Annotated[
        bool, typer.Option("--later", help="Only the statements that are left for the cut-over, one to a line.")
    ] = False,
) -> None:
    """Show what a run would do: tables, types, DDL, what is lossy and what is refused."""
    loaded = _service(service)
    planned = look.plan(_job(path, loaded), loaded)
    if later:
        for table in planned.tables:
            for left in table.later:
                out.print(*left.lines(), sep="\n")
        raise typer.Exit(RIGHT)
    copied: list[Found] = []
    refused: list[str] = []
    for table in planned.tables:
        name = str(table.found.schema.table)
        out.print(Text.assemble((name, "bold"), f"  {_size([table.found])}"))
        for reason in table.refusals:
            out.print(f"  refused: {reason}")
        _print_findings(table.found.findings)
        good = not table.refusals
        for sink, target in table.sinks.items():
            grid = grid_of("column", "source", sink, "note")
            for line in target.columns:
                grid.add_row(*line)
            show(grid)
            good &= _print_findings(target.findings)
            for statement in target.ddl:
                out.print(statement, style="dim")
        if table.later:
            out.print(f"left for the cut-over: {len(table.later)} statements (`syncd plan --later`)")
        copied += [table.found] if good else []
        refused += [] if good else [name]
    good = _print_findings(planned.findings)
    if planned.tables:
        out.print(f"{len(copied)} of {len(planned.tables)} tables would be copied, {_size(copied)}")
    if refused:
        out.print(f"not copied: {', '.join(refused)}")
    raise typer.Exit(RIGHT if good and not refused else CONFIG)


def _size(of: Sequence[Found]) -> str:
    return f"about {sum(found.rows for found in of):,} rows, {sum(found.bytes for found in of):,} bytes"


# -- running


@app.command()
def run(
    paths: Annotated[list[Path] | None, typer.Argument(help="Job files or folders (default: the service's).")] = None,
    service: ServicePath = None,
    data: DataPath = None,
) -> None:
    """Run jobs in the foreground until they end or a signal comes."""
    from syncd.api import serving  # no other command needs what that imports

    loaded = _service(service, data)
    jobs = control.jobs(paths or [], loaded)
    with Progress(out, sys.stdout.isatty()) as progress:
        serve = partial(serving, loaded)
        runners = control.run(jobs, loaded, progress.show, draining=progress.draining, serve=serve)
    failures = [runner.failed for runner in runners if runner.failed is not None]
    for failure in failures:
        err.print(str(failure))
    if failures:
        raise typer.Exit(exit_code(failures[0]))
    halted = [f"{runner.name}: {reason}" for runner in runners for reason in runner.halted]
    for reason in halted:
        err.print(reason)
    if halted:
        raise typer.Exit(HALTED)


@app.command()
def status(service: ServicePath = None, data: DataPath = None, as_json: Json = False) -> None:
    """Say where every job stands, how that is known and how old it is."""
    settings = _service(service, data)
    for job in control.status(settings):
        if as_json:
            print(control.as_json(ops_status.facts(job)))  # noqa: T201
            continue
        _print_status(job, settings)


def _print_status(job: ops_status.JobStatus, service: Service) -> None:
    age = "never" if job.source_age is None else f"{job.source_age:.1f} s ago"
    lag = "unknown" if job.lag is None else f"{job.lag:.1f} s"
    out.print(Text.assemble((job.job, "bold"), f" {job.state}"))
    if job.paused:
        out.print(f"  PAUSED: {'; '.join(job.paused)}")
    if job.failed is not None:
        out.print(f"  halted {ops_status.ago(job.failed.since)}: {job.failed.reason}")
    out.print(f"  capture: {lag} behind the source, as saved {age}, at {job.position}")
    out.print(f"  queue: {job.queue_bytes:,} of {job.queue_limit:,} bytes")
    for line in ops_status.coming_lines(job, service.purge_warning, service.queue_warning):
        out.print(f"  {line}")
    for worker in job.workers:
        state = "running" if worker.running else "SILENT"
        out.print(f"  {worker.name} {state}, heard {worker.heard:.1f} s ago ({worker.owner})")
    for line in ops_status.wait_lines(job):
        out.print(f"  {line}")
    for table, halt in job.halted.items():
        out.print(f"  {table} HALTED at capture {ops_status.ago(halt.at)}: {halt.reason}")
    grid = grid_of("table", "sink", "state", "chunks", "rows loaded", "waiting", "since")
    for row in job.tables:
        chunks = f"{row.chunks_done}/{row.chunks}"
        state = f"{row.state}{' at capture' if row.halt else ''}{', paused' if row.paused else ''}"
        grid.add_row(
            str(row.record.table),
            row.record.sink,
            state,
            chunks,
            f"{row.rows:,}",
            str(row.waiting),
            ops_status.ago(row.since),
        )
    show(grid)
    for record in (row.record for row in job.tables if row.record.reason):
        out.print(f"  {record.table} {record.phase} at {record.sink} {ops_status.ago(record.since)}: {record.reason}")
    for line in ops_status.stranger_lines(job):
        out.print(f"  WARNING: {line}")


def _wish(change: Callable[..., T], service: Path | None, data: Path | None, job: str, **part: str | bool) -> T:
    answer = change(_service(service, data), job, **part)
    out.print("saved; a running daemon follows within a second")
    return answer


def _not_empty(context: typer.Context, option: typer.CallbackParam, value: str) -> str:
    """Left out it means all. An empty one is a variable of a script that was not set, which does not."""
    source = context.get_parameter_source(str(option.name))
    if not value and source is not None and source.name == "COMMANDLINE":
        raise ConfigError(f"{option.opts[0]} is empty", hint="give it a value, or leave it out", code="C109")
    return _text(value)


TableOption = Annotated[str, typer.Option("--table", callback=_not_empty, help="database.table")]
SinkOption = Annotated[str, typer.Option("--sink", callback=_not_empty, help="A sink's name.")]
WhereOption = Annotated[
    str, typer.Option("--where", callback=_not_empty, help="Only rows that meet this SQL condition, in place.")
]
SourceOption = Annotated[bool, typer.Option("--source", help="The source: nothing is read, the sinks go on.")]


@jobs_app.command()
def pause(
    job: JobName,
    table: TableOption = "",
    sink: SinkOption = "",
    source: SourceOption = False,
    service: ServicePath = None,
    data: DataPath = None,
) -> None:
    """Let a job, a table, a sink or the source stand still; the queue keeps what comes."""
    _wish(control.pause, service, data, job, table=table, sink=sink, source=source)


@jobs_app.command()
def resume(
    job: JobName,
    table: TableOption = "",
    sink: SinkOption = "",
    source: SourceOption = False,
    service: ServicePath = None,
    data: DataPath = None,
) -> None:
    """Go on, also with tables that halted; without a part every pause ends, and a stop."""
    stuck = _wish(control.resume, service, data, job, table=table, sink=sink, source=source)
    for name, reason in stuck.items():
        out.print(f"{name} cannot go on, and must be loaded anew: {reason}")
    if table and stuck:
        raise typer.Exit(HALTED)


@jobs_app.command()
def forget(job: JobName, service: ServicePath = None, data: DataPath = None) -> None:
    """Delete a job's saved state and queued changes, so that it loads anew. The daemon must be down."""
    control.forget(_service(service, data), job)
    out.print(f"{job} is forgotten; drop its target tables before you run it again")


@jobs_app.command()
def resync(
    job: JobName,
    table: TableOption = "",
    where: WhereOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --where: only show what it would do.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --where: do not ask.")] = False,
    service: ServicePath = None,
    data: DataPath = None,
) -> None:
    """Load one table anew, beside its copies, which it then replaces; the others go on. Without a table: all."""
    loaded = _service(service, data)
    if where:
        _resync_range(loaded, job, table, where, dry_run=dry_run, yes=yes)
        return
    if dry_run or yes:
        raise ConfigError("--dry-run and --yes go with --where", hint="leave them out", code="C109")
    control.resync(loaded, job, table)
    what = table or "its tables"
    out.print(f"saved; a running daemon begins within a second, and `syncd status` shows {what} in SNAPSHOT")


def _resync_range(service: Service, name: str, table: str, where: str, *, dry_run: bool, yes: bool) -> None:
    """What would be written is shown first."""
    if not table:
        raise ConfigError("--where is a condition on one table", hint="name it by --table", code="C109")
    job = control.saved_job(service, name)
    found = control.span(service, job, table, where)
    for sink, extra in found.extra.items():
        gone = f"{len(extra)} rows that meet the condition there only, deleted or replaced"
        out.print(f"{table} at {sink}: {len(found.rows)} rows are read again and written; {gone}, as they are then")
    if not found.keys:
        out.print("no row meets the condition")
    elif not dry_run and (yes or _agreed("Read these rows again?")):
        count = control.read_again(service, job, found)
        out.print(f"saved: {count} rows are read again when their lanes come to them")


@jobs_app.command()
def stop(
    job: JobName, table: TableOption = "", sink: SinkOption = "", service: ServicePath = None, data: DataPath = None
) -> None:
    """Drain a job and keep it stopped until it is resumed; a table or a sink alone is paused."""
    _wish(control.stop, service, data, job, table=table, sink=sink)


@app.command()
def apply(
    path: JobFile,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    service: ServicePath = None,
    data: DataPath = None,
) -> None:
    """Show what a job file changes in the job that runs, and make it so."""
    loaded = _service(service, data)
    job = _job(path, loaded)
    changes = control.changes(loaded, job)
    for change in changes:
        out.print(str(change), style=_EFFECTS[change.effect])
    effect = effect_of(changes)
    if effect == "refused":
        err.print("refused: nothing is changed")
        raise typer.Exit(CONFIG)
    if not changes:
        out.print(f"{job.path} says what job {job.name} does already")
    if dry_run:
        raise typer.Exit(RIGHT)
    if changes and not yes and not _agreed():
        raise typer.Exit(RIGHT)
    at = control.apply(loaded, job)
    answer = control.answered(loaded, job.name, at)
    if answer is None:
        out.print("saved; the job follows with its next start")
    elif answer.text:
        err.print(f"refused by the daemon, which goes on as before: {answer.text}")
        raise typer.Exit(CONFIG)
    else:
        out.print("the job starts anew" if effect in {"restart", "resnapshot"} else "the job follows")


_EFFECTS = {"live": "green", "restart": "yellow", "resnapshot": "yellow", "refused": "red"}


def _agreed(question: str = "Apply this?") -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("nobody can be asked here", hint="give --yes, or --dry-run to look only", code="C109")
    return typer.confirm(question)


# -- proof


@app.command()
def reconcile(
    job: JobName,
    full: Annotated[bool, typer.Option("--full", help="Every value of every row, at both ends.")] = False,
    tables: Annotated[list[str] | None, typer.Option("--table", help="Only these.")] = None,
    show: Annotated[int, typer.Option("--show", min=0, help="Rows of each kind that are named.")] = SAMPLES,
    repair: Annotated[bool, typer.Option("--repair", help="Read rows that differ again, and write them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what a repair would do.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    service: ServicePath = None,
    data: DataPath = None,
    as_json: Json = False,
) -> None:
    """Compare source and sinks; with --repair, mend what differs."""
    if not full:
        raise ConfigError("reconcile by digests is not there yet", hint="give --full", code="C130")
    loaded = _service(service, data)
    saved = control.saved_job(loaded, job)
    results = control.reconcile(loaded, saved, tables or [], keep=repair, samples=show)
    print_results(results, as_json)
    left_out = control.left_out(loaded, saved, tables or [])
    for table, reason in left_out.items():
        if as_json:
            print(control.as_json({"table": table, "left_out": reason}))  # noqa: T201
        else:
            out.print(f"{table} was not compared: {reason}")
    if not results:
        err.print("nothing was compared")
    if repair:
        _repair(loaded, saved, results, dry_run=dry_run, yes=yes)
    raise typer.Exit(COMPARED[verdict(results, left_out)])


def _repair(service: Service, job: Job, results: list[Result], *, dry_run: bool, yes: bool) -> None:
    """What would be written is shown first. A table that was not compared to the end is left as it is."""
    mended = [result for result in results if result.keys and not result.unsettled]
    for result in mended:
        what = f"{result.missing} written, {result.extra} deleted, {result.different} replaced"
        out.print(f"{result.table} at {result.sink}: {len(result.keys)} rows are read again: {what}, as they are then")
    if not mended:
        out.print("nothing to repair")
    elif not dry_run and (yes or _agreed("Repair this?")):
        count = control.repair(service, job, mended)
        out.print(f"saved: {count} rows are read again when their lanes come to them; compare once more to see")


@app.command(context_settings={"ignore_unknown_options": True})  # a key may be a negative number
def trace(
    job: JobName,
    table: Annotated[str, typer.Argument(help="database.table")],
    key: Annotated[str, typer.Argument(help='The key; several columns as JSON: [1, "a"]')],
    service: ServicePath = None,
    data: DataPath = None,
    as_json: Json = False,
) -> None:
    """Follow one row: each retained change of its key, and every operator that it passed."""
    loaded = _service(service, data)
    changes = control.trace(loaded, control.saved_job(loaded, job), table, key)
    for change in changes:
        if as_json:
            print(control.as_json(control.change_facts(change)))  # noqa: T201
            continue
        lane = f"{change.lane.tag}/{change.lane.queue}"
        out.print(f"{change.op.name} seq {change.seq}")
        out.print(f"  source   committed {ops_status.when(change.committed)}")
        out.print(f"  capture  {ops_status.when(change.captured)}, trace {change.trace}")
        out.print(f"  queue    lane {lane} offset {change.offset}")
        for hop in change.hops:
            out.print(f"  {hop.operator}  {ops_status.when(hop.at)}, took {hop.took / 1000:.1f} ms, {hop.outcome}")
        if not change.hops:
            out.print("  no sink has applied it yet")
    if not changes:
        err.print(f"no change of {table} {key} is retained")


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=0, help="How long the writer keeps changing the shop.")] = 20.0,
    rows: Annotated[int, typer.Option(min=1, help="Rows in the sample shop before the run.")] = 50_000,
    corrupt: Annotated[bool, typer.Option(help="Change one value at the sink before the comparison.")] = False,
    keep: Annotated[Path | None, typer.Option(help="Keep everything in this folder.")] = None,
) -> None:
    """A private database, a shop that changes, a live copy in ClickHouse, and the proof that it is right."""
    if absent := [name for name in ("pymysql", "clickhouse_connect", "chdb") if find_spec(name) is None]:
        hint = "pip install '.[demo]' in the checkout of syncd"
        raise PluginError(f"the demo needs {', '.join(absent)}", hint=hint, code="E110")
    from syncd import demo as shop_demo

    try:
        code = COMPARED[shop_demo.run(out, seconds=seconds, rows=rows, corrupt=corrupt, keep=keep)]
    except KeyboardInterrupt:
        out.print("interrupted")
        code = INTERRUPTED
    raise typer.Exit(code)
