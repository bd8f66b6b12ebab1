"""A lease is kept while the work goes on, and lost when it hangs or has passed on (guarantee 7)."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from syncd.engine import lease as keeping
from syncd.engine.lease import Keeper, acquire
from syncd.errors import FencedError, StateError
from syncd.mq.embedded.clock import Clock
from syncd.spi import Queue
from tests.unit.engine.kit import leased, make_queue, opened_queue

TTL = 0.3


def wait_until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_lease_outlives_its_time_while_the_work_beats(tmp_path: Path) -> None:
    """By a clock that goes on only when the keeper has renewed."""
    now, ttl = [1000.0], 30.0
    clock = Clock("boot", lambda: now[0])
    with opened_queue(tmp_path, clock) as queue:
        lease = leased(queue, ttl=ttl)
        with Keeper(partial(make_queue, tmp_path, clock), lease, 60.0, pytest.fail, interval=0.01) as keeper:
            for _ in range(5):
                keeper.beat()
                now[0] += ttl / 2
                wait_until(lambda: queue.leases(lease.name)[0].age == 0)
                assert queue.acquire(lease.name, "another", ttl) is None
        assert not keeper.lost.is_set()


def test_a_lease_is_renewed_three_times_within_its_life(tmp_path: Path) -> None:
    with opened_queue(tmp_path) as queue:
        for ttl, interval, found in ((30.0, math.inf, 10.0), (30.0, 60.0, 10.0), (30.0, 2.0, 2.0)):
            keeper = Keeper(partial(make_queue, tmp_path), leased(queue, ttl=ttl), 60.0, pytest.fail, interval)
            assert keeper._interval == found


def test_it_is_free_at_once_when_the_work_is_done(tmp_path: Path) -> None:
    with opened_queue(tmp_path) as queue:
        lease = leased(queue)
        with Keeper(partial(make_queue, tmp_path), lease, 10.0, pytest.fail):
            pass
        assert queue.acquire(lease.name, "another", TTL) is not None


def test_it_is_lost_when_the_work_hangs(tmp_path: Path) -> None:
    told = threading.Event()
    with opened_queue(tmp_path) as queue:
        lease = leased(queue, ttl=TTL)
        with Keeper(partial(make_queue, tmp_path), lease, 0.2, told.set) as keeper:
            keeper.beat()
            assert told.wait(60)
            assert keeper.lost.is_set()
            heir = acquire(queue, lease.name, "another", TTL, threading.Event())
            assert heir is not None
        with pytest.raises(FencedError):
            queue.put(lease, {"key": b"value"})
        queue.put(heir, {"key": b"heir"})


def test_one_thread_that_hangs_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that never goes on for long without a beat of the other."""
    told, hang, now = threading.Event(), threading.Event(), [1000.0]
    monkeypatch.setattr(keeping, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with opened_queue(tmp_path) as queue:
        with Keeper(partial(make_queue, tmp_path), leased(queue), 10.0, told.set, interval=0.01) as keeper:

            def beat_once() -> None:
                keeper.beat()
                assert hang.wait(60)  # a thread that has ended may pass its number on

            other = threading.Thread(target=beat_once)
            other.start()
            wait_until(lambda: bool(keeper._beats))
            for step in (5.0, 5.0):
                keeper.beat()
                now[0] += step
            keeper.beat()
            looked_at(keeper, now, monkeypatch)
            assert not told.is_set()
            now[0] += 0.1
            assert told.wait(60)
            hang.set()
            other.join()
        assert told.is_set()


def test_a_thread_that_is_done_may_be_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(keeping, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with opened_queue(tmp_path) as queue:
        with Keeper(partial(make_queue, tmp_path), leased(queue), 10.0, pytest.fail, interval=0.01) as keeper:
            keeper.beat()
            keeper.done()
            now[0] += 1000.0
            looked_at(keeper, now, monkeypatch)
        assert not keeper.lost.is_set()


def looked_at(keeper: Keeper, now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the keeper has looked for work that hangs, by its clock as it is now, and has gone on or told."""
    looks: list[float] = []
    hangs = keeper._hangs

    def look() -> bool:
        looks.append(now[0])
        return hangs()

    monkeypatch.setattr(keeper, "_hangs", look)
    wait_until(lambda: looks.count(now[0]) > 1 or keeper.lost.is_set())


def test_it_is_lost_when_it_has_passed_on(tmp_path: Path) -> None:
    told = threading.Event()
    with opened_queue(tmp_path) as queue:
        lease = leased(queue, ttl=TTL)
        queue.release(lease)
        heir = leased(queue, owner="another")
        with Keeper(partial(make_queue, tmp_path), lease, 10.0, told.set) as keeper:
            assert told.wait(60)
            assert keeper.lost.is_set()
        queue.put(heir, {"key": b"value"})  # the end of the old keeper has not taken it away


def test_it_is_lost_when_the_queue_cannot_be_opened(tmp_path: Path) -> None:
    def broken() -> Queue:
        raise StateError("damaged")

    told = threading.Event()
    with opened_queue(tmp_path) as queue, Keeper(broken, leased(queue), 10.0, told.set) as keeper:
        assert told.wait(60)
        assert keeper.lost.is_set()


def test_acquire_waits_for_a_lease_that_runs_out(tmp_path: Path) -> None:
    with opened_queue(tmp_path) as queue:
        first = leased(queue, ttl=TTL)
        began = time.monotonic()
        second = acquire(queue, first.name, "another", TTL, threading.Event())
        assert second is not None
        assert second.epoch > first.epoch
        assert time.monotonic() - began > TTL / 2


def test_acquire_ends_when_told_to_stop(tmp_path: Path) -> None:
    stop = threading.Event()
    with opened_queue(tmp_path) as queue:
        first = leased(queue)
        threading.Timer(0.1, stop.set).start()
        assert acquire(queue, first.name, "another", TTL, stop) is None
