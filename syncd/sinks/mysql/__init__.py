"""MySQL, MariaDB and OceanBase as sinks: one code base, told apart by what the server says of itself."""

from syncd.sinks.mysql.sink import MySQLSink, OceanBaseSink

__all__ = ["MySQLSink", "OceanBaseSink"]
