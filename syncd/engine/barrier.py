"""Barriers: a point that all lanes of a table reach before one of them acts.

The schema change stands in every lane of the table, published in one transaction. A lane stops in front of it. When all
are there, the intent is saved, the sink acts, and one commit takes all lanes past it and removes the intent. A crash
anywhere between repeats the act, which is harmless when done twice or late.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import structlog

from syncd import codec
from syncd.errors import FatalError
from syncd.failpoints import failpoint
from syncd.model import Kind, Lane, SchemaChange, Stored, TableId, Target
from syncd.spi import Lease, Queue, Sink
from syncd.state import State, TableRecord

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Owner:
    """What the owner of a table's lanes acts with."""

    queue: Queue
    state: State
    sink: Sink
    lease: Lease
    group: str
    sink_name: str
    target: Callable[[TableId, int], Target]


def pass_one(
    owner: Owner, record: TableRecord, lanes: Collection[Lane], waiting: Mapping[Lane, Sequence[Stored]]
) -> None:
    """All lanes of the table stand at their first barrier: act, and go on behind it.

    Barriers of one change may stand more than once in a lane (a capture that died publishes again): each is passed by
    itself. FatalError for a lane that has no barrier where the others have one.
    """
    failpoint("barrier.reached")
    fronts = {lane: stored[0] for lane, stored in waiting.items()}
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
    _act(owner, change)
    offsets = {lane: fronts[lane].offset + 1 for lane in here}
    items = owner.state.barrier_item(owner.sink_name, change, begun=False)
    failpoint("barrier.acted")
    owner.queue.commit(owner.lease, owner.group, offsets, items, [])
    failpoint("barrier.passed")
    log.info("barrier_passed", sink=owner.group, table=str(record.table), kind=change.kind.value, seq=change.seq)


def _act(owner: Owner, change: SchemaChange) -> None:
    owner.queue.put(owner.lease, owner.state.barrier_item(owner.sink_name, change, begun=True))
    failpoint("barrier.intent_saved")
    owner.sink.apply(owner.target(change.table, change.schema.version), change)


def is_barrier(stored: Stored) -> bool:
    return stored.message.kind is Kind.BARRIER
