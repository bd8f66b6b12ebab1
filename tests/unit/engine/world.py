"""The whole engine in one thread: the real supervisor, planner, readers, capture and deliverers, the real queue and the
real test sinks, on a `LogSource`. Processes are objects that a test steps, kills and freezes; time is a number.

A *point* is a place where something may happen to a process: every failpoint of the engine, and every call of the
queue, the sinks and the source. An *order* says what happens when a point is passed for the n-th time: `die` (the
process is gone), `fail` (the call answers TransientError), `full` (QueueFull), `freeze` (another daemon takes
everything over and works for a while; then the frozen one goes on, and may change nothing any more), or a function
that is called.
"""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from syncd.config import Job, Service, parse_job
from syncd.engine import (
    barrier,
    capture,
    change,
    collect,
    deliver,
    deliver_process,
    discover,
    foreign,
    job,
    load,
    opening,
    outlets,
    process,
    queue_used,
    relocate,
    snapshot,
    supervise,
)
from syncd.engine.build import Parts
from syncd.engine.counts import Tally
from syncd.engine.process import Alive, Failed, Waiting
from syncd.errors import FencedError, QueueFull, SyncdError, TransientError
from syncd.model import ChangeBatch, Checkpoint, Position, TableId, Target
from syncd.mq.embedded import EmbeddedQueue
from syncd.ops import repairer
from syncd.spi import Context, Event, Foreign, Queue, Sink, Source, Ticket
from syncd.state import DELIVERED, Phase, State, TableRecord
from syncd.testing.source_log import Log
from syncd.testing.sources import LogOptions, LogSource
from tests import plugins

JOB = """\
job: model
source: {{mysql: {{}}}}
tables: {{"shop.*": {{keyless: append}}}}
queue: {{queues: 3, embedded: {{sync: NORMAL}}}}
snapshot: {{chunk_bytes: 300, readers: 2}}
policy: {{ddl: {{reload: halt-table}}}}
sinks:
  arrival: {{sqlite_arrival: {{path: {folder}/arrival.db, faults_file: {folder}/faults}}, batch: {{rows: 2}}}}
  versioned: {{sqlite_versioned: {{path: {folder}/versioned.db, faults_file: {folder}/faults}}, batch: {{rows: 2}}}}
"""
SINKS = ("arrival", "versioned")
_END = 1 << 40


class Died(BaseException):
    """SIGKILL: nothing of the process goes on."""


@dataclass
class Orders:
    """What is to happen, point by point."""

    pending: dict[str, tuple[int, str | Callable[[], None]]] = field(default_factory=dict)
    freeze: Callable[[], None] = lambda: None
    on: bool = True

    def pass_point(self, name: str) -> None:
        left, act = self.pending.get(name, (0, ""))
        if not act or not self.on:
            return
        if left > 1:
            self.pending[name] = left - 1, act
            return
        del self.pending[name]
        match act:
            case "die":
                raise Died(name)
            case "fail":
                raise TransientError(f"{name} fails by order", retry_after=0.1)
            case "full":
                raise QueueFull(f"{name}: full by order", retry_after=0.1)
            case "freeze":
                self.freeze()
            case do if callable(do):
                do()


class Clock:
    """Stands for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Stop(threading.Event):
    """Waiting costs no time but the clock's."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.now += timeout or 0.0
        return self.is_set()


class ModelQueue(EmbeddedQueue):
    orders: Orders

    def publish(self, *args: Any) -> Any:
        self.orders.pass_point("queue.publish")
        answer = super().publish(*args)
        self.orders.pass_point("queue.published")
        return answer

    def commit(self, *args: Any) -> None:
        self.orders.pass_point("queue.commit")
        super().commit(*args)
        self.orders.pass_point("queue.committed")

    def put(self, *args: Any) -> None:
        self.orders.pass_point("queue.put")
        super().put(*args)
        self.orders.pass_point("queue.stored")


class ModelSource(LogSource):
    """`idle` is called where the log's end was given out."""

    orders: Orders
    idle: Callable[[], None] = staticmethod(lambda: None)

    def _step(self, what: str) -> None:
        self.orders.pass_point(f"source.{what}")

    def _idle(self) -> None:
        self.idle()

    def stream(self, position: Position, *args: Any) -> Iterator[Event]:
        for event in super().stream(position, *args):
            self.orders.pass_point("source.event")
            if isinstance(event, Checkpoint) and event.position != f"log:{self.log.end()[0]}":
                event = replace(event, time=0)  # it is behind: as of when, nobody knows
            yield event


class Writes:
    """Seqs in the order in which they arrive at the arrival sink, by table and key."""

    def __init__(self) -> None:
        self.last: dict[tuple[str, Any], int] = {}
        self.exempt: set[str] = set()
        self.sure = 0
        self.foreign: Foreign | None = Foreign(0, 0)
        """What others are known to have written; None: anything."""

    def told(self, target: Target, found: Foreign) -> None:
        """Nothing is said of rows that nobody else has written."""
        self.sure += 1
        assert self.foreign in {None, found}, f"{target.schema.table}: {found}"

    def saw(self, target: Target, batch: ChangeBatch) -> None:
        name = str(batch.table)
        columns = [batch.rows.column(c).to_pylist() for c in target.schema.identity]
        keys = zip(*columns, strict=True) if columns else [()] * len(batch)
        for key, seq in zip(keys, batch.seq.tolist(), strict=True):
            before = self.last.get((name, key), 0)
            assert seq >= before or name in self.exempt, f"{name} {key}: seq {seq} was applied after {before}"
            self.last[name, key] = seq


class ModelSink:
    """A sink whose writes are points; `writes` (arrival order only) sees what has been written."""

    def __init__(self, sink: Sink, orders: Orders, writes: Writes | None) -> None:
        self._sink, self._orders, self._writes = sink, orders, writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> Foreign | None:
        self._orders.pass_point("sink.write")
        found = self._sink.write(target, batch, ticket)
        if found is not None and self._writes is not None:
            self._writes.told(target, found)
        if self._writes is not None:
            self._writes.saw(target, batch)
        self._orders.pass_point("sink.written")
        return found

    def apply(self, *args: Any) -> None:
        self._orders.pass_point("sink.apply")
        self._sink.apply(*args)
        self._orders.pass_point("sink.applied")


@dataclass(frozen=True)
class ModelParts(Parts):
    world: World = cast("World", None)  # noqa: RUF009 - set right after it is made

    def make_queue(self) -> Queue:
        return self.world.make_queue()

    def make_source(self, **more: Any) -> Source:
        return self.world.make_source()

    def make_sink(self, sink: str) -> Sink:
        writes = self.world.writes if sink == "arrival" else None
        return cast(Sink, ModelSink(super().make_sink(sink), self.world.orders, writes))


class ModelLink:
    """The child's end of a worker: told to stop when nobody has a word for it."""

    def __init__(self, clock: Clock) -> None:
        self.stop = Stop(clock)
        self.said: deque[Any] = deque()
        self.inbox: deque[Any] = deque()
        self._ready = False
        self.count = Tally().count

    def send(self, word: object) -> None:
        if word != "ready" or not self._ready:
            self.said.append(word)
        self._ready = self._ready or word == "ready"

    def waits(self, reason: str, what: str = "") -> None:
        self.send(Waiting(what, reason))

    def step(self, doing: str, every: float = 0.0) -> None: ...

    def in_hand(self, table: TableId) -> AbstractContextManager[None]:
        return nullcontext()

    def beat(self) -> None: ...

    def die(self) -> None:
        raise Died("the lease is lost")

    def receive(self, timeout: float) -> Any | None:
        if not self.inbox:
            self.stop.set()
            return None
        return self.inbox.popleft()


class Inline:
    """A thread that does it at once."""

    def __init__(self, *_: object) -> None: ...

    def submit(self, do: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(do())
        except SyncdError as error:
            future.set_exception(error)
        return future


class NoKeeper:
    """A lease that nobody renews: time is not what it ends of here."""

    def __init__(self, *_: object) -> None: ...

    def beat(self) -> None: ...

    def __enter__(self) -> NoKeeper:
        return self

    def __exit__(self, *_: object) -> None: ...


class ModelWorker:
    """Stands for `process.Worker`: the process is `step`, called by the test. It is the engine's own worker function,
    run until nothing is left to do; a deliver process keeps its `Deliverer` from step to step."""

    _pids = itertools.count(10**9)

    def __init__(
        self, name: str, parts: ModelParts, work: Callable[..., None], *args: Any, careful: bool = False
    ) -> None:
        self.name = name
        self.pid = next(self._pids)
        self.alive, self.exitcode, self.pipe = True, 0, None
        self._link = ModelLink(parts.world.clock)
        self._parts, self._work, self._args = parts, work, args
        self._stepped = False
        self._deliverer: deliver.Deliverer | None = None
        self._opened: list[Queue | Sink] = []
        parts.world.workers.append(self)

    # -- the supervisor's end

    def send(self, word: object) -> None:
        self._link.inbox.append(word)

    def words(self) -> Iterator[Any]:
        if self._stepped and self.alive:
            yield Alive()
        while self._link.said:
            yield self._link.said.popleft()

    def stop(self) -> None:
        self.kill()

    def kill(self) -> None:
        self.alive = False
        self.close()

    def close(self) -> None:
        while self._opened:
            self._opened.pop().close()

    # -- the process

    def step(self) -> None:
        """Work for a moment, and die of what a process dies of."""
        if not self.alive:
            return
        try:
            if self._work is deliver_process.work:
                self._deliver(*self._args)
            elif self._work in {capture.work, repairer.work} or self._link.inbox or not self._stepped:
                self._link.stop.clear()
                self._parts.world.idle = self._link.stop.set
                self._work(self._link, self._parts, *self._args)
        except Died:
            self.kill()
        except SyncdError as error:
            self._link.send(Failed(error))
            self.kill()
        self._stepped = True

    def _deliver(self, sink_name: str) -> None:
        if self._deliverer is None:
            queue, sink = self._parts.make_queue(), self._parts.make_sink(sink_name)
            self._opened += [queue, sink]
            queue.open()
            lease = queue.acquire(f"job/model/deliver/{sink_name}", self._parts.owner(), 10.0)
            assert lease is not None
            sink.open()
            sink.fence(self._parts.group(sink_name), lease.epoch)
            waits = self._link.waits
            self._deliverer = deliver.Deliverer(self._parts, sink_name, queue, sink, lease, lambda _: True, waits=waits)
        self._deliverer.step()


@cache
def _job(folder: Path) -> Job:
    return parse_job(JOB.format(folder=folder), str(folder / "job.yaml"), [plugins.FOLDER])


class World:
    """One source, one data directory, two sinks, and the daemon that runs on them (`runner`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.orders = Orders(freeze=self._take_over)
        self.writes = Writes()
        self.workers: list[ModelWorker] = []
        self.frozen: list[ModelWorker] = []
        self.idle: Callable[[], None] = lambda: None
        self.kept: dict[TableId, TableRecord] = {}
        self.rest_until = 0.0
        self.wanted: Callable[[str, TableId, Mapping[str, Any]], bool] = lambda sink, table, row: True
        """What of the source's rows a sink is to have."""
        self.log = Log(folder / "source.db")
        service = Service(data=folder / "data")
        self.parts = ModelParts(_job(folder), service, self)
        self.queue = self.make_queue()
        self.queue.open()
        self.state = State(self.queue, "model")
        self.runner = self._start()

    def close(self) -> None:
        self.kill()
        self.queue.close()
        self.log.close()

    def make_queue(self) -> Queue:
        directory = self.parts.service.data / "queue"
        directory.mkdir(parents=True, exist_ok=True)
        made = ModelQueue(self.parts.job.queue.options, Context("model", directory))
        made.orders = self.orders
        return made

    def make_source(self) -> ModelSource:
        options = LogOptions(path=self.folder / "source.db", batch_rows=3, group=2, page_rows=2, head_lag=1)
        made = ModelSource(options, Context("model", self.folder))
        made.orders, made.idle = self.orders, self.idle
        return made

    # -- the daemon

    def _start(self) -> job.JobRunner:
        """A new daemon; what the old one holds is not touched, but its leases pass on."""
        self.orders.on = False
        try:
            queue_used.settle(self.parts, self.queue)
            runner = job.JobRunner(self.parts, self.queue, repairer.work)
            runner.start()
        finally:
            self.orders.on = True
        return runner

    def kill(self) -> None:
        """The daemon and all of its processes are gone at once."""
        for worker in self.workers:
            worker.kill()
        self.workers = []

    def restart(self) -> None:
        self.kill()
        self.runner = self._start()

    def _take_over(self) -> None:
        """While a process stands still in the middle of something, another daemon takes over and gets on with it."""
        frozen, self.workers = self.workers, []
        self.orders.on = False
        self.runner = self._start()
        for _ in range(12):
            self.round()
        self.orders.on = False
        self.frozen = frozen

    def _wake_frozen(self) -> None:
        """What was frozen together with the process that stood still wakes up too, for a moment."""
        frozen, self.frozen = self.frozen, []
        for zombie in frozen:
            zombie.step()
            zombie.kill()
        self.orders.on = True

    def supervise(self) -> None:
        self.clock.now += 0.3
        runner = self.runner
        try:
            runner.step()
        except Died:
            self.restart()
        except TransientError:
            return
        except FencedError:
            assert runner is not self.runner, "fenced, and nobody has taken over"
        self._wake_frozen()
        assert self.runner.failed is None, self.runner.failed

    def work(self, kind: str) -> None:
        """A step of every live process of this kind ("" for all)."""
        for worker in [*self.workers]:
            if worker.name.startswith(kind):
                before = self.workers
                worker.step()
                if self.workers is not before:  # it was frozen, and everything has passed on
                    self._wake_frozen()
                    return
        self.workers = [worker for worker in self.workers if worker.alive]

    def round(self) -> None:
        self.supervise()
        self.work("")

    # -- how it stands

    def records(self) -> list[TableRecord]:
        return self.state.tables()

    def refuse(self, text: str) -> None:
        """Both sinks refuse rows whose column v is this."""
        self.writes.exempt |= {str(schema.table) for schema in self.log.tables()}
        part = self.folder / "faults.part"
        part.write_text(f'{{"refuse": {{"v": ["{text}"]}}}}')
        part.rename(self.folder / "faults")

    def keep(self) -> None:
        """A copy of the arrival sink as it is now."""
        self.kept = {record.table: record for record in self.state.tables("arrival")}
        self._copy("arrival.db", "kept.db")

    def put_back(self) -> None:
        """The copy takes the place of the sink, unless a table was handed over or made between the two."""
        if self.kept and all(map(self._fits, self.state.tables("arrival"))):
            self._copy("kept.db", "arrival.db")
            self.writes.last.clear()
            self.rest_until = self.clock.now + deliver.LOOK_SECONDS + 5.0

    def _copy(self, of: str, to: str) -> None:
        with closing(sqlite3.connect(self.folder / of)) as db, closing(sqlite3.connect(self.folder / to)) as copy:
            db.backup(copy)

    def _fits(self, record: TableRecord) -> bool:
        kept = self.kept.get(record.table)
        if kept is None or kept.phase is Phase.NEW:
            return record.phase is Phase.NEW
        return kept.opened == record.opened

    def resume(self) -> None:
        """As `syncd jobs resume` does it, the sinks accepting everything again."""
        (self.folder / "faults").unlink(missing_ok=True)
        lease = self.queue.acquire("job/model/wish", "someone", 10.0)
        assert lease is not None
        with self.calm():
            for record in self.records():
                if record.phase is Phase.HALTED and record.resume is not None:
                    assert "refused by order" in record.reason, record
                    again = replace(record, phase=record.resume, resume=None, reason="", since=0)
                    self.queue.put(lease, self.state.table_item(again))
        self.queue.release(lease)

    def is_read_no_more(self, table: TableId) -> bool:
        """It is loaded at both sinks, also where one has halted since."""
        with self.calm():
            done = {r.sink for r in self.records() if r.table == table and (r.resume or r.phase) in DELIVERED}
        return done == {*SINKS}

    @contextmanager
    def calm(self) -> Iterator[None]:
        was, self.orders.on = self.orders.on, False
        yield
        self.orders.on = was

    def settle(self) -> None:
        """Run until every table is LIVE and everything is applied; AssertionError if that does not come."""
        self.orders.pending.clear()
        for _ in range(40):
            self.resume()
            self.round()
            self.clock.now += 4.0
            if self._still():
                return
        phases = {f"{r.sink} {r.table}": f"{r.phase} {r.reason}" for r in self.records()}
        raise AssertionError(f"does not come to rest: {phases}")

    def _still(self) -> bool:
        source, records = self.state.source(), self.records()
        if self.clock.now < self.rest_until:
            return False
        if source is None or source.position != f"log:{self.log.end()[0]}":
            return False
        ends = [b for sink in SINKS for b in self.queue.lanes(self.parts.group(sink)).values()]
        live = {(r.sink, r.table) for r in records if r.phase is Phase.LIVE}
        wanted = {(sink, schema.table) for sink in SINKS for schema in self.log.tables()}
        return live >= wanted and all(start == end for start, end in ends)

    def copy(self, sink: str, table: TableId) -> list[dict[str, Any]]:
        """What the sink holds, in key order."""
        pairs: Mapping[int, Any] = self.state.schemas()[table]
        published = pairs[max(pairs)].published
        made = self.parts.make_sink(sink)
        made.open()
        found = [row for part in made.scan(self.parts.target(sink, published), None, None) for row in part.to_pylist()]
        made.close()
        return found

    def assert_equal(self) -> None:
        for schema in self.log.tables():
            for sink in SINKS:
                source = [row for row in self.log.rows(schema.table) if self.wanted(sink, schema.table, row)]
                copy = self.copy(sink, schema.table)
                if not schema.key:
                    copy, source = sorted(copy, key=repr), sorted(source, key=repr)
                assert copy == source, f"{schema.table} at {sink}"


@contextmanager
def engine_in(folder: Path) -> Iterator[World]:
    """A world in an empty folder, with the engine's modules bound to it meanwhile."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        clock_and_points: list[World] = []
        for module in (
            load,
            capture,
            change,
            deliver,
            collect,
            discover,
            opening,
            relocate,
            repairer,
            snapshot,
            barrier,
        ):
            patch.setattr(module, "failpoint", lambda name: clock_and_points[0].orders.pass_point(name))
        patch.setattr(job, "Worker", ModelWorker)
        patch.setattr(outlets, "OneThread", Inline)
        for module in (job, process):
            patch.setattr(module, "Keeper", NoKeeper)
        for module, name in ((supervise, "DEATHS"), (supervise, "SILENT"), (load, "POISON")):
            patch.setattr(module, name, 1 << 30)
        patch.setattr(snapshot, "WRITE_ROWS", 2)
        patch.setattr(capture, "PUBLISH_BYTES", 1200)
        patch.setattr(foreign, "CLOCKS_SECONDS", 0.0)
        patch.setattr(capture, "REFRESH_SECONDS", 0.0)  # each step makes a Capture anew
        structlog.configure(processors=[], logger_factory=_Silent)
        world = World.__new__(World)
        clock_and_points.append(world)
        world.__init__(folder)  # type: ignore[misc]
        for module in (job, load, capture, deliver, supervise):
            patch.setattr(module, "time", world.clock)
        try:
            yield world
        finally:
            world.close()
            structlog.reset_defaults()


class _Silent:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None

    def __call__(self, *_: object) -> _Silent:
        return self
