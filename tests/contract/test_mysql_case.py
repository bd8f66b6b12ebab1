"""Names with capitals at servers that keep small letters only (`lower_case_table_names`), and at one with both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from syncd.model import Column, Ddl, Index, IndexPart, Target
from syncd.sinks.mysql import MySQLSink, OceanBaseSink
from syncd.testing.contracts.sink_kit import (
    ACT,
    INSERT,
    ITEMS,
    LANE,
    READ,
    UPDATE,
    Writer,
    altered,
    change,
    live,
    with_column,
)
from syncd.testing.servers import Server
from tests.contract.test_mysql_sinks import ask, factory_of
from tests.services.fixtures import PrivateServer

OF = Target(replace(ITEMS, indexes=(Index("By_Qty", (IndexPart("qty"),)),)), "ShopÄ", "BigÖrders", settled=True)


def everything(server: Server, plugin: type[MySQLSink], folder: Path, *, folds: bool) -> None:
    """All that a sink does with a table finds it, over a new connection too."""
    factory = factory_of(plugin, server.port, folder)
    ask(server, "DROP DATABASE IF EXISTS `ShopÄ`", "DROP DATABASE IF EXISTS shop")
    sink = factory()
    sink.open()
    assert bool(sink.folds()) == folds
    for _ in range(2):
        sink.prepare(OF)
        assert not [f for f in sink.plan(OF).findings if f.level == "error"]
    assert sink.plan(OF).ddl == ()
    sink.fence("job/sink", 1)
    writer = Writer(sink, OF)
    writer.write((INSERT, 10, (1, "a", 1)), (INSERT, 11, (2, "b", 2)))
    sink.apply(OF, change(Ddl.INDEX, OF, 1), ACT)
    more = replace(OF, schema=with_column(OF.schema, Column("note", pa.string(), source_type="text"), 3))
    sink.apply(more, altered(OF, more, 20), ACT)
    writer = Writer(sink, more, number=1)
    writer.write((UPDATE, 21, (1, "a", 9, "n")))
    sink.close()
    sink = factory()
    sink.open()
    assert sink.marks("job/sink")[LANE].offset == 2
    assert live(sink, more) == {1: ("a", 9, "n"), 2: ("b", 2, None)}
    sink.apply(more, change(Ddl.TRUNCATE, more, 30), ACT)
    sink.apply(more, change(Ddl.TRUNCATE, more, 30), ACT)
    assert live(sink, more) == {}
    shadow = replace(more, name=f"{more.name}_syncd_7", settled=False)
    sink.prepare(shadow, 40)
    Writer(sink, shadow, owner="job/sink/chunk/x", lane=None).write((READ, 40, (5, "z", 5, None)))
    for _ in range(2):
        sink.swap(shadow, more, 40, replace(ACT, number=90))
    assert live(sink, more) == {5: ("z", 5, None)}
    there = ask(server, "SHOW TABLES IN `ShopÄ`")
    found = {name for (name,) in there}
    assert found == {"_syncd", "bigörders" if folds else "BigÖrders"}
    ask(server, f"DROP TABLE `ShopÄ`.`{more.name}`")
    sink.prepare(more)
    Writer(sink, more, number=2).write((INSERT, 22, (7, "y", 1, None)))
    sink.apply(more, change(Ddl.TRUNCATE, more, 25), ACT)
    assert live(sink, more) == {}
    sink.close()
    ask(server, "DROP DATABASE `ShopÄ`")


@pytest.mark.mariadb
def test_a_server_that_keeps_both(mariadb: Server, tmp_path: Path) -> None:
    everything(mariadb, MySQLSink, tmp_path, folds=False)


def test_a_server_with_small_letters_only(private_mariadb: PrivateServer, tmp_path: Path) -> None:
    everything(private_mariadb("--lower-case-table-names=1"), MySQLSink, tmp_path, folds=True)


@pytest.mark.oceanbase
def test_oceanbase(oceanbase: Server, tmp_path: Path) -> None:
    everything(oceanbase, OceanBaseSink, tmp_path, folds=True)
