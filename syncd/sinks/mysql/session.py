"""A connection as the sink writes with it, and what the server behind it has."""

from __future__ import annotations

from dataclasses import dataclass

from syncd.drivers.mysql import connection as driver
from syncd.drivers.mysql.connection import Access, Connection, Server, assign, close, rows, server
from syncd.drivers.mysql.faults import mapped
from syncd.sinks.mysql.options import MySQLOptions

SQL_MODE = "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION"
"""A value that does not fit is refused, never cut. Without NO_BACKSLASH_ESCAPES: under that MySQL reads the expressions
of a table's columns, which it keeps with backslashes, as others or not at all, also for sessions that come later."""

_NET_TIMEOUT = 3600
_LOCK_WAIT = 30.0
"""Seconds for a row or table that another one has locked; at most, see `_timeouts`."""
_LOCK_WAIT_OCEANBASE = 5.0
"""It does not look for deadlocks everywhere: this ends them."""

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
_OWN: dict[str, dict[str, object]] = {
    # Long lists of keys are looked up by the index: both servers would else read the table beyond some size.
    "mysql": {
        "transaction_isolation": "'READ-COMMITTED'",
        "transaction_read_only": 0,
        "default_storage_engine": "InnoDB",
        "range_optimizer_max_mem_size": 0,
        "max_execution_time": 0,
        "sql_big_selects": 1,
    },
    "mariadb": {
        "tx_isolation": "'READ-COMMITTED'",
        "tx_read_only": 0,
        "default_storage_engine": "InnoDB",
        "in_predicate_conversion_threshold": 0,
        "max_statement_time": 0,
        "sql_big_selects": 1,
    },
    "oceanbase": {"tx_isolation": "'READ-COMMITTED'", "tx_read_only": 0, "ob_trx_timeout": _NET_TIMEOUT * 10**6},
}

_KEY_WANTED = ("sql_require_primary_key", "innodb_force_primary_key")
_HIDES_KEYS = (8, 0, 30)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server has. `collations`: by name. `packet`: bytes that one statement may have. `needs_key`: the
    variable by which it makes no table without a primary key, "" when it makes such."""

    server: Server
    charsets: frozenset[str]
    collations: frozenset[str]
    packet: int
    lower_case: int
    needs_key: str = ""

    @property
    def oceanbase(self) -> bool:
        return self.server.flavour == "oceanbase"

    @property
    def folds(self) -> str:
        """See `Sink.folds`."""
        return f"lower_case_table_names is {self.lower_case}" if self.lower_case else ""


def connect(options: MySQLOptions, role: str) -> tuple[Connection, Limits]:
    """A new connection in autocommit mode. TransientError: unreachable. FatalError: refused, named."""
    timeouts = (options.connect_timeout, options.write_timeout)
    access = Access(role, options.address, options.password, options.tls, *timeouts)
    connection = driver.connect(access, _SESSION, sql_mode=SQL_MODE)
    try:
        now = _server(connection)
        with mapped(driver.place(connection)):
            assign(connection, _OWN[now.flavour] | _timeouts(now, options.write_timeout))
            if now.flavour == "mysql" and now.at_least(*_HIDES_KEYS):
                # A key that the server itself has added to a table without one is nothing to anybody else.
                assign(connection, {"show_gipk_in_create_table_and_information_schema": 0})
        return connection, _limits(connection, now)
    except BaseException:
        close(connection)
        raise


def _timeouts(now: Server, seconds: float) -> dict[str, object]:
    """The server gives up and says why before the connection does, after `seconds`."""
    if now.flavour == "oceanbase":
        lock = min(_LOCK_WAIT_OCEANBASE, seconds / 2)
        return {"ob_query_timeout": int(seconds * 0.9e6), "ob_trx_lock_timeout": int(lock * 1e6)}
    lock = max(1, int(min(_LOCK_WAIT, seconds / 2)))
    return {"lock_wait_timeout": lock, "innodb_lock_wait_timeout": lock}


def _server(connection: Connection) -> Server:
    """The greeting of OceanBase's proxy may be MySQL's: the server itself is asked."""
    found = server(connection)
    text = str(rows(connection, "SELECT VERSION()")[0][0])
    return driver.server_of(text) if "oceanbase" in text.lower() else found


def _limits(connection: Connection, now: Server) -> Limits:
    collations = frozenset(str(row[0]).lower() for row in rows(connection, "SHOW COLLATION"))
    charsets = frozenset(str(row[0]).lower() for row in rows(connection, "SHOW CHARACTER SET"))
    ((packet, lower_case),) = rows(connection, "SELECT @@max_allowed_packet, @@lower_case_table_names")
    wants = rows(connection, f"SHOW VARIABLES WHERE Variable_name IN {_KEY_WANTED} AND Value IN ('ON', '1')")
    return Limits(now, charsets, collations, int(packet), int(lower_case), str(wants[0][0]) if wants else "")
