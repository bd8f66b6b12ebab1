"""A table that is loaded anew by itself because its load cannot go on: once for one reason, not for ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.errors import Unfollowed
from syncd.model import ChangeBatch, TableId
from syncd.state import Phase
from tests.unit.engine import world as worlds
from tests.unit.engine.script import NUMBERS, WORDS
from tests.unit.engine.test_change import wish
from tests.unit.engine.world import SINKS, ModelSource, World, engine_in


class Columns:
    """What the source says of a scan of `numbers`; "": it gives the rows."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.says, self.scans, whole = "", 0, ModelSource.scan

        def scan(source: ModelSource, schema: Any, *args: Any) -> Iterator[ChangeBatch]:
            if schema.table == NUMBERS.table and self.says:
                self.scans += 1
                raise Unfollowed(f"table {schema.table}: {self.says}", table=str(schema.table), code="E183")
            yield from whole(source, schema, *args)

        patch.setattr(ModelSource, "scan", scan)


def on(world: World, rounds: int = 24) -> int:
    """The daemon goes on; how often the job began anew."""
    begun = 0
    for _ in range(rounds):
        world.round()
        world.clock.now += 4.0
        if world.runner.next is not None:
            begun += 1
            world.restart()
    return begun


def phases(world: World, table: TableId) -> set[Phase]:
    return {record.phase for record in world.records() if record.table == table}


def test_a_load_that_meets_the_same_again_is_not_begun_a_third_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has changed is loaded, as often as it changes; what stays wrong halts, until somebody says otherwise."""
    monkeypatch.setattr(worlds, "JOB", worlds.JOB.replace("{{reload: halt-table}}", "{{reload: resnapshot}}"))
    columns = Columns(monkeypatch)
    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, WORDS):
            world.log.create(schema)
        write_both(world, 9)
        columns.says = "2 columns are expected, 3 came"
        assert on(world) == 1
        assert phases(world, NUMBERS.table) == {Phase.HALTED}
        assert phases(world, WORDS.table) == {Phase.LIVE}
        for record in world.records():
            if record.table == NUMBERS.table:
                assert record.reason.startswith("table shop.numbers: 2 columns are expected, 3 came")
                assert record.reason.endswith("it was loaded anew for this already, and that load met the same")
        before, scans = columns.scans, world.records()
        assert (on(world), columns.scans, world.records()) == (0, before, scans)
        columns.says = "column v is no longer varchar(20)"  # that is something else
        wish(world, lambda wanted: wanted, world.state.resync_item(NUMBERS.table, wanted=True))
        assert on(world) == 2
        assert phases(world, NUMBERS.table) == {Phase.HALTED}
        columns.says = ""
        wish(world, lambda wanted: wanted, world.state.resync_item(NUMBERS.table, wanted=True))
        assert on(world) == 1
        assert phases(world, NUMBERS.table) == {Phase.LIVE}
        assert [world.state.reloaded(sink, NUMBERS.table) for sink in SINKS] == ["", ""]
        write_both(world, 3)
        world.settle()
        world.assert_equal()


def write_both(world: World, times: int) -> None:
    for n in range(times):
        with world.log.transaction() as tx:
            tx.put(NUMBERS.table, (n, f"n{n}"))
            tx.put(WORDS.table, (f"w{n}", "v"))
