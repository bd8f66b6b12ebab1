"""The ClickHouse sink on the embedded engine passes the suite."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from syncd.model import ChangeBatch, Target
from syncd.sinks.clickhouse import ClickHouseSink
from syncd.spi import Sink
from syncd.testing.contracts.sink import Factory, SinkContract, made
from syncd.testing.contracts.sink_kit import INSERT, ITEMS, batch

pytestmark = pytest.mark.chdb


class TestClickHouseSink(SinkContract):
    @pytest.fixture
    def factory(self, tmp_path: Path) -> Factory:
        options = ClickHouseSink.Options(url=f"chdb://{tmp_path}/engine", expire_rows=1, page_rows=7_000, fsync=False)
        return partial(made, ClickHouseSink, options, tmp_path)

    def refused(self, sink: Sink) -> tuple[ChangeBatch, set[int]]:
        names = ["good", None, "good", None]
        return batch(ITEMS, [(INSERT, 10 + i, (i, name, 1)) for i, name in enumerate(names)]), {1, 3}

    def change_by_hand(self, sink: Sink, of: Target) -> None:
        assert isinstance(sink, ClickHouseSink)
        sink._client.command(f"ALTER TABLE {of.database}.{of.name} MODIFY COLUMN qty Nullable(Int8)", doing="changing")
