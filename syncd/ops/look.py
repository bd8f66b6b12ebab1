"""Looking before running: `check` tries every end, `plan` says what a run would do.

Neither changes anything but what a source needs to find its head.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from syncd.config import Job, Service
from syncd.engine.build import Parts
from syncd.engine.case import Namesakes, difference
from syncd.engine.found import Tables, no_table, tables
from syncd.errors import ConfigError, SyncdError, TransientError
from syncd.model import Finding, TableId, TargetPlan
from syncd.ops.later import Left, Names
from syncd.ops.status import duration
from syncd.spi import Found, Sink, Source
from syncd.transforms import Transform

ASSUMED_BYTES_PER_S = 20e6
"""What a load reads in a second where no throttle is lower: with two readers on a small machine."""
LOG_MARGIN = 2
"""Estimates are rough: a load that takes more than this part of the time for which the log is kept is warned of."""


@contextmanager
def _parts(job: Job, service: Service) -> Iterator[Parts]:
    """With a data directory that is gone afterwards: who only looks leaves nothing behind, and need own nothing."""
    with tempfile.TemporaryDirectory(prefix="syncd-look-") as folder:
        yield Parts(job, service.model_copy(update={"data": Path(folder)}))


def check(job: Job, service: Service) -> Iterator[tuple[Finding, bool]]:
    """Connections, grants and settings of every end, one finding each; never stops at the first.

    With each finding: whether the end that it is about could be reached.
    """
    with _parts(job, service) as parts:
        yield from _check(job, parts)


def _check(job: Job, parts: Parts) -> Iterator[tuple[Finding, bool]]:
    yield from ((finding, True) for finding in job.findings)
    folds: dict[str, str] = {}
    ends: list[tuple[str, Source | Sink]] = [
        ("source", parts.make_source()),
        *((f"sink {name}", parts.make_sink(name)) for name in job.sinks),
    ]
    for name, end in ends:
        try:
            end.open()
            yield Finding("ok", name, "connected"), True
            yield from ((finding, True) for finding in end.check())
            folds[name] = end.folds()
            yield from ((finding, True) for finding in _of_case(folds, name))
            if name == "source":
                yield from ((finding, True) for finding in _of_tables(parts, tables(parts, cast(Source, end))))
        except SyncdError as error:
            yield Finding("error", name, str(error)), not isinstance(error, TransientError)
        finally:
            end.close()


def _of_case(folds: Mapping[str, str], sink: str) -> Iterator[Finding]:
    """Of a sink that tells names apart by less than the source. `folds`: what the ends have answered, by name."""
    text = difference(folds["source"], folds[sink]) if "source" in folds else ""
    if text:
        yield Finding("warning", sink, text, "give targets (`to`) small letters; two such tables need two names")


def _of_tables(parts: Parts, found: Tables) -> Iterator[Finding]:
    """What the job's patterns and tags say of tables that are not there."""
    yield from found.findings
    yield from parts.unmatched_tags([table.schema.table for table in found.taken])
    if not found.taken:
        yield Finding("error", "tables", str(no_table(parts, {})))


@dataclass(frozen=True, slots=True)
class TablePlan:
    """One table as a run would copy it: what is at the source, and per sink what it becomes.

    `later`: statements that make what the copy goes without while it is synced: foreign keys, CHECKs, triggers; then
    those of the sinks. Only for sinks that could have such.
    """

    found: Found
    refusals: tuple[str, ...]
    sinks: dict[str, TargetPlan]
    later: tuple[Left, ...] = ()


@dataclass(frozen=True, slots=True)
class JobPlan:
    """`findings`: of the source as a whole: how it is read, and what of it stands in the way, or may."""

    findings: tuple[Finding, ...]
    tables: list[TablePlan]


def plan(job: Job, service: Service) -> JobPlan:
    """What a run would do, for every wanted table. Reads both ends, writes nothing."""
    with _parts(job, service) as parts:
        return _plan(parts)


def _plan(parts: Parts) -> JobPlan:
    source = parts.make_source()
    source.open()
    try:
        found = tables(parts, source)
        findings = [*source.check(), *_of_tables(parts, found)]
        kept = source.log_kept()
        folds = {"source": source.folds()}
    finally:
        source.close()
    sinks = {name: parts.make_sink(name) for name in parts.job.sinks}
    plans = []
    refused = parts.refused(found.taken)
    names = Names(parts, [table for table in found.taken if not refused[table.schema.table]])
    with ExitStack() as opened:
        for sink in sinks.values():
            opened.callback(sink.close)
            sink.open()
        folds |= {f"sink {name}": sink.folds() for name, sink in sinks.items()}
        findings += [finding for name in folds for finding in _of_case(folds, name)]
        namesakes = {name: _namesakes(parts, name, refused) for name in sinks}
        for table, refusals in zip(found.taken, refused.values(), strict=True):
            targets: dict[str, TargetPlan] = {}
            if not refusals:
                transform = parts.transform(table.schema)
                for name in parts.sinks_of(table.schema.table):
                    planned = sinks[name].plan(parts.target(name, transform.schema))
                    more = [
                        *_same_name(namesakes[name], table.schema.table, name, folds[f"sink {name}"]),
                        *_of_filter(parts, name, transform),
                    ]
                    targets[name] = replace(planned, findings=(*planned.findings, *more))
            relational = any(sinks[name].traits().unique for name in targets)
            later = names.left(table) if relational else []
            later += [Left(statement) for target in targets.values() for statement in target.later]
            plans.append(TablePlan(table, tuple(map(str, refusals)), targets, tuple(later)))
    if parts.loads and found.taken:
        findings += _load_time(parts, plans, kept)
    return JobPlan(tuple(findings), plans)


def _namesakes(parts: Parts, sink: str, refused: Mapping[TableId, Sequence[object]]) -> Namesakes:
    return Namesakes(parts, sorted(t for t, why in refused.items() if not why and sink in parts.sinks_of(t)))


def _same_name(namesakes: Namesakes, table: TableId, sink: str, folds: str) -> Iterator[Finding]:
    """As the start refuses it."""
    try:
        namesakes.refuse(table, sink, lambda: folds)
    except ConfigError as error:
        yield Finding("error", str(table), error.what, error.hint)


def _of_filter(parts: Parts, sink: str, transform: Transform) -> Iterator[Finding]:
    """The sink's own filter of a table, and what is wrong with it, or may not be meant."""
    table = transform.schema.table
    try:
        condition = parts.job.sinks[sink].where.of(table)
        found = parts.sink_filter(sink, transform.schema).filter
    except ConfigError as error:
        yield Finding("error", f"{table} at {sink}", str(error))
        return
    if condition is not None:
        yield Finding("ok", f"{table} at {sink}", f"only the rows where {parts.job.secrets.hide(condition.text)}")
    masks = {step.column.name: step.mask for step in (*transform.steps, *transform.computed) if step.mask}
    for name in found.columns if found is not None else ():
        if name in masks:
            text = f"the sink's `where` looks at '{name}', which is masked ({masks[name]}): it sees the masked values"
            yield Finding("warning", f"{table} at {sink}", text, "filter by another column, or in `tables`")


def _load_time(parts: Parts, plans: Sequence[TablePlan], kept: float | None) -> Iterator[Finding]:
    """How long the load may take, and whether the source keeps its log for so long. One read is for all sinks, but of
    tables that are appended."""
    reads = [(plan.found.rows, plan.found.bytes) for plan in plans for _ in range(_reads(parts, plan))]
    rows, size = sum(rows for rows, _ in reads), sum(size for _, size in reads)
    seconds, why = size / ASSUMED_BYTES_PER_S, f"{ASSUMED_BYTES_PER_S / 1e6:g} MB/s, which is an assumption"
    limit = parts.job.throttle.rows_per_s
    if limit and rows / limit > seconds:
        seconds, why = rows / limit, f"{limit:g} rows/s, the throttle"
    takes = f"about {duration(seconds)}" if seconds >= 1 else "less than a second"
    text = f"the load takes {takes}: {rows:,} rows, {size / 1e6:,.0f} MB, at {why}"
    if parts.captures and kept is not None and seconds > kept / LOG_MARGIN:
        text += (
            f"; the source keeps its log for {duration(kept)}: if capture stands still meanwhile (a full queue, a stop "
            "of the daemon) its place in the log is lost, and the load begins anew"
        )
        yield Finding("warning", "load time", text, "let the source keep its log for longer, or load faster")
    else:
        yield Finding("ok", "load time", text)


def _reads(parts: Parts, plan: TablePlan) -> int:
    """How often the table is read."""
    published = parts.transform(plan.found.schema).schema if plan.sinks else None
    appended = published and any(parts.target(sink, published).append for sink in plan.sinks)
    return len(plan.sinks) if appended else min(1, len(plan.sinks))
