"""A connection as the sink writes with it, and what the server behind it has."""

from __future__ import annotations

from dataclasses import dataclass

from syncd.drivers.mysql import connection as driver
from syncd.drivers.mysql.connection import Access, Connection, Server, assign, close, rows, server
from syncd.drivers.mysql.faults import mapped
from syncd.sinks.mysql.options import MySQLOptions

SQL_MODE = "STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION"
"""A value that does not fit is refused, never cut; and in texts a backslash is a backslash."""

_NET_TIMEOUT = 3600
_LOCK_WAIT = 30

_SESSION = {
    "time_zone": "'+00:00'",
    # What was right at the source is right here, whatever the order of the tables; and no rule of a key acts.
    "foreign_key_checks": 0,
    "unique_checks": 1,
    "net_write_timeout": _NET_TIMEOUT,
    "net_read_timeout": _NET_TIMEOUT,
    "wait_timeout": 28800,
    "sql_select_limit": 2**63 - 1,
    "sql_safe_updates": 0,
    "completion_type": 0,
}
_INNODB = {"lock_wait_timeout": _LOCK_WAIT, "innodb_lock_wait_timeout": _LOCK_WAIT, "sql_big_selects": 1}
_OWN = {
    # Long lists of keys are looked up by the index: both servers would else read the table beyond some size.
    "mysql": {"transaction_isolation": "'READ-COMMITTED'", "range_optimizer_max_mem_size": 0, "max_execution_time": 0},
    "mariadb": {"tx_isolation": "'READ-COMMITTED'", "in_predicate_conversion_threshold": 0, "max_statement_time": 0},
    "oceanbase": {"tx_isolation": "'READ-COMMITTED'", "ob_trx_lock_timeout": _LOCK_WAIT * 10**6},
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server has. `collations`: by name. `packet`: bytes that one statement may have."""

    server: Server
    charsets: frozenset[str]
    collations: frozenset[str]
    packet: int
    lower_case: int

    @property
    def oceanbase(self) -> bool:
        return self.server.flavour == "oceanbase"


def connect(options: MySQLOptions, role: str) -> tuple[Connection, Limits]:
    """A new connection in autocommit mode. TransientError: unreachable. FatalError: refused, named."""
    timeouts = (options.connect_timeout, options.write_timeout)
    access = Access(role, options.address, options.password, options.tls, *timeouts)
    connection = driver.connect(access, _SESSION, sql_mode=SQL_MODE)
    try:
        now = _server(connection)
        own: dict[str, object] = dict(_OWN[now.flavour])
        if now.flavour == "oceanbase":
            own |= {"ob_query_timeout": int(options.write_timeout * 1e6), "ob_trx_timeout": _NET_TIMEOUT * 10**6}
        else:
            own |= _INNODB
        with mapped(driver.place(connection)):
            assign(connection, own)
        return connection, _limits(connection, now)
    except BaseException:
        close(connection)
        raise


def _server(connection: Connection) -> Server:
    """The greeting of OceanBase's proxy may be MySQL's: the server itself is asked."""
    found = server(connection)
    text = str(rows(connection, "SELECT VERSION()")[0][0])
    return driver.server_of(text) if "oceanbase" in text.lower() else found


def _limits(connection: Connection, now: Server) -> Limits:
    collations = frozenset(str(row[0]).lower() for row in rows(connection, "SHOW COLLATION"))
    charsets = frozenset(str(row[0]).lower() for row in rows(connection, "SHOW CHARACTER SET"))
    ((packet, lower_case),) = rows(connection, "SELECT @@max_allowed_packet, @@lower_case_table_names")
    return Limits(now, charsets, collations, int(packet), int(lower_case))
