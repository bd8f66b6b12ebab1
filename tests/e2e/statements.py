"""The statements that change tables while the big proof runs, of every kind that a job follows, one turn at a time."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from tests.e2e.tables import ADDED, ALL, BLOBS, KINDS, MAILS, MOMENTS, PAIRS, WORDS, Table, later

Turn = list[str]
"""Statements with nothing between them."""

NUMBERS = {"INT", "BIGINT", "DECIMAL(9,2)", "DECIMAL(15,4)"}
CALM = ("truncate", "add", "truncate", "add", "add", "index")
RESHAPES = ("drop", "rename", "retype", "rename", "retype")
"""For these no table may be in its load."""
RELOADS = ("volatile", "cast", "move", "trade")
"""After these a table is loaded anew."""
MORE = ("index", "unique", "replaced", "ghost", "percona")
NEW = ("create",)
RETYPED = {
    "INT": "BIGINT",
    "BIGINT": "INT",
    "VARCHAR(12)": "VARCHAR(40)",
    "DECIMAL(9,2)": "DECIMAL(15,4)",
    "VARCHAR(9)": "TEXT",
}
"""The type of a column that was added -> its next one; narrower ones hold the values of the workload, too."""
CAST = {
    "INT": "VARCHAR(20)",
    "BIGINT": "VARCHAR(20)",
    "DECIMAL(9,2)": "DECIMAL(8,1)",
    "DECIMAL(15,4)": "DECIMAL(12,1)",
    "DATETIME(6)": "DATETIME",
}
"""Into a type that holds other values: the server rounds, or writes them as text."""
GROWN = (KINDS, PAIRS, WORDS, MOMENTS, BLOBS)
"""These get more columns."""
INDEXED = {"kinds": "words", "pairs": "v", "words": "note", "moments": "n", "blobs": "n"}


class Statements:
    """`turns` gives them in an order that `rng` gives; whoever takes a turn runs it before the next one, whole.

    `tables` are there at the end of the turn, `added`: (table, column, type) of columns that came. `reshapes`: tables
    may be given other columns. `every`: all kinds, not only those that cost little. `calm`: for now nothing after
    which a table is loaded; `still`: nor anything by which columns or names change.
    """

    def __init__(self, rng: random.Random, rows: Mapping[str, int], salts: Iterator[int], *, every: bool) -> None:
        self._rng, self._rows, self._salts, self.every = rng, rows, salts, every
        self.tables = [*ALL]
        self.added: list[tuple[str, str, str]] = []
        self.reshapes = self.calm = self.still = False
        self.busy: Table | None = None
        """Its next turn is still to come, and nobody else may be at it."""
        self.done: Counter[str] = Counter()
        self._numbers, self._columns, self._names = itertools.count(), itertools.count(), itertools.count()
        self._indexes: list[tuple[Table, str]] = []
        self._mails = "by_mail"

    def turns(self) -> Iterator[Turn]:
        missed: list[str] = []
        while True:
            acts = [*CALM, *RESHAPES, *NEW, *(MORE + RELOADS if self.every else ())]
            self._rng.shuffle(acts)
            due, missed = [*missed, *acts], []
            for act in due:
                if self._may(act):
                    yield from self._counted(act)
                elif act in MORE + RELOADS and act not in missed:
                    missed.append(act)

    def _may(self, act: str) -> bool:
        if self.still:
            return act == "truncate"
        if act in (*NEW, *RELOADS, "replaced") and self.calm:
            return False
        if act in (*RESHAPES, "cast") and not self.added:
            return False
        return self.reshapes or act in CALM + NEW

    def _counted(self, act: str) -> Iterator[Turn]:
        for number, turn in enumerate(self._of(act)()):
            self.done[act] += not number
            yield turn

    def _of(self, act: str) -> Callable[[], Iterator[Turn]]:
        found: Callable[[], Iterator[Turn]] = getattr(self, f"_{act}")
        return found

    def rows(self, table: Table) -> Turn:
        """The first ones of a new or emptied table."""
        size = self._rows.get(table.name, 2000) // 2
        return [table.insert("REPLACE", first, 1000, next(self._salts)) for first in range(0, size, 1000)]

    # -- tables

    def _truncate(self) -> Iterator[Turn]:
        table = self._rng.choice([t for t in self.tables if t not in (KINDS, self.busy)])
        yield [f"TRUNCATE TABLE {table.name}", *self.rows(table)]

    def _create(self) -> Iterator[Turn]:
        table = later(next(self._numbers))
        self.tables.append(table)
        yield [table.ddl, *self.rows(table)]

    def _one_more(self) -> Iterator[Table]:
        """A table that may go."""
        return (t for t in self.tables if t not in ALL and t != self.busy)

    def _replaced(self) -> Iterator[Turn]:
        """It goes, and comes again."""
        table = next(self._one_more(), None)
        if table is None:
            return
        self.tables.remove(table)
        self.busy = table
        yield [f"DROP TABLE {table.name}"]
        self.tables.append(table)
        self.busy = None
        yield [table.ddl, *self.rows(table)]

    def _move(self) -> Iterator[Turn]:
        """To another name, with its rows."""
        table = next(self._one_more(), None)
        if table is None:
            return
        name = f"moved{next(self._names)}"
        moved = replace(table, name=name, ddl=table.ddl.replace(f"TABLE {table.name} ", f"TABLE {name} "))
        self.tables[self.tables.index(table)] = moved
        yield [f"RENAME TABLE {table.name} TO {name}"]

    def _trade(self) -> Iterator[Turn]:
        """Two tables change names in one statement."""
        while len([*self._one_more()]) < 2:
            yield from self._create()
        one, two = (table.name for table in itertools.islice(self._one_more(), 2))
        yield [f"RENAME TABLE {one} TO traded, {two} TO {one}, traded TO {two}"]

    # -- columns

    def _free(self) -> Table:
        return self._rng.choice([t for t in GROWN if t != self.busy])

    def _add(self) -> Iterator[Turn]:
        yield [self._added(self._free(), ADDED[next(self._columns) % len(ADDED)])]

    def _volatile(self) -> Iterator[Turn]:
        yield [self._added(self._free(), "DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)")]

    def _added(self, table: Table, definition: str) -> str:
        name = f"added{next(self._names)}"
        self.added.append((table.name, name, definition.split()[0]))
        return f"ALTER TABLE {table.name} ADD COLUMN {name} {definition}"

    def _some_column(self) -> tuple[str, str, str] | None:
        """Which is to be changed, and is not there any more."""
        free = [one for one in self.added if self.busy is None or one[0] != self.busy.name]
        if not free:
            return None
        found = self._rng.choice(free)
        self.added.remove(found)
        return found

    def _drop(self) -> Iterator[Turn]:
        if found := self._some_column():
            yield [f"ALTER TABLE {found[0]} DROP COLUMN {found[1]}"]

    def _rename(self) -> Iterator[Turn]:
        if found := self._some_column():
            table, column, kind = found
            self.added.append((table, f"{column}_", kind))
            yield [f"ALTER TABLE {table} RENAME COLUMN {column} TO {column}_"]

    def _retype(self) -> Iterator[Turn]:
        if found := self._some_column():
            table, column, kind = found
            self.added.append((table, f"{column}x", RETYPED.get(kind, kind)))
            yield [f"ALTER TABLE {table} CHANGE COLUMN {column} {column}x {RETYPED.get(kind, kind)} NULL"]

    def _cast(self) -> Iterator[Turn]:
        found = next((one for one in self.added if one[2] in CAST and one[0] != getattr(self.busy, "name", "")), None)
        if found is not None:
            table, column, kind = found
            self.added[self.added.index(found)] = (table, column, CAST[kind])
            yield [f"ALTER TABLE {table} MODIFY COLUMN {column} {CAST[kind]} NULL"]

    # -- indexes

    def _index(self) -> Iterator[Turn]:
        """One comes, gets another name, or goes."""
        what = self._rng.choice(("come", "come", "rename", "go")) if self._indexes else "come"
        name = f"by{next(self._names)}"
        if what == "come":
            table = self._free()
            self._indexes.append((table, name))
            yield [f"CREATE INDEX {name} ON {table.name} ({INDEXED[table.name]})"]
            return
        one = self._rng.choice([*self._indexes])
        if one[0] == self.busy:
            return
        self._indexes.remove(one)
        if what == "rename":
            self._indexes.append((one[0], name))
            yield [f"ALTER TABLE {one[0].name} RENAME INDEX {one[1]} TO {name}"]
        else:
            yield [f"DROP INDEX {one[1]} ON {one[0].name}"]

    def _unique(self) -> Iterator[Turn]:
        """Nothing between the two: it is the index that keeps mails apart."""
        old, self._mails = self._mails, f"by_mail{next(self._names)}"
        yield [
            f"ALTER TABLE {MAILS.name} DROP INDEX {old}",
            f"ALTER TABLE {MAILS.name} ADD UNIQUE KEY {self._mails} (mail)",
        ]

    # -- tools

    def _ghost(self) -> Iterator[Turn]:
        """gh-ost: its shadow is filled, kept in step, and put in the table's place."""
        table = self.busy = self._free()
        names, shadow, gone = self._columns_of(table), f"_{table.name}_gho", f"_{table.name}_del"
        yield [
            f"CREATE /* gh-ost */ TABLE {shadow} LIKE {table.name}",
            f"ALTER /* gh-ost */ TABLE {shadow} ADD COLUMN {self._new_column(table)}",
        ]
        rows = f"{shadow} ({names}) SELECT {names} FROM {table.name}"
        yield [f"INSERT /* gh-ost */ IGNORE INTO {rows} LIMIT 500"]
        self.busy = None
        yield [
            f"DELETE /* gh-ost */ FROM {shadow}",
            f"REPLACE /* gh-ost */ INTO {rows}",
            f"RENAME /* gh-ost */ TABLE {table.name} TO {gone}, {shadow} TO {table.name}",
            f"DROP TABLE {gone}",
        ]

    def _percona(self) -> Iterator[Turn]:
        """pt-online-schema-change: triggers keep the shadow in step."""
        table = self.busy = self._free()
        names, shadow, gone = self._columns_of(table), f"_{table.name}_new", f"_{table.name}_old"
        old = " AND ".join(f"{shadow}.{key} <=> OLD.{key}" for key in [*table.columns][: table.keys])
        new = ", ".join(f"NEW.{name}" for name in names.split(", "))
        removed = f"DELETE IGNORE FROM {shadow} WHERE {old}"
        put = f"REPLACE INTO {shadow} ({names}) VALUES ({new})"
        yield [
            f"CREATE TABLE {shadow} LIKE {table.name}",
            f"ALTER TABLE {shadow} ADD COLUMN {self._new_column(table)}",
            f"CREATE TRIGGER pt_del AFTER DELETE ON {table.name} FOR EACH ROW {removed}",
            f"CREATE TRIGGER pt_upd AFTER UPDATE ON {table.name} FOR EACH ROW BEGIN {removed}; {put}; END",
            f"CREATE TRIGGER pt_ins AFTER INSERT ON {table.name} FOR EACH ROW {put}",
        ]
        yield [f"INSERT IGNORE INTO {shadow} ({names}) SELECT {names} FROM {table.name}"]
        self.busy = None
        yield [
            f"RENAME TABLE {table.name} TO {gone}, {shadow} TO {table.name}",
            *(f"DROP TRIGGER pt_{what}" for what in ("del", "upd", "ins")),
            f"DROP TABLE {gone}",
        ]

    def _columns_of(self, table: Table) -> str:
        return ", ".join([*table.columns, *(column for name, column, _ in self.added if name == table.name)])

    def _new_column(self, table: Table) -> str:
        """For the shadow; nobody looks for it in the table before the tool is done."""
        name = f"shadowed{next(self._names)}"
        return f"{name} INT NOT NULL DEFAULT 7"
