"""ClickHouse as a sink: a server over HTTP, or the embedded engine."""

from syncd.sinks.clickhouse.sink import ClickHouseSink

__all__ = ["ClickHouseSink"]
