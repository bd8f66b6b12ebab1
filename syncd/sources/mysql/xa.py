"""Open XA branches: their rows are in the log already, at the PREPARE, and become visible at a COMMIT still to come."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing

import pymysql

from syncd.drivers.mysql.faults import code_of, mapped
from syncd.errors import FatalError, TransientError
from syncd.sources.mysql.binlog.gtid import MySQLGtids
from syncd.sources.mysql.connect import Connection, Row, rows, server
from syncd.sources.mysql.place import Place

_REFUSED = {1227, 1401}
_SETTLE = 0.1
_START = re.compile(r"XA START (X'[^']*',X'[^']*',\d+)")
_GTID = re.compile(r"GTID_NEXT= '([^':]+(?::[^':]+)?):(\d+)'")


def before_open_branches(
    connection: Connection,
    find: Callable[[], Place],
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> Place:
    """What `find` finds, or the beginning of the earliest branch that is prepared and not yet ended.

    A branch that ends while this runs has done so before a read begins that relies on the place found. TransientError:
    the beginning is not found in time. FatalError: XA is in use, and the grant to look at its branches is missing.
    """
    place = find()
    if _used(connection):
        # A branch is listed a moment after its PREPARE is in the log.
        sleep(_SETTLE)
    branches = _open(connection)
    return _earliest(connection, place, branches, now, now() + timeout) if branches else place


def _used(connection: Connection) -> bool:
    found = rows(connection, "SHOW GLOBAL STATUS LIKE 'Com_xa_start'")
    return any(int(count) for _, count in found)


def _open(connection: Connection) -> set[str]:
    """The prepared branches as the log writes them: X'gtrid',X'bqual',format."""
    mariadb = server(connection).mariadb
    try:
        found = rows(connection, "XA RECOVER" if mariadb else "XA RECOVER CONVERT XID")
    except FatalError as error:
        if error.__cause__ is None or code_of(error.__cause__) not in _REFUSED:
            raise
        if not _used(connection):
            return set()
        raise FatalError(
            "XA transactions are in use, and the user may not look at them",
            hint="GRANT XA_RECOVER_ADMIN ON *.* to the user of the source",
            code="E182",
        ) from error
    return {_written(int(kind), int(size), _raw(data)) for kind, size, _, data in found}


def _raw(data: str | bytes) -> bytes:
    if isinstance(data, bytes):
        return data
    return bytes.fromhex(data[2:]) if data.startswith("0x") else data.encode()


def _written(kind: int, size: int, data: bytes) -> str:
    return f"X'{data[:size].hex()}',X'{data[size:].hex()}',{kind}"


def _earliest(
    connection: Connection, place: Place, branches: Collection[str], now: Callable[[], float], deadline: float
) -> Place:
    """The beginning of the first of `branches`: files are searched from the newest on."""
    missing, found = set(branches), place
    for row in reversed(rows(connection, "SHOW BINARY LOGS")):
        file = str(row[0])
        if Place(file, 0).order > place.order:
            # the log has gone on meanwhile, and a branch that began there is not before `place`
            missing -= set(_starts(connection, file, now, deadline))
            continue
        starts = _starts(connection, file, now, deadline)
        for branch in missing & set(starts):
            found = min(found, Place(file, starts[branch], place.gtid), key=lambda p: p.order)
        missing -= set(starts)
        if not missing:
            return _with_gtid(connection, found, place)
    raise FatalError(
        f"XA branch {min(missing)} is prepared, and the log of its PREPARE is gone",
        hint="commit or roll the branch back (XA RECOVER shows it), and try again",
        code="E189",
    )


def _starts(connection: Connection, file: str, now: Callable[[], float], deadline: float) -> dict[str, int]:
    """Branches that begin in a log file: the place of the last beginning of each."""
    found: dict[str, int] = {}
    begun = 4
    for _, pos, kind, _, _, info in _events(connection, file, 4):
        if "gtid" in kind.lower() and kind.lower() not in {"previous_gtids", "gtid_list"}:
            begun = int(pos)
        match = _START.search(info) if "XA START" in info else None
        if match:
            found[match[1]] = begun
        if now() > deadline:
            raise TransientError(
                f"log file {file} is too long to be searched in time for the beginning of an open XA branch",
                retry_after=10.0,
                hint="commit or roll back the branches that XA RECOVER shows",
            )
    return found


def _events(connection: Connection, file: str, pos: int) -> Iterator[Row]:
    with (
        mapped(f"mysql source at {connection.host}:{connection.port}"),
        closing(connection.cursor(pymysql.cursors.SSCursor)) as cursor,
    ):
        cursor.execute("SHOW BINLOG EVENTS IN %s FROM %s", (file, pos))
        while (row := cursor.fetchone()) is not None:
            yield row


def _with_gtid(connection: Connection, found: Place, end: Place) -> Place:
    """`found` with the transactions before it."""
    if found.order == end.order or end.gtid is None:
        return found._replace(gtid=end.gtid)
    if server(connection).mariadb:
        return found._replace(
            gtid=rows(connection, "SELECT BINLOG_GTID_POS(%s, %s)", (found.file, found.pos))[0][0] or ""
        )
    later = MySQLGtids()
    for row in rows(connection, "SHOW BINARY LOGS"):
        file = str(row[0])
        if Place(file, 0).order >= (found.order[0], 0):
            for *_, info in _events(connection, file, found.pos if file == found.file else 4):
                match = _GTID.search(info)
                if match:
                    name, _, number = f"{match[1]}:{match[2]}".rpartition(":")
                    _add(later, name, int(number))
    before = rows(connection, "SELECT GTID_SUBTRACT(%s, %s)", (end.gtid, later.text()))[0][0]
    return found._replace(gtid=str(before).replace("\n", ""))


def _add(into: MySQLGtids, name: str, number: int) -> None:
    source, _, tag = name.partition(":")
    into.merge(MySQLGtids(f"{source}:{tag}:{number}" if tag else f"{source}:{number}"))
