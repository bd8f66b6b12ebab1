"""How a job stands, by its saved state: true of a daemon that runs, and of one that has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import cast

from syncd.engine.build import clock
from syncd.engine.forecast import full_in, purge_forecast, purge_limit, purged_in
from syncd.engine.job import DRAINS
from syncd.spi import LeaseState, Queue
from syncd.state import SOURCE, Failure, Halt, Phase, State, Stranger, TableRecord, Wait, Wish, left_by_capture
from syncd.tags import tag_of

STATES = ("RUNNING", "WAITING", "STALLED", "PAUSED", "STOPPED", "DRAINING", "DOWN", "HALTED")
"""Of a job."""
STARTS = "it starts"
"""What a job waits for that has just begun."""
STRANGERS_SECONDS = 86400
"""For how long status says that somebody else has written to a target."""
HEARTBEATS = 3
"""A worker that has not been heard for this many heartbeats is not shown as running."""


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

    `halt`: why capture has left the table, where the sink itself would go on. `stranger`: what somebody else has
    written to the target, as it was told in the last day.
    """

    record: TableRecord
    chunks: int
    chunks_done: int
    rows: int
    waiting: int
    paused: bool
    halt: Halt | None
    stranger: Stranger | None = None

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

    `log_kept`: seconds for which the source keeps its log; `purged_in`: until it may purge it at the saved position, if
    capture stood still; `purge_forecast`, `queue_full_in`: at the present pace; None: never, or not known.
    `halted`: tables that capture has left, with their reasons. `failed`: why the whole job is HALTED.
    `paused`: the parts that people want to stand still.
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
    log_kept: float | None = None
    purged_in: float | None = None
    purge_forecast: float | None = None
    queue_full_in: float | None = None
    paused: tuple[str, ...] = ()


def of(queue: Queue, job: str, heartbeat: float) -> JobStatus:
    """The job as its saved state tells, with a daemon of this heartbeat (seconds) or without one."""
    state = State(queue, job)
    tables, wish, halts = state.tables(), state.wish(), state.halts()
    waiting = {sink: _waiting(queue, f"{job}/{sink}") for sink in {table.sink for table in tables}}
    found = [_table(state, table, waiting[table.sink], wish, left_by_capture(table, halts)) for table in tables]
    strangers = state.strangers()
    found = [replace(one, stranger=_recent(strangers.get((one.record.sink, one.record.table)), one)) for one in found]
    return replace(in_short(queue, job, heartbeat), tables=tuple(found))


def in_short(queue: Queue, job: str, heartbeat: float) -> JobStatus:
    """The same without its tables: at a cost that does not grow with them."""
    state = State(queue, job)
    heard = HEARTBEATS * heartbeat
    workers = tuple(_worker(lease, heard) for lease in queue.leases(f"job/{job}/"))
    record = state.source()
    age = None if record is None else max(0.0, (clock() - record.saved) / 1e6)
    lag = None if record is None or not record.time else max(0.0, (record.saved - record.time) / 1e6)
    used, limit = queue.usage()
    now, kept, samples = clock(), state.log_kept(), state.samples()
    word, waits = _job_state(workers, state, age, heard), state.waits()
    if word == "WAITING" and not waits:
        waits = {"run": Wait(STARTS, int(str((state.meta() or {}).get("started", 0))))}
    return JobStatus(
        job,
        word,
        "" if record is None else record.position,
        age,
        lag,
        workers,
        (),
        {str(table): halt for table, halt in state.halts().items()},
        state.failure(),
        waits,
        used,
        limit,
        kept,
        purged_in(record, kept, now),
        purge_forecast(record, kept, samples, now),
        full_in(used, limit, samples, now),
        tuple(map(_part, state.wish().paused)),
    )


def _part(name: str) -> str:
    """A part of `Wish.paused`, for people."""
    kind, _, rest = name.partition(":")
    if kind.startswith("table at "):
        return f"table {rest} at sink {kind.removeprefix('table at ')}"
    return {"": "the job", SOURCE: "the source"}.get(name, f"{kind} {rest}")


def coming_lines(job: JobStatus, purge_warning: float, queue_warning: float) -> list[str]:
    """How long the source keeps what was not read, and when the queue will be full; what is near is a WARNING."""
    lines = []
    if job.log_kept is not None and job.purged_in is not None:
        near = job.purged_in < purge_limit(purge_warning, job.log_kept)
        left = f"may be purged in {duration(job.purged_in)}" if job.purged_in > 0 else "may be purged already"
        pace = "" if job.purge_forecast is None else f", at the present pace in {duration(job.purge_forecast)}"
        kept = duration(job.log_kept)
        lines.append(f"{_mark(near)}log: the source keeps it for {kept}; what capture has not read {left}{pace}")
    if job.queue_full_in is not None:
        near = job.queue_full_in < queue_warning
        when_ = f"is full in {duration(job.queue_full_in)} at the present pace" if job.queue_full_in else "is full"
        lines.append(f"{_mark(near)}queue: it {when_}")
    return lines


def _mark(near: bool) -> str:
    return "WARNING " if near else ""


def duration(seconds: float) -> str:
    """A time for people."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"


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
    if not captures or (age or 0.0) <= idle or SOURCE in wish.paused:
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
    return TableStatus(record, chunks, len(done), rows, waiting[tag], paused, halt)


def _recent(told: Stranger | None, table: TableStatus) -> Stranger | None:
    """Not of rows that were loaded anew since."""
    return told if told is not None and told.at > max(table.record.since, clock() - STRANGERS_SECONDS * 1e6) else None


def stranger_lines(job: JobStatus) -> list[str]:
    """Which targets somebody else writes to."""
    return [
        f"{row.record.table} at {row.record.sink}: somebody else writes there, as seen {ago(told.at)}: at least "
        f"{told.missing} rows were gone, {told.extra} were there already; see `syncd reconcile {job.job} --full`"
        for row in job.tables
        if (told := row.stranger) is not None
    ]


def when(micros: int) -> str:
    """Microseconds since 1970 as a time for people."""
    if not micros:
        return "at an unknown time"
    return datetime.fromtimestamp(micros / 1e6, UTC).isoformat(timespec="milliseconds")


def ago(micros: int) -> str:
    """How long ago that was."""
    return f"{max(0.0, (clock() - micros) / 1e6):.1f} s ago" if micros else "at an unknown time"


def facts(job: JobStatus) -> dict[str, object]:
    """The answer as plain values."""
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
                "foreign": row.stranger and {"missing": row.stranger.missing, "unexpected": row.stranger.extra},
            }
            for row in job.tables
        ],
    }
