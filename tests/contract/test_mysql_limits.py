"""What a server of the family limits: a small max_allowed_packet, and what `check` says of servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from syncd.errors import BatchError, FatalError
from syncd.model import Column, Ddl, Index, IndexPart, Target
from syncd.sinks.mysql import MySQLSink, OceanBaseSink
from syncd.sinks.mysql.checks import findings
from syncd.testing.contracts.sink_kit import (
    ACT,
    INSERT,
    ITEMS,
    KEYLESS,
    UPDATE,
    Change,
    Writer,
    change,
    live,
    rows,
    target,
)
from syncd.testing.servers import Server
from tests.contract.test_mysql_sinks import ask, factory_of

KINDS = [pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in ("mariadb", "mysql9", "oceanbase")]
PACKET = 16384
NOTES = replace(ITEMS, columns=(*ITEMS.columns[:1], Column("note", pa.string(), source_type="longtext")))


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """New connections get a small packet."""
    found: Server = request.getfixturevalue(request.param)
    ((before,),) = ask(found, "DROP DATABASE IF EXISTS shop", "SELECT @@GLOBAL.max_allowed_packet")
    ask(found, f"SET GLOBAL max_allowed_packet = {PACKET}")
    try:
        yield found
    finally:
        ask(found, f"SET GLOBAL max_allowed_packet = {before}")


def opened(plugin: type[MySQLSink], server: Server, folder: Path) -> closing[MySQLSink]:
    sink = factory_of(plugin, server.port, folder)()
    assert isinstance(sink, MySQLSink)
    sink.open()
    return closing(sink)


def plugin_of(server: Server) -> type[MySQLSink]:
    return OceanBaseSink if server.flavour == "oceanbase" else MySQLSink


def test_rows_beyond_the_largest_packet(server: Server, tmp_path: Path) -> None:
    """A batch is split below it; a row that does not fit is refused itself, and those beside it are written."""
    rows = dict.fromkeys(range(400), "x" * 200) | {900: "y" * (PACKET - 200)}
    large = {901: "é" * PACKET, 902: "'" * (PACKET // 2 + 10), 903: "z" * 3_000_000}
    unique = Index("u", (IndexPart("note", 20),), "unique")
    with opened(plugin_of(server), server, tmp_path) as sink:
        (small,) = [f for f in sink.check() if "max_allowed_packet" in f.text]
        assert (small.level, f"{PACKET:,} bytes" in small.text, "SET GLOBAL" in small.todo) == ("warning", True, True)
        for of in (target(NOTES), replace(target(replace(NOTES, indexes=(unique,))), name="other", settled=True)):
            sink.prepare(of)
            sink.apply(of, change(Ddl.INDEX, of, 1), ACT)
            writer = Writer(sink, of)
            many: list[Change] = [(INSERT, 10 + n, (n, f"{n:20}{note}")) for n, note in (rows | large).items()]
            with pytest.raises(BatchError) as caught:
                writer.write(*many)
            assert {many[at][2][0]: why for at, why in caught.value.rows.items()}.keys() == large.keys()
            assert all("max_allowed_packet" in why for why in caught.value.rows.values())
            assert live(sink, of) == {n: (f"{n:20}{note}",) for n, note in rows.items()}
            writer.write((UPDATE, 2000, (1, "again")))
            assert live(sink, of)[1] == ("again",)
        ask(server, f"SET GLOBAL max_allowed_packet = {1 << 26}")
        with pytest.raises(BatchError):
            writer.write((INSERT, 3000, (901, large[901])))
        writer.write((INSERT, 3000, (903, large[903])))
        assert live(sink, of)[903] == (large[903],)


def said(sink: MySQLSink) -> set[tuple[str, str, str]]:
    """What `check` says that is not in order: its level, the beginning of its words, and what to do."""
    return {(f.level, f.text[:16], f.todo) for f in sink.check() if f.level != "ok"}


@pytest.mark.mariadb
@pytest.mark.oceanbase
def test_the_server_of_another_sink(mariadb: Server, oceanbase: Server, tmp_path: Path) -> None:
    with opened(OceanBaseSink, mariadb, tmp_path) as sink:
        assert said(sink) == {("error", "this is MariaDB ", "name the sink `mysql`")}
    with opened(MySQLSink, oceanbase, tmp_path) as sink:
        assert [(level, todo) for level, _, todo in said(sink)] == [("error", "name the sink `oceanbase`")]


@pytest.mark.mariadb
def test_a_server_that_takes_no_writes_or_is_too_old(mariadb: Server, tmp_path: Path) -> None:
    with opened(MySQLSink, mariadb, tmp_path) as sink:
        assert said(sink) == set()
        connection, limits, _ = sink._linked()
        old = replace(limits, server=replace(limits.server, version=(10, 4, 34)), packet=1 << 20)
        found = [f for f in findings(connection, "mysql://x", old, wanted="mysql") if f.level != "ok"]
        assert [(f.level, f.todo) for f in found] == [
            ("error", "take 10.5 or newer"),
            ("warning", "SET GLOBAL max_allowed_packet = 67108864"),
        ]
        ask(mariadb, "SET GLOBAL read_only = 1")
        try:
            assert said(sink) == {("error", "the server takes", "write to the primary")}
        finally:
            ask(mariadb, "SET GLOBAL read_only = 0")


@pytest.mark.mysql9
def test_a_server_that_wants_a_primary_key(mysql9: Server, tmp_path: Path) -> None:
    """`plan` says so of a table that is appended to; where the server adds a key itself, that is nobody's matter."""
    of = Target(KEYLESS, "shop", "visits", append=True)
    ask(mysql9, "DROP DATABASE IF EXISTS shop", "SET GLOBAL sql_require_primary_key = 1")
    try:
        with opened(MySQLSink, mysql9, tmp_path) as sink:
            (error,) = [f for f in sink.plan(of).findings if f.level == "error"]
            assert error.text == "the server makes no table without a primary key (sql_require_primary_key is on)"
            assert error.todo == "SET GLOBAL sql_require_primary_key = OFF, or declare a key"
            with pytest.raises(FatalError, match="sql_require_primary_key is on"):
                sink.prepare(of)
        ask(mysql9, "SET GLOBAL sql_require_primary_key = 0", "SET GLOBAL sql_generate_invisible_primary_key = 1")
        with opened(MySQLSink, mysql9, tmp_path) as sink:
            sink.prepare(of, 1)
            Writer(sink, of).write((INSERT, 10, (1, "a", 1)), (INSERT, 11, (1, "a", 1)))
            assert rows(sink, of) == [(1, "a", 1)] * 2
    finally:
        ask(mysql9, "SET GLOBAL sql_require_primary_key = 0", "SET GLOBAL sql_generate_invisible_primary_key = 0")
