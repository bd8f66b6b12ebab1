"""Capture halts the table that an error is about, and no other; and never the same one again and again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syncd.engine import capture
from syncd.errors import FatalError
from syncd.model import ChangeBatch, Ddl, SchemaChange, TableId
from syncd.spi import Event
from syncd.state import Phase
from tests.unit.engine import world as engine_world
from tests.unit.engine.script import NUMBERS, VISITS, WORDS, Change, apply
from tests.unit.engine.world import ModelLink, ModelSource, World, engine_in

DOTTED = TableId("my.db", "visits")
PATTERN = r"""tables: {{'my[.]db[.].*': {{}}, """


def until_captured(world: World) -> None:
    """The log is read to its end."""
    for _ in range(8):
        world.round()
        source = world.state.source()
        assert source is not None
        if source.position == f"log:{world.log.end()[0]}":
            return
    raise AssertionError(f"capture stands at {source}; halted: {world.state.halts()}")


def test_a_table_that_is_refused_when_it_is_created_halts_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_world, "JOB", engine_world.JOB.replace("tables: {{", PATTERN))
    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, replace(WORDS, table=TableId("my", "db.visits"))):
            world.log.create(schema)
        world.settle()
        world.log.create(replace(VISITS, table=DOTTED))
        with world.log.transaction() as tx:
            tx.put(DOTTED, (1, "v"))
            apply(world, tx, Change("put", 0, 1, 1, 1))
        until_captured(world)
        assert [*world.state.halts()] == [DOTTED]
        assert "`my.db`.visits is not copied: it has no primary key" in world.state.halts()[DOTTED].reason
        for _ in range(3):
            world.round()
        assert [row["id"] for row in world.copy("arrival", NUMBERS.table)] == [1]


def test_two_tables_that_change_names_are_both_loaded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One statement, two changes: the second one is of a table that the first has halted."""
    ignored = engine_world.JOB.replace("halt-table", "halt-table, rename_table: ignore")
    monkeypatch.setattr(engine_world, "JOB", ignored)
    others = replace(NUMBERS, table=TableId("shop", "others"))
    stream = ModelSource.stream

    def renaming(self: ModelSource, *args: Any) -> Iterator[Event]:
        for event in stream(self, *args):
            if isinstance(event, ChangeBatch) and len(event):
                for at, (one, two) in enumerate(((NUMBERS, others), (others, NUMBERS))):
                    yield SchemaChange(Ddl.RENAME, one, int(event.seq[0]) - 2 + at, "RENAME", to=two.table)
            yield event

    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, others, WORDS):
            world.log.create(schema)
        world.settle()
        monkeypatch.setattr(ModelSource, "stream", renaming)
        with world.log.transaction() as tx:
            apply(world, tx, Change("put", 1, 1, 1, 1))
        until_captured(world)
        assert {*world.state.halts()} == {NUMBERS.table, others.table}
        assert "came with the rows of shop.others" in world.state.halts()[NUMBERS.table].reason


def test_a_table_that_is_halted_and_still_stands_in_the_way_halts_the_job(tmp_path: Path) -> None:
    with engine_in(tmp_path / "world") as world:
        world.log.create(NUMBERS)
        world.settle()
        errors = 0

        def again() -> None:
            nonlocal errors
            errors += 1
            assert errors < 5, "capture reads on and on"
            world.orders.pending["source.event"] = 1, again
            raise FatalError("an event is broken", table=str(NUMBERS.table), hint="look at it", code="E152")

        world.orders.pending["source.event"] = 1, again
        with world.log.transaction() as tx:
            apply(world, tx, Change("put", 0, 1, 1, 1))
        world.work("capture")
        world.runner.step()
        assert errors == 2
        assert [*world.state.halts()] == [NUMBERS.table]
        says = "shop.numbers is halted, and the log cannot be read without it either: an event is broken; look at it"
        assert str(world.runner.failed) == f"{says} [E152]"
        assert [record.phase for record in world.records()] == [Phase.LIVE, Phase.LIVE]


def test_rows_out_of_order_within_a_batch_halt_their_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of a key's changes would be taken for the newest (3)."""
    stream = engine_world.ModelSource.stream

    def turned(*args: Any) -> Iterator[Event]:
        for event in stream(*args):
            if isinstance(event, ChangeBatch) and event.table == NUMBERS.table:
                event = event.take(np.arange(len(event))[::-1])
            yield event

    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, VISITS):
            world.log.create(schema)
        world.settle()
        monkeypatch.setattr(engine_world.ModelSource, "stream", turned)
        with world.log.transaction() as tx:
            for text in ("old", "new"):
                tx.put(NUMBERS.table, (1, text))
            tx.put(VISITS.table, (7, "v"))
        until_captured(world)
        assert [*world.state.halts()] == [NUMBERS.table]
        assert "its order is broken" in world.state.halts()[NUMBERS.table].reason
        for _ in range(3):
            world.round()
        assert world.copy("arrival", NUMBERS.table) == []
        assert len(world.copy("arrival", VISITS.table)) == 1


def test_what_a_worker_does_after_it_has_asked_for_its_log_is_to_follow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source may be silent for longer than an answer may take: it is not said to hang."""
    steps: list[str] = []
    silences = 0

    def idle(source: ModelSource) -> None:
        nonlocal silences
        silences += 1
        steps.append("silence")
        if silences == 3:
            source.idle()

    monkeypatch.setattr(ModelLink, "step", lambda self, doing, every=0.0: steps.append(doing))
    with engine_in(tmp_path / "world") as world:
        world.log.create(NUMBERS)
        world.settle()
        steps.clear()
        monkeypatch.setattr(ModelSource, "_idle", idle)
        monkeypatch.setattr(capture, "LOOK_SECONDS", 0.0)
        world.work("capture")
    before = [steps[at - 1] for at, step in enumerate(steps) if step == "silence"]
    assert steps.count("asking the source for its log") == 3
    assert before[1:] == [capture.FOLLOWING] * 2


def with_policy(monkeypatch: pytest.MonkeyPatch, policy: str) -> None:
    monkeypatch.setattr(engine_world, "JOB", engine_world.JOB.replace("{{reload: halt-table}}", policy))


def test_a_source_is_not_told_of_tables_that_it_has_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take a statement that makes them if they are not there for one that does nothing."""
    with_policy(monkeypatch, "{{drop_table: apply}}")
    told: list[set[TableId]] = []
    stream = ModelSource.stream

    def heard(source: ModelSource, position: Any, epoch: int, schemas: Any, *args: Any) -> Iterator[Event]:
        told.append({*schemas})
        return stream(source, position, epoch, schemas, *args)

    monkeypatch.setattr(ModelSource, "stream", heard)
    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, VISITS):
            world.log.create(schema)
        world.settle()
        world.log.drop(NUMBERS.table)
        until_captured(world)
        world.work("capture")
        assert told[-1] == {VISITS.table}
        world.log.create(NUMBERS)
        until_captured(world)
        world.work("capture")
        assert told[-1] == {VISITS.table, NUMBERS.table}
        assert not world.state.halts()


def test_a_column_that_the_sinks_keep_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_policy(monkeypatch, "{{drop_column: ignore}}")
    with engine_in(tmp_path / "world") as world:
        world.log.create(NUMBERS)
        world.settle()
        *others, last = NUMBERS.columns
        world.log.alter(NUMBERS.table, others)
        until_captured(world)
        assert world.state.kept() == {NUMBERS.table: {last.name}}
        world.log.alter(NUMBERS.table, [*others, last])
        until_captured(world)
        assert f"{last.name} is now the name of another column" in world.state.halts()[NUMBERS.table].reason


def test_a_table_whose_change_cannot_be_followed_is_loaded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_policy(monkeypatch, "{{reload: resnapshot}}")
    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, VISITS):
            world.log.create(schema)
        with world.log.transaction() as tx:
            tx.put(NUMBERS.table, (1, "old"))
        world.settle()
        world.log.other(NUMBERS.table)
        with world.log.transaction() as tx:
            tx.put(NUMBERS.table, (2, "new"))
            tx.put(VISITS.table, (7, "v"))
        until_captured(world)
        assert "this statement cannot be followed" in world.state.halts()[NUMBERS.table].reason
        world.supervise()
        assert world.runner.next is not None
        world.restart()
        world.settle()
        assert not world.state.halts()
        assert not world.state.resyncs()
        assert {record.phase for record in world.records()} == {Phase.LIVE}
        world.assert_equal()


def test_a_table_that_is_gone_when_it_is_to_be_loaded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not forgotten in silence."""
    with_policy(monkeypatch, "{{reload: resnapshot}}")
    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, VISITS):
            world.log.create(schema)
        world.settle()
        world.log.other(NUMBERS.table)
        until_captured(world)
        world.log.drop(NUMBERS.table)
        world.restart()
        world.settle()
        assert "it is not at the source any more" in world.state.halts()[NUMBERS.table].reason
        assert not world.state.resyncs()
