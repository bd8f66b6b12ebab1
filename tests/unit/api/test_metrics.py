"""What the pages say, from looks that are made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from syncd.engine.build import clock
from syncd.engine.counts import COUNTERS
from syncd.model import Lane, TableId
from syncd.ops import health
from syncd.ops.metrics import GAUGES, Families, JobLook, Live, Look, families
from syncd.ops.status import STARTS, JobStatus
from syncd.spi import Held
from syncd.state import Phase, Wait

ORDERS, LINES = TableId("shop", "orders"), TableId("shop", "lines.old")


def job_look(state: str = "RUNNING", waits: dict[str, float] | None = None, phase: Phase = Phase.LIVE) -> JobLook:
    """`waits`: what -> for how many seconds."""
    now = clock()
    said = {name: Wait("the sink is away", now - int(age * 1e6)) for name, age in (waits or {}).items()}
    lanes = [Lane("shop.orders", 0), Lane("shop.orders", 1), Lane("shop.lines%2Eold", 0), Lane("shop.gone", 0)]
    held = {lanes[0]: Held(100, 7, now - 5_000_000), lanes[1]: Held(50, 3, now - 9_000_000), lanes[3]: Held(9, 9, 1)}
    return JobLook(
        JobStatus("j", state, "pos", 0.5, 0.1, (), (), {}, None, said, 0, 0, 86400.0, 86398.5, 9e9, 60.0),
        {("olap", ORDERS): phase, ("olap", LINES): Phase.LIVE},
        {"olap": lanes},
        {"olap": held},
        1.5,
    )


def seen(*jobs: JobLook) -> Look:
    return Look(clock(), jobs, (10, 20), (30, 40))


LIVE = Live(0.2, {("loaded_rows", "j", "olap", "shop.orders"): 5.0}, {"j": {"capture": True, "deliver/olap": False}})
LOADED = replace(LIVE, loaded={"j": {("olap", ORDERS): (5, 9)}})


def samples(found: Families) -> dict[str, list[tuple[dict[str, str], float]]]:
    text = generate_latest(found).decode()
    return {
        family.name: [(sample.labels, sample.value) for sample in family.samples]
        for family in text_string_to_metric_families(text)
    }


def test_everything_that_is_declared_is_told() -> None:
    """What nothing was counted of yet begins at 0; what would be new is not let through."""
    found = samples(families(LOADED, seen(job_look()), lanes=True))
    assert found.keys() == {f"syncd_{name}" for name in (*GAUGES, *COUNTERS)}
    loaded = {labels["table"]: value for labels, value in found["syncd_loaded_rows"]}
    assert loaded == {"shop.orders": 5, "shop.`lines.old`": 0}
    assert found["syncd_retries"] == [({"job": "j", "sink": sink}, 0.0) for sink in ("", "olap")]
    with pytest.raises(KeyError):
        Families().add("nonsense", value=1)
    with pytest.raises(ValueError, match="zip"):
        Families().add("job_waits", "j", "too many", value=1)


def test_a_tables_lag_is_the_sum_of_its_lanes_and_the_age_of_its_oldest_change() -> None:
    found = samples(families(LIVE, seen(job_look()), lanes=True))
    rows = {labels["table"]: value for labels, value in found["syncd_table_lag_rows"]}
    assert rows == {"shop.orders": 10, "shop.`lines.old`": 0}
    seconds = {labels["table"]: round(value) for labels, value in found["syncd_table_lag_seconds"]}
    assert seconds == {"shop.orders": 9, "shop.`lines.old`": 0}
    sizes = {labels["table"]: value for labels, value in found["syncd_table_queue_bytes"]}
    assert sizes == {"shop.orders": 150, "shop.`lines.old`": 0}
    lanes = {(labels["table"], labels["queue"]): value for labels, value in found["syncd_lane_lag_rows"]}
    assert lanes == {("shop.orders", "0"): 7, ("shop.orders", "1"): 3, ("shop.`lines.old`", "0"): 0}
    short = samples(families(LIVE, seen(job_look()), lanes=False))
    assert set(found.keys() - short.keys()) == {"syncd_lane_lag_rows", "syncd_lane_lag_seconds"}
    assert short["syncd_table_lag_rows"] == found["syncd_table_lag_rows"]


def test_what_the_daemon_knows_itself_is_told_while_the_queue_does_not_answer() -> None:
    found = samples(families(LIVE, None, lanes=True))
    assert found["syncd_state_readable"] == [({}, 0.0)]
    assert found["syncd_loaded_rows"] == [({"job": "j", "sink": "olap", "table": "shop.orders"}, 5.0)]
    assert {labels["worker"]: value for labels, value in found["syncd_worker_up"]} == {"capture": 1, "deliver/olap": 0}
    assert "syncd_table_state" not in found
    assert "syncd_queue_bytes" not in found


READY: dict[str, tuple[dict[str, Any], str]] = {
    "runs": ({}, ""),
    "waits a little": ({"state": "WAITING", "waits": {"capture": 50.0}}, ""),
    "waits": ({"state": "WAITING", "waits": {"deliver/olap": 61.0, "capture": 2.0}}, "it waits for 61 s"),
    "waits, and is not said to": ({"waits": {"reader/1: throttle": 700.0}}, "it waits for 700 s"),
    "drains": ({"state": "DRAINING", "waits": {"run": 1.0}}, "it is DRAINING"),
    "stalled": ({"state": "STALLED"}, "it is STALLED"),
    "paused": ({"state": "PAUSED"}, "it is PAUSED"),
    "down": ({"state": "DOWN"}, "it is DOWN"),
    "halted table": ({"phase": Phase.HALTED}, "it is HALTED"),
    "needs a resync": ({"phase": Phase.NEEDS_RESYNC}, "it is NEEDS_RESYNC"),
    "loads": ({"phase": Phase.SNAPSHOT}, ""),
}


def test_a_job_that_has_just_begun_is_not_ready() -> None:
    at = job_look("WAITING")
    at = replace(at, state=replace(at.state, waits={"run": Wait(STARTS, clock())}))
    assert health.ready(seen(at), (), 60.0)[1]["reasons"] == [{"job": "j", "reason": "it starts"}]


@pytest.mark.parametrize("case", READY)
def test_ready(case: str) -> None:
    about, reason = READY[case]
    at = job_look(**about)
    good, answer = health.ready(seen(at), (), 60.0)
    reasons = answer.get("reasons", [])
    assert isinstance(reasons, list)
    assert good == answer["ready"] == (not reason)
    assert [one["reason"] for one in reasons] == ([reason] if reason else [])
    assert "away" not in str(answer)


def test_not_ready_for_the_daemons_own_reasons() -> None:
    assert health.ready(None, (), 60.0)[1]["reasons"] == [{"reason": "the queue's files do not answer"}]
    assert health.ready(seen(job_look()), {"j"}, 60.0)[1]["reasons"] == [{"job": "j", "reason": "it is HALTED"}]


def test_only_so_many_reasons_are_told() -> None:
    many = {("olap", TableId("shop", f"t{n}")): Phase.HALTED for n in range(health.NAMED + 5)}
    _, answer = health.ready(seen(replace(job_look(), tables=many)), (), 60.0)
    reasons = answer["reasons"]
    assert isinstance(reasons, list)
    assert (len(reasons), answer["more"]) == (health.NAMED, 5)
