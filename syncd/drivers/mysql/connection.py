"""Connections: handshake and TLS by PyMySQL, questions and answers, errors by `faults`."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pymysql
from pydantic import SecretStr

from syncd.drivers.mysql.address import Address, Tls
from syncd.drivers.mysql.faults import mapped
from syncd.errors import FatalError

Connection = Any
"""`pymysql.connections.Connection`, whose package is typed too loosely to be of use."""

Row = tuple[Any, ...]

_LARGEST_PACKET = 1 << 30

# A peer that is gone without a word (a cut cable, a router that forgot the connection) is noticed within half a minute.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}


@dataclass(frozen=True, slots=True)
class Server:
    """What the greeting says. `flavour` is "mysql", "mariadb" or "oceanbase"; `version` e.g. (8, 0, 15)."""

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
    lower = text.lower()
    flavour = next((name for name in ("mariadb", "oceanbase") if name in lower), "mysql")
    plain = text.removeprefix("5.5.5-") if flavour == "mariadb" else text
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", plain)
    if match is None:
        raise FatalError(f"the server calls itself {text!r}, which is no version of MySQL or MariaDB")
    return Server(flavour, (int(match[1]), int(match[2]), int(match[3] or 0)), plain)


@dataclass(frozen=True, slots=True)
class Access:
    """How to get in. `role` is what messages call the server: "mysql source". Timeouts in seconds."""

    role: str
    address: Address
    password: SecretStr | None
    tls: Tls | None
    connect_timeout: float
    read_timeout: float


def connect(access: Access, settings: Mapping[str, object], *, sql_mode: str = "") -> Connection:
    """A new connection in autocommit mode: utf8mb4, and these session variables.

    TransientError: unreachable. FatalError: password, host, TLS refused, each by name.
    """
    to = access.address
    secret = access.password.get_secret_value().encode() if access.password else b""
    with mapped(f"{access.role} at {to}"):
        connection = pymysql.connect(
            host=to.host,
            port=to.port,
            user=to.user,
            # PyMySQL would encode text as latin1
            password=secret,
            charset="utf8mb4",
            sql_mode=sql_mode,
            autocommit=True,
            connect_timeout=access.connect_timeout,
            # Of the greeting, too: a frozen server's kernel still takes connections.
            read_timeout=access.connect_timeout,
            write_timeout=access.read_timeout,
            max_allowed_packet=_LARGEST_PACKET,
            program_name="syncd",
            **_tls(access.tls, to),
        )
        connection.syncd_role = access.role
        try:
            _notice_death(connection)
            assign(connection, settings)
            connection._read_timeout = access.read_timeout
        except BaseException:
            close(connection)
            raise
    return connection


def _tls(tls: Tls | None, to: Address) -> dict[str, Any]:
    if tls is None:
        return {"ssl_disabled": True} if to.loopback else {}
    try:
        context = ssl.create_default_context(cafile=str(tls.ca) if tls.ca else None)
        if tls.cert:
            context.load_cert_chain(str(tls.cert), str(tls.key) if tls.key else None)
    except OSError as error:
        files = ", ".join(str(file) for file in (tls.ca, tls.cert, tls.key) if file)
        raise FatalError(f"TLS: one of {files} cannot be used: {error}", hint="see `tls`", code="E180") from error
    context.check_hostname = tls.verify == "full"
    context.verify_mode = ssl.CERT_NONE if tls.verify == "none" else ssl.CERT_REQUIRED
    return {"ssl": context}


def _notice_death(connection: Connection) -> None:
    """Let the kernel ask whether the other end is still there, also while an answer takes its time."""
    for name, value in _KEEPALIVE.items():
        connection._sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def assign(connection: Connection, settings: Mapping[str, object]) -> None:
    """Set session variables, each to an expression."""
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


def place(connection: Connection) -> str:
    """What messages call the server behind the connection."""
    return f"{getattr(connection, 'syncd_role', 'server')} at {connection.host}:{connection.port}"


@contextmanager
def patient(connection: Connection) -> Iterator[None]:
    """An answer may take hours. A server that is gone is found by the kernel."""
    usual, connection._read_timeout = connection._read_timeout, None
    try:
        yield
    finally:
        connection._read_timeout = usual


def rows(connection: Connection, sql: str, args: Sequence[Any] | None = None, *, table: str | None = None) -> list[Row]:
    """All rows of one statement. `table` is named in what is raised."""
    with mapped(place(connection), table), connection.cursor() as cursor:
        cursor.execute(sql, args)
        return list(cursor.fetchall())


def dicts(connection: Connection, sql: str) -> list[dict[str, Any]]:
    """All rows of one statement by column name, in small letters."""
    with mapped(place(connection)), connection.cursor() as cursor:
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
