"""Foreign keys whose cascades change rows that the log does not show.

The storage engine carries ON DELETE and ON UPDATE out by itself, below the layer that writes the log. MySQL 9.6 and
later does so above it, and logs the rows, unless `innodb_native_foreign_keys` asks for the old way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from syncd.model import TableId
from syncd.sources.mysql.connect import Connection, per_table, quoted, rows, server, variables

_KEYS = (
    "SELECT constraint_schema, table_name, constraint_name, delete_rule, update_rule "
    "FROM information_schema.referential_constraints WHERE {where}"
)
_NATIVE = "innodb_native_foreign_keys"
_QUIET = {"RESTRICT", "NO ACTION"}
_NAME = r"(?:`(?:[^`]|``)*`|[^\s`(),.]+)"
_NAMES = rf"\({_NAME}(?:, {_NAME})*\)"
_WRITTEN = re.compile(
    rf"CONSTRAINT ({_NAME}) FOREIGN KEY {_NAMES} REFERENCES {_NAME}(?:\.{_NAME})? {_NAMES}((?: ON [A-Z ]+)?)"
)
_RULE = r" ON {} (RESTRICT|CASCADE|SET NULL|NO ACTION|SET DEFAULT)"


def logged(connection: Connection) -> bool:
    """Whether the server's log shows the rows that cascades change."""
    at = server(connection)
    if at.mariadb or not at.at_least(9, 6, 0):
        return False
    return variables(connection, _NATIVE).get(_NATIVE, "OFF").upper() == "OFF"


def silent(connection: Connection, tables: Sequence[TableId]) -> Mapping[TableId, list[str]]:
    """Child table -> its foreign keys that change its rows without a line in the log, as texts for people.

    `tables`: no views among them.
    """
    if logged(connection):
        return {}
    found: dict[TableId, list[str]] = {}
    for table, name, *acts in _keys(connection, tables):
        rules = [
            f"ON {event} {act}" for event, act in zip(("DELETE", "UPDATE"), acts, strict=True) if act not in _QUIET
        ]
        if rules:
            found.setdefault(table, []).append(f"foreign key {name} {' '.join(rules)}")
    return found


def _keys(connection: Connection, tables: Sequence[TableId]) -> Iterator[tuple[TableId, str, str, str]]:
    """(child table, foreign key, its rule for DELETE, its rule for UPDATE)."""
    if not server(connection).mariadb:
        for database, table, name, delete, update in per_table(connection, _KEYS, tables, database="constraint_schema"):
            yield TableId(database, table), name, delete, update
        return
    # To a user who may only read, MariaDB's information_schema shows no foreign keys, and does not say so.
    for child in tables:
        ((_, definition, *_),) = rows(connection, f"SHOW CREATE TABLE {quoted(*child)}", table=str(child))
        for name, rules in _WRITTEN.findall(definition):
            delete, update = (re.search(_RULE.format(event), rules) for event in ("DELETE", "UPDATE"))
            yield child, name.strip("`"), delete[1] if delete else "RESTRICT", update[1] if update else "RESTRICT"
