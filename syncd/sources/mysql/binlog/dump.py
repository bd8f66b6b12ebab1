"""Asking the server for its log: session variables, then COM_BINLOG_DUMP or COM_BINLOG_DUMP_GTID.

Nothing is registered as a replica; the server knows the reader by its server_id alone. Sources: MySQL
`sql/rpl_source.cc`, MariaDB `sql/sql_repl.cc`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from syncd.drivers.mysql.faults import mapped
from syncd.errors import FatalError, PositionLost
from syncd.sources.mysql.binlog.gtid import MariaGtids, MySQLGtids
from syncd.sources.mysql.binlog.position import Place
from syncd.sources.mysql.connect import Connection, rows, server_of

_DUMP, _DUMP_GTID = 0x12, 0x1E
_THROUGH_GTID = 4
_LARGEST_POS = (1 << 32) - 1
_DEFAULTS = "SELECT CHARACTER_SET_NAME, DEFAULT_COLLATE_NAME FROM information_schema.CHARACTER_SETS"
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Server:
    """What the log's reader needs to know of the server.

    `name`: as in `Place.server`; `version`: as in version comments (80015); `clock`: its time minus ours, seconds;
    `fold`: it keeps the names of tables in lower case, whatever a statement says. `collations`: each character set's
    default, by the names that the server has for them.
    """

    name: str
    mariadb: bool
    version: int
    checksum: bool
    charsets: Mapping[int, str]
    clock: float
    fold: bool
    collations: Mapping[str, str]


def ask(connection: Connection, now: float) -> Server:
    """Who the server is; `now` is our clock, seconds since 1970."""
    at = server_of(connection.get_server_info())
    mariadb = at.mariadb
    identity = "@@GLOBAL.server_id" if mariadb else "@@GLOBAL.server_uuid"
    asked = f"{identity}, @@GLOBAL.binlog_checksum, UNIX_TIMESTAMP(NOW(6)), @@GLOBAL.lower_case_table_names"
    name, checksum, clock, folds = rows(connection, f"SELECT {asked}")[0]
    major, minor, patch = at.version
    version = major * 10000 + minor * 100 + patch
    return Server(
        f"{at.flavour}:{name}",
        mariadb,
        version,
        checksum == "CRC32",
        _charsets(connection, mariadb),
        float(clock) - now,
        int(folds) == 1,
        {str(name): str(collation) for name, collation in rows(connection, _DEFAULTS)},
    )


def _charsets(connection: Connection, mariadb: bool) -> Mapping[int, str]:
    """Collation number -> character set. MariaDB 10.10 and later number some collations per character set."""
    listed = rows(connection, "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS WHERE ID IS NOT NULL")
    if mariadb and rows(
        connection,
        "SELECT 1 FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'information_schema' AND "
        "TABLE_NAME = 'COLLATION_CHARACTER_SET_APPLICABILITY' AND COLUMN_NAME = 'ID'",
    ):
        listed += rows(
            connection, "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY"
        )
    return {int(number): str(charset) for number, charset in listed if number is not None and charset is not None}


def request(connection: Connection, server: Server, place: Place, server_id: int, heartbeat: float) -> socket.socket:
    """Begin the dump at `place`; the socket from which the log now comes."""
    variables = {
        "@master_heartbeat_period": str(int(heartbeat * _NANOSECONDS)),
        "@master_binlog_checksum": "@@GLOBAL.binlog_checksum",
    }
    if server.mariadb:
        variables["@mariadb_slave_capability"] = "4"
    else:
        variables["@source_heartbeat_period"] = variables["@master_heartbeat_period"]
        variables["@source_binlog_checksum"] = variables["@master_binlog_checksum"]
    by_gtid = _by_gtid(server, place)
    if by_gtid and server.mariadb:
        variables["@slave_connect_state"] = f"'{MariaGtids(place.gtid or '').text()}'"
        variables["@slave_gtid_strict_mode"] = variables["@slave_gtid_ignore_duplicates"] = "0"
    rows(connection, "SET " + ", ".join(f"{name} = {value}" for name, value in variables.items()))
    with mapped(f"mysql source at {connection.host}:{connection.port}"):
        connection._execute_command(*_command(server, place, server_id, by_gtid=by_gtid))
    return cast(socket.socket, connection._sock)


def _by_gtid(server: Server, place: Place) -> bool:
    """File and byte where they are this server's, else the GTIDs."""
    here = place.file and place.server in {"", server.name} and place.pos <= _LARGEST_POS
    if here:
        return False
    if place.gtid is None:
        there = f"{place.file}:{place.pos} of {place.server or 'a server'}"
        raise PositionLost(
            f"the saved position {there} is not to be had at {server.name}",
            hint="the server is another one (or the file is larger than 4 GB), and no GTIDs are known: resync",
        )
    if place.server and server.mariadb != place.server.startswith("mariadb:"):
        raise FatalError(f"the saved position is of {place.server}, the server is {server.name}", hint="resync")
    return True


def _command(server: Server, place: Place, server_id: int, *, by_gtid: bool) -> tuple[int, bytes]:
    if not by_gtid:
        return _DUMP, struct.pack("<IHI", place.pos, 0, server_id) + place.file.encode()
    if server.mariadb:
        return _DUMP, struct.pack("<IHI", 4, 0, server_id)
    known = MySQLGtids(place.gtid or "").encode()
    return _DUMP_GTID, struct.pack("<HIIQI", _THROUGH_GTID, server_id, 0, 4, len(known)) + known
