"""Which of the transactions that were copied a server does not have, by their GTIDs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from syncd.errors import FatalError
from syncd.sources.mysql.binlog.gtid import MariaGtids, MySQLGtids
from syncd.sources.mysql.connect import Connection, rows, server
from syncd.sources.mysql.head import executed, owned
from syncd.sources.mysql.snapshot.throttle import replicated

_Last = Mapping[tuple[str, str], int]


class Lacking(NamedTuple):
    """`gtids`: what is lacking, "" nothing; `many`: how many, at least; `has`: the server's transactions, in its words.

    `kin`: "yes", others of what was copied are there; "no"; or "maybe": MariaDB's positions name the last transaction
    of each domain only, and of the server that wrote it nothing is there, but of others in its domain.
    """

    gtids: str
    many: int
    kin: Literal["yes", "no", "maybe"]
    has: str

    def __str__(self) -> str:
        return f"{self.many:,} transaction{'' if self.many == 1 else 's'} ({self.gtids})"


def lacking(connection: Connection, copied: str, *, itself: bool) -> Lacking:
    """`copied`: a GTID set of a saved position. `itself`: it was copied from this very server."""
    if server(connection).mariadb:
        state, had = rows(connection, "SELECT @@GLOBAL.gtid_binlog_state, @@GLOBAL.gtid_slave_pos")[0]
        return of_mariadb(str(state or ""), str(had or ""), copied, itself=itself)
    # A transaction is in the log, and may have been copied, while its commit still waits (for a replica, a disk).
    committing = owned(connection) if itself else set()
    has = ",".join([executed(connection), *sorted(committing)]).strip(",")
    return of_mysql(has, copied)


def coming(connection: Connection) -> bool:
    """Whether the server still gets transactions of another one, or applies what it has got."""
    try:
        told = replicated(connection)
    except FatalError as error:
        if error.code != "E182":
            raise
        # MariaDB's grant for it is needed for nothing else; this number everybody may see.
        return any(int(count) for _, count in rows(connection, "SHOW GLOBAL STATUS LIKE 'Slaves_running'"))
    return any(_applies(row) and (_receives(row) or _has_more(connection, row)) for row in told)


def _applies(row: Mapping[str, Any]) -> bool:
    return "Yes" in (row.get("replica_sql_running"), row.get("slave_sql_running"))


def _receives(row: Mapping[str, Any]) -> bool:
    return "Yes" in (row.get("replica_io_running"), row.get("slave_io_running"))


def _has_more(connection: Connection, row: Mapping[str, Any]) -> bool:
    """What it has received is not applied yet."""
    if server(connection).mariadb:
        got, done = str(row.get("gtid_io_pos") or ""), rows(connection, "SELECT @@GLOBAL.gtid_slave_pos")[0][0]
        return not MariaGtids(str(done or "")).covers(MariaGtids(got))
    return bool(of_mysql(executed(connection), str(row.get("retrieved_gtid_set") or "")).gtids)


def of_mysql(has: str, copied: str) -> Lacking:
    there, wanted = MySQLGtids(has), MySQLGtids(copied)
    lost = wanted.without(there)
    return Lacking(lost.text(), lost.count(), "yes" if lost.count() < wanted.count() else "no", has)


def of_mariadb(state: str, slave_pos: str, copied: str, *, itself: bool) -> Lacking:
    """The last of each server in each domain is compared: `state` is the server's `gtid_binlog_state`. A newer one of
    another server tells nothing, since that one may never have had what was copied.

    `slave_pos` (its `gtid_slave_pos`) is what it had when it was made from a copy, before its own log began.
    """
    last = _last(state)
    domains = {domain for domain, _ in last}
    had = _last(slave_pos)
    lost: list[str] = []
    count = 0
    kin: Literal["yes", "no", "maybe"] = "no"
    for (domain, by), at in _last(copied).items():
        known = max(last.get((domain, by), 0), had.get((domain, by), 0))
        kin = "yes" if known else "maybe" if domain in domains and kin == "no" else kin
        if known >= at or (itself and domain not in domains):  # a domain that is gone may have been deleted by hand
            continue
        # Numbers go up by one in a domain, whoever writes: where nothing of this server is known, others tell.
        first = (known or min(_top(last, domain), at - 1)) + 1
        count += at - first + 1
        lost.append(f"{domain}-{by}-{first} to {domain}-{by}-{at}" if first < at else f"{domain}-{by}-{at}")
    return Lacking(", ".join(lost), count, kin, state)


def _top(last: _Last, domain: str) -> int:
    return max((at for (other, _), at in last.items() if other == domain), default=0)


def _last(text: str) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for one in filter(None, text.replace(" ", "").replace("\n", "").split(",")):
        domain, by, at = one.split("-")
        found[domain, by] = max(int(at), found.get((domain, by), 0))
    return found
