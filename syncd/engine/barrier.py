"""Barriers: a point that all lanes of a table reach before one of them acts.

The schema change stands in every lane of the table, published in one transaction: that is the recorded intent. A lane
stops in front of it. When all are there, the sink acts, and one commit takes all lanes past it. A crash anywhere
between finds the lanes in front of the barrier again and repeats the act, which is harmless when done twice or late.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import structlog

from syncd import codec
from syncd.engine.batches import join
from syncd.errors import FatalError, TransientError
from syncd.failpoints import failpoint
from syncd.model import Ddl, Kind, Lane, SchemaChange, Stored, Target
from syncd.spi import Sink, Ticket
from syncd.state import TableRecord

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Standing:
    """All lanes of a table stand in front of this change. `offsets`: behind it."""

    change: SchemaChange
    offsets: Mapping[Lane, int]
    old: bool
    """The load has seen it: only the marks are to pass it."""

    def act(self, sink: Sink, target: Target, ticket: Ticket) -> None:
        """The sink's part; harmless when done twice or late."""
        if not self.old:
            try:
                sink.apply(target, self.change, ticket)
            except TransientError as error:
                what = f"at the barrier of {self.change.kind.value}: {error.what}"
                raise TransientError(what, retry_after=error.retry_after, hint=error.hint, code=error.code) from error
        elif ticket.marks:
            sink.write(target, join(target.schema, []), ticket)
        failpoint("barrier.acted")


def standing(record: TableRecord, lanes: Collection[Lane], waiting: Mapping[Lane, Sequence[Stored]]) -> Standing:
    """The first barrier of lanes that have nothing in front of it.

    Barriers of one change may stand more than once in a lane (a capture that died publishes again): each is passed by
    itself. FatalError for a lane that has no barrier where the others have one.
    """
    failpoint("barrier.reached")
    fronts = {lane: stored[0] for lane, stored in waiting.items()}
    strange = [front.message.kind.name for front in fronts.values() if front.message.kind is not Kind.BARRIER]
    if strange:
        raise FatalError(f"{record.table}: a {strange[0]} message in its lanes, which this version cannot deliver")
    changes = {lane: codec.decode_change(front.message) for lane, front in fronts.items()}
    change = min(changes.values(), key=lambda c: c.seq)
    here = {lane for lane, c in changes.items() if c.seq == change.seq}
    if here != set(lanes):
        missing = sorted(set(lanes) - here)
        raise FatalError(
            f"{record.table}: {change.kind.value} at seq {change.seq} is missing in lanes {missing}",
            hint="resync the table",
            code="E157",
        )
    # In front of the head, the read has seen it: after a TRUNCATE its rows, which may have a smaller seq, stay. A table
    # that began with its own CREATE has its head there, and nothing was read.
    old = change.seq < record.head.seq + (change.kind is not Ddl.CREATE)
    return Standing(change, {lane: fronts[lane].offset + 1 for lane in here}, old)
