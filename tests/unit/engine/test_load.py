"""Each chunk goes to one reader, whatever was saved before it was said, and whoever dies or halts in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from syncd.engine.load import Loader
from syncd.engine.words import Copied, Copy, Plan
from syncd.errors import FatalError
from syncd.model import Chunk, Head, Position, TableId
from syncd.spi import Lease, Queue
from syncd.state import Done, Phase, State, TableRecord
from tests.unit.engine.kit import leased, opened_queue

TABLE = TableId("shop", "items")
RECORD = TableRecord(TABLE, "s", Phase.SNAPSHOT, Head(Position("log:0"), 0))
PARTS = cast(
    "Any",
    SimpleNamespace(job=SimpleNamespace(name="j", sinks=["s"]), captures=True, readers=2, appends=lambda *_: False),
)


@dataclass
class Load:
    """A loader of one table, and the processes around it."""

    queue: Queue
    lease: Lease
    state: State
    loader: Loader

    def new_loader(self) -> Loader:
        return Loader(PARTS, self.queue, lambda items: self.queue.put(self.lease, items), lambda *_: None)

    def look(self) -> None:
        self.loader.look(self.state.tables())

    def save_chunk(self, number: int, *, last: bool = False) -> Chunk:
        """As the planner does, before it says so."""
        chunk = Chunk(TABLE, number, (number,) if number else None, None if last else (number + 1,), rows=100)
        self.queue.put(self.lease, self.state.chunk_item("s", chunk))
        return chunk

    def copied(self, reader: str) -> None:
        """The reader has marked its chunk, and says so."""
        task = self.loader.tasks[reader]
        done = Done(100, 1, 0)
        self.queue.put(self.lease, self.state.done_item("s", task.chunk, done))
        self.loader.copied(reader, Copied(RECORD, task.chunk, done))

    def halt(self, record: TableRecord) -> None:
        self.loader.loads.pop(("s", TABLE))
        self.queue.put(self.lease, self.state.table_item(record.halted("by order", 0)))
        self.look()

    def resume(self) -> None:
        self.queue.put(self.lease, self.state.table_item(RECORD))
        self.look()

    def deal(self, *readers: str) -> list[int | None]:
        """The chunk that each of the idle readers gets."""
        tasks: list[Copy | None] = [self.loader.next_chunk(reader) for reader in readers]
        return [None if task is None else task.chunk.number for task in tasks]

    def phase(self) -> Phase:
        record = self.state.table("s", TABLE)
        assert record is not None
        return record.phase


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    with opened_queue(tmp_path) as queue:
        lease, state = leased(queue, "job/j/run"), State(queue, "j")
        queue.put(lease, state.table_item(RECORD))
        loader = Loader(PARTS, queue, lambda items: queue.put(lease, items), lambda record, error: made.halt(record))
        made = Load(queue, lease, state, loader)
        made.look()
        assert loader.next_plan() == Plan((RECORD,))
        yield made


def test_a_chunk_that_was_found_saved_before_it_was_said_is_dealt_out_once(load: Load) -> None:
    load.loader.planned(RECORD, load.save_chunk(0))
    assert load.deal("reader/1") == [0]
    second = load.save_chunk(1)
    load.loader.reader_lost("reader/1", "killed")
    load.loader.planned(RECORD, second)
    load.loader.planned(RECORD, load.save_chunk(2, last=True))
    assert load.deal("reader/1", "reader/2", "reader/3", "reader/4") == [0, 1, 2, None]
    load.loader.plan_ended()
    assert load.loader.rows() == (0, 300)
    load.copied("reader/1")
    load.copied("reader/2")
    load.look()
    assert (load.phase(), load.loader.rows()) == (Phase.SNAPSHOT, (200, 300))
    load.copied("reader/3")
    load.look()
    assert (load.phase(), load.loader.rows()) == (Phase.CATCH_UP, (300, 300))
    load.look()
    assert load.loader.rows() == (300, 300)
    of_the_next_run = load.new_loader()
    of_the_next_run.look(load.state.tables())
    assert of_the_next_run.rows() == (300, 300)
    load.resume()  # a table that goes on is counted once
    assert load.loader.rows() == (300, 300)


def test_a_done_chunk_is_not_read_again_when_its_planner_is_heard_late(load: Load) -> None:
    load.loader.planned(RECORD, load.save_chunk(0))
    assert load.deal("reader/1") == [0]
    late = load.save_chunk(1, last=True)
    load.loader.reader_lost("reader/1", "killed")
    assert load.deal("reader/1", "reader/2") == [0, 1]
    load.copied("reader/2")
    load.loader.planned(RECORD, late)
    assert load.deal("reader/2") == [None]


def test_a_table_that_was_halted_and_goes_on_while_it_is_planned_and_read(load: Load) -> None:
    load.loader.planned(RECORD, load.save_chunk(0))
    load.loader.planned(RECORD, load.save_chunk(1))
    assert load.deal("reader/1", "reader/2") == [0, 1]
    load.halt(RECORD)
    load.loader.refused("reader/1", RECORD)
    third = load.save_chunk(2, last=True)
    load.resume()
    load.loader.planned(RECORD, third)
    assert load.deal("reader/1", "reader/3", "reader/4") == [0, 2, None]  # reader/2 is still at chunk 1
    load.copied("reader/1")
    load.copied("reader/3")
    load.look()
    assert load.phase() is Phase.SNAPSHOT
    load.copied("reader/2")
    load.look()
    assert load.phase() is Phase.CATCH_UP


def test_only_crashes_are_the_fault_of_a_chunk_or_of_the_planning(load: Load) -> None:
    halted: list[FatalError] = []
    load.loader._halt = lambda record, error: halted.append(cast(FatalError, error))
    load.loader.planned(RECORD, load.save_chunk(0, last=True))
    for crash in (False,) * 9 + (True,) * 3:
        assert halted == []
        assert load.deal("reader/1") == [0]
        assert load.loader.reader_lost("reader/1", "the disk is busy", crash=crash)
    assert "3 readers died at chunk 0" in str(halted.pop())
    load.loader._planning = (("s", TABLE),)
    assert load.loader.planner_lost("the disk is busy", crash=False)
    assert +load.loader.loads["s", TABLE].deaths == {0: 3}


def test_planning_that_was_heard_of_counts_no_deaths_of_planners(load: Load) -> None:
    """Two planners in a row die, then one saves a chunk, found before its word was read: the third death is a first."""
    halted: list[FatalError] = []
    load.loader._halt = lambda record, error: halted.append(cast(FatalError, error))
    for number in range(3):
        load.loader.planner_lost("killed")
        assert load.loader.next_plan() == Plan((RECORD,))
        if number == 1:
            chunk = load.save_chunk(0)
            load.loader._refresh(load.loader.loads["s", TABLE])
            load.loader.planned(RECORD, chunk)
    assert not halted
