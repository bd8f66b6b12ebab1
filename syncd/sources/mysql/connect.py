"""Connections to the server: handshake, TLS and session settings by PyMySQL, errors by `faults`."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pymysql

from syncd.errors import FatalError
from syncd.model import TableId
from syncd.sources.mysql.faults import mapped
from syncd.sources.mysql.options import Address, Options

Connection = Any
"""`pymysql.connections.Connection`, whose package is typed too loosely to be of use."""

Row = tuple[Any, ...]

# A reader that waits for its sink must not be thrown out meanwhile.
_NET_TIMEOUT = 3600
_LARGEST_PACKET = 1 << 30

# A table that is being altered is waited for this long.
_LOCK_TIMEOUT = 30

# A peer that is gone without a word (a cut cable, a router that forgot the connection) is noticed within half a minute.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}

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


@dataclass(frozen=True, slots=True)
class Server:
    """What the greeting says. `flavour` is "mysql" or "mariadb"; `version` e.g. (8, 0, 15)."""

    flavour: str
    version: tuple[int, int, int]
    text: str

    @property
    def mariadb(self) -> bool:
        return self.flavour == "mariadb"

    def at_least(self, *version: int) -> bool:
        return self.version >= version


def server_of(text: str) -> Server:
    """Read a version text: "8.0.15", "5.5.5-10.11.18-MariaDB-log" (so told for old replicas), "11.4.2-MariaDB"."""
    flavour = "mariadb" if "mariadb" in text.lower() else "mysql"
    plain = text.removeprefix("5.5.5-") if flavour == "mariadb" else text
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", plain)
    if match is None:
        raise FatalError(f"the server calls itself {text!r}, which is no version of MySQL or MariaDB")
    return Server(flavour, (int(match[1]), int(match[2]), int(match[3] or 0)), plain)


def connect(options: Options, *, address: Address | None = None) -> Connection:
    """A new connection in autocommit mode: utf8mb4, UTC, empty sql_mode, READ COMMITTED.

    TransientError: unreachable. FatalError: password, host, TLS refused, each by name.
    """
    to = address or options.address
    secret = options.password.get_secret_value().encode() if options.password else b""
    with mapped(f"mysql source at {to}"):
        connection = pymysql.connect(
            host=to.host,
            port=to.port,
            user=to.user,
            # PyMySQL would encode text as latin1
            password=secret,
            charset="utf8mb4",
            sql_mode="",
            autocommit=True,
            connect_timeout=options.connect_timeout,
            # Of the greeting, too: a frozen server's kernel still takes connections.
            read_timeout=options.connect_timeout,
            write_timeout=options.read_timeout,
            max_allowed_packet=_LARGEST_PACKET,
            program_name="syncd",
            **_tls(options, to),
        )
        try:
            _notice_death(connection)
            _prepare(connection)
            connection._read_timeout = options.read_timeout
        except BaseException:
            close(connection)
            raise
    return connection


def _tls(options: Options, to: Address) -> dict[str, Any]:
    tls = options.tls
    if tls is None:
        return {"ssl_disabled": True} if to.loopback else {}
    try:
        context = ssl.create_default_context(cafile=str(tls.ca) if tls.ca else None)
        if tls.cert:
            context.load_cert_chain(str(tls.cert), str(tls.key) if tls.key else None)
    except OSError as error:
        files = ", ".join(str(file) for file in (tls.ca, tls.cert, tls.key) if file)
        raise FatalError(
            f"TLS: one of {files} cannot be used: {error}", hint="see `tls` of the source", code="E180"
        ) from error
    context.check_hostname = tls.verify == "full"
    context.verify_mode = ssl.CERT_NONE if tls.verify == "none" else ssl.CERT_REQUIRED
    return {"ssl": context}


def _notice_death(connection: Connection) -> None:
    """Let the kernel ask whether the other end is still there, also while an answer takes its time."""
    for name, value in _KEEPALIVE.items():
        connection._sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _prepare(connection: Connection) -> None:
    settings = _SESSION | (_MARIADB if server(connection).mariadb else _MYSQL)
    with connection.cursor() as cursor:
        cursor.execute("SET " + ", ".join(f"SESSION {name} = {value}" for name, value in settings.items()))


def server(connection: Connection) -> Server:
    """Flavour and version of the server behind an open connection."""
    return server_of(connection.get_server_info())


def close(connection: Connection | None) -> None:
    """Drop the connection without a word to the server; harmless when it is gone already."""
    if connection is not None:
        # a socket that is broken already has nothing left to give back
        with suppress(OSError, pymysql.err.Error):
            connection._force_close()


def rows(connection: Connection, sql: str, args: Sequence[Any] | None = None, *, table: str | None = None) -> list[Row]:
    """All rows of one statement. `table` is named in what is raised."""
    with mapped(f"mysql source at {connection.host}:{connection.port}", table), connection.cursor() as cursor:
        cursor.execute(sql, args)
        return list(cursor.fetchall())


def per_table(
    connection: Connection, sql: str, tables: Sequence[TableId], *, database: str = "table_schema"
) -> Iterator[Row]:
    """Rows of an information_schema query with `{where}`, a few hundred tables at a time. `database`: its column."""
    for start in range(0, len(tables), 200):
        part = tables[start : start + 200]
        where = " OR ".join([f"({database} = %s AND table_name = %s)"] * len(part))
        yield from rows(connection, sql.format(where=where), [word for table in part for word in table])


def dicts(connection: Connection, sql: str) -> list[dict[str, Any]]:
    """All rows of one statement by column name, in small letters."""
    with mapped(f"mysql source at {connection.host}:{connection.port}"), connection.cursor() as cursor:
        cursor.execute(sql)
        names = [d[0].lower() for d in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def variables(connection: Connection, *names: str) -> dict[str, str]:
    """Global variables by name; one that the server does not know is absent."""
    marks = ", ".join(["%s"] * len(names))
    found = rows(connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({marks})", names)
    return {str(name).lower(): str(value) for name, value in found}


def quoted(*names: str) -> str:
    """An identifier, its parts in backquotes."""
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)
