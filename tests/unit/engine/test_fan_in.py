"""Several tables of the source in one target: what one does waits for the others as far as delivery has come."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from syncd import codec
from syncd.engine.fan_in import Turns, Waits, _version
from syncd.model import Column, Ddl, Lane, SchemaChange, TableId, TableSchema, Target
from syncd.spi import Ticket, Traits
from syncd.state import SchemaPair
from syncd.testing.sinks import ArrivalSink, SqliteSink
from tests.unit.engine import world as worlds
from tests.unit.engine.script import NUMBERS, POINTS
from tests.unit.engine.world import SINKS, ModelSink, World, engine_in

SHARDS = tuple(replace(NUMBERS, table=TableId("shop", f"orders_{n}")) for n in (1, 2, 3))
ONE, TWO, THREE = (schema.table for schema in SHARDS)
ID, VALUE = NUMBERS.columns
NAMED = replace(VALUE, name="w")


@pytest.fixture(autouse=True)
def rules(monkeypatch: pytest.MonkeyPatch) -> None:
    more = """{{'shop.orders_(.)': {{to: all.orders, add: {{shard: '\\1'}}, key: [shard, id]}}, """
    assert '"shop.*": {{keyless: append}}' in worlds.JOB
    monkeypatch.setattr(worlds, "JOB", worlds.JOB.replace('{{"shop.*": ', more + '"shop.*": '))


@contextmanager
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[World, list[SchemaChange]]]:
    """Three shards of two rows, LIVE; and the acts that the arrival sink is asked for."""
    acts: list[SchemaChange] = []

    def apply(self: ModelSink, target: Target, change: SchemaChange, ticket: Ticket) -> None:
        if isinstance(self._sink, ArrivalSink):
            acts.append(change)
        self._sink.apply(target, change, ticket)

    monkeypatch.setattr(ModelSink, "apply", apply)
    with engine_in(tmp_path / "world") as world:
        for schema in SHARDS:
            world.log.create(schema)
            put(world, schema.table, (1, "a"), (2, "b"))
        world.settle()
        check(world)
        acts.clear()
        yield world, acts


def put(world: World, table: TableId, *rows: tuple[Any, ...]) -> None:
    with world.log.transaction() as tx:
        for row in rows:
            tx.put(table, row)


def check(world: World) -> None:
    for schema in world.log.tables():
        source = [{**row, "shard": schema.table.name[-1]} for row in world.log.rows(schema.table)]
        for sink in SINKS:
            assert world.copy(sink, schema.table) == source, f"{schema.table} at {sink}"


def rounds(world: World, count: int = 6) -> None:
    for _ in range(count):
        world.round()
        world.clock.now += 1.0


def test_a_column_stays_until_the_last_table_has_dropped_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as each has come in its lanes: the second one's change is in the queue when the first one acts."""
    with running(tmp_path, monkeypatch) as (world, acts):
        for table in (THREE, ONE):
            put(world, table, (3, "c"))
            world.log.alter(table, (ID,))
        put(world, TWO, (3, "c"))
        rounds(world)
        assert [(c.table, c.kept, c.gone) for c in acts] == [(ONE, ("v",), ()), (THREE, ("v",), ())]
        world.log.alter(TWO, (ID,))
        for table in (ONE, TWO, THREE):
            put(world, table, (4,))
        world.settle()
        assert (acts[-1].table, acts[-1].kept, acts[-1].gone) == (TWO, (), ("v",))
        check(world)


def test_a_column_gets_its_new_name_when_all_tables_stand_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then status says for which one it waits; one that was killed on the way finds it again."""
    with running(tmp_path, monkeypatch) as (world, acts):
        for table in (ONE, TWO):
            world.log.alter(table, (ID, NAMED), {"v": "w"})
            put(world, table, (3, "c"))
        rounds(world)
        assert acts == []
        reasons = {name: wait.reason for name, wait in world.state.waits().items()}
        why = "v is called w now; it stays v at all.orders until shop.orders_3 (LIVE) has come to the same change"
        assert f"{ONE}: {why}" in reasons[f"deliver/arrival: {ONE}"]
        put(world, THREE, (3, "c"))
        world.restart()
        world.orders.pending["barrier.acted"] = 1, "die"
        world.log.alter(THREE, (ID, NAMED), {"v": "w"})
        put(world, THREE, (4, "d"))
        rounds(world)
        world.settle()
        assert {c.table for c in acts} == {ONE, TWO, THREE}
        assert [acts[0].kept, acts[-1].kept] == [("v",), ()]
        assert world.state.waits() == {}
        check(world)


def test_one_table_is_emptied_and_one_is_loaded_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, monkeypatch) as (world, _):
        world.log.truncate(TWO)
        put(world, TWO, (9, "z"))
        put(world, ONE, (1, "changed"))
        world.log.create(replace(NUMBERS, table=TableId("shop", "orders_4")))
        put(world, TableId("shop", "orders_4"), (1, "new"))
        world.settle()
        check(world)


def test_tables_that_cannot_be_one(tmp_path: Path) -> None:
    """Of those that are found together, each with the reason; the first one is copied."""
    others: dict[str, tuple[TableSchema, str]] = {
        "orders_2": (replace(NUMBERS, columns=(ID,)), "it lacks the column v"),
        "orders_3": (replace(NUMBERS, columns=(ID, VALUE, replace(VALUE, name="x"))), "that one lacks the column x"),
        "orders_4": (replace(NUMBERS, columns=(ID, Column("v", pa.int64(), True, "bigint"))), "its column v is bigint"),
        "orders_5": (NUMBERS, ""),
    }
    with engine_in(tmp_path / "world") as world:
        for name, (schema, _) in {"orders_1": (NUMBERS, ""), **others}.items():
            world.log.create(replace(schema, table=TableId("shop", name)))
        rounds(world)
        halts = {table.name: halt.reason for table, halt in world.state.halts().items()}
        assert halts.keys() == {name for name, (_, why) in others.items() if why}
        for name, reason in halts.items():
            assert f"it goes to all.orders as shop.orders_1 does, and {others[name][1]}" in reason


def test_a_sink_that_takes_one_table_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = SqliteSink.traits

    def traits(self: SqliteSink) -> Traits:
        return replace(whole(self), shares=False)

    monkeypatch.setattr(SqliteSink, "traits", traits)
    with engine_in(tmp_path / "world") as world:
        for schema in SHARDS:
            world.log.create(schema)
        rounds(world)
        assert world.state.halts().keys() == {TWO, THREE}
        assert "the sink takes one table only" in world.state.halts()[TWO].reason


@pytest.mark.parametrize("seed", [3, 8, 37])
def test_acts_of_many_tables_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Rows, TRUNCATEs and columns that come and go, table by table, while processes die; in Parquet files, of which all
    tables have the same ones."""
    path = "parquet: {{path: {folder}/files, merge_files: 4}}"
    job = worlds.JOB.replace("sqlite_versioned: {{path: {folder}/versioned.db, faults_file: {folder}/faults}}", path)
    assert job != worlds.JOB
    monkeypatch.setattr(worlds, "JOB", job)
    with engine_in(tmp_path / "world") as world:
        for schema in SHARDS:
            world.log.create(schema)
        world.settle()
        script = Script(world, random.Random(seed))
        for _ in range(40):
            script.step()
        script.end()
        world.settle()
        check(world)


class Script:
    """A column `v` goes from some tables, or gets another name in all."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world, self.rng = world, rng
        self.renames = rng.random() < 0.5
        self.points = [*POINTS["deliver"], *POINTS["barrier"], *POINTS["state"], *POINTS["capture"]]

    def step(self) -> None:
        log, rng = self.world.log, self.rng
        schema = rng.choice(log.tables())
        table, columns = schema.table, schema.columns
        match rng.choice([*["put"] * 6, *["round"] * 3, "truncate", "die", "add", "change", "create"]):
            case "put":
                put(self.world, table, (rng.randrange(6), *(f"x{rng.randrange(9)}" for _ in columns[1:])))
            case "round":
                rounds(self.world, 1)
            case "truncate":
                log.truncate(table)
            case "die":
                self.world.orders.pending[rng.choice(self.points)] = rng.randrange(1, 3), "die"
            case "add" if all(column.name != "note" for column in columns):
                log.add_column(table, replace(VALUE, name="note", nullable=False, default=rng.choice("de")))
            case "change":
                self._change(schema)
            case "create" if len(log.tables()) < 5:
                named = NUMBERS if rng.random() < 0.5 or not self.renames else replace(NUMBERS, columns=(ID, NAMED))
                log.create(replace(named, table=TableId("shop", f"orders_{len(log.tables()) + 1}")))

    def _change(self, schema: TableSchema) -> None:
        if all(column.name != "v" for column in schema.columns):
            return
        named = tuple(NAMED if c.name == "v" else c for c in schema.columns)
        if self.renames:
            self.world.log.alter(schema.table, named, {"v": "w"})
        else:
            self.world.log.alter(schema.table, [c for c in schema.columns if c.name != "v"])

    def end(self) -> None:
        """What has begun in one table comes in all."""
        for schema in self.world.log.tables() if self.renames else ():
            self._change(schema)


def test_turns() -> None:
    turns, place = Turns(), TableId("all", "orders")
    turns.take(place, ONE, locks=True)
    turns.take(place, ONE)
    turns.check(place, ONE)
    for asks in (turns.take, turns.check):
        with pytest.raises(Waits, match=r"orders_2 waits for shop\.orders_1"):
            asks(place, TWO)
    turns.give(place, TWO)
    turns.give(place, ONE)
    turns.take(place, TWO)
    turns.check(place, ONE)


def test_the_version_in_front_of_a_barrier() -> None:
    """A barrier at which nothing is done, since the rows take other lanes behind it, is of the same table."""
    first, second = SHARDS[0], replace(SHARDS[0], version=5, columns=(ID, NAMED))
    versions = {schema.version: SchemaPair(schema, schema) for schema in (first, second)}

    def before(change: SchemaChange) -> int:
        return _version(codec.encode_change(change, Lane("t", 0), "source", 0), versions)

    assert before(SchemaChange(Ddl.ALTER, second, 5, "ALTER", before=first)) == first.version
    assert before(SchemaChange(Ddl.ALTER, second, 9, "other lanes", before=second)) == 5
    assert before(SchemaChange(Ddl.TRUNCATE, second, 9, "TRUNCATE")) == 5
