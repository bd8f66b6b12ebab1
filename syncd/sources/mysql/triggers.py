"""The triggers of tables, as statements that make them again; a user without the grant TRIGGER sees none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from syncd.model import TableId
from syncd.sources.mysql.connect import Connection, per_table, quoted, rows

_NAMES = (
    "SELECT table_schema, table_name, trigger_schema, trigger_name FROM (SELECT event_object_schema AS table_schema, "
    "event_object_table AS table_name, trigger_schema, trigger_name FROM information_schema.triggers) AS triggers "
    "WHERE {where} ORDER BY trigger_schema, trigger_name"
)


def statements(connection: Connection, tables: Sequence[TableId]) -> Mapping[TableId, list[str]]:
    """Table -> its CREATE TRIGGERs."""
    found: dict[TableId, list[str]] = {}
    for row in per_table(connection, _NAMES, tables):
        shown = rows(connection, f"SHOW CREATE TRIGGER {quoted(row[2], row[3])}")
        found.setdefault(TableId(row[0], row[1]), []).append(str(shown[0][2]))
    return found
