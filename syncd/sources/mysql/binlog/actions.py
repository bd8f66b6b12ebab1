"""What a statement of the log does to tables, as values."""

from __future__ import annotations

from dataclasses import dataclass

from syncd.model import Index, TableId
from syncd.sources.mysql.binlog.columns import Defined
from syncd.sources.mysql.binlog.tokens import Token


@dataclass(frozen=True, slots=True)
class Added:
    """One ADD COLUMN. `after`: the column before it, "" for FIRST, None for the end. `lenient`: IF NOT EXISTS."""

    defined: Defined
    after: str | None
    lenient: bool


@dataclass(frozen=True, slots=True)
class Dropped:
    """`lenient`: IF EXISTS, here and below."""

    name: str
    lenient: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """CHANGE and MODIFY. `after` as in `Added`, but None for the place where it is."""

    name: str
    defined: Defined
    after: str | None
    lenient: bool = False


@dataclass(frozen=True, slots=True)
class Renamed:
    name: str
    to: str
    lenient: bool = False


@dataclass(frozen=True, slots=True)
class Defaulted:
    """ALTER COLUMN: SET DEFAULT and what follows, or None for DROP DEFAULT."""

    name: str
    words: tuple[Token, ...] | None
    lenient: bool = False


@dataclass(frozen=True, slots=True)
class Indexed:
    """An index comes; `index.name` is "" where the server makes one up. `foreign`: only where no other serves the
    foreign key. `hidden`: no query uses it."""

    index: Index
    lenient: bool = False
    foreign: bool = False
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Unindexed:
    """An index goes. `constraint`: or a constraint of that name."""

    name: str
    lenient: bool = False
    constraint: bool = False


@dataclass(frozen=True, slots=True)
class Reindexed:
    """Another name for an index; the same one where only whether it is used changes."""

    name: str
    to: str
    lenient: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the table, None where nothing is said of them. `converts`: the columns, too, get the character set."""

    charset: str = ""
    collation: str = ""
    comment: str | None = None
    converts: bool = False


@dataclass(frozen=True, slots=True)
class Repartitioned:
    """`gone`: it has none any more."""

    gone: bool = False


Step = Added | Dropped | Changed | Renamed | Defaulted | Indexed | Unindexed | Reindexed | Options | Repartitioned
"""A part of ALTER TABLE."""


@dataclass(frozen=True, slots=True)
class Create:
    """`key`: of PRIMARY KEY. `indexes`: all others. `like`: the table that it is made like, with nothing else said.

    `cascades`: a foreign key of it changes its rows when another table's rows go or change.
    """

    table: TableId
    columns: tuple[Defined, ...] = ()
    key: tuple[str, ...] = ()
    indexes: tuple[Indexed, ...] = ()
    options: Options = Options()
    partitioned: bool = False
    lenient: bool = False
    replace: bool = False
    unclear: str = ""
    rows_follow: bool = False
    cascades: bool = False
    like: TableId | None = None


@dataclass(frozen=True, slots=True)
class Alter:
    """`steps` in the order of the statement. `other`: a part that is not followed, "" without any.

    `renamed`: the table's new name. `partners`: other tables that it gives rows to or takes them from. `cascades`: as
    in `Create`.
    """

    table: TableId
    steps: tuple[Step, ...] = ()
    renamed: TableId | None = None
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
class Trigger:
    """CREATE TRIGGER: what happens `on` a table changes the tables that it names."""

    event: str
    on: TableId
    names: frozenset[TableId]


@dataclass(frozen=True, slots=True)
class Other:
    tables: frozenset[TableId]


@dataclass(frozen=True, slots=True)
class Nothing:
    """No table changes. `rollback`, `xa`: what the transaction is told."""

    rollback: bool = False
    xa: str = ""


Action = Create | Alter | Drop | Truncate | Rename | Rows | Trigger | Other | Nothing
