"""The verbs on jobs and on what they have saved (those on a job before it runs: `ops.look`), each once.

The CLI only calls these and prints what they answer; so will every other face.

What concerns a running daemon goes through the saved state, so that it is valid while the daemon is down, too.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import cast

from syncd.config import Faults, Job, Service, load_directory, load_job, load_service, not_yet, parse_job
from syncd.engine import queue_used
from syncd.engine import trace as engine_trace
from syncd.engine.build import Parts, clock
from syncd.engine.daemon import Daemon
from syncd.engine.job import DRAINS, JobRunner
from syncd.errors import ConfigError, FatalError, StateError, TransientError
from syncd.model import TableId
from syncd.ops import reconcile as ops_reconcile
from syncd.ops.reconcile import Result
from syncd.ops.settle import End, daemon_runs
from syncd.spi import Lease, LeaseState, Queue, Sink, Source
from syncd.state import STANDING, Failure, Halt, Phase, State, TableRecord, Wait, Wish, paused_part
from syncd.tags import tag_of

HEARTBEATS = 3
"""A worker that has not been heard for this many heartbeats is not shown as running."""


# -- files


def service(path: Path | None, data: Path | None = None) -> Service:
    """The service file (default: `syncd.yaml` here, if there is one); `data` goes before its data directory."""
    found = path or (Path("syncd.yaml") if Path("syncd.yaml").exists() else None)
    loaded = load_service(found)
    return loaded if data is None else loaded.model_copy(update={"data": data.absolute()})


def jobs(paths: Sequence[Path], service: Service) -> list[Job]:
    """The jobs of files and folders. Faults: everything wrong with all of them."""
    found: list[Job] = []
    faults: list[ConfigError] = []
    for path in paths or [service.jobs]:
        try:
            if path.is_dir():
                found += load_directory(path, service.plugin_paths)
            else:
                found.append(load_job(path, service.plugin_paths))
        except ConfigError as error:
            faults += error.faults if isinstance(error, Faults) else [error]
    for job in found:
        faults += not_yet(job)
    faults += _other_queues(found)
    names = [job.name for job in found]
    for job in found:
        if names.count(job.name) > 1:
            faults.append(job.fault(("job",), f"the job name '{job.name}' is taken", code="C122"))
    if faults:
        raise Faults(faults)
    if not found:
        where = ", ".join(str(path) for path in paths or [service.jobs])
        raise ConfigError("holds no job file", path=where, hint="a job file ends in .yaml or .yml", code="C101")
    return found


def _other_queues(jobs: Sequence[Job]) -> Iterator[ConfigError]:
    """The jobs of one daemon share one queue: those that say other things of it than the first one does."""
    ready = [job for job in jobs if job.queue.options is not None]
    for job in ready[1:]:
        first, key = ready[0], ("queue", job.queue.plugin)
        if job.queue.plugin != first.queue.plugin:
            what = f"the queue is {job.queue.plugin} here, and {first.queue.plugin} in {first.path}"
            yield job.fault(key, what, code="C128", hint=_ONE_QUEUE)
            continue
        for name in type(job.queue.options).model_fields:
            here, there = getattr(job.queue.options, name), getattr(first.queue.options, name)
            if here != there:
                what = f"{name} is {here} here, and {there} in {first.path}"
                what = first.secrets.hide(job.secrets.hide(what))
                yield job.fault((*key, name), what, code="C128", hint=_ONE_QUEUE)


_ONE_QUEUE = "the jobs of one daemon share one queue: say the same of it in each, or give them two data directories"


# -- running


def run(
    jobs: Sequence[Job],
    service: Service,
    watch: Callable[[Sequence[JobRunner]], None] = lambda _: None,
    until: Callable[[Sequence[JobRunner]], bool] = lambda _: False,
    draining: Callable[[], None] = lambda: None,
) -> list[JobRunner]:
    """Host the jobs in the foreground until they end or a signal comes. The runners say how each ended."""
    daemon = Daemon([Parts(job, service) for job in jobs], watch, draining)
    daemon.run(until)
    return daemon.runners


# -- asking


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """`heard`: seconds since its lease was last renewed."""

    name: str
    owner: str
    heard: float
    running: bool


@dataclass(frozen=True, slots=True)
class TableStatus:
    """`waiting`: messages in the table's lanes that are not applied yet; `paused`: somebody wants it to stand still.

    `halt`: why capture has left the table, where the sink itself would go on.
    """

    record: TableRecord
    chunks: int
    chunks_done: int
    rows: int
    waiting: int
    paused: bool
    halt: Halt | None

    @property
    def state(self) -> Phase:
        """HALTED also where capture has left the table: what is at the sink does not follow."""
        return self.record.phase if self.halt is None else Phase.HALTED

    @property
    def since(self) -> int:
        return self.record.since if self.halt is None else self.halt.at

    @property
    def reason(self) -> str:
        return self.record.reason if self.halt is None else self.halt.reason


@dataclass(frozen=True, slots=True)
class JobStatus:
    """`source_age`: seconds since capture last saved its progress; `lag`: how far that was behind the source then.

    `halted`: tables that capture has left, with their reasons. `failed`: why the whole job is HALTED.
    """

    job: str
    state: str
    position: str
    source_age: float | None
    lag: float | None
    workers: tuple[WorkerStatus, ...]
    tables: tuple[TableStatus, ...]
    halted: dict[str, Halt]
    failed: Failure | None
    waits: dict[str, Wait]
    queue_bytes: int
    queue_limit: int


@contextmanager
def opened_queue(service: Service) -> Iterator[Queue]:
    """The queue that the daemon works with, without a job file."""
    used = queue_used.recall(service)
    if used is None:
        raise ConfigError(f"{service.data} holds no syncd data", hint="give the daemon's --data", code="E166")
    queue = used.make(service)
    queue.open()
    try:
        used.check(service, queue)
        yield queue
    finally:
        queue.close()


def job_names(queue: Queue) -> list[str]:
    return sorted(key.split("/")[1] for key in queue.scan("job/") if key.endswith("/meta"))


def status(service: Service) -> list[JobStatus]:
    """Every job of the data directory, from its saved state: valid whether the daemon runs or not."""
    with opened_queue(service) as queue:
        return [_status(service, queue, name) for name in job_names(queue)]


def _status(service: Service, queue: Queue, job: str) -> JobStatus:
    state = State(queue, job)
    heard = HEARTBEATS * service.heartbeat
    workers = tuple(_worker(lease, heard) for lease in queue.leases(f"job/{job}/"))
    record = state.source()
    age = None if record is None else max(0.0, (clock() - record.saved) / 1e6)
    lag = None if record is None or not record.time else max(0.0, (record.saved - record.time) / 1e6)
    used, limit = queue.usage()
    tables, wish, halts = state.tables(), state.wish(), state.halts()
    word, waits = _job_state(workers, state, age, heard), state.waits()
    if word == "WAITING" and not waits:
        waits = {"run": Wait("it starts", int(str((state.meta() or {}).get("started", 0))))}
    waiting = {sink: _waiting(queue, f"{job}/{sink}") for sink in {table.sink for table in tables}}
    return JobStatus(
        job,
        word,
        "" if record is None else record.position,
        age,
        lag,
        workers,
        tuple(_table(state, table, waiting[table.sink], wish, halts.get(table.table)) for table in tables),
        {str(table): halt for table, halt in halts.items()},
        state.failure(),
        waits,
        used,
        limit,
    )


def wait_lines(job: JobStatus) -> list[str]:
    """What waits, since when, why; and how old that word is: the daemon saves every change of it at once."""
    heard = next((worker for worker in job.workers if worker.name == f"job/{job.job}/run"), None)
    known = f"by the daemon, heard {heard.heard:.1f} s ago" if heard else "by a daemon that has ended"
    now = clock()
    return [
        f"{name} waits for {max(0.0, (now - wait.since) / 1e6):.1f} s: {wait.reason} ({known})"
        for name, wait in sorted(job.waits.items())
    ]


def _worker(state: LeaseState, heard: float) -> WorkerStatus:
    return WorkerStatus(state.lease.name, state.lease.owner, state.age, state.live and state.age <= heard)


def _job_state(workers: Sequence[WorkerStatus], state: State, age: float | None, heard: float) -> str:
    """HALTED: the run that failed has said why, and none has begun since.

    RUNNING only when every worker that the job needs was heard, and nothing has waited, for three heartbeats.

    WAITING: the workers say for what, or one is not heard, or the job has just begun. STALLED: nobody says anything.
    """
    running = {worker.name.split("/", 2)[2] for worker in workers if worker.running}
    wish, meta = state.wish(), state.meta() or {}
    needed = {f"deliver/{sink}" for sink in cast("dict[str, object]", meta.get("sinks", {}))}
    captures = "cdc" in str(meta.get("mode", "")) and age is not None
    begun = (clock() - int(str(meta.get("started", 0)))) / 1e6
    if state.failure() is not None:
        return "HALTED"
    if wish.stopped:
        return "STOPPED"
    if "run" not in running:
        return "DOWN"
    waits = state.waits().values()
    if any(wait.reason == DRAINS for wait in waits):
        return "DRAINING"
    if "" in wish.paused:
        return "PAUSED"
    if not needed <= running or (captures and "capture" not in running):
        return "WAITING" if begun <= heard else "STALLED"
    if any(clock() - wait.since > heard * 1e6 for wait in waits):
        return "WAITING"
    idle = max(heard, HEARTBEATS * float(str(meta.get("heartbeat", 0.0))))
    if not captures or (age or 0.0) <= idle:
        return "RUNNING"
    return "WAITING" if begun <= idle else "STALLED"


def _waiting(queue: Queue, group: str) -> Counter[str]:
    """Tag -> messages that the group has not applied yet. A job has a lane for each queue of each table: read once."""
    waiting: Counter[str] = Counter()
    for lane, (start, end) in queue.lanes(group).items():
        waiting[lane.tag] += end - start
    return waiting


def _table(state: State, record: TableRecord, waiting: Counter[str], wish: Wish, halt: Halt | None) -> TableStatus:
    done = state.done(record.sink, record.table)
    tag = tag_of(record.table.database, record.table.name)
    chunks = len(state.chunks(record.sink, record.table))
    rows = sum(d.rows for d in done.values())
    paused = wish.pauses(record.sink, record.table)
    halt = None if record.phase in STANDING else halt
    return TableStatus(record, chunks, len(done), rows, waiting[tag], paused, halt)


# -- telling


@contextmanager
def _changing(service: Service, job: str) -> Iterator[tuple[Queue, State, Lease]]:
    """What is asked of a job changes; the daemon sees it within a second, or at its next start."""
    with opened_queue(service) as queue:
        state = _known_state(service, queue, job)
        with _held(queue, f"job/{job}/wish") as lease:
            yield queue, state, lease


def pause(service: Service, job: str, *, table: str = "", sink: str = "") -> Wish:
    """A write that is under way is finished."""
    with _changing(service, job) as (queue, state, lease):
        part, before = _known_part(state, job, table, sink), state.wish()
        after = replace(before, paused=tuple(sorted({*before.paused, part})))
        queue.put(lease, state.wish_item(after))
        return after


def resume(service: Service, job: str, *, table: str = "", sink: str = "") -> dict[str, str]:
    """Takes the pause of the part back, without one every pause and the stop of the job; tables that halted go on from
    where they stopped.

    Answers what it cannot help: tables that halted at capture, with their reasons.
    """
    with _changing(service, job) as (queue, state, lease):
        part, before = _known_part(state, job, table, sink), state.wish()
        after = Wish(tuple(p for p in before.paused if part and p != part), bool(part) and before.stopped)
        queue.put(lease, state.wish_item(after))
        for record in state.tables(sink):
            if record.phase is Phase.HALTED and record.resume and table in ("", str(record.table)):
                again = replace(record, phase=record.resume, resume=None, reason="", since=clock())
                queue.put(lease, state.table_item(again))
            elif record.phase is Phase.NEEDS_RESYNC and table == str(record.table):
                raise StateError(f"it cannot go on: {record.reason}", code="E158")
        return {str(name): halt.reason for name, halt in state.halts().items() if table in ("", str(name))}


def stop(service: Service, job: str, *, table: str = "", sink: str = "") -> Wish:
    """The job's processes drain and end; a table or a sink alone is paused."""
    if table or sink:
        return pause(service, job, table=table, sink=sink)
    with _changing(service, job) as (queue, state, lease):
        after = replace(state.wish(), stopped=True)
        queue.put(lease, state.wish_item(after))
        return after


def forget(service: Service, job: str) -> None:
    """Delete all saved state of a job, its groups and with them its queued changes."""
    with opened_queue(service) as queue:
        if daemon_runs(queue, job):
            raise StateError(f"job {job} is running", hint="stop the daemon first", code="E161")
        state = _known_state(service, queue, job)
        for sink in cast("dict[str, object]", (state.meta() or {}).get("sinks", {})):
            queue.unsubscribe(f"{job}/{sink}")
        with _held(queue, f"job/{job}/wish") as lease:
            queue.put(lease, state.forget_items())


def _known_state(service: Service, queue: Queue, job: str) -> State:
    state = State(queue, job)
    if state.meta() is None:
        raise _unknown(f"no job '{job}' in {service.data}", job_names(queue))
    return state


def _known_part(state: State, job: str, table: str, sink: str) -> str:
    _know_tables(state, job, [table] if table else [])
    known = cast("dict[str, object]", (state.meta() or {}).get("sinks", {}))
    if sink and sink not in known:
        raise _unknown(f"job {job} has no sink '{sink}'", known)
    return paused_part(table, sink)


def _know_tables(state: State, job: str, tables: Iterable[str]) -> None:
    known = {str(record.table) for record in state.tables()} | {str(name) for name in state.halts()}
    for table in tables:
        if table not in known:
            raise _unknown(f"job {job} has no table '{table}'", known)


def _unknown(what: str, known: Iterable[str]) -> ConfigError:
    return ConfigError(what, hint=f"there is: {', '.join(sorted(known)) or 'none'}", code="E167")


@contextmanager
def _held(queue: Queue, name: str) -> Iterator[Lease]:
    end = time.monotonic() + 5
    while (lease := queue.acquire(name, f"command:{os.getpid()}", 5.0)) is None:
        if time.monotonic() > end:
            raise TransientError("another syncd command is changing this job", hint="try again", code="E168")
        time.sleep(0.05)
    try:
        yield lease
    finally:
        queue.release(lease)


def saved_job(service: Service, name: str) -> Job:
    """The job as its last run had it."""
    with opened_queue(service) as queue:
        meta = _known_state(service, queue, name).meta() or {}
    return parse_job(str(meta["text"]), str(meta["path"]), service.plugin_paths)


def trace(service: Service, job: Job, table: str, key: str) -> list[engine_trace.Change]:
    """The retained changes of one key, oldest first, with their hops."""
    wanted = TableId.parse(table)
    with opened_queue(service) as queue:
        known = State(queue, job.name).schemas()
        if wanted not in known:
            whole = wanted.database and wanted.name
            what = f"job {job.name} has no table '{table}'" if whole else f"'{table}' is not database.table"
            raise _unknown(what, map(str, known))
        return list(engine_trace.trace(Parts(job, service), queue, wanted, key))


def reconcile(
    service: Service,
    job: Job,
    tables: Sequence[str] = (),
    said: Callable[[Result], None] = lambda _: None,
    settle_seconds: float = 60.0,
) -> list[Result]:
    """Compare every value of every table at both ends; `said` hears each table's result as it comes.

    Tables that stand still are compared as they are, and their results say so. See also `left_out`.
    """
    parts = Parts(job, service)
    results = []
    with opened_queue(service) as queue:
        state = State(queue, job.name)
        _know_tables(state, job.name, tables)
        source = parts.make_source()
        source.open()
        try:
            for name in job.sinks:
                sink = parts.reach_sink(name) if daemon_runs(queue, job.name) else parts.make_sink(name)
                sink.open()
                try:
                    for record in state.tables(name):
                        if tables and str(record.table) not in tables:
                            continue
                        result = _compared(source, sink, End(queue, state, parts, source, record), settle_seconds)
                        said(result)
                        results.append(result)
                finally:
                    sink.close()
        finally:
            source.close()
    return results


def _compared(source: Source, sink: Sink, end: End, settle_seconds: float) -> Result:
    record, parts = end.record, end.parts
    versions = end.state.schemas(record.table)[record.table]
    pair = versions[max(versions)]
    try:
        result = ops_reconcile.reconcile(
            source,
            sink,
            record.sink,
            pair.source,
            parts.transform(pair.source),
            parts.target(record.sink, pair.published),
            parts.job.snapshot.chunk_bytes,
            partial(end.settled, settle_seconds),
        )
    except FatalError as error:
        if error.table != str(record.table):
            raise
        # Gone at one end, say: that must not keep the other tables from being compared.
        why = "; ".join(filter(None, [end.stands(), str(error)]))
        return Result(record.table, record.sink, unsettled=why)
    result.unsettled = end.stands() or result.unsettled
    return result


def left_out(service: Service, job: Job, tables: Sequence[str] = ()) -> dict[str, str]:
    """Tables that `reconcile` cannot compare, since they are at no sink: they were refused. With their reasons."""
    with opened_queue(service) as queue:
        state = State(queue, job.name)
        at_sinks = {record.table for record in state.tables()}
        halts = state.halts().items()
        return {str(t): halt.reason for t, halt in halts if t not in at_sinks and (not tables or str(t) in tables)}


def as_json(value: object) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


# -- answers as plain values


def when(micros: int) -> str:
    """Microseconds since 1970 as a time for people."""
    if not micros:
        return "at an unknown time"
    return datetime.fromtimestamp(micros / 1e6, UTC).isoformat(timespec="milliseconds")


def ago(micros: int) -> str:
    """How long ago that was."""
    return f"{max(0.0, (clock() - micros) / 1e6):.1f} s ago" if micros else "at an unknown time"


def status_facts(job: JobStatus) -> dict[str, object]:
    return {
        **asdict(replace(job, tables=(), halted={}, waits={}, failed=None)),
        "failed": None if job.failed is None else {"reason": job.failed.reason, "since": when(job.failed.since)},
        "halted": {table: {"reason": halt.reason, "since": when(halt.at)} for table, halt in job.halted.items()},
        "waits": {name: {"reason": wait.reason, "since": when(wait.since)} for name, wait in job.waits.items()},
        "tables": [
            {
                "table": str(row.record.table),
                "sink": row.record.sink,
                "state": row.state,
                "since": when(row.since),
                "reason": row.reason,
                "chunks": row.chunks,
                "chunks_done": row.chunks_done,
                "rows": row.rows,
                "waiting": row.waiting,
                "paused": row.paused,
            }
            for row in job.tables
        ],
    }


def result_facts(result: Result) -> dict[str, object]:
    return {**asdict(result), "table": str(result.table), "right": result.right}


def change_facts(change: engine_trace.Change) -> dict[str, object]:
    return {**asdict(change), "op": change.op.name}
