"""docs/metrics.md has a row for every metric, as the code says it, and for no other."""

from __future__ import annotations

import re

from syncd.engine.counts import COUNTERS
from syncd.ops.health import NAMED, STEP_SECONDS
from syncd.ops.metrics import GAUGES
from tests.docs.test_links import ROOT

PAGE = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")


def row(name: str, labels: tuple[str, ...], meaning: str) -> str:
    return f"| `syncd_{name}` | {', '.join(f'`{label}`' for label in labels)} | {meaning} |"


def test_every_metric_has_its_row() -> None:
    counters = [row(f"{name}_total", ("job", *kind.labels), kind.help) for name, kind in COUNTERS.items()]
    gauges = [row(name, kind.labels, kind.help) for name, kind in GAUGES.items()]
    listed = PAGE.partition("\n## What to watch\n")[0]
    assert [line for line in listed.splitlines() if line.startswith("| `syncd_")] == [*counters, *gauges]


def test_no_other_metric_is_named() -> None:
    known = {f"syncd_{name}_total" for name in COUNTERS} | {f"syncd_{name}" for name in GAUGES}
    assert set(re.findall(r"syncd_\w+", PAGE)) == known


def test_what_is_said_of_health_is_so() -> None:
    assert f"in the last {STEP_SECONDS:.0f} s" in PAGE
    assert NAMED == 20
    assert "twenty" in PAGE
    assert "(docs/metrics.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
