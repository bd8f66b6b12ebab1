"""The deliver process of a sink: it holds the group's lease and, where the sink lives in one process only, the sink.

Each of its threads runs a `Deliverer`, which owns the tags that hash to it.
"""

from __future__ import annotations

import itertools
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from syncd.engine import queue_used
from syncd.engine.build import Parts
from syncd.engine.deliver import Deliverer
from syncd.engine.fan_in import Turns
from syncd.engine.lease import Keeper
from syncd.engine.process import Link, leased, reach
from syncd.engine.remote import HostedSink, SinkHost, SinkServer
from syncd.engine.writers import Pool, Writers
from syncd.model import TableId
from syncd.spi import Lease, Sink


def work(link: Link, parts: Parts, sink_name: str) -> None:
    """The deliver process of one sink, as long as it holds the group's lease."""
    with leased(link, parts, f"job/{parts.job.name}/deliver/{sink_name}") as held:
        if held is not None:
            _, lease, keeper = held
            DeliverProcess(link, parts, sink_name, lease, keeper).run()


@dataclass(frozen=True, slots=True)
class DeliverProcess:
    """`keeper` hears every thread: the lease is lost when one hangs."""

    link: Link
    parts: Parts
    sink_name: str
    lease: Lease
    keeper: Keeper
    turns: Turns = field(default_factory=Turns)

    def run(self) -> None:
        traits = self._make_sink().traits()
        if traits.scope == "any process":
            self.link.send("ready")
            if traits.parallel:
                with Pool(traits.parallel, self._opened, self._writing).running() as pool:
                    self._run_threads(self._make_sink, pool)
            else:
                self._run_threads(self._make_sink)
            return
        host = self._hosted()
        if host is None:
            return
        server = SinkServer(self.parts.socket(self.sink_name), host, traits, self.link.in_hand)
        server.start()
        self.link.send("ready")
        try:
            self._run_threads(lambda: HostedSink(host, traits))
        finally:
            server.stop()
            host.close()

    def _make_sink(self) -> Sink:
        return self.parts.make_sink(self.sink_name)

    def _hosted(self) -> SinkHost | None:
        """The sink in its own thread, once it could be opened; None when told to stop first."""
        hosts: list[SinkHost] = []

        def open_() -> None:
            host = SinkHost(self._make_sink)
            host.open()
            hosts.append(host)

        if not reach("sink", open_, self.link, self.keeper.beat):
            return None
        self.link.waits("")
        self.keeper.done()
        return hosts[0]

    @contextmanager
    def _opened(self) -> Iterator[Sink | None]:
        """For a thread of the pool."""
        sink, me = self._make_sink(), threading.current_thread().name
        with ExitStack() as ends:
            ends.callback(sink.close)
            ends.callback(self.keeper.done)
            there = reach("sink", sink.open, self.link, self.keeper.beat, me)
            if there:
                self.link.waits("", me)
                self.keeper.done()
            yield sink if there else None

    @contextmanager
    def _writing(self, table: TableId, long: bool) -> Iterator[None]:
        """Around each call of a thread of the pool: between two of them, and in a long one, it hangs in nothing."""
        if not long:
            self._doing(f"writing {table}")
        try:
            with self.link.in_hand(table):
                yield
        finally:
            self.link.step("")
            self.keeper.done()

    def _run_threads(self, make_sink: Callable[[], Sink], writers: Writers | None = None) -> None:
        failures: list[BaseException] = []

        def run(number: int) -> None:
            try:
                self.deliver(make_sink(), number, count, writers)
            except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                failures.append(error)
                self.link.stop.set()

        count = self.parts.service.workers
        threads = [threading.Thread(target=run, args=(n,), name=f"lanes {n}") for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def deliver(self, sink: Sink, number: int, count: int, writers: Writers | None = None) -> None:
        """Thread `number` of `count`, until told to stop."""
        link, parts, me = self.link, self.parts, threading.current_thread().name
        with queue_used.opened(parts.make_queue(), parts.service) as queue, ExitStack() as ends:
            ends.callback(sink.close)
            ends.callback(self.keeper.done)
            if not reach("sink", sink.open, link, self.keeper.beat, me):
                return
            link.waits("", me)
            sink.fence(parts.group(self.sink_name), self.lease.epoch)
            deliverer = Deliverer(
                parts,
                self.sink_name,
                queue,
                sink,
                self.lease,
                lambda tag: zlib.crc32(tag.encode()) % count == number,
                itertools.count(number + 1, count),
                link.waits,
                self._doing,
                link.in_hand,
                link.count,
                writers,
                self.turns,
            )
            ends.callback(deliverer.close)
            while not link.stop.is_set():
                seconds = deliverer.step()
                self._doing("")
                deliverer.idle(seconds)
            deliverer.finish()

    def _doing(self, step: str) -> None:
        self.keeper.beat()  # a pass over many tables may take longer than a call may hang
        self.link.step(step)
