"""Several connections at one table: locked rows are waited for, given way to, tried again; a fence is never missed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from syncd.drivers.mysql.connection import patient, rows
from syncd.errors import FencedError, TransientError
from syncd.sinks.mysql import MySQLSink, OceanBaseSink
from syncd.sinks.mysql.book import Book
from syncd.spi import Sink
from syncd.testing.contracts.sink import made
from syncd.testing.contracts.sink_kit import DELETE, INSERT, OWNER, UPDATE, Change, Writer, batch, gone, live, target
from syncd.testing.servers import Server
from tests.services.database import connect

OF = target()
KINDS = [pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in ("mariadb", "oceanbase")]


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


def sink_at(server: Server, folder: Path, timeout: float = 2.0) -> Sink:
    plugin = OceanBaseSink if server.flavour == "oceanbase" else MySQLSink
    url = f"{plugin.name}://root@127.0.0.1:{server.port}/"
    return made(plugin, plugin.Options.model_validate({"url": url, "write_timeout": timeout}), folder)


@pytest.fixture
def sink(server: Server, tmp_path: Path) -> Iterator[Sink]:
    """Of a hundred rows, each 0. It waits for a lock for as short as the server knows."""
    sink = sink_at(server, tmp_path)
    with closing(connect(server)) as other, other.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS shop")
    sink.open()
    sink.prepare(OF)
    Writer(sink, OF).write(*((INSERT, 10 + i, (i, "row", 0)) for i in range(100)))
    yield sink
    sink.close()


def written(sink: Sink) -> Future[int]:
    """Row 1 is deleted, row 2 gets a 1, in a thread of its own; how often the call was made."""
    changes: list[Change] = [(DELETE, 200, gone(OF.schema, (1, "row", 0))), (UPDATE, 201, (2, "row", 1))]
    ticket = Writer(sink, OF, number=1).ticket(changes)

    def write() -> int:
        for calls in (1, 2, 3):
            try:
                sink.write(OF, batch(OF.schema, changes), ticket)
            except TransientError as error:
                assert "1205" in str(error)  # noqa: PT017 - that of this try
            else:
                return calls
        raise AssertionError("still locked")

    return ThreadPoolExecutor(1).submit(write)


def wait_for_lock(server: Server) -> None:
    """Until the sink stands at a locked row."""
    sql = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    if server.flavour == "oceanbase":
        sql = "SELECT COUNT(*) FROM oceanbase.v$ob_locks WHERE block = 1"
    end = time.monotonic() + 5
    with closing(connect(server)) as looking, looking.cursor() as cursor:
        while time.monotonic() < end:
            cursor.execute(sql)
            if cursor.fetchone()[0]:
                return
            time.sleep(0.01)
    raise AssertionError("the write did not come to the lock")


def test_two_connections_that_lock_in_opposite_order(sink: Sink, server: Server) -> None:
    """MariaDB ends the smaller transaction at once, which is tried again at once; OceanBase, if it does not see it in
    time, the one that has waited for as long as its session lets it. It is the sink's, and nothing of it is half there.
    """
    with closing(connect(server, autocommit=False)) as other, other.cursor() as cursor:
        if server.flavour == "oceanbase":
            cursor.execute("SET ob_query_timeout = 20000000")
        cursor.execute("UPDATE shop.items SET qty = 9 WHERE id > 1")
        ours = written(sink)
        wait_for_lock(server)
        cursor.execute("UPDATE shop.items SET qty = 9 WHERE id = 1")
        other.commit()
    calls = ours.result(20)
    assert calls in ({1, 2} if server.flavour == "oceanbase" else {1})
    assert live(sink, OF) == {i: ("row", {0: 0, 2: 1}.get(i, 9)) for i in range(100) if i != 1}


def test_a_row_that_stays_locked_is_tried_again_later(sink: Sink, server: Server) -> None:
    """The call answers, within its own time, that the row is locked: the same call is right when it is free."""
    with closing(connect(server, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("UPDATE shop.items SET qty = 9 WHERE id = 2")
        free = threading.Timer(1.3, other.commit)
        free.start()
        calls = written(sink).result(20)
        free.join()
    assert calls == 2
    assert live(sink, OF) == {i: ("row", int(i == 2)) for i in range(100) if i != 1}


def test_a_first_fence_while_a_writer_registers(
    sink: Sink, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee 7: it has looked for a fence of which there is no row yet, and then there is one."""
    heir = sink_at(server, tmp_path)
    heir.open()
    whole = Book._raise

    def fenced_meanwhile(self: Book, book: str, owner: str, epoch: int) -> None:
        if epoch == 1:
            heir.fence("job/other", 2)
        whole(self, book, owner, epoch)

    monkeypatch.setattr(Book, "_raise", fenced_meanwhile)
    with pytest.raises(FencedError):
        Writer(sink, OF, owner="job/other").write((UPDATE, 300, (1, "late", 9)))
    heir.close()
    assert live(sink, OF)[1] == ("row", 0)


def test_an_older_writer_that_ends_by_itself_while_it_is_ended(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has died; the server closes its connection when it comes to that."""
    with closing(connect(server)) as looking:
        book, alive = Book(looking, folds=False), Book._alive
        dead = connect(server)
        number = dead.thread_id()

        def closed_meanwhile(self: Book) -> set[int] | None:
            seen = alive(self)
            dead.close()
            while number in (alive(self) or ()):
                time.sleep(0.01)
            monkeypatch.setattr(Book, "_alive", alive)
            return seen

        monkeypatch.setattr(Book, "_alive", closed_meanwhile)
        book._end({"id": number, "at": book._now()})
        assert number not in (alive(book) or {number})


@pytest.mark.mysql9
def test_a_fence_while_a_statement_holds_bytes_that_are_no_text(mysql9: Server, tmp_path: Path) -> None:
    """The server cannot tell its connections then."""
    old, heir = (sink_at(mysql9, tmp_path) for _ in range(2))
    with closing(connect(mysql9)) as other, other.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS shop")
        for sink in (old, heir):
            sink.open()
        old.prepare(OF)
        Writer(old, OF).write((INSERT, 10, (1, "row", 0)))
        other._execute_command(3, b"SELECT SLEEP(0.5), _binary'\xa9$\xfd\x0c\xcd'")
        heir.fence(OWNER, 2)
        with pytest.raises(FencedError):
            Writer(old, OF).write((UPDATE, 20, (1, "late", 1)))
        assert live(heir, OF)[1] == ("row", 0)
    heir.close()


def test_a_connection_that_is_ended_while_it_registers(
    server: Server, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader's, of which another table has just been handed over: the same call goes on over a new one."""
    now = Book._now

    def killed(book: Book) -> float:
        monkeypatch.setattr(Book, "_now", now)
        with closing(connect(server)) as other, other.cursor() as cursor:
            cursor.execute(f"KILL {book._connection.thread_id()}")
        return now(book)

    monkeypatch.setattr(Book, "_now", killed)
    Writer(sink, OF, owner="job/sink/chunk/shop.other", number=1).write((UPDATE, 300, (5, "row", 5)))
    assert live(sink, OF)[5] == ("row", 5)


def test_a_statement_that_may_take_hours(server: Server, tmp_path: Path) -> None:
    """The copy of a whole table is not broken off: it would be begun again for ever."""
    with closing(sink_at(server, tmp_path, timeout=1.0)) as sink:
        sink.open()
        assert isinstance(sink, MySQLSink)
        connection = sink._linked()[0]
        hint = "/*+ QUERY_TIMEOUT(3600000000) */ " if server.flavour == "oceanbase" else ""
        with patient(connection):
            assert rows(connection, f"SELECT {hint}SLEEP(1.5)") == [(0,)]
        with pytest.raises(TransientError):
            rows(connection, "SELECT SLEEP(1.5)")
