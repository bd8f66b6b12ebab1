"""Targets that other jobs of the data directory write: of two tables of two jobs, the one that was there first has its
target, and the other one is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from syncd.config import TableMap, TableRule
from syncd.config.tables import ONE_TARGET, are_apart
from syncd.engine.build import Parts
from syncd.engine.case import folded, how_new
from syncd.errors import ConfigError, StateError
from syncd.model import TableId
from syncd.spi import Queue
from syncd.state import Phase, State, TableRecord, job_names


@dataclass(frozen=True, slots=True)
class Holder:
    """A table of another job. `new`: see `how_new`."""

    job: str
    sink: str
    rule: TableRule
    new: int


class Others:
    """What the other jobs have at the place of one sink of this one."""

    def __init__(self, parts: Parts, queue: Queue, sink: str) -> None:
        self._parts = parts
        self._sink = sink
        self._shares = (traits := parts.make_sink(sink).traits()).shares
        self._there: dict[TableId, list[Holder]] = {}
        for job in job_names(queue):
            if job != parts.job.name:
                for holder in _holders(State(queue, job), job, traits.target):
                    self._there.setdefault(folded(holder.rule.to), []).append(holder)

    def refusal(self, table: TableId, record: TableRecord | None, folds: Callable[[], str]) -> ConfigError | None:
        """`record`: of the table at the sink; `folds`: asked of the sink only where names differ in their case alone.

        That a table of another job has its target (C127).
        """
        rule = self._parts.rule(table)
        mine = 2 if record is None else how_new(record), self._parts.job.name
        for holder in self._there.get(folded(rule.to), []):
            if (holder.new, holder.job) > mine or (self._shares and are_apart(rule, holder.rule)):
                continue
            why = folds() if (other := holder.rule.to != rule.to) else ""
            if other and not why:
                continue
            return self._parts.job.fault(
                ("tables", rule.pattern, "to") if rule.to_given else ("tables", rule.pattern),
                f"{table} goes to {rule.to} at sink {self._sink}, and {holder.rule.table} of the job {holder.job} has "
                f"that target{f' ({holder.rule.to}; {why})' if why else ''}, at its sink {holder.sink}",
                code="C127",
                hint=f"{ONE_TARGET}; if the other job is over, drop the target and `syncd jobs forget {holder.job}`",
                of_key=not rule.to_given,
            )
        return None


def _holders(state: State, job: str, target: str) -> list[Holder]:
    """The tables of a job at this target that are written, or will be."""
    try:
        meta: Mapping[str, Any] = state.meta() or {"sinks": {}}
        sinks = [name for name, said in meta["sinks"].items() if target in said.values()]
        tables = TableMap.of(meta["tables"], str(meta.get("path", job))) if sinks else None
        records = [record for sink in sinks for record in state.tables(sink) if record.phase is not Phase.DONE]
    except (StateError, ValueError):
        return []  # the job cannot be run, and says so when it is started
    found = ((record, tables and tables.match(record.table)) for record in records)
    return [Holder(job, record.sink, rule, how_new(record)) for record, rule in found if rule]
