"""What `/metrics` tells: gauges from one look at the saved state, and what was counted since the daemon started.

A look asks the queue a number of questions that does not grow with its messages, nor with chunks that are done.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from syncd import __version__
from syncd.engine.build import clock
from syncd.engine.counts import COUNTERS, Kind
from syncd.engine.counts import Key as CountKey
from syncd.model import Lane, TableId
from syncd.ops import status
from syncd.ops.status import JobStatus
from syncd.spi import Held, Queue
from syncd.state import Phase, State, TableRecord, left_by_capture
from syncd.tags import tag_of

_JOB, _AT_SINK, _LANE = ("job",), ("job", "sink", "table"), ("job", "sink", "table", "queue")

GAUGES = {
    "build_info": Kind("1, with the version as a label.", ("version",)),
    "main_loop_age_seconds": Kind("Since the daemon's main loop made a step; `/healthz` goes by it.", ()),
    "state_readable": Kind("0: the queue's files did not answer in time; what is read from them is left out.", ()),
    "state_age_seconds": Kind("Age of what is read from the queue's files: it is looked up at most once a second.", ()),
    "queue_bytes": Kind("Disk that the queue takes.", ()),
    "queue_limit_bytes": Kind("`max_bytes` of the queue: there capture waits.", ()),
    "queue_full_seconds": Kind("Until then at the pace of the last minutes; absent: never, or not known.", ()),
    "disk_free_bytes": Kind("Free on the file system of the data directory.", ()),
    "disk_size_bytes": Kind("Size of the file system of the data directory.", ()),
    "job_state": Kind("1 for the state that the job is in, 0 for all others.", ("job", "state")),
    "job_waits": Kind("Workers, or parts of their work, that wait now; `syncd status` says for what.", _JOB),
    "job_wait_seconds": Kind("How long the oldest of them has waited.", _JOB),
    "worker_up": Kind("1: the worker process lives and is heard.", ("job", "worker")),
    "capture_lag_seconds": Kind("How far the saved position is behind the source, by the source's clock.", _JOB),
    "capture_saved_age_seconds": Kind("Since capture saved its position, which it does each heartbeat.", _JOB),
    "log_kept_seconds": Kind("How long the source keeps its log; absent: until it is told, or not known.", _JOB),
    "log_purge_seconds": Kind("Until the source may purge its log at the saved position; below 0: it may have.", _JOB),
    "log_purge_forecast_seconds": Kind("The same at the pace of the last minutes; absent: never, or not known.", _JOB),
    "tables": Kind("Tables in each state.", ("job", "sink", "state")),
    "table_state": Kind("1, with the state as a label; no sink: it was refused for all.", (*_AT_SINK, "state")),
    "table_lag_rows": Kind("Published row changes that wait in the table's lanes.", _AT_SINK),
    "table_lag_seconds": Kind("Age of the oldest of them, from its commit at the source; 0: none waits.", _AT_SINK),
    "table_queue_bytes": Kind("What the queue keeps for them, about.", _AT_SINK),
    "table_load_rows": Kind("Rows of the snapshot that are written; those of former runs are among them.", _AT_SINK),
    "table_load_expected_rows": Kind("Rows of the chunks that were found so far, as estimated.", _AT_SINK),
    "lane_lag_rows": Kind("The same for each lane (`metrics.lanes`).", _LANE),
    "lane_lag_seconds": Kind("The same for each lane (`metrics.lanes`).", _LANE),
}  # fmt: skip
"""Name -> what it says, in the unit of its last word. All labels."""

PREFIX = "syncd_"


@dataclass(frozen=True, slots=True)
class JobLook:
    """One job. `state`: in short; `lanes`: sink -> its lanes."""

    state: JobStatus
    tables: Mapping[tuple[str, TableId], Phase]
    lanes: Mapping[str, Sequence[Lane]]
    held: Mapping[str, Mapping[Lane, Held]]
    source_lag: float | None


@dataclass(frozen=True, slots=True)
class Look:
    """What was read from the queue's files, at `at` (microseconds since 1970)."""

    at: int
    jobs: tuple[JobLook, ...]
    queue: tuple[int, int]
    disk: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Live:
    """What the daemon itself knows. `workers`, `loaded`: by job, see `JobRunner`."""

    step_age: float = 0.0
    sums: Mapping[CountKey, float] = field(default_factory=dict)
    workers: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    loaded: Mapping[str, Mapping[tuple[str, TableId], tuple[int, int]]] = field(default_factory=dict)


def look(queue: Queue, data: Path, jobs: Sequence[str], heartbeat: float) -> Look:
    """One look at these jobs. TransientError: the queue is in trouble."""
    held = queue.held()
    disk = shutil.disk_usage(data)
    found = tuple(_job(queue, job, heartbeat, held) for job in jobs)
    return Look(clock(), found, queue.usage(), (disk.free, disk.total))


def _job(queue: Queue, job: str, heartbeat: float, held: Mapping[str, Mapping[Lane, Held]]) -> JobLook:
    state = State(queue, job)
    records, halts, source, now = state.tables(), state.halts(), state.source(), clock()
    tables = {(record.sink, record.table): _phase(record, left_by_capture(record, halts)) for record in records}
    at_sinks = {table for _, table in tables}
    tables |= {("", table): Phase.HALTED for table in halts.keys() - at_sinks}
    sinks = {record.sink for record in records}
    return JobLook(
        status.in_short(queue, job, heartbeat),
        tables,
        {sink: [*queue.lanes(f"{job}/{sink}")] for sink in sinks},
        {sink: held.get(f"{job}/{sink}", {}) for sink in sinks},
        None if source is None or not source.time else max(0.0, (now - source.time) / 1e6),
    )


def _phase(record: TableRecord, left: object) -> Phase:
    return record.phase if left is None else Phase.HALTED


# -- as Prometheus has it


class Families:
    """A collection of metrics under their names; a name or label that is not declared is a KeyError or ValueError."""

    def __init__(self) -> None:
        self._found: dict[str, Metric] = {
            name: GaugeMetricFamily(PREFIX + name, kind.help) for name, kind in GAUGES.items()
        } | {name: CounterMetricFamily(PREFIX + name, kind.help) for name, kind in COUNTERS.items()}
        self._labels = {name: kind.labels for name, kind in GAUGES.items()}
        self._labels |= {name: ("job", *kind.labels) for name, kind in COUNTERS.items()}

    def add(self, name: str, *labels: str, value: float | None) -> None:
        """None: not known, and left out."""
        if value is not None:
            suffix = "_total" if name in COUNTERS else ""
            pairs = dict(zip(self._labels[name], labels, strict=True))
            self._found[name].add_sample(f"{PREFIX}{name}{suffix}", pairs, value)

    def collect(self) -> Iterator[Metric]:
        """Those that have a value."""
        return (metric for metric in self._found.values() if metric.samples)


def families(live: Live, seen: Look | None, *, lanes: bool) -> Families:
    """All metrics; `seen` is None while the queue's files do not answer. `lanes`: each one's, too."""
    found = Families()
    found.add("build_info", __version__, value=1)
    found.add("main_loop_age_seconds", value=live.step_age)
    found.add("state_readable", value=seen is not None)
    sums = dict(live.sums)
    for job, workers in live.workers.items():
        for worker, up in workers.items():
            found.add("worker_up", job, worker, value=up)
            sums |= {(name, job, worker): sums.get((name, job, worker), 0.0) for name in _counters("worker")}
    if seen is not None:
        _add_look(found, seen, live, lanes=lanes)
        for at in seen.jobs:
            sums = _zeros(at) | sums
    for (name, *labels), value in sums.items():
        found.add(name, *labels, value=value)
    return found


def _zeros(at: JobLook) -> dict[CountKey, float]:
    """What nothing has been counted of yet: a rate needs a beginning."""
    zeros: dict[CountKey, float] = {}
    for sink, table in at.tables:
        zeros |= dict.fromkeys(((name, at.state.job, str(table)) for name in _counters("table")), 0.0)
        zeros |= dict.fromkeys(((name, at.state.job, sink, str(table)) for name in _counters("sink", "table")), 0.0)
    for sink in ("", *at.lanes):
        zeros |= dict.fromkeys(((name, at.state.job, sink) for name in _counters("sink")), 0.0)
    return zeros


def _counters(*labels: str) -> list[str]:
    return [name for name, kind in COUNTERS.items() if kind.labels == labels]


def _add_look(found: Families, seen: Look, live: Live, *, lanes: bool) -> None:
    now = clock()
    found.add("state_age_seconds", value=max(0.0, (now - seen.at) / 1e6))
    for name, value in zip(("queue_bytes", "queue_limit_bytes"), seen.queue, strict=True):
        found.add(name, value=value)
    full = [at.state.queue_full_in for at in seen.jobs if at.state.queue_full_in is not None]
    found.add("queue_full_seconds", value=min(full, default=None))
    for name, value in zip(("disk_free_bytes", "disk_size_bytes"), seen.disk, strict=True):
        found.add(name, value=value)
    for at in seen.jobs:
        _add_job(found, at, now)
        _add_tables(found, at, now, lanes=lanes)
        for (sink, table), (rows, expected) in live.loaded.get(at.state.job, {}).items():
            found.add("table_load_rows", at.state.job, sink, str(table), value=rows)
            found.add("table_load_expected_rows", at.state.job, sink, str(table), value=expected)


def _add_job(found: Families, at: JobLook, now: int) -> None:
    job = at.state.job
    for state in status.STATES:
        found.add("job_state", job, state, value=state == at.state.state)
    found.add("job_waits", job, value=len(at.state.waits))
    waited = [(now - wait.since) / 1e6 for wait in at.state.waits.values()]
    found.add("job_wait_seconds", job, value=max(0.0, *waited, 0.0))
    found.add("capture_lag_seconds", job, value=at.source_lag)
    found.add("capture_saved_age_seconds", job, value=at.state.source_age)
    found.add("log_kept_seconds", job, value=at.state.log_kept)
    found.add("log_purge_seconds", job, value=at.state.purged_in)
    found.add("log_purge_forecast_seconds", job, value=at.state.purge_forecast)
    states = Counter((sink, phase) for (sink, _), phase in at.tables.items())
    for sink in {sink for sink, _ in at.tables}:
        for phase in Phase:
            found.add("tables", job, sink, phase, value=states[sink, phase])


def _add_tables(found: Families, at: JobLook, now: int, *, lanes: bool) -> None:
    job, names = at.state.job, {tag_of(*table): str(table) for _, table in at.tables}

    def age(held: Held) -> float:
        return max(0.0, (now - held.since) / 1e6)

    for (sink, table), phase in at.tables.items():
        found.add("table_state", job, sink, str(table), phase, value=1)
    nothing = Held(0, 0, now)
    for sink, known in at.lanes.items():
        sums = {str(table): nothing for at_sink, table in at.tables if at_sink == sink}
        for lane in known:
            name = names.get(lane.tag, "")
            if name not in sums:  # kept for a table that the job no longer has
                continue
            held, before = at.held[sink].get(lane, nothing), sums[name]
            sums[name] = Held(before.bytes + held.bytes, before.rows + held.rows, min(before.since, held.since))
            if lanes:
                found.add("lane_lag_rows", job, sink, name, str(lane.queue), value=held.rows)
                found.add("lane_lag_seconds", job, sink, name, str(lane.queue), value=age(held))
        for name, held in sums.items():
            found.add("table_lag_rows", job, sink, name, value=held.rows)
            found.add("table_lag_seconds", job, sink, name, value=age(held))
            found.add("table_queue_bytes", job, sink, name, value=held.bytes)
