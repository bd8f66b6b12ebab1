"""What a server of the family limits: a small max_allowed_packet, and what `check` says of servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from syncd.errors import BatchError
from syncd.model import Column, Ddl, Index, IndexPart
from syncd.sinks.mysql import MySQLSink, OceanBaseSink
from syncd.testing.contracts.sink_kit import ACT, INSERT, ITEMS, UPDATE, Change, Writer, change, live, target
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


def plugin_of(server: Server) -> type[MySQLSink]:
    return OceanBaseSink if server.flavour == "oceanbase" else MySQLSink


def test_rows_beyond_the_largest_packet(server: Server, tmp_path: Path) -> None:
    """A batch is split below it; a row that does not fit is refused itself, and those beside it are written."""
    rows = dict.fromkeys(range(400), "x" * 200) | {900: "y" * (PACKET - 200)}
    large = {901: "é" * PACKET, 902: "'" * (PACKET // 2 + 10), 903: "z" * 3_000_000}
    unique = Index("u", (IndexPart("note", 20),), "unique")
    with closing(factory_of(plugin_of(server), server.port, tmp_path)()) as sink:
        sink.open()
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
