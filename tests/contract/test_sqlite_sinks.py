"""The test sinks are sinks: they pass the suite that they are used to prove."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from syncd.model import ChangeBatch, Target
from syncd.spi import Sink
from syncd.testing.contracts.sink import Factory, SinkContract, made
from syncd.testing.contracts.sink_kit import INSERT, ITEMS, batch
from syncd.testing.sink_faults import Faults
from syncd.testing.sinks import ArrivalSink, SqliteSink, VersionedSink


class SqliteContract(SinkContract):
    plugin: type[SqliteSink]

    @pytest.fixture
    def factory(self, tmp_path: Path) -> Factory:
        options = SqliteSink.Options(path=tmp_path / "copy.db", faults=Faults(refuse={"name": ("bad",)}))
        return partial(made, self.plugin, options, tmp_path)

    @pytest.fixture
    def slow_factory(self, tmp_path: Path) -> Factory:
        options = SqliteSink.Options(path=tmp_path / "copy.db", faults=Faults(delay=2))
        return partial(made, self.plugin, options, tmp_path)

    def refused(self, sink: Sink) -> tuple[ChangeBatch, set[int]]:
        names = ["good", "bad", "good", "bad"]
        return batch(ITEMS, [(INSERT, 10 + i, (i, name, 1)) for i, name in enumerate(names)]), {1, 3}

    def change_by_hand(self, sink: Sink, of: Target) -> None:
        assert isinstance(sink, SqliteSink)
        columns = [c if c.name != "qty" else replace(c, type=pa.int8()) for c in of.schema.columns]
        changed = replace(of.schema, columns=tuple(columns)).dump()
        with sqlite3.connect(sink._options.path) as db:
            db.execute("UPDATE tables SET schema = ?", (changed,))
        db.close()


class TestArrivalSink(SqliteContract):
    plugin = ArrivalSink


class TestVersionedSink(SqliteContract):
    plugin = VersionedSink
