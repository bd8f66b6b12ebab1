"""The ClickHouse sink on the embedded engine passes the suite."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from syncd.model import ChangeBatch, Column, Ddl, Target
from syncd.sinks.clickhouse import ClickHouseSink
from syncd.spi import Sink
from syncd.testing.contracts.sink import Factory, SinkContract, made
from syncd.testing.contracts.sink_kit import ACT, INSERT, ITEMS, altered, batch, change
from syncd.testing.contracts.sink_shards import KEY, NAME, QTY, shard

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


def test_the_current_view_of_many_tables_has_the_columns_of_all(tmp_path: Path) -> None:
    """Whichever of them has acted last; none that the last one has dropped."""
    options = ClickHouseSink.Options(url=f"chdb://{tmp_path}/engine", current_views=True, fsync=False)
    sink = made(ClickHouseSink, options, tmp_path)
    assert isinstance(sink, ClickHouseSink)
    sink.open()

    def seen() -> list[str]:
        sql = "SELECT name FROM system.columns WHERE table = 'orders_current' ORDER BY name"
        return sink._client.text(sql, doing="looking at the view").split()

    try:
        one, two = shard("1"), shard("2")
        sink.apply(one, change(Ddl.CREATE, one, 1), ACT)
        note = Column("note", pa.string(), source_type="text")
        more, less = shard("1", KEY, NAME, QTY, note), shard("2", KEY, NAME)
        sink.apply(more, altered(one, more, 20), ACT)
        sink.apply(two, change(Ddl.CREATE, two, 30), ACT)
        assert seen() == ["id", "name", "note", "qty", "shard"]
        sink.apply(less, altered(two, less, 40, kept=("qty",)), ACT)
        assert seen() == ["id", "name", "note", "qty", "shard"]
        last = shard("1", KEY, NAME, note)
        sink.apply(last, altered(more, last, 50), ACT)
        assert seen() == ["id", "name", "note", "shard"]
    finally:
        sink.close()
