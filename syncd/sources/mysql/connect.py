"""Connections to the source, and questions about several tables at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from syncd.drivers.mysql import connection as driver
from syncd.drivers.mysql.address import Address
from syncd.drivers.mysql.connection import (
    Access,
    Connection,
    Row,
    Server,
    assign,
    close,
    dicts,
    quoted,
    rows,
    server,
    server_of,
    variables,
)
from syncd.drivers.mysql.faults import mapped
from syncd.model import TableId
from syncd.sources.mysql.options import Options

__all__ = [
    "Connection",
    "Row",
    "Server",
    "close",
    "connect",
    "dicts",
    "per_table",
    "quoted",
    "rows",
    "server",
    "server_of",
    "variables",
]

# A reader that waits for its sink must not be thrown out meanwhile.
_NET_TIMEOUT = 3600

# A table that is being altered is waited for this long.
_LOCK_TIMEOUT = 30

_SESSION = {
    "time_zone": "'+00:00'",
    "net_write_timeout": _NET_TIMEOUT,
    "net_read_timeout": _NET_TIMEOUT,
    "wait_timeout": 28800,
    "lock_wait_timeout": _LOCK_TIMEOUT,
    # A server may cut the answers of all who do not say otherwise, without a word: a load would lack rows.
    "sql_select_limit": 2**64 - 1,
    "sql_big_selects": 1,
    # Where a server says RELEASE, it would drop the connection at the end of each transaction.
    "completion_type": 0,
}
_MYSQL = {"transaction_isolation": "'READ-COMMITTED'", "max_execution_time": 0, "information_schema_stats_expiry": 0}
_MARIADB = {"tx_isolation": "'READ-COMMITTED'", "max_statement_time": 0}


def connect(options: Options, *, address: Address | None = None) -> Connection:
    """A new connection in autocommit mode: utf8mb4, UTC, empty sql_mode, READ COMMITTED.

    TransientError: unreachable. FatalError: password, host, TLS refused, each by name.
    """
    to = address or options.address
    role, timeouts = "mysql source", (options.connect_timeout, options.read_timeout)
    connection = driver.connect(Access(role, to, options.password, options.tls, *timeouts), _SESSION)
    try:
        with mapped(driver.place(connection)):
            assign(connection, _MARIADB if server(connection).mariadb else _MYSQL)
    except BaseException:
        close(connection)
        raise
    return connection


def per_table(connection: Connection, sql: str, tables: Sequence[TableId]) -> Iterator[Row]:
    """Rows of an information_schema query with `{where}`, a few hundred tables at a time. Database and table are its
    first columns: MariaDB answers with those of other tables, too, whose names differ in their case alone."""
    for start in range(0, len(tables), 200):
        part = tables[start : start + 200]
        where = " OR ".join(["(table_schema = %s AND table_name = %s)"] * len(part))
        found = rows(connection, sql.format(where=where), [word for table in part for word in table])
        asked = {*part}
        yield from (row for row in found if row[:2] in asked)
