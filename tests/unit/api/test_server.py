"""The pages over a real socket, with a main loop that stands still, a disk that hangs, and an address that is taken."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from syncd.api import looker, server
from syncd.api.looker import Looker
from syncd.config.service import Metrics
from syncd.engine.build import clock
from syncd.engine.counts import Sums
from syncd.errors import ConfigError, TransientError
from syncd.ops.health import STEP_SECONDS
from syncd.ops.metrics import Look
from syncd.spi import Queue
from tests.unit.engine.world import Clock

ANSWER = Look(clock(), (), (1, 2), (3, 4))


class Disk:
    """A queue's files: `look` does what `now` says."""

    def __init__(self) -> None:
        self.now: Any = ANSWER
        self.hangs, self.looks = threading.Event(), 0
        self.goes_on = threading.Event()

    def look(self, _: Queue) -> Look:
        self.looks += 1
        if self.hangs.is_set():
            self.goes_on.wait(10)
        if isinstance(self.now, Exception):
            raise self.now
        return cast(Look, self.now)

    def looker(self) -> Looker:
        return Looker(lambda: nullcontext(cast(Queue, self)), self.look)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr(looker, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(looker, "COST", 0.0)
    return Disk()


@contextmanager
def served(disk: Disk, daemon: Any) -> Iterator[str]:
    with disk.looker() as looks:
        facts = server.Facts(daemon, looks, Metrics(listen="127.0.0.1:0"))
        bound = server._bound(Metrics(listen="127.0.0.1:0"), facts.pages)
        assert bound is not None
        thread = threading.Thread(target=bound.serve_forever, args=(0.05,))
        with bound:
            thread.start()
            yield bound.place
            bound.shutdown()
            thread.join()


def get(place: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{place}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_main_loop_that_stands_still(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    now = Clock()
    monkeypatch.setattr(server, "time", now)
    daemon = SimpleNamespace(stepped=now.now, runners=[], sums=Sums())
    with served(disk, daemon) as place:
        now.now += STEP_SECONDS
        assert get(place, "/healthz") == (200, '{"healthy": true, "step_age_seconds": 30.0}\n')
        now.now += 0.5
        status, text = get(place, "/healthz")
        assert status == 503
        assert json.loads(text) == {
            "healthy": False,
            "step_age_seconds": 30.5,
            "reason": "the daemon's main loop stands still",
        }
        assert "syncd_main_loop_age_seconds 30.5\n" in get(place, "/metrics")[1]
        daemon.stepped = now.now
        assert get(place, "/healthz")[0] == 200


def test_a_disk_that_hangs_is_told_and_holds_up_no_page(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = SimpleNamespace(stepped=time.monotonic(), runners=[], sums=Sums())
    daemon.sums.count("waits", "j", "capture")
    with served(disk, daemon) as place:
        assert "syncd_state_readable 1.0\n" in get(place, "/metrics")[1]
        assert get(place, "/readyz") == (200, '{"ready": true}\n')
        monkeypatch.setattr(looker, "PATIENCE_SECONDS", 0.2)
        disk.hangs.set()
        for _ in range(3):
            _, text = get(place, "/metrics")
            assert "syncd_state_readable 0.0\n" in text
            assert 'syncd_waits_total{job="j",worker="capture"} 1.0\n' in text
            assert "syncd_queue_bytes" not in text
        assert get(place, "/readyz")[0] == 503
        assert get(place, "/healthz")[0] == 200
        disk.hangs.clear()
        disk.goes_on.set()
        monkeypatch.setattr(looker, "PATIENCE_SECONDS", 5.0)
        assert "syncd_queue_bytes 1.0\n" in get(place, "/metrics")[1]
        assert get(place, "/readyz")[0] == 200


@pytest.mark.parametrize("error", [TransientError("the disk is full"), OSError("gone"), RuntimeError("ours")])
def test_a_look_that_fails_is_none_and_the_next_one_is_made(disk: Disk, error: Exception) -> None:
    with disk.looker() as looks:
        disk.now = error
        assert looks.latest() is None
        assert looks.latest() is None
        disk.now = ANSWER
        assert looks.latest() is ANSWER
        assert disk.looks == 3


def test_a_look_is_good_for_ten_times_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """And for a second at least: scraping without pause takes a tenth of one processor."""
    now, disk = Clock(), Disk()
    monkeypatch.setattr(looker, "time", now)
    took = 0.0

    def look(_: Queue) -> Look:
        now.now += took
        return disk.look(cast(Queue, disk))

    with Looker(lambda: nullcontext(cast(Queue, disk)), look) as looks:
        for pause, made in ((0.0, 1), (0.9, 1), (0.2, 2)):
            now.now += pause
            looks.latest()
            assert disk.looks == made
        took = 3.0
        for pause, made in ((1.1, 3), (29.0, 3), (2.0, 4)):
            now.now += pause
            looks.latest()
            assert disk.looks == made


def test_the_default_address_that_is_taken_is_no_end_and_one_that_is_asked_for_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        default = Metrics.model_construct(_fields_set=set(), listen=address)
        assert server._bound(default, {}) is None
        with pytest.raises(ConfigError, match=rf"metrics\.listen: {address}: Address already in use.*\[C131\]"):
            server._bound(Metrics(listen=address), {})
    assert server._bound(Metrics(listen="off"), {}) is None
