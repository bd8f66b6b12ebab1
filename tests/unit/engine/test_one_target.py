"""Two source tables with one target: one of them is copied, the same one every time, and the other one is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from syncd.config import parse_job
from syncd.model import Head, Position, TableId
from syncd.state import Phase, State, TableRecord, job_names
from syncd.testing.sinks import SqliteSink
from tests import plugins
from tests.unit.engine import world as worlds
from tests.unit.engine.script import NUMBERS
from tests.unit.engine.test_change import until, wish
from tests.unit.engine.world import SINKS, World, engine_in

ORDERS, OLD, OLDER = (replace(NUMBERS, table=TableId("shop", name)) for name in ("orders", "a_old", "b_older"))
GENERAL = '"shop.*": {{keyless: append}}'
JOB = worlds.JOB


@pytest.fixture(autouse=True)
def rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """`a_old` and `b_older` go where `orders` goes by itself; no rule tells that `orders` is there."""
    assert GENERAL in worlds.JOB
    more = ", shop.a_old: {{to: orders}}, 'shop.b_[o]lder': {{to: shop.orders, add: {{x: b}}}}"
    monkeypatch.setattr(worlds, "JOB", worlds.JOB.replace(GENERAL, GENERAL + more))


def put(world: World, **values: str) -> None:
    with world.log.transaction() as tx:
        for name, value in values.items():
            tx.put(TableId("shop", name), [1, value])


def check(world: World, winner: str, value: str, *losers: str) -> None:
    """The target holds the winner's row; each loser is halted at capture, and says who has its target."""
    for _ in range(20):
        world.round()
        world.clock.now += 1.0
    halts = {table.name: halt.reason for table, halt in world.state.halts().items()}
    assert {*halts} == {*losers}
    for name in losers:
        what = f"shop.{name} and shop.{winner} both go to shop.orders at sink arrival, and shop.{winner} has it"
        assert what in halts[name]
        assert "[C127]" in halts[name]
    assert {(r.sink, r.table.name) for r in world.records()} == {(sink, winner) for sink in SINKS}
    for sink in SINKS:
        assert [row["v"] for row in world.copy(sink, TableId("shop", winner))] == [value]


def test_at_the_start(tmp_path: Path) -> None:
    with engine_in(tmp_path / "world") as world:
        for schema in (OLDER, OLD, ORDERS):
            world.log.create(schema)
        put(world, orders="mine", a_old="not mine", b_older="neither")
        check(world, "orders", "mine", "a_old", "b_older")  # it keeps its own name; `a_old` would be the first by name
        put(world, a_old="changed", orders="changed, too", b_older="changed")
        check(world, "orders", "changed, too", "a_old", "b_older")


def test_names_that_differ_in_their_case_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a sink that takes them for one; asked of it only there, and of the tables that are new."""
    monkeypatch.setattr(SqliteSink, "folds", lambda self: "it keeps small letters")
    mine, more = (replace(NUMBERS, table=TableId("shop", name)) for name in ("orders", "Orders"))
    with engine_in(tmp_path / "world") as world:
        world.log.create(mine)
        put(world, orders="mine")
        world.settle()
        world.log.create(more)
        put(world, Orders="not mine", orders="changed")
        for _ in range(20):
            world.round()
            world.clock.now += 1.0
        halted = {r.table.name: r.reason for r in world.records() if r.phase is Phase.HALTED}
        assert [*halted] == ["Orders"]
        what = "shop.Orders goes to shop.Orders, shop.orders goes to shop.orders, and these are one table at sink"
        assert what in halted["Orders"]
        assert "where it keeps small letters" in halted["Orders"]
        assert [row["v"] for row in world.copy("arrival", mine.table)] == ["changed"]
    with engine_in(tmp_path / "world") as world:
        for schema in (mine, more):
            world.log.create(schema)
        for _ in range(20):
            world.round()
            world.clock.now += 1.0
        assert {(r.table.name, r.phase) for r in world.records()} == {("orders", Phase.HALTED), ("Orders", Phase.LIVE)}


def test_created_while_live(tmp_path: Path) -> None:
    with engine_in(tmp_path / "world") as world:
        for schema in (OLDER, OLD):
            world.log.create(schema)
        put(world, a_old="first", b_older="second")
        check(world, "a_old", "first", "b_older")
        world.log.create(ORDERS)
        put(world, orders="late", a_old="goes on")
        check(world, "a_old", "goes on", "orders", "b_older")
        world.restart()
        put(world, orders="later", a_old="goes on still")
        check(world, "a_old", "goes on still", "orders", "b_older")


def another_job(world: World, name: str, rule: str, phase: Phase, *, path: str = "arrival") -> State:
    """With its saved state, at the place of one of this job's sinks, for the table `b_older`."""
    text = JOB.replace("job: model", f"job: {name}").replace(GENERAL, f"shop.b_older: {{{{{rule}}}}}")
    text = text[: text.index("  arrival:")] + f"  lake: {{{{sqlite_arrival: {{{{path: {{folder}}/{path}.db}}}}}}}}\n"
    job = parse_job(text.format(folder=world.folder), str(world.folder / "other.yaml"), [plugins.FOLDER])
    state = State(world.queue, name)
    record = TableRecord(OLDER.table, "lake", phase, Head(Position("log:1"), 1))
    record = replace(record, resume=Phase.LIVE) if phase is Phase.HALTED else record
    wish(
        world,
        lambda before: before,
        state.meta_item(**replace(world.parts, job=job).facts()) | state.table_item(record),
    )
    return state


@pytest.mark.parametrize(
    ("rule", "phase", "path", "refused"),
    [
        ("to: shop.orders", Phase.LIVE, "arrival", True),
        ("to: shop.orders", Phase.HALTED, "arrival", True),
        ("to: shop.orders, add: {{x: b}}, key: [x, id]", Phase.LIVE, "arrival", True),
        ("to: shop.orders", Phase.NEW, "arrival", False),  # its name comes later
        ("to: shop.orders", Phase.DONE, "arrival", False),
        ("to: shop.orders", Phase.LIVE, "elsewhere", False),
        ("to: shop.others", Phase.LIVE, "arrival", False),
    ],
)
def test_of_two_jobs_the_later_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, phase: Phase, path: str, *, refused: bool
) -> None:
    """At the sink that both have, and no other table."""
    monkeypatch.setattr(worlds, "JOB", JOB)
    with engine_in(tmp_path / "world") as world:
        another_job(world, "second", rule, phase, path=path)
        for schema in (NUMBERS, ORDERS):
            world.log.create(schema)
        put(world, orders="mine", numbers="v")
        until(world, 3 if refused else 4)
        halted = {(r.sink, r.table): r.reason for r in world.records() if r.phase is not Phase.LIVE}
        assert [*halted] == ([("arrival", ORDERS.table)] if refused else [])
        what = "shop.orders goes to shop.orders at sink arrival, and shop.b_older of the job second has that target"
        assert all(what in why and "[C127]" in why and "forget second" in why for why in halted.values())


@pytest.mark.parametrize("folds", ["", "it keeps small letters"])
def test_of_two_jobs_whose_names_differ_in_their_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folds: str
) -> None:
    """They are one table where the server does not tell."""
    monkeypatch.setattr(worlds, "JOB", JOB)
    monkeypatch.setattr(SqliteSink, "folds", lambda self: folds)
    with engine_in(tmp_path / "world") as world:
        another_job(world, "second", "to: shop.ORDERS", Phase.LIVE)
        world.log.create(ORDERS)
        until(world, 1 if folds else 2)
        halted = {r.sink: r.reason for r in world.records() if r.phase is not Phase.LIVE}
        assert [*halted] == (["arrival"] if folds else [])
        assert all("(shop.ORDERS; it keeps small letters)" in reason for reason in halted.values())


def test_of_two_jobs_whose_keys_tell_their_rows_apart_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a table that was there first; one that is created later is, at that sink alone."""
    mine = '"shop.*": {{add: {{x: a}}, key: [x, id]}}, shop.visits: {{to: shop.orders}}'
    monkeypatch.setattr(worlds, "JOB", JOB.replace(GENERAL, mine))
    with engine_in(tmp_path / "world") as world:
        world.log.create(ORDERS)
        other = another_job(world, "earlier", "to: shop.orders, add: {{x: b}}, key: [x, id]", Phase.LIVE)
        until(world, 2)
        world.log.create(replace(NUMBERS, table=TableId("shop", "numbers")))
        put(world, numbers="v")
        until(world, 4)
        assert not world.state.halts()
        more = replace(NUMBERS, table=TableId("shop", "later"))
        record = TableRecord(more.table, "lake", Phase.LIVE, Head(Position("log:1"), 1))
        saved = parse_job(
            worlds.JOB.replace("job: model", "job: third").format(folder=world.folder), "third.yaml", [plugins.FOLDER]
        )
        third = State(world.queue, "third")
        facts = replace(world.parts, job=saved).facts()
        wish(world, lambda b: b, third.meta_item(**facts) | third.table_item(replace(record, sink="versioned")))
        world.log.create(more)
        put(world, later="v")
        for _ in range(6):
            world.round()
        found = {record.sink: record for record in world.records() if record.table == more.table}
        assert {sink: record.phase for sink, record in found.items()} == {
            "arrival": Phase.LIVE,
            "versioned": Phase.HALTED,
        }
        assert "shop.later of the job third has that target" in found["versioned"].reason
        assert job_names(world.queue) == ["earlier", "model", "third"]
        assert other.tables()[0].phase is Phase.LIVE
