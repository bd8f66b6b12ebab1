"""REFRESH in the model: rows that are read when their lane is there, among everything else that may happen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import Phase as Stage
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.engine import refresh
from syncd.engine.refresh import Refresher
from syncd.model import ChangeBatch, Column, Message, Op, TableSchema
from syncd.spi import Ticket
from syncd.state import Phase
from syncd.testing.source_log import normal
from tests.services.fuzz import examples
from tests.unit.engine.script import (
    KEYS,
    NUMBERS,
    TABLES,
    VISITS,
    WORDS,
    Change,
    Script,
    Work,
    _key,
    apply,
    play,
    scripts,
)
from tests.unit.engine.test_model import CALM
from tests.unit.engine.world import SINKS, World, engine_in


def keys_of(schema: TableSchema, numbers: list[int]) -> pa.RecordBatch:
    """The keys, with their twins."""
    (name,) = schema.key
    values = [_key(schema, number) for number in numbers]
    columns = {name: pa.array(values, schema.column(name).type)}
    twins = [column for column in schema.columns if column.normal_of]
    columns |= {twin.name: pa.array([normal(twin, value) for value in values], twin.type) for twin in twins}
    return pa.RecordBatch.from_pydict(columns)


def ask(world: World, schema: TableSchema, numbers: list[int]) -> list[Message]:
    """Publish the messages, as capture would: behind all that it has published."""
    source, versions = world.state.source(), world.state.schemas().get(schema.table)
    if source is None or not versions or not any(r.table == schema.table for r in world.records()):
        return []
    made = [*refresh.messages(world.parts, versions[max(versions)], keys_of(schema, numbers), source.seq)]
    was, world.orders.on = world.orders.on, False
    lease = world.queue.acquire("job/model/refresh", "a test", 10.0)
    assert lease is not None
    world.queue.publish(lease, world.parts.topic, made, {})
    world.queue.release(lease)
    world.orders.on = was
    world.writes.exempt.add(str(schema.table))  # newer rows come first, and their older ones behind them
    return made


@dataclass(frozen=True)
class Refresh:
    table: TableSchema
    keys: tuple[int, ...]

    def run(self, world: World) -> None:
        ask(world, self.table, [*self.keys])


@dataclass(frozen=True)
class MoveOn:
    """The source's head passes all that was published."""

    def run(self, world: World) -> None:
        for _ in range(2):
            with world.log.transaction() as tx:
                apply(world, tx, Change("put", TABLES.index(VISITS), 1, 1, 1))
        Work("", 3).run(world)


_refreshes = st.builds(
    Refresh, st.sampled_from([NUMBERS, WORDS]), st.lists(st.integers(0, KEYS - 1), min_size=1, max_size=4).map(tuple)
)


@st.composite
def refreshing(draw: st.DrawFn) -> Script:
    """A script with REFRESHes between its steps."""
    script = draw(scripts())
    steps: list[Any] = []
    for step in script.steps:
        steps += [*([draw(_refreshes)] if draw(st.integers(0, 3)) == 0 else []), step]
    steps.append(MoveOn())
    return replace(script, steps=tuple(steps))


@pytest.mark.hypothesis
def test_rows_that_are_read_again_are_never_older_than_what_is_there(tmp_path: Path) -> None:
    @settings(CALM, max_examples=examples(12), phases=[Stage.generate], report_multiple_bugs=False)
    @given(refreshing())
    def check(script: Script) -> None:
        with engine_in(tmp_path / "world") as world:
            play(world, script)

    check()


def begun(world: World) -> None:
    for schema in (NUMBERS, WORDS, VISITS):
        world.log.create(schema)
    with world.log.transaction() as tx:
        for key in range(6):
            tx.put(NUMBERS.table, (key, f"right {key}"))
            tx.put(WORDS.table, (_key(WORDS, 2 * key), "right"))
    world.settle()
    assert {record.phase for record in world.records()} == {Phase.LIVE}


def spoil(world: World, sink: str, op: Op, key: int) -> None:
    """Somebody else writes to the target."""
    source = world.state.source()
    assert source is not None
    published = next(iter(world.state.schemas()[NUMBERS.table].values())).published
    rows = pa.RecordBatch.from_pydict({"id": [key], "v": ["wrong"]}, schema=published.arrow())
    batch = ChangeBatch(published, rows, np.array([op], np.uint8), np.array([source.seq], np.uint64))
    made = super(type(world.parts), world.parts).make_sink(sink)
    made.open()
    made.write(world.parts.target(sink, published), batch, Ticket("somebody", 1, 1))
    made.close()


def test_what_differs_at_a_sink_is_mended(tmp_path: Path) -> None:
    """A row that is lost, one that is another, and one too many; a key that is nowhere is no trouble."""
    with engine_in(tmp_path / "world") as world:
        begun(world)
        for sink in SINKS:
            for op, key in ((Op.DELETE, 1), (Op.UPDATE, 2), (Op.INSERT, 77)):
                spoil(world, sink, op, key)
        with pytest.raises(AssertionError, match=r"shop\.numbers at"):
            world.assert_equal()
        MoveOn().run(world)
        made = ask(world, NUMBERS, [1, 2, 77, 99])
        assert sum(message.rows for message in made) == 4
        MoveOn().run(world)
        world.settle()
        world.assert_equal()


def test_a_lane_waits_until_the_source_shows_what_was_published(tmp_path: Path) -> None:
    with engine_in(tmp_path / "world") as world:
        begun(world)
        (message,) = ask(world, NUMBERS, [1])
        for _ in range(4):
            world.round()
        start, end = world.queue.lanes("model/arrival")[message.lane]
        assert end == start + 1
        MoveOn().run(world)
        world.settle()
        assert len(set(world.queue.lanes("model/arrival")[message.lane])) == 1


def test_a_row_read_behind_a_schema_change_does_not_hide_what_came_with_that(tmp_path: Path) -> None:
    """It is read without the new column; the row that has it comes later, with a larger seq than it was read with."""
    with engine_in(tmp_path / "world") as world:
        begun(world)
        ask(world, NUMBERS, [1, 2])
        world.log.add_column(NUMBERS.table, Column("n", pa.int64(), False, "bigint", default="5"))
        with world.log.transaction() as tx:
            tx.put(NUMBERS.table, (1, "new", 7))
        MoveOn().run(world)
        world.settle()
        world.assert_equal()


# -- mutants


def reads_with_the_head_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Refresher, "_seq", lambda self, record, message, head: head)


def test_the_seq_of_the_head_alone_would_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads_with_the_head_alone(monkeypatch)
    with pytest.raises(AssertionError, match="versioned"):
        test_a_row_read_behind_a_schema_change_does_not_hide_what_came_with_that(tmp_path)


def test_what_was_read_before_the_lane_came_there_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why it is not read when it is asked for."""
    with engine_in(tmp_path / "world") as world:
        begun(world)
        MoveOn().run(world)
        reader = Refresher(world.parts, world.queue)
        (message,) = ask(world, NUMBERS, [1])
        with monkeypatch.context() as patch:
            reads_with_the_head_alone(patch)
            early = reader.rows(message)
        reader.close()
        with world.log.transaction() as tx:
            tx.put(NUMBERS.table, (1, "newer"))
        world.work("capture")
        ask(world, NUMBERS, [1])
        monkeypatch.setattr(Refresher, "rows", lambda self, message: early)
        MoveOn().run(world)
        world.settle()
        with pytest.raises(AssertionError, match="arrival"):
            world.assert_equal()
