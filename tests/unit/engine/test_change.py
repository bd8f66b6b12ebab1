"""A job file that says something else than the one before: sinks and tables that come, go, and come again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from syncd.config import parse_job
from syncd.engine import apply, change
from syncd.engine.daemon import Daemon
from syncd.errors import ConfigError
from syncd.model import Index, IndexPart
from syncd.ops import repairer
from syncd.state import Answer, Items, Leaving, Phase, Wish, paused_part
from tests import plugins
from tests.unit.engine import world as engine_world
from tests.unit.engine.script import NUMBERS, VISITS, WORDS
from tests.unit.engine.test_resync import drop, halted, resumed
from tests.unit.engine.world import SINKS, ModelParts, World, engine_in

WHOLE = engine_world.JOB
FEW = WHOLE[: WHOLE.index("  versioned:")].replace('"shop.*"', '"shop.numbers"')


def edit(world: World, text: str) -> None:
    """The daemon ends, and finds another job file when it starts."""
    world.kill()
    job = parse_job(text.format(folder=world.folder), str(world.folder / "job.yaml"), [plugins.FOLDER])
    service = world.parts.service.model_copy(update={"plugin_paths": [plugins.FOLDER]})
    world.parts = ModelParts(job, service, world)


def wish(world: World, change: Callable[[Wish], Wish], items: Items | None = None) -> None:
    """As a command saves it."""
    lease = world.queue.acquire("job/model/wish", "someone", 10.0)
    assert lease is not None
    world.queue.put(lease, world.state.wish_item(change(world.state.wish())) | (items or {}))
    world.queue.release(lease)


def give(world: World, text: str, at: int) -> None:
    """As `syncd apply` saves it."""
    text = text.format(folder=world.folder)
    applied = apply.following(world.state, text, str(world.folder / "new.yaml"), at)
    wish(world, lambda before: replace(before, applied=at), world.state.applied_item(applied))


def write(world: World, times: int, start: int = 0) -> None:
    for n in range(start, start + times):
        with world.log.transaction() as tx:
            tx.put(NUMBERS.table, (n % 7, f"n{n}"))
            tx.put(WORDS.table, (f"w{n % 5}", f"w{n}"))
            tx.put(VISITS.table, (n, "v"))
            if n % 3 == 0:
                tx.delete(WORDS.table, (f"w{n % 5}",))


def until(world: World, tables: int) -> None:
    """So many copies are LIVE."""
    for _ in range(40):
        world.round()
        world.clock.now += 4.0
        if sum(record.phase is Phase.LIVE for record in world.records()) == tables:
            return
    raise AssertionError(f"{world.records()}")


def phases(world: World) -> dict[tuple[str, str], Phase]:
    return {(record.sink, record.table.name): record.phase for record in world.records()}


@pytest.fixture
def few(tmp_path: Path) -> Iterator[World]:
    """One table at one sink, LIVE; the source has two more."""
    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, WORDS, VISITS):
            world.log.create(schema)
        write(world, 20)
        edit(world, FEW)
        world.restart()
        until(world, 1)
        yield world


def test_what_comes_has_a_head_of_its_own_and_what_is_there_goes_on(few: World) -> None:
    """Also while capture is behind: what was before the head is in the load. The first table is not read again."""
    (before,) = few.records()
    few.kill()
    write(few, 8, 20)
    edit(few, WHOLE)
    few.restart()
    for n in range(12):
        write(few, 1, 28 + n)
        few.round()
    few.settle()
    few.assert_equal()
    after = {(record.sink, record.table.name): record for record in few.records()}
    assert len(after) == 6
    first = after.pop(("arrival", "numbers"))
    assert (first.head, first.epoch) == (before.head, before.epoch)
    assert all(record.head.seq > before.head.seq for record in after.values())
    assert (few.state.added(), few.state.joins()) == ([], {})


@pytest.mark.parametrize(
    ("point", "times"),
    [
        ("snapshot.head_taken", 1),
        ("snapshot.added", 1),
        ("capture.joined", 1),
        ("capture.joined", 2),
        ("queue.publish", 1),
        ("queue.published", 2),
        ("queue.publish", 3),
        ("snapshot.handed_over", 3),
    ],
)
def test_whoever_dies_on_the_way_is_followed_by_one_that_ends_it(few: World, point: str, times: int) -> None:
    few.kill()
    write(few, 8, 20)
    edit(few, WHOLE)
    few.orders.pending[point] = times, "die"
    few.restart()
    for n in range(6):
        few.round()
        write(few, 1, 28 + n)
    few.settle()
    few.assert_equal()


def die(*_: object) -> None:
    raise engine_world.Died("on the way")


def test_what_has_left_is_forgotten_and_what_comes_back_is_loaded_anew(
    few: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(few, WHOLE)
    few.restart()
    few.settle()
    parts = ("", paused_part("", "versioned"), paused_part("shop.words", ""), paused_part("shop.numbers", "arrival"))
    wish(few, lambda _: Wish(parts))
    write(few, 4, 50)
    few.work("capture")  # what stands in the lanes of those that leave goes, too
    edit(few, FEW)
    with monkeypatch.context() as dying:
        dying.setattr(change, "clear", die)
        with pytest.raises(engine_world.Died):
            few.restart()
    assert few.state.leaving() == Leaving(("versioned",), (VISITS.table, WORDS.table))
    few.restart()
    assert few.state.leaving() == Leaving()
    assert (phases(few), [*few.state.schemas()]) == ({("arrival", "numbers"): Phase.LIVE}, [NUMBERS.table])
    assert few.queue.lanes("model/versioned") == {}
    assert {lane.tag for lane in few.queue.lanes("model/arrival")} == {"shop.numbers"}
    assert few.state.wish().paused == ("", "table at arrival:shop.numbers")
    wish(few, lambda _: Wish())
    write(few, 4, 60)
    few.log.truncate(WORDS.table)
    until(few, 1)
    edit(few, WHOLE)
    few.restart()
    stands = halted(few)
    assert len([why for why in stands.values() if "[E192]" in why]) == 5
    assert ("arrival", "shop.numbers") not in stands
    for place in stands:
        drop(few, *place)
    few.writes.last.clear()
    resumed(few)
    few.settle()
    few.assert_equal()
    epochs = {record.epoch for record in few.records() if (record.sink, record.table) != ("arrival", NUMBERS.table)}
    assert min(epochs) > 2, "above those that their targets have seen"


def test_a_table_under_other_settings_needs_a_resync_and_the_same_ones_in_other_words_do_not(few: World) -> None:
    """Nothing is changed by a file that is refused."""
    meta = few.state.meta()
    edit(few, FEW.replace("keyless: append", "keyless: append, columns: {{rename: {{v: w}}}}"))
    found = [*change.contradictions(few.parts, few.state)]
    assert [(fault.line, fault.key, fault.code) for fault in found] == [(3, "tables.shop.numbers", "C140")]
    assert "shop.numbers was loaded under other settings (rename); `syncd apply` loads it anew" in str(found[0])
    with pytest.raises(ConfigError, match="under other settings"):
        few.restart()
    assert few.state.meta() == meta
    same = FEW.replace('"shop.numbers": {{', '"shop.num*": {{}}, "shop.numbers": {{sinks: {{}}, ')
    edit(few, same)
    few.restart()
    until(few, 1)
    assert phases(few) == {("arrival", "numbers"): Phase.LIVE}


def test_a_table_that_was_refused_is_looked_at_anew_when_the_file_says_something_else_of_it(few: World) -> None:
    edit(few, FEW.replace("tables: {{", 'tables: {{"shop.visits": {{}}, '))
    few.restart()
    for _ in range(4):
        few.round()
    assert [*few.state.halts()] == [VISITS.table]
    assert phases(few) == {("arrival", "numbers"): Phase.LIVE}
    edit(few, FEW.replace("tables: {{", 'tables: {{"shop.visits": {{keyless: append}}, '))
    few.restart()
    write(few, 3, 90)
    until(few, 2)
    assert few.state.halts() == {}
    there, wanted = few.copy("arrival", VISITS.table), few.log.rows(VISITS.table)  # in no order: there is no key
    assert sorted(map(str, there)) == sorted(map(str, wanted))


def test_a_sink_that_refuses_disorder_gets_one_lane_behind_what_all_lanes_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No change of a key is in a second lane before the first one is empty: `Writes` sees to it at the other sink."""
    monkeypatch.setattr(
        engine_world.ModelSink,
        "traits",
        lambda self: replace(self._sink.traits(), unique=self._writes is None),
        raising=False,
    )
    unique = replace(NUMBERS, indexes=(Index("by_v", (IndexPart("v"),), "unique"),))
    with engine_in(tmp_path / "world") as world:
        world.log.create(unique)
        edit(world, FEW)
        world.restart()
        until(world, 1)
        for n in range(40):
            with world.log.transaction() as tx:
                tx.put(NUMBERS.table, (n % 7, f"n{n}"))
        for _ in range(4):
            world.work("capture")
        edit(world, WHOLE)
        world.restart()
        for n in range(40, 60):
            with world.log.transaction() as tx:
                tx.put(NUMBERS.table, (n % 7, f"n{n}"))
        world.settle()
        world.assert_equal()
        ends = {lane.queue: end for lane, (_, end) in world.queue.lanes("model/arrival").items()}
        assert ends[0] > ends[1] > 0
        assert world.state.respread() is False


def test_a_sink_gets_the_columns_of_its_own_head(few: World) -> None:
    """Capture is behind an ALTER that the new sink's load has seen."""
    column = replace(NUMBERS.columns[1], name="added")
    few.kill()
    few.log.add_column(NUMBERS.table, column)
    with few.log.transaction() as tx:
        tx.put(NUMBERS.table, (3, "x", "y"))
    edit(few, WHOLE.replace('"shop.*"', '"shop.numbers"'))
    few.restart()
    until(few, 2)
    rows = few.log.rows(NUMBERS.table)
    assert [few.copy(sink, NUMBERS.table) for sink in SINKS] == [rows, rows]


def test_the_daemon_takes_over_what_is_applied_or_says_why_not(few: World) -> None:
    """Refused: it goes on as before. Live: one worker starts anew. Else it ends, and another one follows it."""
    runner, text = few.runner, few.parts.job.text
    give(few, FEW.replace("arrival.db", "other.db"), 7)
    runner.step()
    answer = few.state.answer()
    assert answer is not None
    assert "sinks.arrival.sqlite_arrival: the saved state was made with" in answer.text
    assert (answer.at, runner.parts.job.text, runner.next) == (7, text, None)
    before = {worker.name: worker for worker in few.workers}
    give(few, FEW.replace("rows: 2", "rows: 3"), 8)
    few.supervise()
    few.supervise()
    after = {worker.name: worker for worker in few.workers if worker.alive}
    assert few.state.answer() == Answer(8, "")
    assert (few.state.meta() or {})["text"] == runner.parts.job.text
    assert runner.parts.job.sinks["arrival"].batch.rows == 3
    assert {name for name in after if after[name] is not before.get(name)} == {"deliver/arrival model"}
    write(few, 3, 40)
    until(few, 1)
    give(few, WHOLE, 9)
    runner.step()
    assert runner.next is not None
    assert ([*runner.next.job.sinks], runner.ended) == ([*SINKS], False)


def test_a_job_that_has_failed_begins_anew_with_what_is_applied(few: World) -> None:
    daemon, runner = Daemon([few.parts], repairer.work), few.runner
    runner.failed = ConfigError("its file is wrong")
    assert daemon._follower(runner) is None
    few.kill()
    runner.stop()
    runner.step()
    give(few, "job: [", 3)
    assert daemon._follower(runner) is None
    answer = few.state.answer()
    assert answer is not None
    assert (answer.at, "new.yaml:1:" in answer.text) == (3, True)
    give(few, WHOLE, 4)
    follower = daemon._follower(runner)
    assert follower is not None
    assert ([*follower.parts.job.sinks], follower.applied) == ([*SINKS], 4)


@pytest.mark.parametrize("by", ["the policy", "a command"])
def test_all_tables_are_loaded_anew_beside_their_copies(few: World, by: str) -> None:
    """What the sink holds is what the source holds; no row of before is left."""
    edit(few, FEW.replace("policy: {{", "policy: {{position_lost: resnapshot, ") if by == "the policy" else FEW)
    few.restart()
    until(few, 1)
    write(few, 9)
    few.round()
    few.kill()
    write(few, 5, 50)
    with few.log.transaction() as tx:
        tx.delete(NUMBERS.table, (3,))
    if by == "the policy":
        few.log.purge(few.log.end()[0])
    else:
        wish(few, lambda before: before, few.state.anew_item())
    epoch = few.records()[0].epoch
    few.restart()
    write(few, 3, 70)
    for _ in range(20):
        few.round()
        few.clock.now += 4.0
        if few.runner.next is not None:  # the daemon starts it
            few.restart()
    (record,) = few.records()
    assert (record.phase, record.shadow, record.epoch > epoch) == (Phase.LIVE, "", True)
    assert few.copy("arrival", NUMBERS.table) == few.log.rows(NUMBERS.table)
