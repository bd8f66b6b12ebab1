"""`Source.check`: everything about the server that a job needs, each fault with the statement that mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from syncd.errors import FatalError
from syncd.model import Finding
from syncd.sources.mysql.connect import Connection, Server, dicts, rows, server, variables
from syncd.sources.mysql.grants import account, granted, may_lock
from syncd.sources.mysql.head import choose
from syncd.sources.mysql.options import Options
from syncd.sources.mysql.place import log_end
from syncd.sources.mysql.snapshot.throttle import replicated

_ENOUGH_HOURS = 24
_OLDEST = {"mysql": (8, 0, 0), "mariadb": (10, 5, 0)}
_NEWEST = {"mysql": (9, 99, 0), "mariadb": (12, 99, 0)}
_VARIABLES = (
    "log_bin",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_value_options",
    "binlog_row_metadata",
    "binlog_transaction_compression",
    "log_bin_compress",
    "binlog_expire_logs_seconds",
    "expire_logs_days",
    "server_id",
    "gtid_mode",
    "log_slave_updates",
    "log_replica_updates",
    "max_binlog_total_size",
    "binlog_expire_logs_auto_purge",
)
_WAYS = {
    "snapshot": "by a consistent snapshot",
    "gtid": "by GTIDs",
    "log_status": "by performance_schema.log_status",
    "marker": "by a row in `marker_table`",
    "lock": "by FLUSH TABLES WITH READ LOCK for a moment: it waits for running queries, and others wait for it",
}


@dataclass(frozen=True, slots=True)
class _Asked:
    connection: Connection
    options: Options
    name: str
    at: Server
    known: dict[str, str]


def check(connection: Connection, options: Options, name: str) -> Sequence[Finding]:
    """Findings in a fixed order; `name` is the job's. An error among them means that the job cannot run."""
    asked = _Asked(connection, options, name, server(connection), variables(connection, *_VARIABLES))
    parts: tuple[Callable[[_Asked], Iterator[Finding]], ...] = (
        _version, _grants, _log, _rows, _retention, _ids, _gtid, _watermark
    )  # fmt: skip
    return [finding for part in parts for finding in part(asked)]


def _version(asked: _Asked) -> Iterator[Finding]:
    at = asked.at
    if not _OLDEST[at.flavour] <= at.version <= _NEWEST[at.flavour]:
        yield Finding("error", "version", f"{at.text} is not supported", "use MySQL 8.0 to 9.x, or MariaDB from 10.5")
    else:
        yield Finding("ok", "version", f"{'MariaDB' if at.mariadb else 'MySQL'} {at.text}")


def _grants(asked: _Asked) -> Iterator[Finding]:
    lines = granted(asked.connection).splitlines()
    everywhere = " ".join(line.partition(" ON *.*")[0] for line in lines if " ON *.*" in line)
    to = account(asked.connection)
    missing = []
    if "ALL PRIVILEGES" not in everywhere:
        if not any("SELECT" in line.partition(" ON ")[0] or "ALL PRIVILEGES" in line for line in lines):
            missing.append("SELECT")
        # MariaDB shows it as REPLICATION SLAVE or REPLICATION REPLICA
        if "REPLICATION SLAVE" not in everywhere and "REPLICATION REPLICA" not in everywhere:
            missing.append("REPLICATION SLAVE")
        if "REPLICATION CLIENT" not in everywhere and "BINLOG MONITOR" not in everywhere:
            missing.append("REPLICATION CLIENT")
    for one in missing:
        todo = f"GRANT {', '.join(missing)} ON *.* TO {to};"
        if "SELECT" in missing:
            todo += " -- SELECT is needed on the tables of the job alone"
        yield Finding("error", "grants", f"the user has no {one}", todo)
    if not missing:
        yield Finding("ok", "grants", "SELECT, REPLICATION SLAVE and REPLICATION CLIENT are granted")
    may_see_xa = asked.at.mariadb or "XA_RECOVER_ADMIN" in everywhere
    if not may_see_xa:
        text = "open XA branches cannot be seen: needed where the source runs XA transactions"
        yield Finding("warning", "grants", text, f"GRANT XA_RECOVER_ADMIN ON *.* TO {to};")
    if not asked.at.mariadb and not may_lock("\n".join(lines)):
        text = "LOCK TABLES is not granted: only tables without a key under `keyless: append` need it"
        yield Finding("warning", "grants", text, f"GRANT LOCK TABLES ON *.* TO {to};")


def _log(asked: _Asked) -> Iterator[Finding]:
    known = asked.known
    if known.get("log_bin") != "ON":
        yield Finding("error", "log_bin", "the server writes no binary log", "start it with --log-bin and --server-id")
        return
    yield Finding("ok", "log_bin", "the server writes a binary log")
    unlogged = known.get("log_slave_updates", known.get("log_replica_updates")) == "OFF"
    if unlogged and _is_replica(asked.connection):
        text = "this server is a replica, and what it replicates is not in its log"
        yield Finding(
            "warning", "log_replica_updates", text, "start it with --log-replica-updates (--log-slave-updates)"
        )
    yield from _filtered(asked)


def _is_replica(connection: Connection) -> bool:
    try:
        return bool(replicated(connection))
    except FatalError as error:
        if error.code != "E182":
            raise
    # MariaDB's grant for it is needed for nothing else; this number everybody may see.
    return any(int(count) for _, count in rows(connection, "SHOW GLOBAL STATUS LIKE 'Slaves_running'"))


def _filtered(asked: _Asked) -> Iterator[Finding]:
    try:
        log_end(asked.connection)
        new = not asked.at.mariadb and asked.at.at_least(8, 2)
        row = dicts(asked.connection, "SHOW BINARY LOG STATUS" if new else "SHOW MASTER STATUS")[0]
    except FatalError as error:
        yield Finding("error", "log", error.what, error.hint)
        return
    for name in ("binlog_do_db", "binlog_ignore_db"):
        if row.get(name):
            text = f"{name} is set to {row[name]}: changes of other databases are not in the log"
            yield Finding("warning", name, text, f"start the server without --{name.replace('_', '-')}")


def _must(asked: _Asked, name: str, value: str, why: str) -> Iterator[Finding]:
    found = asked.known.get(name)
    if found is not None and found != value:
        text = f"{name} is {found}; {why}"
        yield Finding("error", name, text, f"SET GLOBAL {name} = '{value}'; open sessions keep the old setting")
    elif found is not None:
        yield Finding("ok", name, f"{name} is {found}")


def _rows(asked: _Asked) -> Iterator[Finding]:
    yield from _must(asked, "binlog_format", "ROW", "the log must hold rows, not statements")
    yield from _must(asked, "binlog_row_image", "FULL", "the log must hold whole rows")
    yield from _must(asked, "binlog_row_value_options", "", "the log must hold whole JSON values")
    metadata = asked.known.get("binlog_row_metadata")
    if metadata is not None and metadata != "FULL":
        text = f"binlog_row_metadata is {metadata}: the log has no column names, so an alteration is told late"
        yield Finding("warning", "binlog_row_metadata", text, "SET GLOBAL binlog_row_metadata = 'FULL'")
    for name in ("binlog_transaction_compression", "log_bin_compress"):
        if asked.known.get(name) == "ON":
            yield Finding("ok", name, f"{name} is ON: compressed transactions are read")


def log_kept(connection: Connection) -> float | None:
    """Seconds for which the server keeps its log; None: until somebody purges it."""
    return _kept(variables(connection, *_VARIABLES))


def _kept(known: dict[str, str]) -> float | None:
    if known.get("binlog_expire_logs_auto_purge") == "OFF":
        return None
    seconds = float(known.get("binlog_expire_logs_seconds", 0) or 0)
    return seconds or float(known.get("expire_logs_days", 0) or 0) * 86400 or None


def _retention(asked: _Asked) -> Iterator[Finding]:
    known = asked.known
    seconds = _kept(known)
    if float(known.get("max_binlog_total_size", 0) or 0):
        text = f"the log is cut at {known['max_binlog_total_size']} bytes, however young it is"
        yield Finding("warning", "retention", text, "SET GLOBAL max_binlog_total_size = 0")
    if not seconds:
        yield Finding("ok", "retention", "the server keeps its log until somebody purges it")
    elif seconds < _ENOUGH_HOURS * 3600:
        text = (
            f"the log is kept for {seconds / 3600:g} hours: a job that stands still longer must load its tables again"
        )
        name, value = (
            ("expire_logs_days", 7)
            if "binlog_expire_logs_seconds" not in known
            else ("binlog_expire_logs_seconds", 604800)
        )
        yield Finding("warning", "retention", text, f"SET GLOBAL {name} = {value}")
    else:
        yield Finding("ok", "retention", f"the log is kept for {seconds / 3600:g} hours")


def _ids(asked: _Asked) -> Iterator[Finding]:
    mine = asked.options.replica_id(asked.name)
    taken = {int(asked.known.get("server_id", 0)): "the server itself"}
    new = not asked.at.mariadb and asked.at.at_least(8, 0, 22)
    unseen = ""
    try:
        for row in dicts(asked.connection, "SHOW REPLICAS" if new else "SHOW SLAVE HOSTS"):
            taken[int(row["server_id"])] = f"replica {row.get('host') or ''}".strip()
    except FatalError as error:
        why = "only a grant that syncd does not need shows their ids" if error.code == "E182" else error.what
        unseen = f"; other replicas were not looked at: {why}"
    if mine in taken:
        text = f"server_id {mine} belongs to {taken[mine]}"
        yield Finding("error", "server_id", text, "give the source another `server_id`")
    else:
        yield Finding("ok", "server_id", f"the job reads the log as {mine}{unseen}")


def _gtid(asked: _Asked) -> Iterator[Finding]:
    mode = "ON" if asked.at.mariadb else asked.known.get("gtid_mode", "OFF")
    if asked.options.gtid is True and mode != "ON":
        yield Finding(
            "error",
            "gtid",
            f"gtid_mode is {mode}, and the job wants GTIDs",
            "switch gtid_mode on, or leave `gtid` at auto",
        )
    elif mode != "ON":
        text = f"gtid_mode is {mode}: positions hold for this server only, and a failover needs a new load"
        yield Finding("warning", "gtid", text, "switch gtid_mode on, step by step as MySQL's manual says")
    else:
        yield Finding(
            "ok", "gtid", "positions follow GTIDs" if asked.options.gtid is not False else "GTIDs are left aside"
        )


def _watermark(asked: _Asked) -> Iterator[Finding]:
    try:
        way = choose(asked.connection, asked.options)
    except FatalError as error:
        yield Finding("error", "low watermark", error.what, error.hint)
        return
    yield Finding("warning" if way == "lock" else "ok", "low watermark", f"it is found {_WAYS[way]}")
