"""The engine against every accident that Hypothesis can think of: see `script` for what happens, `world` for who runs.

Each mutant is the engine with one of its guarantees taken out: the model must find a script that breaks it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from syncd.engine import capture, deliver
from syncd.engine.capture import Capture
from syncd.engine.collect import Collector, Write
from syncd.engine.deliver import Deliverer
from syncd.engine.load import Loader
from syncd.engine.snapshot import Reader
from syncd.model import ChangeBatch, TableId
from syncd.state import Appending, State
from tests.services.fuzz import TIMES, examples
from tests.unit.engine.script import POINTS, TABLES, VISITS, Change, Script, Tx, play, scripts
from tests.unit.engine.world import SINKS, ModelSource, engine_in

CALM = settings(deadline=None, derandomize=TIMES == 1, database=None, suppress_health_check=list(HealthCheck))


def runs(folder: Path, examples: int, *groups: str, shrink: bool = True) -> None:
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)

    @settings(CALM, max_examples=examples, phases=phases, report_multiple_bugs=False)
    @given(scripts(*groups))
    def check(script: Script) -> None:
        with engine_in(folder) as world:
            play(world, script)

    check()


@pytest.mark.hypothesis
@pytest.mark.parametrize("group", [*POINTS, ""])
def test_every_value_arrives_whatever_happens(group: str, tmp_path: Path) -> None:
    runs(tmp_path / "world", examples(8), *filter(None, [group]))


# -- mutants


def commits_before_it_writes(patch: pytest.MonkeyPatch) -> None:
    whole = Deliverer._launch

    def launch(self: Deliverer, unit: deliver.Unit, table: TableId) -> None:
        for work in unit.pending:
            if isinstance(work, Write):
                self._queue.commit(self._lease, self._group, work.offsets, {}, [])
        whole(self, unit, table)

    patch.setattr(Deliverer, "_launch", launch)


def saves_the_position_before_it_publishes(patch: pytest.MonkeyPatch) -> None:
    whole = Capture._publish

    def publish(self: Capture) -> None:
        self._queue.put(self._lease, self._pending.items)
        whole(self)

    patch.setattr(Capture, "_publish", publish)


def leaves_key_changes_whole(patch: pytest.MonkeyPatch) -> None:
    def split(batch: ChangeBatch) -> ChangeBatch:
        return replace(batch, before=None)

    patch.setattr(capture, "split_key_changes", split)


def ignores_marks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Collector, "_applied", lambda self, lane, last: last)


def hands_over_before_the_last_chunk(patch: pytest.MonkeyPatch) -> None:
    def look(self: Loader, records: list[Any]) -> None:
        whole(self, records)
        for made in [*self.loads.values()]:
            if len(made.waiting) + len(made.running) == 1 and made.planned:
                self._hand_over(made)

    whole = Loader.look
    patch.setattr(Loader, "look", look)


def adds_to_what_an_earlier_attempt_wrote(patch: pytest.MonkeyPatch) -> None:
    def empty(self: Reader, record: Any, first: Any, last: Any, ticket: Any) -> None:
        self._sinks.sink(record.sink).prepare(self._parts.target(record.sink, first.published))

    patch.setattr(Reader, "_empty", empty)


def forgets_what_was_published_twice(patch: pytest.MonkeyPatch) -> None:
    whole = State.appending

    def appending(self: State, *args: Any) -> Appending:
        return replace(whole(self, *args), seqs={})

    patch.setattr(State, "appending", appending)


def takes_a_low_watermark_for_the_place(patch: pytest.MonkeyPatch) -> None:
    whole = ModelSource.scan_once

    def scan_once(self: ModelSource, schema: Any, epoch: int, seq: int) -> Any:
        return self.head(epoch), whole(self, schema, epoch, seq)[1]

    patch.setattr(ModelSource, "scan_once", scan_once)


MUTANTS: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    commits_before_it_writes: "deliver",
    saves_the_position_before_it_publishes: "capture",
    leaves_key_changes_whole: "capture",
    ignores_marks: "capture",
    hands_over_before_the_last_chunk: "load",
    adds_to_what_an_earlier_attempt_wrote: "load",
    forgets_what_was_published_twice: "capture",
    takes_a_low_watermark_for_the_place: "load",
}


LONG = {commits_before_it_writes, leaves_key_changes_whole, ignores_marks}


@pytest.mark.parametrize(
    "mutant",
    [pytest.param(mutant, marks=[pytest.mark.nightly] if mutant in LONG else []) for mutant in MUTANTS],
    ids=lambda mutant: mutant.__name__,
)
def test_the_model_finds(mutant: Callable[[pytest.MonkeyPatch], None], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        with pytest.raises(AssertionError):
            runs(tmp_path / "world", 500, MUTANTS[mutant], shrink=False)  # ends at the first


@pytest.mark.parametrize("right", [True, False])
def test_appended_rows_are_written_again_with_the_same_borders(right: bool, tmp_path: Path) -> None:
    """Deliver dies between the sink's write and its commit, and finds more messages when it comes again."""
    with engine_in(tmp_path / "world") as world, pytest.MonkeyPatch.context() as patch:
        if not right:
            whole = State.appending
            patch.setattr(State, "appending", lambda self, *args: Appending(whole(self, *args).seqs))
        world.log.create(VISITS)
        world.settle()
        for sink in SINKS:
            world.orders.pending["deliver.written"] = 1, "die"
            for _ in range(2):
                world.clock.now += 5.0
                Tx((Change("put", TABLES.index(VISITS), 1, 0, 0),)).run(world)
                world.work("capture")
                world.work(f"deliver/{sink}")
            world.settle()
        if right:
            world.assert_equal()
        else:
            with pytest.raises(AssertionError):
                world.assert_equal()
