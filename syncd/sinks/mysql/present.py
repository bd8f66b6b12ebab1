"""The table as it is at the server, and every difference from what the sink would make."""

# ruff: noqa: S608 - values are parameters

from __future__ import annotations

from dataclasses import dataclass

from syncd.drivers.mysql.connection import Connection, quoted, rows
from syncd.drivers.mysql.types import arguments, base_type, listed, members
from syncd.errors import FatalError
from syncd.model import Target
from syncd.sinks.mysql.layout import Layout
from syncd.sinks.mysql.types import canonical, holds
from syncd.sinks.mysql.words import DELETED

_BETWEEN = "','"
_LOOKS = 10
"""So many ALTERs in a row may come in between; each look waits for the one that is on."""


@dataclass(frozen=True, slots=True)
class PresentColumn:
    name: str
    type: str
    nullable: bool
    default: str | None
    extra: str
    collation: str

    @property
    def charset(self) -> str:
        """Of a text; "" of all others."""
        return self.collation.partition("_")[0]


@dataclass(frozen=True, slots=True)
class PresentIndex:
    name: str
    columns: tuple[str, ...]
    unique: bool


@dataclass(frozen=True, slots=True)
class Present:
    """`engine` in small letters; `triggers` by name."""

    engine: str
    columns: tuple[PresentColumn, ...]
    indexes: tuple[PresentIndex, ...]
    triggers: tuple[str, ...]

    def column(self, name: str) -> PresentColumn | None:
        return next((c for c in self.columns if c.name.lower() == name.lower()), None)

    @property
    def key(self) -> tuple[str, ...]:
        return next((index.columns for index in self.indexes if index.name == "PRIMARY"), ())

    @property
    def unique(self) -> tuple[str, ...]:
        """Unique indexes beside the key, by name."""
        return tuple(index.name for index in self.indexes if index.unique and index.name != "PRIMARY")


def describe(connection: Connection, target: Target) -> Present | None:
    """None when there is no such table.

    In the last moment of an ALTER MariaDB's information_schema lacks it, or parts of it; SHOW CREATE TABLE waits.
    """
    found = None
    for _ in range(_LOOKS):
        before = _statement(connection, target)
        if before is None:
            return None
        found = _described(connection, target)
        if found is not None and _statement(connection, target) == before:
            break
    return found


def _statement(connection: Connection, target: Target) -> str | None:
    try:
        return fingerprint(connection, target)
    except FatalError as error:
        if error.code == "E183":
            return None
        raise


def _described(connection: Connection, target: Target) -> Present | None:
    place = [target.database, target.name]
    where, table = "table_schema = %s AND table_name = %s", str(target.schema.table)
    found = rows(connection, f"SELECT engine FROM information_schema.tables WHERE {where}", place, table=table)
    if not found:
        return None
    columns = rows(
        connection,
        "SELECT column_name, column_type, is_nullable, column_default, extra, collation_name "
        f"FROM information_schema.columns WHERE {where} ORDER BY ordinal_position",
        place,
        table=table,
    )
    parts = rows(
        connection,
        f"SELECT index_name, column_name, non_unique FROM information_schema.statistics WHERE {where} "
        "ORDER BY index_name, seq_in_index",
        place,
        table=table,
    )
    triggers = rows(
        connection,
        "SELECT trigger_name FROM information_schema.triggers "
        "WHERE event_object_schema = %s AND event_object_table = %s",
        place,
        table=table,
    )
    indexes: dict[str, list[tuple[str, bool]]] = {}
    for name, column, non_unique in parts:
        indexes.setdefault(str(name), []).append((str(column or ""), not int(non_unique)))
    return Present(
        str(found[0][0] or "").lower(),
        tuple(
            PresentColumn(str(n), spelled(str(t)), u == "YES", d, str(e or ""), str(c or ""))
            for n, t, u, d, e, c in columns
        ),
        tuple(PresentIndex(name, tuple(c for c, _ in its), its[0][1]) for name, its in indexes.items()),
        tuple(str(row[0]) for row in triggers),
    )


def spelled(kind: str) -> str:
    """The members of an ENUM or SET as MySQL writes them: OceanBase escapes nothing in them."""
    inner = arguments(kind)
    if base_type(kind) not in {"enum", "set"} or listed(members(kind)) == inner:
        return kind
    return f"{base_type(kind)}({listed(inner[1:-1].split(_BETWEEN))})"


def fingerprint(connection: Connection, target: Target) -> str:
    """Changes whenever somebody alters the table; one cheap statement."""
    sql = f"SHOW CREATE TABLE {quoted(target.database, target.name)}"
    text = str(rows(connection, sql, table=str(target.schema.table))[0][1])
    # The counter moves with every row.
    head, _, options = text.rpartition("\n)")
    return f"{head}\n){_without_counter(options)}"


def _without_counter(options: str) -> str:
    before, counter, rest = options.partition("AUTO_INCREMENT")
    return before + rest.lstrip(" =0123456789") if counter else options


def differences(of: Layout, present: Present) -> list[str]:
    """One line per difference that would lose or change something; empty when the table fits."""
    return [*_columns(of, present), *_extra(of, present), *_table(of, present)]


def _columns(of: Layout, present: Present) -> list[str]:
    found = []
    for column in of.columns:
        kind, there = of.kinds[column.name], present.column(column.name)
        assert kind is not None, "refused before"
        wanted, _ = _parted(kind.name)
        generated = column.name in of.generated
        if there is None:
            found.append(f"column {column.name} is missing, {wanted} is wanted")
        elif not _fits(there, kind.name, of.target, key=column.name in of.key):
            found.append(f"column {column.name} is {there.type}, {wanted} is wanted")
        elif kind.collation and column.name in of.key and there.collation != kind.collation:
            found.append(f"key column {column.name} is compared by {there.collation}, {kind.collation} is wanted")
        elif ("GENERATED" in there.extra.upper().replace("DEFAULT_GENERATED", "")) != generated:
            found.append(f"column {column.name} is {'not ' if generated else ''}generated")
        elif column.nullable and not there.nullable and not generated:
            found.append(f"column {column.name} takes no NULL")
    if of.soft and present.column(DELETED) is None:
        found.append(f"column {DELETED} is missing: deletes are soft")
    return found


def _fits(there: PresentColumn, kind: str, target: Target, *, key: bool) -> bool:
    """A target of several tables may be wider than this one of them is; any other is as it would be made."""
    return has_room(there, kind, key=key) if target.own else _same_type(there.type, _parted(kind)[0])


def has_room(there: PresentColumn, wanted: str, *, key: bool) -> bool:
    """Whether the column takes each value of the type, which may say its character set. `key`: of a key column."""
    kind, charset = _parted(wanted)
    return holds(there.type, kind, there.charset, charset) and not (key and _other_numbers(there.type, kind))


def is_wider(wanted: str, there: PresentColumn, *, key: bool) -> bool:
    """Whether the type takes each value of the column."""
    kind, charset = _parted(wanted)
    return holds(kind, there.type, charset, there.charset) and not (key and _other_numbers(kind, there.type))


def _other_numbers(wide: str, narrow: str) -> bool:
    """Members of an ENUM or SET are sorted by their numbers, and told by them in a key."""
    names = members(narrow) if base_type(narrow) in {"enum", "set"} else []
    return bool(names) and members(wide)[: len(names)] != names


def _parted(wanted: str) -> tuple[str, str]:
    kind, _, rest = wanted.partition(" CHARACTER SET ")
    return kind, rest.partition(" ")[0]


def _same_type(there: str, wanted: str) -> bool:
    """A JSON column of MariaDB is a text."""
    if base_type(wanted) == "json":
        return base_type(there) in {"json", "longtext"}
    return canonical(there) == canonical(wanted)


def _extra(of: Layout, present: Present) -> list[str]:
    ours = {c.name.lower() for c in of.columns} | {DELETED}
    return [
        f"column {c.name} {c.type} is not the source's, and has neither NULL nor a DEFAULT"
        for c in present.columns
        if c.name.lower() not in ours and not c.nullable and c.default is None and not c.extra
    ]


def _table(of: Layout, present: Present) -> list[str]:
    found = []
    if tuple(name.lower() for name in present.key) != tuple(name.lower() for name in of.key):
        found.append(f"the primary key is ({', '.join(present.key)}), ({', '.join(of.key)}) is wanted")
    if not of.limits.oceanbase and present.engine != "innodb":
        found.append(f"the engine is {present.engine}, which has no transactions; InnoDB is wanted")
    if present.triggers:
        found.append(f"it has triggers, which would act on every row: {', '.join(present.triggers)}")
    return found
