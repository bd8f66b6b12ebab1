"""Secondary indexes of a table that was loaded: the acts that make them, at sinks that have such.

Plain ones are made once the load is over, unique ones at the end of CATCH_UP, when the rows are those of one place in
the log. Where several tables have one target, the last one makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from syncd.engine import barrier
from syncd.engine.build import Parts
from syncd.engine.collect import Act, Collector, Work
from syncd.engine.fan_in import Siblings
from syncd.model import Ddl, SchemaChange, TableId, Target
from syncd.state import Phase, TableRecord


class Indexes:
    """Of one sink's tables."""

    def __init__(self, parts: Parts, collector: Collector, siblings: Siblings) -> None:
        self._parts, self._collector, self._siblings = parts, collector, siblings
        self._made: set[tuple[TableId, int]] = set()
        """The loads (table, epoch) of which the plain ones are there."""

    def doubt(self, record: TableRecord) -> None:
        """The target may have been put back from a copy that was taken before they were made."""
        self._made.discard((record.table, record.epoch))

    def plain(self, record: TableRecord) -> list[Work]:
        """After the load. Nothing of the table is under way."""
        loaded = record.table, record.epoch
        if record.phase is not Phase.CATCH_UP or record.was_live or loaded in self._made:
            return []
        if self._parts.rule(record.table).constants and not self._siblings.all_loaded(record.table):
            return []
        target = self._target(record)
        if all(index.kind == "unique" and not target.relaxed for index in target.schema.indexes):
            self._made.add(loaded)
            return []
        return [self._act(target, lambda: self._made.add(loaded))]

    def unique(self, record: TableRecord, after: Callable[[], None]) -> list[Work]:
        """At the end of CATCH_UP. Nothing of the table is under way."""
        target = self._target(record)
        if target.relaxed or all(index.kind != "unique" for index in target.schema.indexes):
            return []
        if target.own and not self._siblings.all_live(record.table):
            return []
        return [self._act(replace(target, settled=True), after)]

    def _target(self, record: TableRecord) -> Target:
        """As the table is there by now, which may have lost or got indexes since it was loaded."""
        return self._collector.target(record.table, self._siblings.version(record))

    def _act(self, target: Target, after: Callable[[], None]) -> Act:
        change = SchemaChange(Ddl.INDEX, target.schema, target.schema.version, "the load is over")
        return Act(barrier.Standing(change, {}, old=False), target, self._collector.ticket(), after)
