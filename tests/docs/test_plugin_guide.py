"""The plugin guide names tests that the conformance suites have."""

from __future__ import annotations

import re
from pathlib import Path

from syncd.testing.contracts.queue import QueueContract
from syncd.testing.contracts.sink import SinkContract
from syncd.testing.contracts.source import SourceContract

GUIDE = Path(__file__).parents[2] / "docs" / "plugin-guide.md"


def test_each_bad_day_is_a_test_of_its_suite() -> None:
    lines = GUIDE.read_text(encoding="utf-8").partition("| bad day |")[2].splitlines()[2:]
    table = [line.split("|")[2:5] for line in lines[: lines.index("")]]
    for place, suite in enumerate((SinkContract, SourceContract, QueueContract)):
        named = [name for row in table for name in re.findall(r"`(\w+)`", row[place])]
        assert len(named) > 2
        assert [name for name in named if not hasattr(suite, f"test_{name}")] == []
