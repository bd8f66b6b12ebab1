"""Rows that somebody else has written at a target, as far as the answers of the sink's own writes can tell.

A sink that applies each change once has the rows that the stream says: an INSERT finds none of its key, an UPDATE or a
DELETE finds one. That is sure of a change that was published after the rows have become those of one place in the log:
not of what a chunk, a REFRESH or a repeated write may have applied already. Where it is not sure, nothing is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from syncd.engine.build import Parts, clock
from syncd.engine.counts import Count
from syncd.model import Lane, Op, TableId, Target
from syncd.spi import Foreign, Traits
from syncd.state import Phase, SourceRecord, Stranger, TableRecord

log = structlog.get_logger()

CLOCKS_SECONDS = 60.0
"""How far the source's clock may be from ours."""
GATHER_SECONDS = 5.0
"""From the first such row to its line, which is to tell of those that come with it."""
LOG_SECONDS = 600.0
"""Between two lines of the log about one table."""


@dataclass
class _Table:
    """`doubt`: since when its rows may be ahead of its lanes, microseconds of our clock. `sure`: the offset from which
    on each lane is sure, 0 for those that are born later; None: not yet. `missing`, `extra`: not told yet;
    `due`: when they may be."""

    doubt: int
    sure: dict[Lane, int] | None = None
    missing: int = 0
    extra: int = 0
    due: float = 0.0


class Watch:
    """Of one sink's tables. `traits`: the sink's; `save` keeps what is told, for `syncd status`."""

    def __init__(
        self, parts: Parts, sink_name: str, traits: Traits, count: Count, save: Callable[[TableId, Stranger], None]
    ) -> None:
        self._parts, self._sink_name, self._count, self._save = parts, sink_name, count, save
        policy = parts.job.policy.ddl
        kept = "ignore" in {policy.truncate, policy.drop_table, policy.rename_table}
        self._tells = traits.transactional and not traits.versioned and parts.loads and not kept
        self._tables: dict[TableId, _Table] = {}

    def doubt(self, table: TableId) -> None:
        """From now on its rows may be ahead of its lanes."""
        known = self._tables.setdefault(table, _Table(0))
        known.doubt, known.sure = clock(), None

    def look(self, record: TableRecord, source: SourceRecord | None, lanes: Mapping[Lane, tuple[int, int]]) -> None:
        """`lanes` were read after `source`: what is before their ends is all that was published up to its position."""
        if record.phase is not Phase.LIVE or record.table not in self._tables:
            self.doubt(record.table)
        known = self._tables[record.table]
        if known.sure is None and source is not None:
            since = max(known.doubt, record.since) + CLOCKS_SECONDS * 1e6
            if source.time > since:
                known.sure = {lane: end for lane, (_, end) in lanes.items()}
        self._tell(record.table, known)

    def there(self, target: Target, lane: Lane, offset: int, first: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
        """For `Ticket.there`. `first`: the first change that the write has of each row's key; `offset`: of its first
        message."""
        known, schema = self._tables.get(target.schema.table), target.schema
        if not self._tells or known is None or known.sure is None or offset < known.sure.get(lane, 0):
            return None
        rule = self._parts.rule(schema.table)
        filtered = rule.where is not None or self._parts.job.sinks[self._sink_name].where.of(schema.table) is not None
        plain = target.deletes == "apply" and not target.own and not target.append and not filtered
        return first != Op.INSERT if plain and schema.key_from in {"primary", "unique"} else None

    def saw(self, table: TableId, found: Foreign) -> None:
        """Counted at once, and told now and then."""
        if not (found.missing or found.extra):
            return
        at = self._sink_name, str(table)
        self._count("sink_missing_rows", *at, by=found.missing)
        self._count("sink_unexpected_rows", *at, by=found.extra)
        known = self._tables.setdefault(table, _Table(clock()))
        if not (known.missing or known.extra):
            known.due = max(known.due, time.monotonic() + GATHER_SECONDS)
        known.missing, known.extra = known.missing + found.missing, known.extra + found.extra

    def _tell(self, table: TableId, known: _Table) -> None:
        if not (known.missing or known.extra) or time.monotonic() < known.due:
            return
        log.warning(
            "target_written_by_others",
            sink=self._parts.group(self._sink_name),
            table=str(table),
            missing=known.missing,
            unexpected=known.extra,
            todo=f"somebody else writes there; `syncd reconcile {self._parts.job.name} --full` finds all that differs",
        )
        self._save(table, Stranger(known.missing, known.extra, clock()))
        known.missing, known.extra, known.due = 0, 0, time.monotonic() + LOG_SECONDS
