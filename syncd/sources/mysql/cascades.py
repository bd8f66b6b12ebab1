"""Foreign keys whose cascades change rows that the log does not show.

The storage engine carries ON DELETE and ON UPDATE out by itself, below the layer that writes the log. MySQL 9.6 and
later does so above it, and logs the rows, unless `innodb_native_foreign_keys` asks for the old way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from syncd.model import TableId
from syncd.sources.mysql.connect import Connection, per_table, server, variables

_KEYS = (
    "SELECT constraint_schema, table_name, constraint_name, delete_rule, update_rule "
    "FROM information_schema.referential_constraints WHERE {where}"
)
_NATIVE = "innodb_native_foreign_keys"
_QUIET = {"RESTRICT", "NO ACTION"}


def logged(connection: Connection) -> bool:
    """Whether the server's log shows the rows that cascades change."""
    at = server(connection)
    if at.mariadb or not at.at_least(9, 6, 0):
        return False
    return variables(connection, _NATIVE).get(_NATIVE, "OFF").upper() == "OFF"


def silent(connection: Connection, tables: Sequence[TableId]) -> Mapping[TableId, list[str]]:
    """Child table -> its foreign keys that change its rows without a line in the log, as texts for people."""
    if logged(connection):
        return {}
    found: dict[TableId, list[str]] = {}
    for database, table, name, *acts in per_table(connection, _KEYS, tables, database="constraint_schema"):
        rules = [
            f"ON {event} {act}" for event, act in zip(("DELETE", "UPDATE"), acts, strict=True) if act not in _QUIET
        ]
        if rules:
            found.setdefault(TableId(database, table), []).append(f"foreign key {name} {' '.join(rules)}")
    return found
