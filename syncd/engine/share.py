"""A full queue: who holds it, and which table gives its share up.

The queue belongs to all tables of all jobs. A table that stands HALTED keeps its changes in it; when the queue is full
and no table holds more of it than that one, its changes are given up, so that its neighbours go on (8). The one with
the largest share is looked at, and nobody else: whatever a smaller one gave up, the queue would soon be full again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import structlog

from syncd.engine.build import Parts, clock
from syncd.errors import FatalError
from syncd.failpoints import failpoint
from syncd.model import TableId
from syncd.spi import Lease, Queue
from syncd.state import Halt, Phase, State, TableRecord

log = structlog.get_logger()

NAMED = 3


@dataclass(frozen=True, slots=True)
class Holder:
    """`bytes` of the queue are kept for a table at a sink; `record` is None for another job's."""

    bytes: int
    group: str
    tag: str
    record: TableRecord | None
    paused: bool

    def __str__(self) -> str:
        if self.record is None:
            return f"{self.tag} of {self.group}: {self.bytes:,} bytes"
        state = "PAUSED" if self.paused else self.record.phase
        return f"{self.record.table} at {self.record.sink} ({state}): {self.bytes:,} bytes"


def holders(parts: Parts, queue: Queue) -> list[Holder]:
    """Who keeps how much of the queue, the largest share first."""
    state = State(queue, parts.job.name)
    wish = state.wish()
    mine = {(parts.group(record.sink), parts.tag(record.table)): record for record in state.tables()}
    shares: Counter[tuple[str, str]] = Counter()
    for group, lanes in queue.held().items():
        for lane, kept in lanes.items():
            shares[group, lane.tag] += kept.bytes
    found = []
    for (group, tag), size in shares.most_common():
        record = mine.get((group, tag))
        paused = record is not None and wish.pauses(record.sink, record.table)
        found.append(Holder(size, group, tag, record, paused))
    return found


def make_room(parts: Parts, queue: Queue, lease: Lease, published: list[TableId]) -> str:
    """Let the table with the largest share give it up, if it is one of this job's that stands HALTED.

    Answers who holds the queue; "" when it is not full, but for want of disk. `published`: every table of the job.
    What people have PAUSED is theirs to end: it is named, and waited for.
    """
    used, limit = queue.usage()
    if used < limit:
        return ""
    found = holders(parts, queue)
    for holder in found[:1]:
        if holder.record is not None and holder.record.phase is Phase.HALTED and not holder.paused:
            _give_up(parts, queue, lease, published, holder, holder.record, limit)
    return ", ".join(map(str, found[:NAMED]))


def _give_up(
    parts: Parts, queue: Queue, lease: Lease, published: list[TableId], holder: Holder, record: TableRecord, limit: int
) -> None:
    """Saved first: what the queue no longer has is never taken for applied. Capture repeats the other step."""
    state = State(queue, parts.job.name)
    source = state.source()
    assert source is not None
    error = FatalError(
        f"{record.table} at {record.sink}: the queue was full ({limit:,} bytes), and the {holder.bytes:,} bytes that "
        f"it held for this table, which stood HALTED, were given up; it needs a new load ({record.reason})",
        hint=f"mend the cause; then drop the targets, `syncd jobs forget {parts.job.name}`, and load anew",
        code="E158",
    )
    log.error("share_given_up", job=parts.job.name, table=str(record.table), sink=record.sink, error=str(error))
    queue.put(lease, state.given_up_item(record.sink, record.table, Halt(str(error), source.position, clock())))
    failpoint("capture.share_given_up")
    parts.subscribe(queue, published, state.given_up())
