"""A deliver process loses its lease when a call hangs, and never because it has many tables to do (7, 8)."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from syncd.engine.deliver_process import DeliverProcess
from syncd.engine.lease import Keeper
from syncd.engine.process import Link
from syncd.model import ChangeBatch, TableId, Target
from syncd.spi import Sink, Ticket
from syncd.state import Phase
from tests.unit.engine.kit import leased
from tests.unit.engine.script import NUMBERS, Change, apply
from tests.unit.engine.world import World, engine_in

HANG = 1.2
TABLES = 8


@dataclass
class Slow:
    """Takes its time for each table."""

    sink: Sink
    seconds: dict[str, float]
    made: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sink, name)

    def prepare(self, target: Target, newest: int) -> None:
        time.sleep(self.seconds[target.schema.table.name])
        self.sink.prepare(target, newest)
        self.made.append(target.schema.table.name)

    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        time.sleep(self.seconds[target.schema.table.name])
        self.sink.write(target, batch, ticket)
        self.made.append(target.schema.table.name)


@contextmanager
def delivering(world: World, sink: Slow) -> Iterator[threading.Event]:
    """One thread of a deliver process; the event: its lease is lost."""
    lost = threading.Event()
    near, far = multiprocessing.Pipe()
    link = Link(far)
    lease = leased(world.queue, "job/model/deliver/arrival", ttl=0.3)
    with Keeper(world.make_queue, lease, HANG, lost.set) as keeper:
        process = DeliverProcess(link, world.parts, "arrival", lease, keeper)
        thread = threading.Thread(target=process.deliver, args=(cast(Sink, sink), 0, 1))
        thread.start()
        try:
            yield lost
        finally:
            link.stop.set()
            thread.join(30)
    near.close()
    far.close()
    assert not thread.is_alive()


@contextmanager
def new_tables(folder: Path) -> Iterator[World]:
    """Tables that are NEW at both sinks; no deliver process has begun."""
    with engine_in(folder) as world:
        for number in range(TABLES):
            world.log.create(replace(NUMBERS, table=TableId("shop", f"t{number}")))
        while not world.records():
            world.supervise()
            world.work("planner")
        yield world


def phases(world: World) -> list[Phase]:
    return [record.phase for record in world.state.tables("arrival")]


def test_a_pass_over_many_slow_tables_is_no_hang(tmp_path: Path) -> None:
    with new_tables(tmp_path / "world") as world:
        slow = Slow(world.parts.make_sink("arrival"), dict.fromkeys((f"t{n}" for n in range(TABLES)), HANG / 4))
        began = time.monotonic()
        with delivering(world, slow) as lost:
            while len(slow.made) < TABLES and not lost.is_set():
                time.sleep(0.05)
            assert not lost.is_set()
            assert time.monotonic() - began > 1.5 * HANG
        assert phases(world) == [Phase.SNAPSHOT] * TABLES


def test_many_slow_writes_of_one_table_are_no_hang(tmp_path: Path) -> None:
    with engine_in(tmp_path / "world") as world:
        world.log.create(NUMBERS)
        world.settle()
        for worker in world.workers:
            if worker.name.startswith("deliver/"):
                worker.kill()
        world.queue.release(next(s.lease for s in world.queue.leases("job/model/deliver/arrival")))
        with world.log.transaction() as tx:
            for key in range(8):
                apply(world, tx, Change("put", 0, key, 1, 1))
        world.work("capture")
        behind = [lane for lane, (start, end) in world.queue.lanes("model/arrival").items() if start < end]
        assert len(behind) == 3
        slow = Slow(world.parts.make_sink("arrival"), {"numbers": HANG / 2})
        with delivering(world, slow) as lost:
            while len(slow.made) < len(behind) and not lost.is_set():
                time.sleep(0.05)
            assert not lost.is_set()
        assert len(world.copy("arrival", NUMBERS.table)) == 8


def test_one_call_that_hangs_loses_the_lease(tmp_path: Path) -> None:
    with new_tables(tmp_path / "world") as world:
        seconds = {f"t{n}": 2.5 * HANG if n == 3 else 0.0 for n in range(TABLES)}
        slow = Slow(world.parts.make_sink("arrival"), seconds)
        with delivering(world, slow) as lost:
            assert lost.wait(2 * HANG)
            assert "t3" not in slow.made
