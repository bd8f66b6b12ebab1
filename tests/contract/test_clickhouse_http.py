"""The ClickHouse sink over HTTP, against a front of the embedded engine: the suite, and what only a network does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from syncd.errors import FatalError, SyncdError, TransientError
from syncd.model import ChangeBatch, Target
from syncd.sinks.clickhouse import ClickHouseSink
from syncd.sinks.clickhouse.options import ClickHouseOptions
from syncd.spi import Sink
from syncd.testing.clickhouse_http import Faults, Front
from syncd.testing.contracts.sink import Factory, SinkContract, made
from syncd.testing.contracts.sink_kit import (
    INSERT,
    ITEMS,
    OWNER,
    UPDATE,
    Writer,
    batch,
    live,
    target,
)
from tests.contract.slow_wire import SlowWire

pytestmark = pytest.mark.chdb


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with Front(tmp_path_factory.mktemp("front")) as running:
        yield running


def options(front: Front, **more: object) -> ClickHouseOptions:
    given = {"url": front.url, "password": "secret", "expire_rows": 1, "page_rows": 7_000, "fsync": False, **more}
    return ClickHouseOptions.model_validate(given)


class TestClickHouseOverHttp(SinkContract):
    @pytest.fixture
    def factory(self, front: Front, tmp_path: Path) -> Factory:
        factory = partial(made, ClickHouseSink, options(front), tmp_path)
        sink = factory()
        assert isinstance(sink, ClickHouseSink)
        sink.open()
        sink._client.command("DROP DATABASE IF EXISTS shop SYNC", doing="starting afresh")
        sink.close()
        return factory

    def refused(self, sink: Sink) -> tuple[ChangeBatch, set[int]]:
        names = ["good", None, "good", None]
        return batch(ITEMS, [(INSERT, 10 + i, (i, name, 1)) for i, name in enumerate(names)]), {1, 3}

    def change_by_hand(self, sink: Sink, of: Target) -> None:
        assert isinstance(sink, ClickHouseSink)
        sink._client.command(f"ALTER TABLE {of.database}.{of.name} MODIFY COLUMN qty Nullable(Int8)", doing="changing")

    @pytest.fixture
    def slow_factory(self, front: Front, factory: Factory, tmp_path: Path) -> Iterator[Factory]:
        wire = SlowWire(front.port)
        yield partial(made, ClickHouseSink, options(front, url=f"http://127.0.0.1:{wire.port}/default"), tmp_path)
        wire.close()

    @pytest.fixture(autouse=True)
    def _front(self, front: Front) -> None:
        self._its_front = front

    def cut(self, sink: Sink, when: Literal["before", "after"]) -> None:
        self._its_front.faults(Faults(times=1, cut=when))

    def test_any_process_may_write(self, sink: Sink) -> None:
        assert sink.traits().scope == "any process"

    @pytest.mark.parametrize("code", [252, 241, 159, 202])
    def test_a_busy_server_is_tried_again_later(self, sink: Sink, front: Front, items: Target, code: int) -> None:
        front.faults(Faults(times=1, error=code))
        with pytest.raises(TransientError, match=str(code)) as caught:
            Writer(sink, items).write((INSERT, 10, (1, "a", 1)))
        assert caught.value.retry_after >= 1

    @pytest.mark.parametrize("status", [429, 502, 503, 504])
    def test_a_proxy_whose_server_is_away(self, sink: Sink, front: Front, items: Target, status: int) -> None:
        front.faults(Faults(times=1, status=status))
        writer = Writer(sink, items)
        with pytest.raises(TransientError, match=f"HTTP status {status}"):
            writer.write((INSERT, 10, (1, "a", 1)))
        writer.write((INSERT, 10, (1, "a", 1)))
        assert live(sink, items) == {1: ("a", 1)}

    @pytest.mark.parametrize("status", [400, 404, 413])
    def test_a_proxy_that_refuses(self, sink: Sink, front: Front, items: Target, status: int) -> None:
        front.faults(Faults(times=1, status=status))
        with pytest.raises(FatalError, match=f"HTTP status {status}"):
            Writer(sink, items).write((INSERT, 10, (1, "a", 1)))

    @pytest.mark.parametrize("code", [164, 201, 497, 6, 999_999])
    def test_a_refusing_server_halts(self, sink: Sink, front: Front, items: Target, code: int) -> None:
        """An error that is not known is never taken as success, nor tried for ever."""
        front.faults(Faults(times=1, error=code))
        with pytest.raises(FatalError, match=str(code)):
            Writer(sink, items).write((INSERT, 10, (1, "a", 1)))
        assert live(sink, items) == {}

    def test_a_write_that_hangs_is_given_up(self, sink: Sink, front: Front, items: Target, tmp_path: Path) -> None:
        hasty = made(ClickHouseSink, options(front, write_timeout=5), tmp_path)
        hasty.open()
        try:
            front.faults(Faults(times=1, delay=600))
            with pytest.raises(TransientError):
                Writer(hasty, items).write((INSERT, 10, (1, "a", 1)))
        finally:
            hasty.close()
        assert len(front.delayed()) == 1
        sink.fence(OWNER, 2)  # the next test finds nothing on its way
        assert (front.delayed(), live(sink, items)) == ([], {})

    def test_a_fence_ends_the_inserts_that_run(self, sink: Sink, factory: Factory, front: Front, items: Target) -> None:
        """Guarantee 7: when `fence` has returned, the older insert has ended, and another owner's goes on."""
        front.faults(Faults(times=2, delay=600))
        other = f"{OWNER}/other"
        ended: dict[str, SyncdError | None] = {}

        def write(owner: str, key: int) -> None:
            own = factory.func(*factory.args)  # type: ignore[attr-defined]
            own.open()
            try:
                Writer(own, items, owner=owner, epoch=1).write((UPDATE, 10, (key, "old", 1)))
                ended[owner] = None
            except SyncdError as error:
                ended[owner] = error
            finally:
                own.close()

        threads = [threading.Thread(target=write, args=(o, k)) for k, o in enumerate((OWNER, other))]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while len(front.delayed()) < 2:
            assert time.monotonic() < deadline, ended
            time.sleep(0.05)
        sink.fence(OWNER, 2)
        threads[0].join(60)
        assert isinstance(ended[OWNER], SyncdError)
        assert other not in ended
        assert live(sink, items) == {}
        sink.fence(other, 2)
        threads[1].join(60)
        assert isinstance(ended[other], SyncdError)


def test_a_server_that_is_away(tmp_path: Path) -> None:
    away = made(ClickHouseSink, ClickHouseSink.Options(url="http://127.0.0.1:1/default"), tmp_path)
    with pytest.raises(TransientError):
        away.open()
    away.close()


def test_a_wrong_password(front: Front, tmp_path: Path) -> None:
    wrong = made(ClickHouseSink, options(front, password="guess"), tmp_path)
    with pytest.raises(FatalError, match="516"):
        wrong.open()
    wrong.close()


def test_a_server_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    """What was acknowledged is there; what was not is written again."""
    front = Front(tmp_path / "engine")
    front.start()
    sink = made(ClickHouseSink, options(front, fsync=True), tmp_path)
    try:
        sink.open()
        sink.prepare(target())
        writer = Writer(sink, target())
        for i in range(10):
            writer.write((INSERT, 10 + i, (i, "x", i)))
        front.kill()
        again = writer.ticket([(INSERT, 30, (30, "y", 1))])
        with pytest.raises(TransientError):
            sink.write(target(), batch(ITEMS, [(INSERT, 30, (30, "y", 1))]), again)
        front.start()
        sink.write(target(), batch(ITEMS, [(INSERT, 30, (30, "y", 1))]), again)
        assert set(live(sink, target())) == {*range(10), 30}
    finally:
        sink.close()
        front.stop()
