"""The indexes of tables as information_schema tells them: those that a key can be made of, and all others."""

# ruff: noqa: S608 - names are quoted, values are literals of ours

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from syncd.model import Index, IndexPart, TableId
from syncd.sources.mysql.connect import Connection, Row, Server, per_table, server

_KINDS = {"FULLTEXT": "fulltext", "SPATIAL": "spatial"}


@dataclass(frozen=True, slots=True)
class UniqueIndex:
    """A unique index over whole columns. `down`: every part descends; None: some do, so its order cannot be walked."""

    name: str
    columns: tuple[str, ...]
    nullable: bool
    down: bool | None


@dataclass(frozen=True, slots=True)
class Indexes:
    """`keys`: the visible unique indexes over whole columns, PRIMARY first, then by length and name; `all`: all but
    PRIMARY, as the source has them."""

    keys: tuple[UniqueIndex, ...] = ()
    all: tuple[Index, ...] = ()

    def besides(self, key: UniqueIndex | None) -> tuple[Index, ...]:
        """All that are not the key."""
        return tuple(index for index in self.all if key is None or index.name != key.name)


def indexes(connection: Connection, ids: Sequence[TableId]) -> Mapping[TableId, Indexes]:
    """Of each table that has any."""
    sql = (
        "SELECT table_schema, table_name, index_name, non_unique, index_type, index_comment, column_name, sub_part, "
        f"collation, nullable, {_hidden(server(connection))}, {_expression(server(connection))} "
        "FROM information_schema.statistics WHERE {where} "
        "ORDER BY table_schema, table_name, index_name, seq_in_index"
    )
    parts: dict[TableId, dict[str, list[Row]]] = {}
    for row in per_table(connection, sql, ids):
        parts.setdefault(TableId(row[0], row[1]), {}).setdefault(row[2], []).append(row[3:])
    return {table: _indexes(of_table) for table, of_table in parts.items()}


def _hidden(now: Server) -> str:
    if now.mariadb:
        return "ignored = 'YES'" if now.at_least(10, 6) else "0"
    return "is_visible = 'NO'"


def _expression(now: Server) -> str:
    return "expression" if not now.mariadb and now.at_least(8, 0, 13) else "NULL"


def _indexes(parts: Mapping[str, Sequence[Row]]) -> Indexes:
    keys = [found for name, rows in parts.items() if (found := _key(name, rows))]
    keys.sort(key=lambda key: (key.name != "PRIMARY", len(key.columns), key.name))
    names = sorted((name for name in parts if name != "PRIMARY"), key=str.lower)
    return Indexes(tuple(keys), tuple(_index(name, parts[name]) for name in names))


def _key(name: str, rows: Sequence[Row]) -> UniqueIndex | None:
    """None for an index by which no row is found alone."""
    columns = []
    for non_unique, _, _, column, length, _, _, hidden, _ in rows:
        if int(non_unique) or hidden or length is not None or column is None:
            return None
        columns.append(column)
    down = {row[5] == "D" for row in rows}
    nullable = any(row[6] == "YES" for row in rows)
    return UniqueIndex(name, tuple(columns), nullable, down.pop() if len(down) == 1 else None)


def _index(name: str, rows: Sequence[Row]) -> Index:
    non_unique, kind, comment = rows[0][:3]
    parts = tuple(
        # The fulltext index's length is none that could be given back.
        IndexPart(row[3] or "", 0 if kind in _KINDS else int(row[4] or 0), row[5] == "D", row[8] or "")
        for row in rows
    )
    return Index(name, parts, _KINDS.get(kind, "" if int(non_unique) else "unique"), comment or "")
