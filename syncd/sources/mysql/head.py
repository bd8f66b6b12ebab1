"""Low watermarks of the log: places before which everything is visible to a read that begins afterwards.

The end of the log is none: a transaction is in the log before it is visible. What is asked instead:

| server | how |
|---|---|
| MariaDB | the place that a consistent snapshot shows: the last transaction made visible |
| MySQL with GTIDs | the end of the log, then wait for the transactions that own a GTID at that moment |
| MySQL without | `performance_schema.log_status`, else a marker row of ours, else a brief global read lock |

Rows of an XA branch are in the log at its PREPARE and visible at its COMMIT: `xa` pulls the place back to before the
PREPARE of every open branch.
"""

# ruff: noqa: S608 - names are quoted, values are literals of ours

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

from syncd.drivers.mysql.faults import code_of, text_of
from syncd.errors import FatalError, TransientError
from syncd.model import Head
from syncd.sources.mysql.binlog.position import Place as Position
from syncd.sources.mysql.binlog.seq import file_number, make
from syncd.sources.mysql.connect import Connection, quoted, rows, server, variables
from syncd.sources.mysql.grants import account, granted
from syncd.sources.mysql.options import Options
from syncd.sources.mysql.place import Place, log_end, no_log
from syncd.sources.mysql.xa import before_open_branches

_POLL = 0.002
_NO_TABLE = 1146
_OWNED = re.compile(r"\s*,\s*")


def head(connection: Connection, options: Options, epoch: int) -> Head:
    """`Source.head`. TransientError: transactions or XA branches hang. FatalError: no log, or no grant for it."""
    way = choose(connection, options)
    place = before_open_branches(connection, lambda: low_watermark(connection, options, way), options.head_timeout)
    return head_at(connection, options, epoch, place)


def head_at(connection: Connection, options: Options, epoch: int, place: Place) -> Head:
    """A place in the form that jobs save."""
    gtid = place.gtid if options.gtid is not False else None
    position = Position(place.file, place.pos, gtid, identity(connection)).dump()
    return Head(position, make(epoch, file_number(place.file), place.pos))


def identity(connection: Connection) -> str:
    """Whose log files these are: as in `binlog.position`."""
    at = server(connection)
    name = rows(connection, f"SELECT @@GLOBAL.{'server_id' if at.mariadb else 'server_uuid'}")[0][0]
    return f"{at.flavour}:{name}"


def low_watermark(
    connection: Connection,
    options: Options,
    way: str,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Place:
    """A place before which all is visible, found by `way` (see `choose`). The connection must be in no transaction."""
    match way:
        case "snapshot":
            return _snapshot(connection)
        case "gtid":
            return _gtid(connection, options.head_timeout, now, sleep)
        case "log_status":
            return _log_status(connection)
        case "marker":
            return _marker(connection, options.marker_table)
        case _:
            return _lock(connection, options.head_timeout)


def by_gtids(connection: Connection, options: Options) -> bool:
    """Whether a MySQL server has its GTIDs on, and the job goes by them."""
    return options.gtid is not False and variables(connection, "gtid_mode").get("gtid_mode") == "ON"


def choose(connection: Connection, options: Options) -> str:
    """How the low watermark is found here, given the server's settings and the grants. FatalError: not at all."""
    if server(connection).mariadb:
        return "snapshot"
    if by_gtids(connection, options):
        return "gtid"
    try:
        # Two grants are needed for it, and roles may give them: the server knows best.
        _log_status(connection)
    except FatalError as error:
        if error.code not in {"E182", "E183"}:
            raise
        denied = error.__cause__
    else:
        return "log_status"
    in_order = variables(connection, "binlog_order_commits").get("binlog_order_commits", "ON") == "ON"
    if options.marker_table and in_order:
        return "marker"
    everywhere = [line.partition(" ON *.*")[0] for line in granted(connection).splitlines() if " ON *.*" in line]
    if any("RELOAD" in line or "ALL PRIVILEGES" in line for line in everywhere):
        return "lock"
    to = account(connection)
    raise FatalError(
        "the log's low watermark cannot be found: no GTIDs, no `marker_table` that would do, no grant RELOAD, and of "
        f"performance_schema.log_status the server says: {text_of(denied) if denied else 'nothing'}",
        hint=f"GRANT BACKUP_ADMIN ON *.* TO {to}; GRANT SELECT ON performance_schema.log_status TO {to}; or switch "
        f"gtid_mode on, or name a `marker_table`, or GRANT RELOAD ON *.* TO {to};",
        code="E185",
    )


def _snapshot(connection: Connection) -> Place:
    begin_snapshot(connection)
    try:
        return snapshot_place(connection)
    finally:
        rows(connection, "ROLLBACK")


def begin_snapshot(connection: Connection) -> None:
    """A transaction that sees what is visible now, and nothing later."""
    rows(connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    rows(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")


def snapshot_place(connection: Connection) -> Place:
    """MariaDB: the place that the connection's snapshot shows; nothing behind it is visible there."""
    # `SHOW STATUS` alone shows this transaction's own place.
    found = {name.lower(): value for name, value in rows(connection, "SHOW STATUS LIKE 'binlog_snapshot_%'")}
    file, pos = found.get("binlog_snapshot_file", ""), int(found.get("binlog_snapshot_position") or 0)
    if not file:
        raise no_log()
    gtid = rows(connection, "SELECT BINLOG_GTID_POS(%s, %s)", (file, pos))[0][0]
    return Place(file, pos, gtid or "")


def owned(connection: Connection) -> set[str]:
    """GTIDs of transactions between their entry into the log and their commit: from "uuid:5#12:6#13, uuid:tag:7#1"."""
    text = str(rows(connection, "SELECT @@GLOBAL.gtid_owned")[0][0] or "")
    found: set[str] = set()
    for group in filter(None, _OWNED.split(text.strip())):
        name, *parts = group.split(":")
        for part in parts:
            if "#" in part:
                found.add(f"{name}:{part.partition('#')[0]}")
            else:
                name = f"{name}:{part}"
    return found


def executed(connection: Connection) -> str:
    """MySQL: the transactions that are committed."""
    return str(rows(connection, "SELECT @@GLOBAL.gtid_executed")[0][0]).replace("\n", "")


def _gtid(connection: Connection, timeout: float, now: Callable[[], float], sleep: Callable[[float], None]) -> Place:
    end = log_end(connection)
    # A GTID is owned from before its transaction's bytes are in the log until after the transaction is visible.
    waiting = owned(connection)
    deadline = now() + timeout
    while waiting:
        if now() > deadline:
            raise TransientError(
                f"transactions are in the log and not visible after {timeout:g} s: {', '.join(sorted(waiting)[:3])}",
                hint="look for commits that hang (semi-synchronous replication without a replica, a full disk)",
                retry_after=5.0,
            )
        sleep(_POLL)
        waiting &= owned(connection)
    return end._replace(gtid=executed(connection))


def _log_status(connection: Connection) -> Place:
    # The server lets running commits end before it answers.
    local = json.loads(rows(connection, "SELECT `LOCAL` FROM performance_schema.log_status")[0][0])
    if not local.get("binary_log_file"):
        raise no_log()
    return Place(local["binary_log_file"], int(local["binary_log_position"]))


def _marker(connection: Connection, table: str) -> Place:
    name = quoted(*table.split(".", 1))
    end = log_end(connection)
    # Commits become visible in the order of the log (binlog_order_commits): ours is behind all that is before `end`.
    try:
        _mark(connection, name)
    except FatalError as error:
        if error.code != "E182":
            raise
        hint = f"GRANT CREATE, INSERT, DELETE ON {name} TO {account(connection)};"
        raise FatalError(f"`marker_table`: {error.what}", hint=hint, code="E182") from error
    return end


def _mark(connection: Connection, name: str) -> None:
    mark = f"REPLACE INTO {name} VALUES (1, NOW(6))"
    try:
        rows(connection, mark)
    except FatalError as error:
        if error.__cause__ is None or code_of(error.__cause__) != _NO_TABLE:
            raise
        columns = "id INT PRIMARY KEY, at TIMESTAMP(6) NOT NULL"
        rows(connection, f"CREATE TABLE IF NOT EXISTS {name} ({columns}) ENGINE = InnoDB")
        rows(connection, mark)


def _lock(connection: Connection, timeout: float) -> Place:
    # Without a bound, one long query would make the lock, and everybody behind it, wait.
    seconds = max(1, min(int(timeout), 5))
    rows(connection, f"SET SESSION lock_wait_timeout = {seconds}")
    rows(connection, "FLUSH TABLES WITH READ LOCK")
    try:
        return log_end(connection)._replace(gtid=None)
    finally:
        rows(connection, "UNLOCK TABLES")
