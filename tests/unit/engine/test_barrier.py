"""A barrier acts once all lanes of its table are there, then lets them all go on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pytest

from syncd import codec
from syncd.engine.barrier import standing
from syncd.errors import FatalError, FencedError, TransientError
from syncd.model import Column, Ddl, Head, Lane, Message, Position, SchemaChange, Stored, TableId, TableSchema, Target
from syncd.spi import Lease, Queue, Sink, Ticket
from syncd.state import Phase, TableRecord
from tests.unit.engine.kit import leased, opened_queue

TABLE = TableId("shop", "items")
SCHEMA = TableSchema(TABLE, 5, (Column("id", pa.int64(), False),), ("id",), "primary")
LANES = tuple(Lane("shop.items", queue) for queue in range(3))
GROUP = "j/s"
RECORD = TableRecord(TABLE, "s", Phase.LIVE, Head(Position("log:0"), 0))


@dataclass
class Acts:
    """Stands for the sink. `error` is raised instead of acting."""

    done: list[int] = field(default_factory=list)
    error: Exception | None = None

    def apply(self, target: Target, change: SchemaChange, ticket: Ticket) -> None:
        assert target.schema == SCHEMA
        if self.error is not None:
            raise self.error
        self.done.append(change.seq)


def barrier(lane: Lane, seq: int) -> Message:
    return codec.encode_change(SchemaChange(Ddl.TRUNCATE, SCHEMA, seq, "TRUNCATE"), lane, "source", 0)


@dataclass
class Owner:
    """Of the table's lanes."""

    queue: Queue
    sink: Acts
    lease: Lease


def owner(queue: Queue, sink: Acts) -> Owner:
    return Owner(queue, sink, leased(queue))


def pass_one(owner: Owner, record: TableRecord, lanes: Collection[Lane], waiting: Mapping[Lane, list[Stored]]) -> None:
    """As the delivery does it: act, then commit."""
    found = standing(record, lanes, waiting)
    found.act(cast(Sink, owner.sink), Target(SCHEMA, "shop", "items"), Ticket(GROUP, owner.lease.epoch, 1))
    owner.queue.commit(owner.lease, GROUP, found.offsets, {}, [])


def published(queue: Queue, *messages: Message) -> None:
    queue.subscribe(GROUP, "j", None)
    queue.publish(leased(queue, "capture"), "j", list(messages), {})


def fronts(queue: Queue) -> Mapping[Lane, list[Stored]]:
    found = {}
    for lane, (start, _) in queue.lanes(GROUP).items():
        found[lane] = list(queue.poll("j", lane, start, 1 << 20))
    return {lane: stored for lane, stored in found.items() if stored}


def test_it_acts_once_and_all_lanes_go_on(tmp_path: Path) -> None:
    sink = Acts()
    with opened_queue(tmp_path) as queue:
        published(queue, *(barrier(lane, 9) for lane in LANES))
        pass_one(owner(queue, sink), RECORD, LANES, fronts(queue))
        assert sink.done == [9]
        assert queue.lanes(GROUP) == dict.fromkeys(LANES, (1, 1))


def test_one_that_was_published_twice_is_passed_twice(tmp_path: Path) -> None:
    sink = Acts()
    with opened_queue(tmp_path) as queue:
        published(queue, *(barrier(lane, seq) for seq in (9, 9, 12) for lane in LANES))
        mine = owner(queue, sink)
        for _ in range(3):
            pass_one(mine, RECORD, LANES, fronts(queue))
        assert sink.done == [9, 9, 12]
        assert not fronts(queue)


@pytest.mark.parametrize("error", [TransientError("later"), FatalError("never")], ids=["transient", "fatal"])
def test_an_act_that_failed_leaves_the_lanes_where_they_are(tmp_path: Path, error: Exception) -> None:
    sink = Acts(error=error)
    with opened_queue(tmp_path) as queue:
        published(queue, *(barrier(lane, 9) for lane in LANES))
        mine = owner(queue, sink)
        with pytest.raises(type(error)):
            pass_one(mine, RECORD, LANES, fronts(queue))
        assert queue.lanes(GROUP) == dict.fromkeys(LANES, (0, 1))
        sink.error = None
        pass_one(mine, RECORD, LANES, fronts(queue))
        assert sink.done == [9]


def test_an_owner_whose_lease_has_passed_on_moves_no_lane(tmp_path: Path) -> None:
    sink = Acts()
    with opened_queue(tmp_path) as queue:
        published(queue, *(barrier(lane, 9) for lane in LANES))
        zombie = owner(queue, sink)
        heir = owner(queue, sink)
        with pytest.raises(FencedError):
            pass_one(zombie, RECORD, LANES, fronts(queue))
        assert queue.lanes(GROUP) == dict.fromkeys(LANES, (0, 1))
        pass_one(heir, RECORD, LANES, fronts(queue))
        assert sink.done == [9, 9]  # harmless when done twice


def test_a_lane_without_the_barrier_halts_the_table_before_the_act(tmp_path: Path) -> None:
    sink = Acts()
    with opened_queue(tmp_path) as queue:
        published(queue, *(barrier(lane, 9) for lane in LANES[:2]))
        with pytest.raises(FatalError, match="missing in lanes") as caught:
            pass_one(owner(queue, sink), RECORD, LANES, fronts(queue))
        assert caught.value.code == "E157"
        assert sink.done == []


def test_lanes_at_two_different_barriers_halt_the_table(tmp_path: Path) -> None:
    sink = Acts()
    with opened_queue(tmp_path) as queue:
        published(queue, barrier(LANES[0], 9), *(barrier(lane, 12) for lane in LANES[1:]))
        with pytest.raises(FatalError, match="seq 9"):
            pass_one(owner(queue, sink), RECORD, LANES, fronts(queue))
        assert sink.done == []


def test_a_message_of_another_kind_halts_the_table(tmp_path: Path) -> None:
    keys = pa.RecordBatch.from_arrays([pa.array([1], pa.int64())], names=["id"])
    sink = Acts()
    with opened_queue(tmp_path) as queue:
        refresh = codec.encode_refresh(SCHEMA, keys, LANES[0], "source", 0, np.array([1], np.uint64), 9)
        published(queue, refresh, *(barrier(lane, 9) for lane in LANES[1:]))
        with pytest.raises(FatalError, match="REFRESH"):
            pass_one(owner(queue, sink), RECORD, LANES, fronts(queue))
        assert sink.done == []
