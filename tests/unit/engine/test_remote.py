"""A hosted sink reached from outside its process: what goes in and comes back, who may come in, and what breaks."""

from __future__ import annotations

import socket
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from syncd.engine.remote import HostedSink, RemoteSink, SinkHost, SinkServer
from syncd.errors import BatchError, FatalError, FencedError, SyncdError, TransientError
from syncd.model import Bound, Ddl, SchemaChange, Target
from syncd.spi import Mark, Sink, Ticket
from syncd.testing.contracts.sink_kit import ACT, INSERT, ITEMS, LANE, OWNER, Writer, batch, live, made, target
from syncd.testing.sink_faults import Faults
from syncd.testing.sinks import ArrivalSink, SqliteOptions


class Moody(ArrivalSink):
    """Raises what the test puts into `mood`."""

    mood: SyncdError | Exception | None = None

    def fence(self, owner: str, epoch: int) -> None:
        if Moody.mood is not None:
            raise Moody.mood
        super().fence(owner, epoch)


class Hosted:
    """A sink, its host, its server, and a client."""

    def __init__(self, folder: Path) -> None:
        options = SqliteOptions(path=folder / "copy.db", faults=Faults(refuse={"name": ("bad",)}))
        self.make: Callable[[], Sink] = partial(made, Moody, options, folder)
        self.path = folder / "run" / "job.sink.sock"
        self.traits = self.make().traits()
        self.host = SinkHost(self.make)
        self.host.open()
        self.server = SinkServer(self.path, self.host, self.traits)
        self.server.start()
        self.sink = RemoteSink(self.path, self.traits)
        self.sink.open()

    def client(self) -> RemoteSink:
        return RemoteSink(self.path, self.traits)


@pytest.fixture
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    hosted = Hosted(tmp_path_factory.mktemp("r"))
    yield hosted
    Moody.mood = None
    hosted.sink.close()
    hosted.server.stop()
    hosted.host.close()


def opened(sink: RemoteSink, seconds: float) -> str:
    """How its `open` ended, "hangs" when it has not in time. A sink that is in answers a call."""
    ends: list[str] = []

    def go() -> None:
        try:
            sink.open()
            ends.append("in" if sink.marks("nobody") == {} else "wrong answer")
            sink.close()
        except TransientError as error:
            ends.append(error.code)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    thread.join(seconds)
    return ends[0] if ends else "hangs"


def test_rows_and_marks_come_back_as_they_went(hosted: Hosted) -> None:
    items = target()
    hosted.sink.prepare(items)
    rows = [(INSERT, 10 + i, (i, f"ä{i}", None if i % 3 else i)) for i in range(25_000)]
    mark = Mark(2**62, "queue-1", {"source": 2**64 - 1})
    hosted.sink.write(items, batch(ITEMS, rows), Ticket(OWNER, 1, 1, {LANE: mark}))
    assert live(hosted.sink, items) == {row[0]: row[1:] for _, _, row in rows}
    assert hosted.sink.marks(OWNER) == {LANE: mark}
    hosted.sink.apply(items, SchemaChange(Ddl.TRUNCATE, ITEMS, 2**40, "TRUNCATE"), ACT)
    assert live(hosted.sink, items) == {}
    assert hosted.sink.traits() == hosted.traits
    assert [finding.level for finding in hosted.sink.check()] == ["ok"]
    assert hosted.sink.plan(items).columns


def test_a_scan_keeps_to_its_bounds(hosted: Hosted) -> None:
    items = target()
    hosted.sink.prepare(items)
    Writer(hosted.sink, items).write(*((INSERT, 10 + i, (i, "x", None)) for i in range(10)))
    found = [
        row["id"] for part in hosted.sink.scan(items, *(Bound((n,), (n,)) for n in (2, 5))) for row in part.to_pylist()
    ]
    assert found == [3, 4, 5]


@pytest.mark.parametrize(
    "error",
    [
        TransientError("later", retry_after=7.5, hint="wait", code="E122"),
        FatalError("never", table="shop.items", hint="look", code="E157"),
        FencedError("another one"),
        BatchError("some", {3: "bad", 5: "worse"}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_come_back_as_they_were_raised(hosted: Hosted, error: SyncdError) -> None:
    Moody.mood = error
    with pytest.raises(type(error)) as caught:
        hosted.sink.fence(OWNER, 1)
    assert str(caught.value) == str(error)
    assert caught.value.__dict__ == error.__dict__
    Moody.mood = None
    hosted.sink.fence(OWNER, 1)


def test_an_unmapped_error_is_fatal(hosted: Hosted) -> None:
    Moody.mood = sqlite3.DatabaseError("disk image is malformed")
    with pytest.raises(FatalError, match="malformed") as caught:
        hosted.sink.fence(OWNER, 1)
    assert caught.value.code == "E159"


def test_refused_rows_are_named_and_the_others_written(hosted: Hosted) -> None:
    items = target()
    hosted.sink.prepare(items)
    with pytest.raises(BatchError) as caught:
        Writer(hosted.sink, items).write((INSERT, 10, (1, "bad", 1)), (INSERT, 11, (2, "good", 1)))
    assert set(caught.value.rows) == {0}
    assert live(hosted.sink, items) == {2: ("good", 1)}


def test_a_scan_that_was_left_early_disturbs_nothing(hosted: Hosted) -> None:
    items = target()
    hosted.sink.prepare(items)
    Writer(hosted.sink, items).write(*((INSERT, 10 + i, (i, "x", None)) for i in range(25_000)))
    for part in hosted.sink.scan(items, None, None):
        assert part.num_rows
        break
    assert len(live(hosted.sink, items)) == 25_000
    assert hosted.sink.marks(OWNER)[LANE].offset == 1


def test_a_host_that_goes_away_is_transient_until_it_is_back(hosted: Hosted) -> None:
    items = target()
    hosted.sink.prepare(items)
    hosted.server.stop()
    with pytest.raises(TransientError):
        hosted.client().open()
    hosted.server = SinkServer(hosted.path, hosted.host, hosted.traits)
    hosted.server.start()
    again = hosted.client()
    again.open()
    assert live(again, items) == {}
    again.close()


def test_a_connection_that_broke_is_opened_again(hosted: Hosted) -> None:
    items = target()
    hosted.sink.prepare(items)
    assert hosted.sink._connection is not None
    hosted.sink._connection.close()
    with pytest.raises(TransientError):
        hosted.sink.marks(OWNER)
    assert hosted.sink.marks(OWNER) == {}


def test_nobody_else_can_come_in(hosted: Hosted) -> None:
    key = hosted.path.with_suffix(".key")
    assert stat.S_IMODE(hosted.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(hosted.path.stat().st_mode) & 0o077 == 0


def test_a_folder_that_others_could_enter_is_closed_to_them(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("r")
    (folder / "run").mkdir(mode=0o755)
    hosted = Hosted(folder)
    try:
        assert stat.S_IMODE(hosted.path.parent.stat().st_mode) == 0o700
    finally:
        hosted.sink.close()
        hosted.server.stop()
        hosted.host.close()


def test_a_wrong_key_is_refused_and_the_right_one_still_let_in(hosted: Hosted) -> None:
    key = hosted.path.with_suffix(".key")
    right = key.read_bytes()
    key.write_bytes(b"wrong" * 6)
    assert opened(hosted.client(), 10) == "E122"
    key.write_bytes(right)
    assert opened(hosted.client(), 10) == "in"


def test_a_peer_that_hangs_up_at_once_leaves_the_door_open(hosted: Hosted) -> None:
    """As a reader does that is killed while it connects (8)."""
    for _ in range(5):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(5)
            peer.connect(str(hosted.path))
    assert opened(hosted.client(), 5) == "in"


def test_a_peer_that_says_nothing_holds_up_nobody(hosted: Hosted) -> None:
    """As a reader does that is frozen while it connects (8)."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(hosted.path))
        assert opened(hosted.client(), 5) == "in"


def test_nothing_is_left_when_the_server_has_stopped(hosted: Hosted) -> None:
    hosted.server.stop()
    assert list(hosted.path.parent.iterdir()) == []


def test_threads_of_the_host_share_the_sink(hosted: Hosted) -> None:
    items: Target = target()
    inner = HostedSink(hosted.host, hosted.traits)
    inner.prepare(items)
    threads = [
        threading.Thread(
            target=lambda n=n: Writer(inner, items, owner=f"{OWNER}/{n}").write((INSERT, 10, (n, "x", None)))
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert set(live(inner, items)) == set(range(8))


def test_a_sink_that_cannot_be_opened_says_so_to_its_host(tmp_path: Path) -> None:
    """And has given everything back, so that the next attempt finds it free."""
    done: list[str] = []

    class Closed(ArrivalSink):
        def open(self) -> None:
            done.append("opened")
            raise FatalError("the password is wrong")

        def close(self) -> None:
            done.append("closed")

    host = SinkHost(partial(made, Closed, SqliteOptions(path=tmp_path / "copy.db"), tmp_path))
    with pytest.raises(FatalError, match="password"):
        host.open()
    assert done == ["opened", "closed"]


def test_a_sink_that_cannot_be_made_says_so_to_its_host() -> None:
    def make() -> Sink:
        raise FatalError("its folder is gone")

    with pytest.raises(FatalError, match="folder"):
        SinkHost(make).open()
