"""What workers count: each thing once, said in time, and never less than before."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from syncd.engine.counts import Counted, Tally
from syncd.engine.process import Alive, Failed, Link, Waiting, Worker
from syncd.errors import TransientError
from tests.unit.engine.test_supervise import HEARTBEAT, Deaf, Quiet, now, supervisor_of
from tests.unit.engine.world import Clock

__all__ = ["now"]

AT = "olap", "shop.orders"


def test_threads_count_together_and_what_was_said_is_not_said_again() -> None:
    said: list[object] = []
    link = Link(cast("Any", SimpleNamespace(send=said.append)))
    threads = [
        threading.Thread(target=lambda: [link.count("delivered_rows", *AT, by=2) for _ in range(5000)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for _ in range(20):
        link.tell_counts()
    for thread in threads:
        thread.join()
    link.tell_counts()
    words = [word for word in said if isinstance(word, Counted)]
    assert sum(word.sums["delivered_rows", *AT] for word in words) == 40_000
    link.tell_counts()
    assert len(said) == len(words)


def test_what_is_not_declared_cannot_be_counted() -> None:
    with pytest.raises(KeyError):
        Tally().count("nonsense")
    with pytest.raises(AssertionError):
        Tally().count("delivered_rows", "olap")


def test_sums_outlive_workers_and_the_words_of_one_that_drains_count(now: Clock) -> None:
    supervisor = supervisor_of()
    first, second = Quiet(), Quiet()
    supervisor.add("planner", lambda careful: cast("Worker", second if careful else first))
    counted = Counted({("loaded_rows", *AT): 5.0})
    first.said = [Alive(), Waiting("", "the sink is away"), Waiting("", "still away"), counted]
    supervisor.step()  # starts the first
    supervisor.step()
    first.said = [counted, Failed(TransientError("the disk"))]
    first.alive = False
    supervisor.step()
    now.now += HEARTBEAT
    second.said = [Alive(), Waiting("", "the sink is away"), counted]
    for _ in range(2):
        supervisor.step()
    assert supervisor._sums.now() == {
        ("loaded_rows", "j", *AT): 15.0,
        ("waits", "j", "planner"): 2,
        ("worker_restarts", "j", "planner"): 1,
    }
    second.said = [counted]
    supervisor.end(["planner"])
    supervisor.step()
    second.said, second.alive = [counted], False
    supervisor.step()
    assert supervisor.ended
    assert supervisor._sums.now()["loaded_rows", "j", *AT] == 25.0


def test_a_worker_that_waits_for_the_others_to_end_counts(now: Clock) -> None:
    host, reader = Deaf("deliver/olap"), Deaf("reader/1")
    supervisor = supervisor_of(host, reader)
    supervisor.stop()
    host.said = [Counted({("delivered_rows", *AT): 1.0})]
    supervisor.step()
    assert supervisor._sums.now() == {("delivered_rows", "j", *AT): 1.0}
