"""Every verb of syncd once. The CLI only calls these and prints what they answer; so will every other face.

What concerns a running daemon goes through the saved state, so that it is valid while the daemon is down, too.
"""

from __future__ import annotations

import json
import os
import time
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
from syncd.engine.job import JobRunner
from syncd.errors import ConfigError, FatalError, StateError, SyncdError, TransientError
from syncd.model import Finding, Head, Lane, TableId, TargetPlan
from syncd.ops import reconcile as ops_reconcile
from syncd.ops.reconcile import Result
from syncd.spi import Found, Lease, LeaseState, Queue, Sink, Source
from syncd.state import STANDING, Failure, Phase, State, TableRecord, Wait, Wish, paused_part
from syncd.tags import tag_of

ASSUMED_BYTES_PER_S = 20e6
"""What a load reads in a second where no throttle is lower: with two readers on a small machine."""
LOG_MARGIN = 2
"""Estimates are rough: a load that takes more than this part of the time for which the log is kept is warned of."""
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


# -- looking before running


def check(job: Job, service: Service) -> Iterator[tuple[Finding, bool]]:
    """Connections, grants and settings of every end, one finding each; never stops at the first.

    With each finding: whether the end that it is about could be reached.
    """
    parts = Parts(job, service)
    yield from ((finding, True) for finding in job.findings)
    ends: list[tuple[str, Source | Sink]] = [
        ("source", parts.make_source()),
        *((f"sink {name}", parts.make_sink(name)) for name in job.sinks),
    ]
    for name, end in ends:
        try:
            end.open()
            yield Finding("ok", name, "connected"), True
            yield from ((finding, True) for finding in end.check())
            if name == "source" and any(sink.tags != "*" for sink in job.sinks.values()):
                tables = [found.schema.table for found in cast(Source, end).tables(parts.wants)]
                yield from ((finding, True) for finding in parts.unmatched_tags(tables))
        except SyncdError as error:
            yield Finding("error", name, str(error)), not isinstance(error, TransientError)
        finally:
            end.close()


@dataclass(frozen=True, slots=True)
class TablePlan:
    """One table as a run would copy it: what is at the source, and per sink what it becomes."""

    found: Found
    refusals: tuple[str, ...]
    sinks: dict[str, TargetPlan]


@dataclass(frozen=True, slots=True)
class JobPlan:
    """`findings`: what of the source stands in the way, or may; none of them is "ok" but the load's time."""

    findings: tuple[Finding, ...]
    tables: list[TablePlan]


def plan(job: Job, service: Service) -> JobPlan:
    """What a run would do, for every wanted table. Reads both ends, writes nothing."""
    parts = Parts(job, service)
    source = parts.make_source()
    source.open()
    try:
        found = source.tables(parts.wants)
        findings = [finding for finding in source.check() if finding.level != "ok"]
        findings += parts.unmatched_tags([table.schema.table for table in found])
        kept = source.log_kept()
    finally:
        source.close()
    sinks = {name: parts.make_sink(name) for name in job.sinks}
    plans = []
    for sink in sinks.values():
        sink.open()
    try:
        for table, refusals in zip(found, parts.refused(found).values(), strict=True):
            targets: dict[str, TargetPlan] = {}
            if not refusals:
                published = parts.transform(table.schema).schema
                for name in parts.sinks_of(table.schema.table):
                    targets[name] = sinks[name].plan(parts.target(name, published))
            plans.append(TablePlan(table, refusals, targets))
    finally:
        for sink in sinks.values():
            sink.close()
    if parts.loads:
        findings += _load_time(parts, plans, kept)
    return JobPlan(tuple(findings), plans)


def _load_time(parts: Parts, plans: Sequence[TablePlan], kept: float | None) -> Iterator[Finding]:
    """How long the load may take, and whether the source keeps its log for so long. Each sink reads by itself."""
    reads = [(plan.found.rows, plan.found.bytes) for plan in plans for _ in plan.sinks]
    rows, size = sum(rows for rows, _ in reads), sum(size for _, size in reads)
    seconds, why = size / ASSUMED_BYTES_PER_S, f"{ASSUMED_BYTES_PER_S / 1e6:g} MB/s, which is an assumption"
    limit = parts.job.throttle.rows_per_s
    if limit and rows / limit > seconds:
        seconds, why = rows / limit, f"{limit:g} rows/s, the throttle"
    text = f"the load takes about {_long(seconds)}: {rows:,} rows, {size / 1e6:,.0f} MB, at {why}"
    if parts.captures and kept is not None and seconds > kept / LOG_MARGIN:
        text += (
            f"; the source keeps its log for {_long(kept)}: if capture stands still meanwhile (a full queue, a stop of "
            "the daemon) its place in the log is lost, and the load begins anew"
        )
        yield Finding("warning", "load time", text, "let the source keep its log for longer, or load faster")
    else:
        yield Finding("ok", "load time", text)


def _long(seconds: float) -> str:
    """A time for people."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"


# -- running


def run(
    jobs: Sequence[Job],
    service: Service,
    watch: Callable[[Sequence[JobRunner]], None] = lambda _: None,
    until: Callable[[Sequence[JobRunner]], bool] = lambda _: False,
) -> list[JobRunner]:
    """Host the jobs in the foreground until they end or a signal comes. The runners say how each ended."""
    daemon = Daemon([Parts(job, service) for job in jobs], watch)
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
    """`waiting`: messages in the table's lanes that are not applied yet; `paused`: somebody wants it to stand still."""

    record: TableRecord
    chunks: int
    chunks_done: int
    rows: int
    waiting: int
    paused: bool


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
    halted: dict[str, str]
    halted_since: dict[str, int]
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
    halts = {str(table): halt for table, halt in state.halts().items()}
    return JobStatus(
        job,
        _job_state(workers, state, age, heard),
        "" if record is None else record.position,
        age,
        lag,
        workers,
        tuple(_table(queue, state, job, table) for table in state.tables()),
        {table: halt.reason for table, halt in halts.items()},
        {table: halt.at for table, halt in halts.items()},
        state.failure(),
        state.waits(),
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

    WAITING: the workers say for what, or one is not heard. STALLED: nobody says anything.
    """
    running = {worker.name.split("/", 2)[2] for worker in workers if worker.running}
    wish, meta = state.wish(), state.meta() or {}
    needed = {f"deliver/{sink}" for sink in cast("dict[str, str]", meta.get("sinks", {}))}
    captures = "cdc" in str(meta.get("mode", "")) and age is not None
    if state.failure() is not None:
        return "HALTED"
    if wish.stopped:
        return "STOPPED"
    if "run" not in running:
        return "DOWN"
    if "" in wish.paused:
        return "PAUSED"
    if not needed <= running or (captures and "capture" not in running):
        return "STALLED"
    if any(clock() - wait.since > heard * 1e6 for wait in state.waits().values()):
        return "WAITING"
    idle = max(heard, HEARTBEATS * float(str(meta.get("heartbeat", 0.0))))
    return "STALLED" if captures and (age or 0.0) > idle else "RUNNING"


def _table(queue: Queue, state: State, job: str, record: TableRecord) -> TableStatus:
    done = state.done(record.sink, record.table)
    tag = tag_of(record.table.database, record.table.name)
    lanes = queue.lanes(f"{job}/{record.sink}")
    waiting = sum(end - start for lane, (start, end) in lanes.items() if lane.tag == tag)
    chunks = len(state.chunks(record.sink, record.table))
    paused = state.wish().pauses(record.sink, record.table)
    return TableStatus(record, chunks, len(done), sum(d.rows for d in done.values()), waiting, paused)


# -- telling


def wish(service: Service, job: str, change: Callable[[Wish], Wish]) -> Wish:
    """Change what is asked of a job; the daemon sees it within a second, or at its next start."""
    with opened_queue(service) as queue, _held(queue, f"job/{job}/wish") as lease:
        state = _known_state(service, queue, job)
        after = change(state.wish())
        queue.put(lease, state.wish_item(after))
        return after


def pause(service: Service, job: str, *, table: str = "", sink: str = "") -> Wish:
    """A write that is under way is finished."""
    part = paused_part(_known_table(service, job, table), _known_sink(service, job, sink))
    return wish(service, job, lambda w: replace(w, paused=tuple(sorted({*w.paused, part}))))


def resume(service: Service, job: str, *, table: str = "", sink: str = "") -> dict[str, str]:
    """Takes the pause of the part back, without one every pause; tables that halted go on from where they stopped.

    Answers what it cannot help: tables that halted at capture, with their reasons.
    """
    part = paused_part(_known_table(service, job, table), _known_sink(service, job, sink))
    wish(service, job, lambda w: Wish(tuple(p for p in w.paused if part and p != part), stopped=False))
    with opened_queue(service) as queue, _held(queue, f"job/{job}/wish") as lease:
        state = State(queue, job)
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
    return wish(service, job, lambda w: replace(w, stopped=True))


def forget(service: Service, job: str) -> None:
    """Delete all saved state of a job, its groups and with them its queued changes."""
    with opened_queue(service) as queue:
        if daemon_runs(queue, job):
            raise StateError(f"job {job} is running", hint="stop the daemon first", code="E161")
        state = _known_state(service, queue, job)
        for sink in cast("dict[str, str]", (state.meta() or {}).get("sinks", {})):
            queue.unsubscribe(f"{job}/{sink}")
        with _held(queue, f"job/{job}/wish") as lease:
            queue.put(lease, state.forget_items())


def _known_state(service: Service, queue: Queue, job: str) -> State:
    state = State(queue, job)
    if state.meta() is None:
        raise _unknown(f"no job '{job}' in {service.data}", job_names(queue))
    return state


def _known_table(service: Service, job: str, table: str) -> str:
    with opened_queue(service) as queue:
        state = _known_state(service, queue, job)
        known = {str(record.table) for record in state.tables()} | {str(name) for name in state.halts()}
    if table and table not in known:
        raise _unknown(f"job {job} has no table '{table}'", known)
    return table


def _known_sink(service: Service, job: str, sink: str) -> str:
    with opened_queue(service) as queue:
        known = cast("dict[str, str]", (_known_state(service, queue, job).meta() or {}).get("sinks", {}))
    if sink and sink not in known:
        raise _unknown(f"job {job} has no sink '{sink}'", known)
    return sink


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


def trace(service: Service, job: Job, table: TableId, key: str) -> list[engine_trace.Change]:
    """The retained changes of one key, oldest first, with their hops."""
    with opened_queue(service) as queue:
        known = State(queue, job.name).schemas(table)
        if table not in known:
            raise _unknown(f"job {job.name} has no table {table}", map(str, known))
        return list(engine_trace.trace(Parts(job, service), queue, table, key))


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
    for table in tables:
        _known_table(service, job.name, table)
    parts = Parts(job, service)
    results = []
    with opened_queue(service) as queue:
        state = State(queue, job.name)
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
                        versions = state.schemas()[record.table]
                        pair = versions[max(versions)]
                        end = End(queue, state, parts, source, record)
                        try:
                            result = ops_reconcile.reconcile(
                                source,
                                sink,
                                name,
                                pair.source,
                                parts.transform(pair.source),
                                parts.target(name, pair.published),
                                job.snapshot.chunk_bytes,
                                partial(end.settled, settle_seconds),
                            )
                        except FatalError as error:
                            if error.table != str(record.table):
                                raise
                            # Gone at one end, say: that must not keep the other tables from being compared.
                            why = "; ".join(filter(None, [end.stands(), str(error)]))
                            result = Result(record.table, name, unsettled=why)
                        else:
                            result.unsettled = end.stands() or result.unsettled
                        said(result)
                        results.append(result)
                finally:
                    sink.close()
        finally:
            source.close()
    return results


def daemon_runs(queue: Queue, job: str) -> bool:
    return any(state.live for state in queue.leases(f"job/{job}/run"))


def left_out(service: Service, job: Job, tables: Sequence[str] = ()) -> dict[str, str]:
    """Tables that `reconcile` cannot compare, since they are at no sink: they were refused. With their reasons."""
    with opened_queue(service) as queue:
        state = State(queue, job.name)
        at_sinks = {record.table for record in state.tables()}
        halts = state.halts().items()
        return {str(t): halt.reason for t, halt in halts if t not in at_sinks and (not tables or str(t) in tables)}


@dataclass(frozen=True, slots=True)
class End:
    """The end of a table's changes at one sink, for whoever waits for it. No other table or sink is looked at."""

    queue: Queue
    state: State
    parts: Parts
    source: Source
    record: TableRecord

    def stands(self) -> str:
        """Why its changes are not applied as they come; "" when they are."""
        table, sink, state = self.record.table, self.record.sink, self.state
        now = next((record for record in state.tables(sink) if record.table == table), self.record)
        if now.phase in STANDING:
            return f"it is {now.phase}: {now.reason}"
        if (halt := state.halts().get(table)) is not None:
            return f"it is HALTED at capture: {halt.reason}"
        return "it is paused" if state.wish().pauses(sink, table) else ""

    def settled(self, seconds: float) -> str:
        """Wait until everything committed at the source by now is applied. Why that cannot be, or ""."""
        if not daemon_runs(self.queue, self.parts.job.name):
            return "no daemon runs the job"
        saved = self.state.source()
        if saved is None:
            return "capture has not begun"
        head, deadline = self.source.head(saved.epoch), time.monotonic() + seconds
        ends: dict[Lane, int] | None = None
        while time.monotonic() < deadline:
            if reason := self.stands():
                return reason
            if ends is None and _published(self.state, head):
                ends = {lane: end for lane, (_, end) in self._lanes()}
            # A busy table's lanes may never all be empty at once.
            if ends is not None and all(start >= ends.get(lane, 0) for lane, (start, _) in self._lanes()):
                return ""
            time.sleep(0.1)
        return f"its changes were not applied within {seconds:g} s"

    def _lanes(self) -> list[tuple[Lane, tuple[int, int]]]:
        tag, lanes = self.parts.tag(self.record.table), self.queue.lanes(self.parts.group(self.record.sink))
        return [(lane, borders) for lane, borders in lanes.items() if lane.tag == tag]


def source_head(parts: Parts, queue: Queue) -> Head:
    """The source's low watermark now, in the epoch of the job's saved state."""
    record = State(queue, parts.job.name).source()
    source = parts.make_source()
    source.open()
    try:
        return source.head(1 if record is None else record.epoch)
    finally:
        source.close()


def applied(parts: Parts, queue: Queue, head: Head) -> bool:
    """Everything before `head` is at every sink. The lanes are looked at after the record: see `SourceRecord`."""
    groups = [parts.group(sink) for sink in parts.job.sinks]
    return _published(State(queue, parts.job.name), head) and all(
        start >= end for group in groups for start, end in queue.lanes(group).values()
    )


def _published(state: State, head: Head) -> bool:
    """Everything before `head` is in the queue."""
    record = state.source()
    return record is not None and record.seq >= head.seq


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
        **asdict(replace(job, tables=(), waits={}, failed=None)),
        "failed": None if job.failed is None else {"reason": job.failed.reason, "since": when(job.failed.since)},
        "halted_since": {table: when(at) for table, at in job.halted_since.items()},
        "waits": {name: {"reason": wait.reason, "since": when(wait.since)} for name, wait in job.waits.items()},
        "tables": [
            {
                "table": str(row.record.table),
                "sink": row.record.sink,
                "state": row.record.phase,
                "since": when(row.record.since),
                "reason": row.record.reason,
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
