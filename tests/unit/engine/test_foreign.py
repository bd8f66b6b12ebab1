"""What is told of rows that somebody else has written at a target: in the model, nothing where nobody has."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from syncd.engine import foreign
from syncd.engine.foreign import Watch
from syncd.model import Head, Position
from syncd.ops import status
from syncd.spi import Foreign
from syncd.state import Phase, TableRecord
from tests.unit.engine.script import NUMBERS
from tests.unit.engine.test_model import runs
from tests.unit.engine.world import World, engine_in


def change(world: World, *deleted: int, **put: str) -> None:
    with world.log.transaction() as tx:
        for name, value in put.items():
            tx.put(NUMBERS.table, (int(name.removeprefix("n")), value))
        for key in deleted:
            tx.delete(NUMBERS.table, (key,))


def by_hand(world: World, sql: str) -> None:
    with closing(sqlite3.connect(world.folder / "arrival.db")) as db, db:
        db.execute(sql, (str(NUMBERS.table),))


def test_rows_that_somebody_else_has_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told at once, and in the log now and then; nothing is sure again after a new start, until the lanes are past."""
    lines: list[dict[str, Any]] = []

    class Log:
        def warning(self, event: str, **fields: Any) -> None:
            lines.append({"event": event, **fields})

    monkeypatch.setattr(foreign, "log", Log())
    monkeypatch.setattr(foreign, "GATHER_SECONDS", 0.0)
    with engine_in(tmp_path / "world") as world:
        world.log.create(NUMBERS)
        change(world, **{f"n{key}": "v" for key in range(1, 9)})
        world.settle()
        change(world, n11="v")
        world.settle()
        sure = world.writes.sure
        assert sure
        # A key more than once in a write: what was there before its first change counts.
        change(world, n1="a", n21="a")
        change(world, 1, 21)
        change(world, n1="b", n22="b")
        world.settle()
        assert world.writes.sure > sure
        assert not lines
        world.writes.foreign = None
        by_hand(world, "DELETE FROM rows WHERE name = ? AND seq < 1 << 60")
        change(world, 1, 2, n3="c", n31="c")
        world.settle()
        assert sum(line["missing"] for line in lines) in {1, 2, 3}  # what comes within ten minutes is told then
        assert {(line["event"], line["table"]) for line in lines} == {("target_written_by_others", str(NUMBERS.table))}
        job = status.of(world.queue, "model", 10.0)
        told = [
            row.stranger for row in job.tables if row.record.sink == "arrival" and row.record.table == NUMBERS.table
        ]
        assert [one and one[:2] for one in told] == [(sum(line["missing"] for line in lines), 0)]
        assert len(status.stranger_lines(job)) == 1
        world.restart()
        sure = world.writes.sure
        change(world, 4)
        world.round()
        world.settle()
        assert world.writes.sure == sure


def test_the_model_finds_one_that_is_too_sure(tmp_path: Path) -> None:
    def doubt(self: Watch, table: Any) -> None:
        self._tables.setdefault(table, foreign._Table(0)).sure = {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "doubt", doubt)
        with pytest.raises(AssertionError, match="Foreign"):
            runs(tmp_path / "world", 500, "load", shrink=False)


def test_what_is_found_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[tuple[Any, ...]] = []
    with engine_in(tmp_path / "world") as world:
        traits = world.parts.make_sink("arrival").traits()
        saved: list[Any] = []
        count = lambda *at, by=1: counted.append((*at, by))  # noqa: E731
        watch = Watch(world.parts, "arrival", traits, count, lambda *what: saved.append(what))
        monkeypatch.setattr(foreign, "GATHER_SECONDS", 0.0)
        watch.saw(NUMBERS.table, Foreign(0, 0))
        watch.saw(NUMBERS.table, Foreign(3, 1))
        watch.look(TableRecord(NUMBERS.table, "arrival", Phase.LIVE, Head(Position(""), 0)), None, {})
    at = "arrival", str(NUMBERS.table)
    assert [(table, *found[:2]) for table, found in saved] == [(NUMBERS.table, 3, 1)]
    assert counted == [("sink_missing_rows", *at, 3), ("sink_unexpected_rows", *at, 1)]
