"""What a job file may say and this version cannot run yet. One table; a line goes when the part comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from syncd.config.document import Key
from syncd.config.tables import Pattern, target_of
from syncd.errors import ConfigError
from syncd.model import TableId

if TYPE_CHECKING:
    from syncd.config.job import Job


def _fan_in(job: Job) -> Iterator[Key]:
    """Tables that can become one: a pattern whose `to` does not tell its tables apart, or two tables with one target.

    What depends on which tables there are is found when they are known (`Parts.crowded_out`).
    """
    seen: set[TableId] = set()
    for text, spec in job.spec.tables.items():
        if spec.skip:
            continue
        pattern = Pattern(text)
        if pattern.kind == "exact":
            target = target_of(TableId(*text.split(".", 1)), spec.to or "")
            several = target in seen
            seen.add(target)
        else:
            open_groups = any(f"\\{n + 1}" not in (spec.to or "") for n in range(pattern.groups))
            several = spec.to is not None and (pattern.kind == "glob" or open_groups)
        if several:
            yield ("tables", text, "to")


def _plugins(job: Job) -> Iterator[Key]:
    if job.source.options is None:
        yield ("source", job.source.plugin)
    if job.queue.options is None:
        yield ("queue", job.queue.plugin)
    yield from (("sinks", name, sink.plugin) for name, sink in job.sinks.items() if sink.options is None)


def _given(*key: str, unless: object = None) -> Callable[[Job], Iterator[Key]]:
    """The setting is in the file, with another value than `unless`."""

    def find(job: Job) -> Iterator[Key]:
        value = job.document.get(key)
        if value is not None and value != unless:
            yield key

    return find


def _is(*key: str, value: str) -> Callable[[Job], Iterator[Key]]:
    """The setting has this value."""

    def find(job: Job) -> Iterator[Key]:
        if job.document.get(key) == value:
            yield key

    return find


def _sink_filters(job: Job) -> Iterator[Key]:
    yield from (("sinks", name, "where") for name, sink in job.sinks.items() if sink.where is not None)


def _keyless(job: Job) -> Iterator[Key]:
    for text, spec in job.spec.tables.items():
        if spec.keyless == "row-hash":
            yield ("tables", text, "keyless")
        if spec.kind == "append":
            yield ("tables", text, "kind")


LATER: tuple[tuple[str, Callable[[Job], Iterator[Key]]], ...] = (
    ("this plugin", _plugins),
    ("several source tables into one", _fan_in),
    ("`keyless: row-hash`, or `kind: append`,", _keyless),
    ("a filter of one sink", _sink_filters),
    ("retry and parking", _given("retry")),
    ("ddl: ignore", _is("policy", "ddl", value="ignore")),
    ("another policy than fail", _given("policy", "position_lost", unless="fail")),
    ("another policy than fail", _given("policy", "lost_transactions", unless="fail")),
    ("reconcile on a schedule", _given("reconcile", "cron")),
    ("repair", _given("reconcile", "repair", unless="off")),
    ("a start by time", _given("start", "timestamp")),
)


def not_yet(job: Job) -> Sequence[ConfigError]:
    """One fault for each part of the job that this version cannot run; empty when it can run all of it."""
    hint = "it comes with a later version of syncd; take it out for now"
    return [
        job.document.fault(key, f"{what} is not there yet", code="C130", hint=hint)
        for what, find in LATER
        for key in find(job)
    ]
