"""What a statement of the log does to tables, as values."""

from __future__ import annotations

from dataclasses import dataclass

from syncd.model import TableId
from syncd.sources.mysql.binlog.columns import Defined


@dataclass(frozen=True, slots=True)
class Added:
    """One ADD COLUMN. `after`: the column before it, "" for FIRST, None for the end. `lenient`: IF NOT EXISTS."""

    defined: Defined
    after: str | None
    lenient: bool


@dataclass(frozen=True, slots=True)
class Create:
    """`charset` and `collation`: the table's defaults, "" where the statement leaves them to the database.

    `cascades`: a foreign key of it changes its rows when another table's rows go or change.
    """

    table: TableId
    columns: tuple[Defined, ...]
    key: tuple[str, ...]
    key_from: str
    charset: str = ""
    collation: str = ""
    comment: str = ""
    lenient: bool = False
    replace: bool = False
    unclear: str = ""
    rows_follow: bool = False
    cascades: bool = False


@dataclass(frozen=True, slots=True)
class Alter:
    """`drops_index`: some index or constraint goes. `other`: a part that is not followed, "" without any.

    `partners`: other tables that it gives rows to or takes them from. `cascades`: as in `Create`.
    """

    table: TableId
    added: tuple[Added, ...] = ()
    renamed: TableId | None = None
    drops_index: bool = False
    other: str = ""
    partners: frozenset[TableId] = frozenset()
    cascades: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    tables: tuple[TableId, ...] = ()
    database: str = ""


@dataclass(frozen=True, slots=True)
class Truncate:
    table: TableId


@dataclass(frozen=True, slots=True)
class Rename:
    pairs: tuple[tuple[TableId, TableId], ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """A statement that changes rows, written to the log as a statement. `tables`: every name in it.

    None: those of a stored function, which it does not name.
    """

    tables: frozenset[TableId] | None


@dataclass(frozen=True, slots=True)
class Other:
    tables: frozenset[TableId]


@dataclass(frozen=True, slots=True)
class Nothing:
    """No table changes. `rollback`, `xa`: what the transaction is told."""

    rollback: bool = False
    xa: str = ""


Action = Create | Alter | Drop | Truncate | Rename | Rows | Other | Nothing
