"""A lease is kept while the work goes on, and lost when it hangs or has passed on (guarantee 7)."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path

import pytest

from syncd.engine.lease import Keeper, acquire
from syncd.errors import FencedError, StateError
from syncd.spi import Queue
from tests.unit.engine.kit import leased, make_queue, opened_queue

TTL = 0.3


def test_the_lease_outlives_its_time_while_the_work_beats(tmp_path: Path) -> None:
    with opened_queue(tmp_path) as queue:
        lease = leased(queue, ttl=TTL)
        with Keeper(partial(make_queue, tmp_path), lease, 10.0, pytest.fail) as keeper:
            for _ in range(10):
                keeper.beat()
                time.sleep(TTL / 5)
                assert queue.acquire(lease.name, "another", TTL) is None
        assert not keeper.lost.is_set()


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
            assert told.wait(5)
            assert keeper.lost.is_set()
            heir = acquire(queue, lease.name, "another", TTL, threading.Event())
            assert heir is not None
        with pytest.raises(FencedError):
            queue.put(lease, {"key": b"value"})
        queue.put(heir, {"key": b"heir"})


def test_one_thread_that_hangs_is_enough(tmp_path: Path) -> None:
    told, beaten = threading.Event(), threading.Event()
    with opened_queue(tmp_path) as queue:
        with Keeper(partial(make_queue, tmp_path), leased(queue, ttl=TTL), 0.3, told.set) as keeper:

            def hang() -> None:
                keeper.beat()
                beaten.set()

            threading.Thread(target=hang).start()
            assert beaten.wait(5)
            end = time.monotonic() + 5
            while not told.is_set() and time.monotonic() < end:
                keeper.beat()
                time.sleep(0.02)
        assert told.is_set()


def test_a_thread_that_is_done_may_be_silent(tmp_path: Path) -> None:
    with opened_queue(tmp_path) as queue:
        with Keeper(partial(make_queue, tmp_path), leased(queue, ttl=TTL), 0.1, pytest.fail) as keeper:
            keeper.beat()
            keeper.done()
            time.sleep(0.4)
        assert not keeper.lost.is_set()


def test_it_is_lost_when_it_has_passed_on(tmp_path: Path) -> None:
    told = threading.Event()
    with opened_queue(tmp_path) as queue:
        lease = leased(queue, ttl=TTL)
        queue.release(lease)
        heir = leased(queue, owner="another")
        with Keeper(partial(make_queue, tmp_path), lease, 10.0, told.set) as keeper:
            assert told.wait(5)
            assert keeper.lost.is_set()
        queue.put(heir, {"key": b"value"})  # the end of the old keeper has not taken it away


def test_it_is_lost_when_the_queue_cannot_be_opened(tmp_path: Path) -> None:
    def broken() -> Queue:
        raise StateError("damaged")

    told = threading.Event()
    with opened_queue(tmp_path) as queue, Keeper(broken, leased(queue), 10.0, told.set) as keeper:
        assert told.wait(5)
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
