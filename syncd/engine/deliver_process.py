"""The deliver process of a sink: it holds the group's lease and, where the sink lives in one process only, the sink.

Each of its threads runs a `Deliverer`, which owns the tags that hash to it.
"""

from __future__ import annotations

import itertools
import threading
import zlib
from collections.abc import Callable

import structlog

from syncd.engine.build import HANG_SECONDS, Parts
from syncd.engine.deliver import Deliverer
from syncd.engine.lease import Keeper, acquire
from syncd.engine.process import Link
from syncd.engine.remote import HostedSink, SinkHost, SinkServer
from syncd.errors import TransientError
from syncd.spi import Lease, Sink

log = structlog.get_logger()


def work(link: Link, parts: Parts, sink_name: str) -> None:
    """The deliver process of one sink, as long as it holds the group's lease."""
    queue = parts.make_queue()
    queue.open()
    try:
        name = f"job/{parts.job.name}/deliver/{sink_name}"
        lease = acquire(queue, name, parts.owner(), parts.service.lease, link.stop)
        if lease is None:
            return
        with Keeper(parts.make_queue, lease, HANG_SECONDS, link.die, parts.service.heartbeat) as keeper:
            _with_sink(link, parts, sink_name, lease, keeper)
    finally:
        queue.close()


def _with_sink(link: Link, parts: Parts, sink_name: str, lease: Lease, keeper: Keeper) -> None:
    traits = parts.make_sink(sink_name).traits()
    if traits.scope == "any process":
        link.send("ready")
        _run_threads(link, parts, sink_name, lease, keeper, lambda: parts.make_sink(sink_name))
        return
    host = _hosted(link, keeper, lambda: parts.make_sink(sink_name))
    if host is None:
        return
    server = SinkServer(parts.socket(sink_name), host, traits, link.in_hand)
    server.start()
    link.send("ready")
    try:
        _run_threads(link, parts, sink_name, lease, keeper, lambda: HostedSink(host, traits))
    finally:
        server.stop()
        host.close()


def _hosted(link: Link, keeper: Keeper, make: Callable[[], Sink]) -> SinkHost | None:
    """The sink in its own thread, once it could be opened; None when told to stop first."""
    while not link.stop.is_set():
        keeper.beat()
        host = SinkHost(make)
        link.step("opening the sink")
        try:
            host.open()
        except TransientError as error:
            log.warning("sink_unreachable", error=str(error))
            link.waits(str(error))
            link.stop.wait(error.retry_after)
        else:
            link.step("")
            link.waits("")
            keeper.done()
            return host
    return None


def _run_threads(
    link: Link, parts: Parts, sink_name: str, lease: Lease, keeper: Keeper, make_sink: Callable[[], Sink]
) -> None:
    count = parts.service.workers
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            _run(link, parts, sink_name, lease, keeper, make_sink(), number, count)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            failures.append(error)
            link.stop.set()

    threads = [threading.Thread(target=run, args=(n,), name=f"lanes {n}") for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _run(
    link: Link,
    parts: Parts,
    sink_name: str,
    lease: Lease,
    keeper: Keeper,
    sink: Sink,
    number: int,
    count: int,
) -> None:
    queue = parts.make_queue()
    queue.open()
    try:
        _open_when_there(sink, link, keeper)
        if link.stop.is_set():
            return
        sink.fence(parts.group(sink_name), lease.epoch)

        def doing(step: str) -> None:
            keeper.beat()  # a pass over many tables may take longer than a call may hang
            link.step(step)

        deliverer = Deliverer(
            parts,
            sink_name,
            queue,
            sink,
            lease,
            lambda tag: zlib.crc32(tag.encode()) % count == number,
            itertools.count(number + 1, count),
            link.waits,
            doing,
            link.in_hand,
        )
        while not link.stop.is_set():
            seconds = deliverer.step()
            doing("")
            if seconds:
                queue.wait(parts.topic, seconds)
    finally:
        keeper.done()
        sink.close()
        queue.close()


def _open_when_there(sink: Sink, link: Link, keeper: Keeper) -> None:
    """Open, waiting as long as the target cannot be reached."""
    while not link.stop.is_set():
        keeper.beat()
        link.step("connecting to the sink")
        try:
            sink.open()
        except TransientError as error:
            log.warning("sink_unreachable", error=str(error))
            link.waits(str(error), threading.current_thread().name)
            link.stop.wait(error.retry_after)
        else:
            link.step("")
            link.waits("", threading.current_thread().name)
            return
