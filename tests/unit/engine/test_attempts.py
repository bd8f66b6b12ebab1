"""A chunk that is read again: other rows may be in it by then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from syncd.model import ChangeBatch, Target
from syncd.spi import Foreign, Ticket
from tests.unit.engine import world as engine_world
from tests.unit.engine.script import NUMBERS
from tests.unit.engine.world import Died, engine_in


def test_each_attempt_numbers_its_writes_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its number a sink may take a write for one that it has."""
    write = engine_world.ModelSink.write
    numbers: list[tuple[str, int]] = []

    def die_once(self: Any, target: Target, batch: ChangeBatch, ticket: Ticket) -> Foreign | None:
        found = write(self, target, batch, ticket)
        if "/chunk/" in ticket.owner:
            numbers.append((ticket.owner, ticket.number))
            if len(numbers) == 1:
                raise Died("after a write")
        return found

    with engine_in(tmp_path / "world") as world:
        world.log.create(NUMBERS)
        with world.log.transaction() as tx:
            tx.put(NUMBERS.table, (1, "one"))
        monkeypatch.setattr(engine_world.ModelSink, "write", die_once)
        world.settle()
        world.assert_equal()
    assert len(numbers) == 3  # of two sinks, and one of them again
    assert len({*numbers}) == 3
