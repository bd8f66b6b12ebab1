"""The verbs on jobs and on what they have saved (those on a job before it runs: `ops.look`), each once.

The CLI only calls these and prints what they answer; so will every other face.

What concerns a running daemon goes through the saved state, so that it is valid while the daemon is down, too.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from syncd.config import Faults, Job, Service, load_directory, load_job, load_service, not_yet, parse_job
from syncd.config.document import Key
from syncd.engine import apply as engine_apply
from syncd.engine import queue_used
from syncd.engine import trace as engine_trace
from syncd.engine.build import Parts, clock
from syncd.engine.daemon import Daemon
from syncd.engine.diff import Change, diff, effect_of, loaded_anew, reloaded
from syncd.engine.job import JobRunner
from syncd.errors import ConfigError, FatalError, StateError, SyncdError, TransientError
from syncd.model import TableId, Target
from syncd.ops import reconcile as ops_reconcile
from syncd.ops import repairer
from syncd.ops import status as ops_status
from syncd.ops.reconcile import Result
from syncd.ops.repair import requests
from syncd.ops.settle import End, daemon_runs, opened_sink
from syncd.ops.status import JobStatus
from syncd.spi import Lease, Queue, Sink, Source
from syncd.state import SOURCE, Answer, Items, Phase, State, TableRecord, Wish, job_names, paused_part

if TYPE_CHECKING:
    from syncd.ops.span import Span

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
    serve: Callable[[Daemon], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> list[JobRunner]:
    """Host the jobs in the foreground until they end or a signal comes. The runners say how each ended.

    `serve`: see `Daemon`.
    """
    daemon = Daemon([Parts(job, service) for job in jobs], repairer.work, watch, draining, serve)
    daemon.run(until)
    return daemon.runners


# -- asking


@contextmanager
def opened_queue(service: Service) -> Iterator[Queue]:
    """The queue that the daemon works with, without a job file."""
    used = queue_used.recall(service)
    if used is None:
        raise ConfigError(f"{service.data} holds no syncd data", hint="give the daemon's --data", code="E166")
    with queue_used.opened(used.make(service), service) as queue:
        yield queue


def status(service: Service) -> list[JobStatus]:
    """Every job of the data directory, from its saved state: valid whether the daemon runs or not."""
    with opened_queue(service) as queue:
        return [ops_status.of(queue, name, service.heartbeat) for name in job_names(queue)]


# -- telling


@contextmanager
def _changing(service: Service, job: str) -> Iterator[tuple[Queue, State, Lease]]:
    """What is asked of a job changes; the daemon sees it within a second, or at its next start."""
    with opened_queue(service) as queue:
        state = _known_state(service, queue, job)
        with _held(queue, f"job/{job}/wish") as lease:
            yield queue, state, lease


def pause(service: Service, job: str, *, table: str = "", sink: str = "", source: bool = False) -> Wish:
    """A write that is under way is finished. `source`: nothing is read there; what is in the queue is delivered."""
    table = _named(table)
    with _changing(service, job) as (queue, state, lease):
        part, before = _known_part(state, job, table, sink, source=source), state.wish()
        after = replace(before, paused=tuple(sorted({*before.paused, part})))
        queue.put(lease, state.wish_item(after))
        return after


def resume(service: Service, job: str, *, table: str = "", sink: str = "", source: bool = False) -> dict[str, str]:
    """Takes the pause of the part back, without one every pause and the stop of the job; tables that halted go on from
    where they stopped, but for a pause of the source.

    Answers what it cannot help: tables that halted at capture or are NEEDS_RESYNC, with their reasons.
    """
    table = _named(table)
    with _changing(service, job) as (queue, state, lease):
        part, before = _known_part(state, job, table, sink, source=source), state.wish()
        paused = tuple(p for p in before.paused if part and p != part)
        queue.put(lease, state.wish_item(replace(before, paused=paused, stopped=bool(part) and before.stopped)))
        if source:
            return {}
        stuck = {str(name): halt.reason for name, halt in state.halts().items()}
        for record in state.tables(sink):
            if record.phase is Phase.NEEDS_RESYNC:
                stuck[str(record.table)] = record.reason
            elif record.phase is Phase.HALTED and record.resume and table in ("", str(record.table)):
                again = replace(record, phase=record.resume, resume=None, reason="", since=clock())
                queue.put(lease, state.table_item(again))
        return {name: reason for name, reason in stuck.items() if table in ("", name)}


def resync(service: Service, job: str, table: str = "") -> None:
    """A table of the job is loaded anew, at all of its sinks, beside its copies, which it then replaces; the others go
    on meanwhile. Without a table all are, and the job begins at a new place in the log. It begins within a second, or
    with the next start."""
    table = _named(table)
    with _changing(service, job) as (queue, state, lease):
        _know_tables(state, job, [table] if table else [])
        mode = str((state.meta() or {}).get("mode"))
        if mode != "snapshot+cdc":
            hint = "that takes a job that both loads and captures (`mode: snapshot+cdc`)"
            raise ConfigError(f"a job of mode {mode} loads no single table anew", hint=hint, code="C109")
        queue.put(lease, state.resync_item(TableId.parse(table), wanted=True) if table else state.anew_item())


def stop(service: Service, job: str, *, table: str = "", sink: str = "") -> Wish:
    """The job's processes drain and end; a table or a sink alone is paused."""
    if table or sink:
        return pause(service, job, table=table, sink=sink)
    with _changing(service, job) as (queue, state, lease):
        after = replace(state.wish(), stopped=True)
        queue.put(lease, state.wish_item(after))
        return after


def changes(service: Service, job: Job) -> list[Change]:
    """What the file says that the saved job does not, and what each change asks for.

    An end that it is about is tried: one that refuses us would halt the job.
    """
    parts = Parts(job, service)
    with opened_queue(service) as queue:
        found = diff(parts, _known_state(service, queue, job.name))
    tried: dict[Key, SyncdError | None] = {}
    return [_tried(parts, each, tried) for each in found]


def _tried(parts: Parts, change: Change, tried: dict[Key, SyncdError | None]) -> Change:
    end = change.key[:2] if change.key[0] == "sinks" else change.key[:1]
    if change.effect != "restart" or not change.after or end[0] not in {"source", "sinks"}:
        return change
    if end not in tried:
        tried[end] = _reached(parts, "" if end == ("source",) else str(end[1]))
    match tried[end]:
        case None:
            return change
        case TransientError() as error:
            return replace(change, why=f"{change.why}; it is waited for: {error}".removeprefix("; "))
        case error:
            return replace(change, effect="refused", why=str(error))


def _reached(parts: Parts, sink: str) -> SyncdError | None:
    """What the sink ("": the source) says to us now. Not asked of one that a process of the daemon has to itself."""
    if sink and parts.make_sink(sink).traits().scope == "one process":
        return None
    end: Source | Sink = parts.make_sink(sink) if sink else parts.make_source()
    try:
        end.open()
    except SyncdError as error:
        return error
    finally:
        end.close()
    return None


def apply(service: Service, job: Job) -> int:
    """The file is what the job is from now on: the daemon takes it over, or its next start does. When that was saved.

    ConfigError: something of it is refused; then nothing is saved.
    """
    with _changing(service, job.name) as (queue, state, lease):
        found = diff(Parts(job, service), state)
        if effect_of(found) == "refused":
            what = "; ".join(str(each) for each in found if each.effect == "refused")
            raise ConfigError(what, hint="nothing was changed", code="C140")
        at = clock()
        applied = engine_apply.following(state, job.text, str(Path(job.path).absolute()), at)
        items = state.applied_item(applied) | state.wish_item(replace(state.wish(), applied=at))
        for table in loaded_anew(Parts(job, service), state):
            items |= state.resync_item(table, wanted=True)
        for sink, table in reloaded(Parts(job, service), state):
            items |= state.reload_item(sink, table, wanted=True)
        queue.put(lease, items)
        return at


def answered(service: Service, job: str, at: int, seconds: float = 30.0) -> Answer | None:
    """What the daemon says of the file applied `at`; None: no daemon runs the job, or it says nothing in time."""
    end = time.monotonic() + seconds
    with opened_queue(service) as queue:
        state = State(queue, job)
        while daemon_runs(queue, job) and time.monotonic() < end:
            answer = state.answer()
            if answer is not None and answer.at >= at:
                return answer
            time.sleep(0.1)
        answer = state.answer()
        return answer if answer is not None and answer.at >= at else None


def forget(service: Service, job: str) -> None:
    """Delete all saved state of a job, its groups and with them its queued changes."""
    with opened_queue(service) as queue:
        if daemon_runs(queue, job):
            raise StateError(f"job {job} is running", hint="stop the daemon first", code="E161")
        state = _known_state(service, queue, job)
        for sink in (*cast("dict[str, object]", (state.meta() or {}).get("sinks", {})), *state.leaving().sinks):
            queue.unsubscribe(f"{job}/{sink}")
        with _held(queue, f"job/{job}/wish") as lease:
            queue.put(lease, state.forget_items())


def _known_state(service: Service, queue: Queue, job: str) -> State:
    state = State(queue, job)
    if state.meta() is None:
        raise _unknown(f"no job '{job}' in {service.data}", job_names(queue))
    return state


def _known_part(state: State, job: str, table: str, sink: str, *, source: bool = False) -> str:
    if source and (table or sink):
        raise ConfigError("--source goes with no table and no sink", hint="pause them one by one", code="C109")
    _know_tables(state, job, [table] if table else [])
    known = cast("dict[str, object]", (state.meta() or {}).get("sinks", {}))
    if sink and sink not in known:
        raise _unknown(f"job {job} has no sink '{sink}'", known)
    return SOURCE if source else paused_part(table, sink)


def _named(table: str) -> str:
    """As it is shown: with backquotes where it needs them."""
    return str(TableId.parse(table)) if table else ""


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
    *,
    keep: bool = False,
    samples: int = ops_reconcile.SAMPLES,
) -> list[Result]:
    """Compare every value of every table at both ends; `said` hears each table's result as it comes. `keep`: the keys
    of all rows that differ, for `repair`. `samples`: so many rows of each kind are told.

    Tables that stand still are compared as they are, and their results say so. See also `left_out`.
    """
    parts, tables = Parts(job, service), [_named(table) for table in tables]
    results = []
    with opened_queue(service) as queue:
        state = State(queue, job.name)
        _know_tables(state, job.name, tables)
        source = parts.make_source()
        source.open()
        try:
            for name in job.sinks:
                with opened_sink(parts, queue, name) as sink:
                    for record in state.tables(name):
                        if tables and str(record.table) not in tables:
                            continue
                        end = End(queue, state, parts, source, record)
                        result = _compared(source, sink, end, settle_seconds, keep, samples)
                        said(result)
                        results.append(result)
        finally:
            source.close()
    return results


def _compared(source: Source, sink: Sink, end: End, settle_seconds: float, keep: bool, samples: int) -> Result:
    record, parts = end.record, end.parts
    versions = end.state.schemas(record.table)[record.table]
    pair = versions[max(versions)]
    try:
        result = ops_reconcile.reconcile(
            source,
            sink,
            record.sink,
            pair.source,
            parts.transform_of(pair),
            parts.target(record.sink, pair.published),
            parts.job.snapshot.chunk_bytes,
            partial(end.settled, settle_seconds),
            sink_filter=parts.sink_filter(record.sink, pair.published),
            keep=keep,
            samples=samples,
        )
    except ConfigError as error:  # the sink's own filter does not fit this version of the table
        return Result(record.table, record.sink, unsettled="; ".join(filter(None, [end.stands(), str(error)])))
    except FatalError as error:
        if error.table != str(record.table):
            raise
        # Gone at one end, say: that must not keep the other tables from being compared.
        why = "; ".join(filter(None, [end.stands(), str(error)]))
        return Result(record.table, record.sink, unsettled=why)
    result.unsettled = end.stands() or result.unsettled
    return result


def repair(service: Service, job: Job, results: Iterable[Result]) -> int:
    """The rows that differ are read again at the source when their lanes come to them, and written, or deleted where
    the source has none. How many; asked again for what it has asked before, it does no harm."""
    asked: dict[TableId, set[ops_reconcile.Key]] = {}
    for result in results:
        asked.setdefault(result.table, set()).update(result.keys)
    return _read_again(service, job, {table: keys for table, keys in asked.items() if keys})


def span(service: Service, job: Job, table: str, where: str) -> Span:
    """The rows of a table that meet a condition, at the source or at a sink: what `read_again` would be asked for.

    ConfigError: the condition, or that the table is none. FatalError: its rows cannot be read again.
    """
    from syncd.ops import span as ops_span  # sqlglot is slow to load: only who asks by a condition pays for it
    from syncd.transforms.where import parse

    parts, tree, name = Parts(job, service), parse(where), TableId.parse(table)
    with opened_queue(service) as queue:
        state = State(queue, job.name)
        records = _with_lanes(state, job, name)
        versions = state.schemas(name)[name]
        pair = versions[max(versions)]
        if not pair.published.key:
            raise ConfigError(f"{name} has no key by which a row could be read again", hint=_ALL_OF_IT, code="C109")
        asked = ops_span.Asked(tree, pair, parts.transform_of(pair))

        def sinks() -> Iterator[tuple[str, Sink, Target]]:
            for record in records:
                with opened_sink(parts, queue, record.sink) as sink:
                    yield record.sink, sink, parts.target(record.sink, pair.published)

        source = parts.make_source()
        source.open()
        try:
            return ops_span.span(asked, source, sinks(), job.snapshot.chunk_bytes)
        finally:
            source.close()


_ALL_OF_IT = "`syncd jobs resync` without --where loads the table anew"


def _with_lanes(state: State, job: Job, table: TableId) -> list[TableRecord]:
    """The table at its sinks. FatalError: none of them is reached through its lanes."""
    _know_tables(state, job.name, [str(table)])
    if (halt := state.halts().get(table)) is not None:
        raise FatalError(f"{table} is HALTED at capture: {halt.reason}", hint=_ALL_OF_IT, code="E155")
    there = [record for record in state.tables() if record.table == table]
    records = [record for record in there if record.phase is not Phase.NEEDS_RESYNC and not _first_load(record)]
    if not records:
        why = "; ".join(f"{r.phase} at {r.sink}{f': {r.reason}' if r.reason else ''}" for r in there)
        if all(map(_first_load, there)):
            raise FatalError(f"{table} is {why}", hint="its load reads all of its rows: wait until it is LIVE")
        raise FatalError(f"{table} is {why}", hint=_ALL_OF_IT, code="E158")
    return records


def _first_load(record: TableRecord) -> bool:
    """Whether the table may not be there at the sink yet."""
    return (record.resume or record.phase) in {Phase.NEW, Phase.SNAPSHOT} and not record.shadow


def read_again(service: Service, job: Job, span: Span) -> int:
    """As `repair` does, for all rows of the span."""
    return _read_again(service, job, {span.table: span.keys})


def _read_again(service: Service, job: Job, asked: Mapping[TableId, Collection[ops_reconcile.Key]]) -> int:
    """All of them are saved, or none. Nobody waits while they are looked up at the source."""
    with opened_queue(service) as queue:
        items = _refreshes(Parts(job, service), _known_state(service, queue, job.name), asked)
    with _changing(service, job.name) as (queue, _, lease):
        queue.put(lease, items)
    return sum(map(len, asked.values()))


def _refreshes(parts: Parts, state: State, asked: Mapping[TableId, Collection[ops_reconcile.Key]]) -> Items:
    record = state.source()
    if record is None or not parts.captures:
        raise StateError(f"job {parts.job.name} does not follow changes", hint="`syncd jobs resync` loads a table anew")
    items: Items = {}
    source = parts.make_source()
    source.open()
    try:
        for table, keys in asked.items():
            versions = state.schemas(table)[table]
            pair = versions[max(versions)]
            for batch in requests(source, pair, parts.transform_of(pair), sorted(keys, key=repr), record.epoch):
                items |= state.refresh_item(f"refresh/{uuid.uuid4().hex}", table, batch)
    finally:
        source.close()
    return items


def left_out(service: Service, job: Job, tables: Sequence[str] = ()) -> dict[str, str]:
    """Tables that `reconcile` cannot compare, since they are at no sink: they were refused. With their reasons."""
    tables = [_named(table) for table in tables]
    with opened_queue(service) as queue:
        state = State(queue, job.name)
        at_sinks = {record.table for record in state.tables()}
        halts = state.halts().items()
        return {str(t): halt.reason for t, halt in halts if t not in at_sinks and (not tables or str(t) in tables)}


def as_json(value: object) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


# -- answers as plain values


def result_facts(result: Result) -> dict[str, object]:
    return {**asdict(result), "table": str(result.table), "right": result.right}


def change_facts(change: engine_trace.Change) -> dict[str, object]:
    """`seq` and `trace` as texts: most readers of JSON keep 53 bits of a number."""
    facts = asdict(change)
    hops = [{**hop, "trace": str(hop["trace"])} for hop in facts["hops"]]
    return {**facts, "op": change.op.name, "seq": str(change.seq), "trace": str(change.trace), "hops": hops}
