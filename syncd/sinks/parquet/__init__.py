"""Parquet files on a local disk as a sink: one folder per table, which any reader of Parquet opens."""

from syncd.sinks.parquet.sink import ParquetSink

__all__ = ["ParquetSink"]
