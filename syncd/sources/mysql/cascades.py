"""Foreign keys whose cascades change rows that the log does not show.

The storage engine carries ON DELETE and ON UPDATE out by itself, below the layer that writes the log. MySQL 9.6 and
later does so above it, and logs the rows, unless `innodb_native_foreign_keys` asks for the old way.
"""

from __future__ import annotations

from collections.abc import Mapping

from syncd.model import TableId
from syncd.sources.mysql.connect import Connection, server, variables
from syncd.sources.mysql.created import Created

_NATIVE = "innodb_native_foreign_keys"
_QUIET = {"RESTRICT", "NO ACTION"}


def logged(connection: Connection) -> bool:
    """Whether the server's log shows the rows that cascades change."""
    at = server(connection)
    if at.mariadb or not at.at_least(9, 6, 0):
        return False
    return variables(connection, _NATIVE).get(_NATIVE, "OFF").upper() == "OFF"


def silent(connection: Connection, tables: Mapping[TableId, Created]) -> Mapping[TableId, list[str]]:
    """Child table -> its foreign keys that change its rows without a line in the log, as texts for people."""
    if logged(connection):
        return {}
    found: dict[TableId, list[str]] = {}
    for table, created in tables.items():
        for key in created.foreign:
            acts = [f"ON {event} {act}" for event in ("DELETE", "UPDATE") if (act := key.rule(event)) not in _QUIET]
            if acts:
                found.setdefault(table, []).append(f"foreign key {key.name} {' '.join(acts)}")
    return found
