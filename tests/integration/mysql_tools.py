"""A MySQL source on a test's own database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from syncd.model import Chunk, TableId, TableSchema
from syncd.sources.mysql import MySQLSource
from syncd.spi import Context, Found
from tests.services.database import Database


@contextmanager
def opened(
    database: Database,
    directory: Path,
    *,
    policy: Mapping[str, str] | None = None,
    throttle: Mapping[str, float] | None = None,
    log: Callable[..., None] = lambda event, **fields: None,
    **options: Any,
) -> Iterator[MySQLSource]:
    """An open source on the database's server, as root unless `url` says otherwise."""
    url = options.pop("url", None) or f"mysql://root@127.0.0.1:{database.port}/"
    context = Context("test", directory, policy or {}, throttle or {}, log)
    source = MySQLSource(MySQLSource.Options(url=url, **options), context)
    source.open()
    try:
        yield source
    finally:
        source.close()


def found(source: MySQLSource, database: Database, table: str = "t") -> Found:
    """One table of the database."""
    (one,) = source.tables(lambda t: t == TableId(database.name, table))
    return one


def schema_of(source: MySQLSource, database: Database, table: str = "t") -> TableSchema:
    one = found(source, database, table)
    assert one.refusals == ()
    return one.schema


def whole(source: MySQLSource, schema: TableSchema, chunk: Chunk | None = None, seq: int = 7) -> pa.Table:
    """All rows of a chunk, by default of the table."""
    batches = [batch.rows for batch in source.scan(schema, chunk or Chunk(schema.table, 0), seq)]
    return pa.Table.from_batches(batches, schema=schema.arrow())
