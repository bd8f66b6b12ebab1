"""One scan feeds all sinks that load a table from the same head, and none of them waits for long for another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest

from syncd.engine import load, outlets, snapshot
from syncd.engine.load import Loader
from syncd.engine.outlets import Fan, Pace, ReaderSinks
from syncd.engine.process import Link
from syncd.engine.snapshot import Borders
from syncd.engine.words import Copied, Copy, GivenBack, LeftOut, Plan, Planned, Refused, Slow
from syncd.errors import FatalError, FencedError, SyncdError, TransientError
from syncd.model import Chunk, Head, Position, TableId
from syncd.spi import Lease, Queue
from syncd.state import Done, Phase, State, TableRecord
from tests.unit.engine.kit import leased, opened_queue

TABLE = TableId("shop", "items")
A, B, C = (TableRecord(TABLE, sink, Phase.SNAPSHOT, Head(Position("log:0"), 0)) for sink in "abc")
CHUNKS = [Chunk(TABLE, 0, None, (1,), rows=9), Chunk(TABLE, 1, (1,), (2,), rows=9), Chunk(TABLE, 2, (2,), None, rows=9)]
PARTS = cast(
    "Any",
    SimpleNamespace(
        job=SimpleNamespace(name="j", sinks=["a", "b", "c"]), captures=True, readers=2, appends=lambda *_: False
    ),
)


@dataclass
class Loads:
    """A loader of one table at several sinks. `now`: its clock."""

    queue: Queue
    lease: Lease
    state: State
    loader: Loader
    now: float = 100.0

    def put(self, *records: TableRecord) -> None:
        for record in records:
            self.queue.put(self.lease, self.state.table_item(record))
        self.loader.look(self.state.tables())

    def plan(self, *records: TableRecord) -> None:
        """As the planner does for all of them."""
        assert self.loader.next_plan() == Plan(records)
        for chunk in CHUNKS:
            for record in records:
                self.queue.put(self.lease, self.state.chunk_item(record.sink, chunk))
        self.loader.plan_ended()

    def deal(self, reader: str) -> str:
        """The chunk that the idle reader gets, and its sinks: "0ab"; "": none."""
        task = self.loader.next_chunk(reader)
        return "" if task is None else f"{task.chunk.number}{''.join(r.sink for r in task.records)}"

    def copied(self, reader: str) -> None:
        task = self.loader.tasks[reader]
        for record in task.records:
            self.queue.put(self.lease, self.state.done_item(record.sink, task.chunk, Done(10, 1, 0)))
            self.loader.hear(reader, Copied(record, task.chunk, Done(10, 1, 0)))


@pytest.fixture
def loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loads]:
    with opened_queue(tmp_path) as queue:
        lease = leased(queue, "job/j/run")
        loader = Loader(PARTS, queue, lambda items: queue.put(lease, items), lambda *_: None)
        made = Loads(queue, lease, State(queue, "j"), loader)
        monkeypatch.setattr(load, "time", SimpleNamespace(monotonic=lambda: made.now))
        yield made


def test_one_copy_is_for_all_sinks_with_the_same_head(loads: Loads) -> None:
    other = replace(C, head=Head(Position("log:9"), 9))
    loads.put(A, B, other)
    loads.plan(A, B)
    loads.plan(other)
    assert loads.loader.readers_wanted(0) == 2
    assert [loads.deal("1"), loads.deal("2")] == ["0ab", "1ab"]
    loads.copied("1")
    assert loads.deal("1") == "2ab"
    loads.copied("1")
    loads.copied("2")
    assert loads.deal("1") == "0c"
    loads.loader.look(loads.state.tables())
    phases = {record.sink: record.phase for record in loads.state.tables()}
    assert phases == {"a": Phase.CATCH_UP, "b": Phase.CATCH_UP, "c": Phase.SNAPSHOT}
    assert loads.loader.progress() == {("a", TABLE): (30, 30), ("b", TABLE): (30, 30), ("c", TABLE): (0, 27)}


def test_a_sink_that_is_left_out_goes_alone_and_its_chunk_is_read_again_when_nothing_writes_to_it(loads: Loads) -> None:
    loads.put(A, B)
    loads.plan(A, B)
    assert loads.deal("1") == "0ab"
    loads.loader.hear("1", LeftOut(B, CHUNKS[0], "it is slow"))
    loads.copied("1")
    assert loads.deal("2") == "1b"  # its share of the readers: one of two
    assert loads.deal("1") == "1a"  # nor would this one, which may still be writing to b, be given that
    assert loads.loader.readers_wanted(0) == 3
    loads.copied("1")
    loads.copied("2")
    assert loads.deal("2") == "2b"
    assert loads.deal("1") == "2a"
    loads.copied("1")
    assert loads.deal("1") == ""  # chunk 0 of b is nobody's
    loads.loader.hear("1", GivenBack(B, CHUNKS[0]))
    assert loads.deal("1") == "0b"  # nobody else wants to read
    loads.loader.reader_lost("1", "killed")
    assert loads.deal("3") == "0b"
    loads.copied("2")
    loads.copied("3")
    loads.loader.look(loads.state.tables())
    assert {record.phase for record in loads.state.tables()} == {Phase.CATCH_UP}
    loads.put(A, B)  # loaded anew: what was slow then may keep pace now
    assert loads.loader.readers_wanted(1) == 1


def test_one_that_goes_alone_leaves_readers_to_the_others(loads: Loads) -> None:
    loads.put(B)
    loads.plan(B)
    assert [loads.deal("1"), loads.deal("2")] == ["0b", "1b"]
    loads.loader.hear("1", Slow("b", "a write takes long"))
    assert loads.loader.readers_wanted(0) == 3
    assert loads.deal("3") == ""
    loads.put(A)
    loads.plan(A)
    assert loads.deal("3") == "0a"


def test_what_a_dead_reader_had_is_read_by_itself_for_each_sink(loads: Loads) -> None:
    halted: list[str] = []
    loads.loader._halt = lambda record, error: halted.append(record.sink)
    loads.put(A, B, C)
    loads.plan(A, B, C)
    assert loads.deal("1") == "0abc"
    loads.loader.hear("1", LeftOut(C, CHUNKS[0], "it is slow"))
    assert loads.loader.reader_lost("1", "killed")
    assert [loads.deal(reader) for reader in "12345"] == ["0c", "0a", "1ab", "2ab", "0b"]
    loads.copied("2")
    loads.loader.reader_lost("5", "killed")
    assert loads.deal("5") == "0b"
    loads.loader.reader_lost("5", "killed")
    assert halted == ["b"]


def test_a_refusal_is_of_one_sink(loads: Loads) -> None:
    loads.put(A, B)
    loads.plan(A, B)
    assert loads.deal("1") == "0ab"
    loads.loader.refused("1", B)
    assert loads.loader.tasks == {"1": Copy((A,), CHUNKS[0])}
    loads.copied("1")
    assert loads.loader.tasks == {}


def test_a_load_is_held_for_a_sink_that_is_about_to_begin_but_not_for_long(loads: Loads) -> None:
    loads.put(A, replace(B, phase=Phase.NEW))
    loads.plan(A)
    assert loads.deal("1") == ""
    loads.put(B)
    loads.plan(B)
    assert loads.deal("1") == "0ab"
    loads.put(replace(C, phase=Phase.NEW))
    assert loads.deal("2") == ""
    loads.now += load.TOGETHER_SECONDS
    loads.put(A)
    assert loads.deal("2") == "1ab"


def test_who_begins_later_takes_the_chunks_that_are_known(loads: Loads) -> None:
    loads.put(A)
    loads.plan(A)
    loads.put(B, replace(C, head=Head(Position("log:9"), 9)))
    loads.queue.put(loads.lease, loads.state.chunk_item("b", CHUNKS[0]))
    said: list[Any] = []
    link = cast(Link, SimpleNamespace(send=said.append))
    assert Borders(link, PARTS, loads.queue, loads.lease, (B,)).complete
    assert loads.state.chunks("b", TABLE) == CHUNKS
    assert said == [Planned((B,), CHUNKS[1]), Planned((B,), CHUNKS[2])]
    other = replace(CHUNKS[1], upper=(7,))
    loads.queue.put(loads.lease, loads.state.chunk_item("b", other))  # found by itself
    borders = Borders(link, PARTS, loads.queue, loads.lease, (B, A))
    assert (borders.records, borders.last) == ((B,), CHUNKS[2])


def test_who_begins_while_chunks_are_looked_for_gets_them_too(loads: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "JOIN_SECONDS", -1.0)
    loads.put(A, replace(B, phase=Phase.NEW))
    assert loads.loader.next_plan() == Plan((A,))
    words: list[Planned] = []
    borders = Borders(cast(Link, SimpleNamespace(send=words.append)), PARTS, loads.queue, loads.lease, (A,))
    borders.add(CHUNKS[0])
    loads.put(B)
    borders.add(CHUNKS[1])
    assert [word.records for word in words] == [(A,), (B,), (A, B)]
    for word in words:
        for record in word.records:
            loads.loader.planned(record, word.chunk)
    assert [loads.deal("1"), loads.deal("2")] == ["0ab", "1ab"]


# -- the reader's side


class FakeSink:
    """Does what it is told to, once: then nothing."""

    def __init__(self) -> None:
        self.do: Callable[[], None] = lambda: None
        self.writes = 0

    def open(self) -> None: ...

    def close(self) -> None: ...

    def write(self, *_: object) -> None:
        do, self.do = self.do, lambda: None
        do()
        self.writes += 1


class Copying:
    """A copy of one chunk to three sinks, each write on its own thread."""

    def __init__(self) -> None:
        self.sinks = {name: FakeSink() for name in "abc"}
        self.said: list[Any] = []
        self.heard = threading.Condition()
        self.link = cast(
            Link,
            SimpleNamespace(
                send=self._hear,
                stop=threading.Event(),
                waits=lambda *_: None,
                step=lambda *_: None,
                count=lambda *_, **__: None,
            ),
        )
        self.writers = ReaderSinks(cast("Any", SimpleNamespace(reach_sink=self.sinks.__getitem__)), self.link)
        self.fan = Fan(self.link, Pace(), Copy((A, B, C), CHUNKS[0]))

    def _hear(self, word: object) -> None:
        with self.heard:
            self.said.append(word)
            self.heard.notify_all()

    def await_word(self, word: object) -> None:
        with self.heard:
            assert self.heard.wait_for(lambda: word in self.said, 10), self.said

    def write(self) -> str:
        """Once to each; who is still with the copy."""
        target = cast("Any", SimpleNamespace(schema=SimpleNamespace(table=TABLE, key=())))
        for outlet in self.fan.outlets:
            self.writers.write(outlet, target, cast("Any", pa.nulls(1)), cast("Any", None), "writing")
        self.fan.settle()
        return "".join(record.sink for record in self.fan.records)

    def close(self) -> None:
        self.link.stop.set()
        self.writers.close()


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> Iterator[Copying]:
    monkeypatch.setattr(outlets, "LATE_SECONDS", 0.05)
    monkeypatch.setattr(outlets, "HANGS_SECONDS", 0.05)
    with closing(Copying()) as made:
        yield made


def fail(error: SyncdError) -> Callable[[], None]:
    def do() -> None:
        raise error

    return do


def hanging(free: threading.Event) -> Callable[[], None]:
    def do() -> None:
        assert free.wait(10)

    return do


def test_a_sink_that_hangs_is_left_out_and_gives_its_chunk_back_when_it_has_ended(copying: Copying) -> None:
    free = threading.Event()
    copying.sinks["b"].do = hanging(free)
    assert copying.write() == "ac"
    assert [type(word) for word in copying.said] == [LeftOut]
    assert copying.write() == "ac"
    free.set()
    copying.await_word(GivenBack(B, CHUNKS[0]))
    assert {name: sink.writes for name, sink in copying.sinks.items()} == {"a": 2, "b": 1, "c": 2}


def test_a_sink_with_nothing_to_write_does_not_wait_for_one_that_hangs(copying: Copying) -> None:
    """Its filter has left it nothing of the batch."""
    free = threading.Event()
    copying.fan.refuse(copying.fan.outlets[2], FatalError("not here"))
    copying.sinks["b"].do = hanging(free)
    target = cast("Any", SimpleNamespace(schema=SimpleNamespace(table=TABLE, key=())))
    copying.writers.write(copying.fan.outlets[1], target, cast("Any", pa.nulls(1)), cast("Any", None), "writing")
    settled = threading.Thread(target=copying.fan.settle, daemon=True)
    settled.start()
    settled.join(5)
    assert not settled.is_alive()
    assert [record.sink for record in copying.fan.records] == ["a"]
    free.set()
    copying.await_word(GivenBack(B, CHUNKS[0]))


def test_a_sink_that_fails_for_longer_than_others_write_is_left_out_and_not_written_to_any_more(
    copying: Copying,
) -> None:
    def fail_always() -> None:
        copying.sinks["b"].do = fail_always
        raise TransientError("the sink is away", retry_after=0.01)

    copying.sinks["b"].do = fail_always
    assert copying.write() == "ac"
    copying.await_word(GivenBack(B, CHUNKS[0]))
    assert copying.sinks["b"].writes == 0


def test_a_refusal_halts_one_and_a_fence_ends_all(copying: Copying) -> None:
    error = FatalError("the table is gone")
    copying.sinks["b"].do = fail(error)
    assert copying.write() == "ac"
    assert copying.said == [Refused((B,), error)]
    copying.sinks["a"].do = fail(FencedError("passed on"))
    with pytest.raises(FencedError):
        copying.write()


def test_nobody_is_late_while_all_write_but_what_takes_very_long_is_told(copying: Copying) -> None:
    free = threading.Event()
    for sink in copying.sinks.values():
        sink.do = hanging(free)
    threading.Timer(0.2, free.set).start()
    assert copying.write() == "abc"
    assert {word.sink for word in copying.said if isinstance(word, Slow)} == {"a", "b", "c"}


def test_a_sink_that_makes_the_others_twice_as_slow_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlets, "LATE_SECONDS", 5.0)
    pace = Pace()
    assert not any(pace.note("half", 0.4, 1.0) for _ in range(50))
    assert [pace.note("slow", 0.9, 1.0) for _ in range(6)] == [False] * 5 + [True]
    pace.forget("slow")
    assert not pace.note("slow", 4.9, 5.0)
