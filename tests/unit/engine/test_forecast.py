"""What is coming is told from where it stands and its pace, and warned of once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from syncd.engine import forecast
from syncd.engine.build import clock
from syncd.engine.forecast import Alarm, PurgeWatch, QueueWatch, full_in, purge_forecast, purged_in, sampled
from syncd.model import Position
from syncd.ops import status
from syncd.ops.metrics import Live, families, look
from syncd.state import Sample, SourceRecord
from tests.unit.engine.script import NUMBERS
from tests.unit.engine.world import ModelSource, engine_in

S = 1_000_000
NOW = 100_000 * S
READ = SourceRecord(1, Position("p"), 1, time=NOW, saved=NOW)


def behind(seconds: int) -> SourceRecord:
    return replace(READ, time=NOW - seconds * S)


def test_seconds_until_the_position_is_purged() -> None:
    assert purged_in(behind(45), 60.0, NOW) == 15.0
    assert purged_in(behind(75), 60.0, NOW) == -15.0
    assert purged_in(READ, None, 0) is purged_in(None, 60.0, 0) is purged_in(replace(READ, time=0), 60.0, 0) is None


@pytest.mark.parametrize(
    ("lag", "read", "left"),
    [
        (3600, 0, 3600.0),  # it stands still
        (3600, 50, 7200.0),  # half as fast as the source writes
        (3600, 100, None),  # it keeps up
        (3600, 300, None),  # it catches up
        (30, 0, None),  # that is no lag
        (7300, 0, 0.0),
    ],
)
def test_the_purge_at_the_pace_of_the_last_minutes(lag: int, read: int, left: float | None) -> None:
    record = behind(lag)
    samples = (Sample(NOW - 100 * S, record.time - read * S, 0), Sample(NOW - 5 * S, record.time, 0))
    assert purge_forecast(record, 7200.0, samples, NOW) == left
    assert purge_forecast(record, None, samples, NOW) is None
    assert purge_forecast(record, 7200.0, samples[1:], NOW) is None  # too short a time to tell


def test_when_the_queue_is_full() -> None:
    since = (Sample(NOW - 100 * S, 0, 400),)
    assert full_in(600, 1000, since, NOW) == 200.0
    assert full_in(1000, 1000, (), NOW) == 0.0
    assert full_in(400, 1000, since, NOW) is full_in(600, 1000, (), NOW) is None
    assert full_in(600, 10_000, since, NOW) is None  # nearly empty: what is finished is kept for a while


def test_two_samples_are_kept() -> None:
    step = int(forecast.SAMPLE_SECONDS * S)
    first = sampled((), None, 1, NOW)
    assert first == (Sample(NOW, 0, 1),)
    assert sampled(first, READ, 2, NOW + step - 1) == first
    second = sampled(first, READ, 2, NOW + step)
    assert second == (*first, Sample(NOW + step, READ.time, 2))
    assert sampled(second, READ, 3, NOW + 2 * step) == (second[1], Sample(NOW + 2 * step, READ.time, 3))
    later = NOW + 9 * step  # the daemon was away
    assert sampled(second, READ, 3, later) == (Sample(later, READ.time, 3),)
    assert sampled(second, READ, 3, NOW - S) == (Sample(NOW - S, READ.time, 3),)  # the clock was set back


def test_what_is_near_is_said_once_until_it_is_over() -> None:
    alarm = Alarm("near", "far")
    with capture_logs() as said:
        for left in (None, 200.0, 99.0, 98.0, 105.0, 99.0, 121.0, None, 50.0):
            alarm.look(left, 100.0, lambda: {"job": "j"})
    assert [(one["event"], one["seconds"]) for one in said] == [("near", 99), ("far", 121), ("near", 50)]


def test_a_daemon_watches_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "LOOK_SECONDS", 0.0)
    with engine_in(tmp_path / "world") as world:
        world.log.create(NUMBERS)
        world.settle()
        lease = world.queue.acquire("someone", "else", 10.0)
        source = world.state.source()
        assert lease is not None
        assert source is not None
        record = replace(source, time=clock() - 7000 * S)
        samples = world.state.samples_item((Sample(clock() - 100 * S, record.time, 0),))
        world.queue.put(lease, world.state.source_item(record) | world.state.log_kept_item(10_000.0) | samples)
        purge, full = PurgeWatch(world.queue, "model", 6 * 3600.0), QueueWatch(world.queue, 3600.0)
        with capture_logs() as said:
            assert purge.look() == purge.look() == {}
            monkeypatch.setattr(type(world.queue), "usage", lambda queue: (10, 10))
            full.look()
            full.look()
        (near, filled) = said
        assert (near["event"], near["job"], near["lag"]) == ("log_purge_near", "model", 7000)
        assert 2990 <= near["seconds"] <= 3000
        assert (filled["event"], filled["seconds"], filled["bytes"]) == ("queue_full_near", 0, 10)
        shown = status.in_short(world.queue, "model", 1.0)
        log, queue = status.coming_lines(shown, 6 * 3600.0, 3600.0)
        assert log.startswith(
            "WARNING log: the source keeps it for 2.78 hours; what capture has not read may be purged in"
        )
        assert log.endswith("minutes, at the present pace in 50 minutes")
        assert queue == "WARNING queue: it is full"
        assert [line.startswith("WARNING") for line in status.coming_lines(shown, 60.0, 0.0)] == [False, False]


def test_a_running_job_tells_of_both_in_log_status_and_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the source itself says, and by the samples that the daemon takes: capture stands still for two hours."""
    monkeypatch.setattr(forecast, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(ModelSource, "log_kept", lambda source: 10_000.0)
    later = [0]
    for module in (forecast, status):
        monkeypatch.setattr(module, "clock", lambda: clock() + later[0])
    with engine_in(tmp_path / "world") as world:
        world.log.create(NUMBERS)
        world.settle()
        for _ in range(2):  # what the source says is saved with the next checkpoint
            with world.log.transaction() as tx:
                tx.put(NUMBERS.table, (1, "v"))
            world.settle()
        assert world.state.log_kept() == 10_000.0
        full = QueueWatch(world.queue, 3600.0)
        with capture_logs() as said:
            for seconds in (0, 7000, 7100):
                later[0] = seconds * S
                world.supervise()
            monkeypatch.setattr(type(world.queue), "usage", lambda queue: (10, 10))
            full.look()
        assert [word["event"] for word in said] == ["log_purge_near", "queue_full_near"]
        assert said[0]["seconds"] == pytest.approx(3000, abs=20)
        log, queue = status.coming_lines(status.in_short(world.queue, "model", 1.0), 6 * 3600.0, 3600.0)
        assert log.startswith("WARNING log: the source keeps it for 2.78 hours")
        assert queue == "WARNING queue: it is full"
        found = families(Live(), look(world.queue, world.folder, ["model"], 1.0), lanes=False)
        told = {sample.name: sample.value for metric in found.collect() for sample in metric.samples}
        assert told["syncd_log_kept_seconds"] == 10_000.0
        assert told["syncd_log_purge_seconds"] == pytest.approx(2900, abs=20)
        assert told["syncd_log_purge_forecast_seconds"] == pytest.approx(2900, abs=20)
        assert told["syncd_queue_full_seconds"] == 0.0
