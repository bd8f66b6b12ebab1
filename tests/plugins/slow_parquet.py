"""A sink that is ten times slower than the one for Parquet."""

from __future__ import annotations

import time

from syncd.model import ChangeBatch, Target
from syncd.sinks.parquet import ParquetSink
from syncd.spi import Ticket

TIMES = 10


class SlowParquet(ParquetSink):
    """Each write takes `TIMES` times as long as it would."""

    def prepare(self, target: Target, newest: int | None = None) -> None:
        """Defined here so that the file's text tells that it is a sink: no other job imports it to find out."""
        super().prepare(target, newest)

    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        began = time.monotonic()
        super().write(target, batch, ticket)
        time.sleep((TIMES - 1) * (time.monotonic() - began))
