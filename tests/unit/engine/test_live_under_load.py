"""A table that is written to without end becomes LIVE, its indexes made, though its lanes are never empty."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from syncd.engine import deliver
from syncd.model import Column, Ddl, Index, IndexPart, Lane, SchemaChange, TableId, Target
from syncd.spi import Sink
from syncd.state import Phase
from tests.unit.engine import world as engine_world
from tests.unit.engine.script import NUMBERS
from tests.unit.engine.test_change import WHOLE, edit, phases
from tests.unit.engine.world import World, engine_in

BY_V = Index("by_v", (IndexPart("v"),), "unique")
PLAIN = Index("plain", (IndexPart("v"),))


@pytest.fixture
def acts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Ddl, bool, int]]:
    """What the arrival sink was asked to do, in its order: kind, whether unique indexes are to be there, columns."""
    seen: list[tuple[Ddl, bool, int]] = []
    apply = engine_world.ModelSink.apply

    def record(self: Any, target: Target, change: SchemaChange, *args: Any) -> None:
        if self._writes is not None:
            seen.append((change.kind, target.settled, len(change.schema.columns)))
        apply(self, target, change, *args)

    monkeypatch.setattr(engine_world.ModelSink, "apply", record)
    monkeypatch.setattr(
        engine_world.ModelSink, "traits", lambda self: replace(self._sink.traits(), unique=True), raising=False
    )
    return seen


class Late:
    """Writers that have always something to do: each round one call is made, the oldest."""

    given: ClassVar[deque[tuple[Future[Any], Callable[[], Any]]]] = deque()

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def submit(self, _lane: Lane, _table: TableId, do: Callable[[Sink], Any], *, long: bool = False) -> Future[Any]:
        self.given.append((future := Future[Any](), partial(do, self._sink)))
        return future

    @classmethod
    def land(cls) -> None:
        if cls.given:
            future, do = cls.given.popleft()
            future.set_result(do())


def write(world: World, n: int) -> None:
    with world.log.transaction() as tx:
        added = len(world.log.schema(NUMBERS.table).columns) - len(NUMBERS.columns)
        tx.put(NUMBERS.table, (n % 7, f"n{n}", *["more"] * added))


def caught_up(world: World) -> None:
    while phases(world).get(("arrival", "numbers")) is not Phase.CATCH_UP:
        world.supervise()
        world.work("")


def until_live(world: World, writes: int = 1) -> None:
    """There are always more changes in the queue than are delivered."""
    caught_up(world)
    for n in range(200):
        if n % 10 == 0:
            world.supervise()
        for m in range(writes):
            write(world, writes * n + m)
        world.work("capture")
        world.work("")
        Late.land()
        world.clock.now += 0.06  # less than a batch waits for more rows
        if phases(world).get(("arrival", "numbers")) is Phase.LIVE:
            return
    raise AssertionError(f"not LIVE: {world.records()}")


@pytest.mark.parametrize("indexes", [(), (PLAIN,), (BY_V,), (PLAIN, BY_V)])
def test_it_becomes_live(tmp_path: Path, acts: list[tuple[Ddl, bool, int]], indexes: tuple[Index, ...]) -> None:
    with engine_in(tmp_path / "world") as world:
        world.log.create(replace(NUMBERS, indexes=indexes))
        write(world, 0)
        until_live(world)
        assert [settled for _, settled, _ in acts] == [index.kind == "unique" for index in indexes]
        assert {kind for kind, _, _ in acts} <= {Ddl.INDEX}
        world.settle()
        world.assert_equal()


@pytest.mark.parametrize("indexes", [(), (PLAIN,)])
def test_also_where_some_lane_is_always_being_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, acts: list[tuple[Ddl, bool, int]], indexes: tuple[Index, ...]
) -> None:
    monkeypatch.setattr(Late, "given", deque())
    with engine_in(tmp_path / "world") as world, monkeypatch.context() as late:
        late.setattr(deliver, "Inline", Late)
        world.log.create(replace(NUMBERS, indexes=indexes))
        write(world, 0)
        until_live(world, writes=7)
        assert len(acts) == len(indexes)


def test_a_relaxed_index_holds_nothing_up(tmp_path: Path, acts: list[tuple[Ddl, bool, int]]) -> None:
    """The table is spread over all queues, its index made once, as a plain one."""
    with engine_in(tmp_path / "world") as world:
        world.log.create(replace(NUMBERS, indexes=(BY_V,)))
        edit(world, WHOLE.replace("keyless: append", "keyless: append, unique: relaxed"))
        world.restart()
        write(world, 0)
        until_live(world)
        assert [(kind, settled) for kind, settled, _ in acts] == [(Ddl.INDEX, False)]
        for n in range(20):
            write(world, n)
        world.settle()
        world.assert_equal()
        assert len([lane for lane, (_, end) in world.queue.lanes("model/arrival").items() if end]) == 3
        target = world.parts.target("arrival", world.log.schema(NUMBERS.table))
        assert (target.relaxed, world.parts.queues_of(target.schema)) == (True, 3)


def test_unique_indexes_are_those_of_the_version_that_is_there(
    tmp_path: Path, acts: list[tuple[Ddl, bool, int]]
) -> None:
    """A column that the source has added meanwhile is still to come."""
    with engine_in(tmp_path / "world") as world:
        world.log.create(replace(NUMBERS, indexes=(BY_V,)))
        write(world, 0)
        caught_up(world)
        for n in range(1, 4):
            write(world, n)
            world.work("capture")
            world.work("deliver")
        write(world, 4)
        world.log.add_column(NUMBERS.table, Column("more", NUMBERS.columns[1].type))
        write(world, 5)
        until_live(world)
        world.settle()
        world.assert_equal()
        columns = len(NUMBERS.columns)
        assert (Ddl.INDEX, True, columns) in acts or (Ddl.INDEX, True, columns + 1) in acts
        for before, (kind, settled, now) in enumerate(acts):
            altered = any(kind is Ddl.ALTER for kind, _, _ in acts[:before])
            assert kind is Ddl.ALTER or now == columns + altered, (settled, acts)


def test_an_index_that_the_source_has_dropped_does_not_come_back(
    tmp_path: Path, acts: list[tuple[Ddl, bool, int]]
) -> None:
    """Indexes are made anew where a target was put back, and where deliver has died before the table was LIVE."""
    with engine_in(tmp_path / "world") as world:
        world.log.create(replace(NUMBERS, indexes=(PLAIN,)))
        write(world, 0)
        world.settle()
        with world.log.transaction() as tx:
            tx.statement(Ddl.ALTER, replace(world.log.schema(NUMBERS.table), indexes=()))
        world.settle()
        world.keep()
        write(world, 1)
        world.settle()
        world.put_back()
        write(world, 2)
        world.settle()
        world.assert_equal()
        assert [kind for kind, _, _ in acts] == [Ddl.INDEX, Ddl.ALTER]
