"""`Source.stream` of MySQL and MariaDB: the log from a position on, without end."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from syncd.errors import PositionLost, TransientError
from syncd.model import ChangeBatch, Checkpoint, Position, SchemaChange, TableId, TableSchema
from syncd.sources.mysql.binlog import dump, position
from syncd.sources.mysql.binlog.decoder import Decoder, Event, Settings
from syncd.sources.mysql.binlog.feed import Feed
from syncd.sources.mysql.binlog.follow import Asking, Follower
from syncd.sources.mysql.binlog.plan import Normalise
from syncd.sources.mysql.binlog.shadows import Shadows
from syncd.sources.mysql.binlog.tables import Tables
from syncd.sources.mysql.binlog.wire import SocketWire
from syncd.sources.mysql.connect import Connection, close

__all__ = ["ChangeBatch", "Checkpoint", "Event", "Options", "SchemaChange", "stream"]

_PATIENCE = 2.7
"""Heartbeats without a byte after which the server counts as gone: noticed before the third has passed."""


@dataclass(frozen=True, slots=True)
class Options:
    """`server_id`: this reader's own, never a replica's. `normalise`: the twin of a key column.
    `heartbeat`: seconds. `zero_date`: "fail" or "null".

    `before`: columns beyond the key whose old values UPDATEs carry. `buffer`: bytes that are decoded together.
    `describe`: a table as the server describes it now, None if it is not there; `complete`: a schema with its twins.
    `is_sequence`: the log has rows of it, too, which are nobody's. `triggers`: of a table, as statements.
    `shadow_tables`, `tool_tables`: names that tools for online schema changes give, see `shadows`.
    """

    server_id: int
    normalise: Normalise
    heartbeat: float = 1.0
    zero_date: str = "fail"
    before: Callable[[TableId], Collection[str]] = lambda table: ()
    buffer: int = 4 << 20
    describe: Callable[[TableId], TableSchema | None] = lambda table: None
    complete: Callable[[TableSchema], TableSchema] = lambda schema: schema
    is_sequence: Callable[[TableId], bool] = lambda table: False
    triggers: Callable[[TableId], Sequence[str]] = lambda table: ()
    shadow_tables: Sequence[str] = ()
    tool_tables: Sequence[str] = ()
    now: Callable[[], float] = time.time


def stream(
    connect: Callable[[], Connection],
    start: Position,
    epoch: int,
    schemas: Mapping[TableId, TableSchema],
    wanted: Callable[[TableId], bool],
    options: Options,
) -> Iterator[Event]:
    """See `syncd.spi.Source.stream`; `connect` opens a connection that then belongs to the stream."""
    place = position.load(start)
    connection = connect()
    try:
        server = dump.ask(connection, options.now())
        sock = dump.request(connection, server, place, options.server_id, options.heartbeat)
        settings = Settings(
            epoch,
            server.name,
            server.mariadb,
            options.normalise,
            lambda: int((options.now() + server.clock) * 1_000_000),
            server.charsets,
            options.before,
        )
        there = {table: schema for table, schema in schemas.items() if wanted(table)}
        idle = frozenset(schemas.keys() - there)
        shadows = Shadows(wanted, there, there, options.shadow_tables, options.tool_tables, idle)
        tables = Tables(there, shadows.wanted, options.zero_date, server.charsets, options.is_sequence)
        zero_is_null = options.zero_date == "null"
        asking = Asking(
            options.describe,
            options.complete,
            server.version,
            server.mariadb,
            zero_is_null,
            server.fold,
            server.collations,
            options.triggers,
        )
        decoder = Decoder(settings, place, tables, Follower(tables, asking, shadows))
        feed = Feed(SocketWire(sock), checksum=server.checksum, size=options.buffer)
        while True:
            if not feed.fill(_PATIENCE * options.heartbeat):
                raise TransientError(
                    f"the server has sent nothing for {_PATIENCE * options.heartbeat:.1f} s, not even a heartbeat"
                )
            for event in decoder.take(feed):
                # In our clock, so that two clocks that differ do not look like a lag.
                late = int(server.clock * 1_000_000) if isinstance(event, Checkpoint) else 0
                yield replace(event, time=event.time - late) if late else event
    except PositionLost as lost:
        raise PositionLost(f"the log from {position.describe(start)} on: {lost.what}", hint=lost.hint) from lost
    finally:
        close(connection)
