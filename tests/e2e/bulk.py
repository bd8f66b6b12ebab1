"""Changes of every kind to `tables`, hundreds of rows at a time, with statements that change tables in between."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.e2e.tables import ADDED, ALL, AWAY, BLOBS, KINDS, MAILS, MOMENTS, PAIRS, WORDS, Table, later
from tests.e2e.workload import Workload
from tests.services.database import Database

CHUNK = 5000
NUMBERS = {"INT", "BIGINT", "DECIMAL(9,2)", "DECIMAL(15,4)"}
RESHAPES = ("drop", "rename", "retype", "rename", "retype")
RETYPED = {
    "INT": "BIGINT",
    "BIGINT": "INT",
    "VARCHAR(12)": "VARCHAR(40)",
    "DECIMAL(9,2)": "DECIMAL(15,4)",
    "VARCHAR(9)": "TEXT",
}
"""The type of a column that was added -> its next one; narrower ones hold the values of `_change`, too."""


class BulkWorkload(Workload):
    """`changes`: rows changed since the start; there it rests when they have reached `limit`.

    `done`: how many statements of each kind have changed tables. `reshapes`: columns that were added are dropped, get
    other names and other types, too, for which no table may be in its load.

    `rows`: how many are there at first, in all tables together.

    `statements_every`: after so many changed rows comes a TRUNCATE, ADD COLUMN or CREATE TABLE; 0: none. As many as
    `statements_at_most`.
    """

    def __init__(
        self, database: Database, seed: int, rows: int, statements_every: int = 20_000, statements_at_most: int = 60
    ) -> None:
        super().__init__(database, seed)
        self._rows = {table.name: max(10, int(rows * table.share)) for table in ALL}
        self._tables = [*ALL]
        self._added: list[tuple[str, str, str]] = []
        self.reshapes = False
        self._every = statements_every
        self._next = statements_every // 2
        self._ddl = itertools.islice(self._statements(), statements_at_most)
        self._salts = itertools.count(1)
        self.changes = 0
        self.limit = math.inf
        self.done: Counter[str] = Counter()

    def create(self, rows: int = 0) -> None:
        """The tables, with their first rows."""
        self._database.execute(*(table.ddl for table in ALL))
        for table in ALL:
            size = self._rows[table.name]
            for first in range(0, size, CHUNK):
                self._database.execute(table.insert("INSERT", first, min(CHUNK, size - first), next(self._salts)))

    @property
    def names(self) -> list[str]:
        return [table.name for table in self._tables]

    def row_of_its_own(self, number: int) -> str:
        return KINDS.insert("INSERT", number, 1, next(self._salts))

    def transaction(self, cursor: Any) -> None:
        if self.changes >= self.limit:
            self._stop.wait(0.05)
            return
        if self._every and self.changes >= self._next:
            self._next += self._every
            self._say(cursor, next(self._ddl, None))
        weights = [8 if table is KINDS else 4 for table in self._tables]
        for _ in range(self._rng.randint(1, 6)):
            self._change(cursor, self._rng.choices(self._tables, weights)[0])

    # -- rows

    def _change(self, cursor: Any, table: Table) -> None:
        rng = self._rng
        what, where = rng.random(), self._where(table)
        if what < 0.40:
            columns = rng.sample(table.plain, rng.randint(1, min(4, len(table.plain))))
            self._run_one(cursor, table.update(where, columns, next(self._salts)))
        elif what < 0.50:
            self._run_one(cursor, f"UPDATE IGNORE {table.name} SET {rng.choice(table.moves)} WHERE {where}")
        elif what < 0.58:
            self._swap_neighbours(cursor)
        elif table is MAILS and what < 0.90:
            self._pass_mails_on(cursor)
        elif what < 0.70:
            self._run_one(cursor, f"DELETE FROM {table.name} WHERE {where}")
            if rng.random() < 0.4:
                self._put(cursor, table)
        elif what < 0.74 and self._added:
            name, column, kind = rng.choice(self._added)
            if kind in NUMBERS:
                where = self._where(next(t for t in self._tables if t.name == name))
                self._run_one(cursor, f"UPDATE {name} SET {column} = {rng.randrange(1000)} WHERE {where}")
        else:
            self._put(cursor, table)

    def _put(self, cursor: Any, table: Table) -> None:
        """Rows that are there are written anew, or left; rows that were deleted come again."""
        first, count = self._number(table), self._some()
        self._run_one(
            cursor, table.insert(self._rng.choice(("REPLACE", "INSERT IGNORE")), first, count, next(self._salts))
        )

    def _swap_neighbours(self, cursor: Any) -> None:
        """Each row of a range changes places with its neighbour, over keys that are free, inside one transaction."""
        first = self._rng.randrange(self._rows["kinds"]) & ~1
        last = first + 2 * self._some() - 1
        self._run_one(cursor, f"UPDATE kinds SET id = -1 - id WHERE id BETWEEN {first} AND {last}")
        self._run_one(cursor, "UPDATE kinds SET id = CAST((-1 - id) ^ 1 AS SIGNED) WHERE id < 0")

    def _pass_mails_on(self, cursor: Any) -> None:
        """Unique values change hands: in a ring of rows, from a row to another one, or with a row that comes again."""
        rng = self._rng
        first = rng.randrange(max(1, self._rows["mails"] - 3))
        cursor.execute(f"SELECT id, mail, n FROM mails WHERE id >= {first} ORDER BY id LIMIT {rng.randint(2, 4)}")
        rows = cursor.fetchall()
        if len(rows) < 2:
            return
        (one, mail, n), (other, _, _) = rows[:2]
        what = rng.random()
        if what < 0.5:
            self._set_mail(cursor, rows[-1][0], None)
            for (taker, _, _), (_, given, _) in zip(reversed(rows[:-1]), reversed(rows[1:]), strict=True):
                self._set_mail(cursor, taker, given)
            self._set_mail(cursor, rows[-1][0], mail)
        elif what < 0.8:
            self._set_mail(cursor, one, f"new{next(self._salts)}")
            self._set_mail(cursor, other, mail)
        else:
            self._run_one(cursor, f"DELETE FROM mails WHERE id IN ({one}, {other})")
            given = "NULL" if mail is None else f"'{mail}'"
            self._run_one(cursor, f"INSERT INTO mails VALUES ({other}, {given}, {n})")

    def _set_mail(self, cursor: Any, row: int, mail: str | None) -> None:
        given = "NULL" if mail is None else f"'{mail}'"
        self._run_one(cursor, f"UPDATE mails SET mail = {given} WHERE id = {row}")

    def _where(self, table: Table) -> str:
        """Some rows of the table: single ones, or a range."""
        count = self._some()
        if count > 20 and self._rng.random() < 0.5:
            first = self._number(table)
            return f"{table.leading} BETWEEN {table.lead(first)} AND {table.lead(first + count)}"
        return f"{table.leading} IN ({', '.join(table.lead(self._number(table)) for _ in range(count))})"

    def _number(self, table: Table) -> int:
        """Of a row that is there or could be."""
        size = self._rows.get(table.name, 2000)
        away = AWAY if table.moves == KINDS.moves and self._rng.random() < 0.2 else 0
        return away + self._rng.randrange(size + size // 10 + 1)

    def _some(self) -> int:
        what = self._rng.random()
        if what < 0.4:
            return 1
        return self._rng.randint(2, 20) if what < 0.7 else self._rng.randint(50, 400)

    def _run_one(self, cursor: Any, statement: str) -> None:
        cursor.execute(statement)
        self.changes += max(0, cursor.rowcount)
        self.statements += 1

    # -- tables

    def _statements(self) -> Iterator[str]:
        """One after the other, in an order that the seed gives."""
        rng = random.Random(self._rng.random())
        added, made = itertools.count(), itertools.count()
        while True:
            acts = ["truncate", "add", "create", "truncate", "add", "add", *RESHAPES]
            rng.shuffle(acts)
            for act in acts:
                if act == "truncate":
                    choice = [t for t in self._tables if t is not KINDS]
                    yield f"TRUNCATE TABLE {rng.choice(choice).name}"
                elif act == "create":
                    yield later(next(made)).ddl
                elif act == "add":
                    number = next(added)
                    name = rng.choice([KINDS, PAIRS, WORDS, MOMENTS, BLOBS]).name
                    yield f"ALTER TABLE {name} ADD COLUMN added{number} {ADDED[number % len(ADDED)]}"
                elif self.reshapes and self._added:
                    yield self._reshape(act, *rng.choice(self._added))

    def _reshape(self, act: str, table: str, column: str, kind: str) -> str:
        match act:
            case "drop":
                return f"ALTER TABLE {table} DROP COLUMN {column}"
            case "rename":
                return f"ALTER TABLE {table} RENAME COLUMN {column} TO {column}_"
            case _:
                return f"ALTER TABLE {table} CHANGE COLUMN {column} {column}x {RETYPED.get(kind, kind)} NULL"

    def _say(self, cursor: Any, statement: str | None) -> None:
        if statement is None:
            return
        cursor.execute(statement)
        words = statement.split()
        self.done[words[3] if words[0] == "ALTER" else words[0]] += 1
        if words[0] == "CREATE":
            table = later(int(words[2].removeprefix("later")))
            self._tables.append(table)
            self._run_one(cursor, table.insert("INSERT", 0, 1000, next(self._salts)))
        elif words[0] == "TRUNCATE":
            table = next(t for t in self._tables if t.name == words[2])
            size = self._rows.get(table.name, 2000) // 2
            for first in range(0, size, 1000):
                self._run_one(cursor, table.insert("REPLACE", first, 1000, next(self._salts)))
        else:
            self._altered(words)

    def _altered(self, words: list[str]) -> None:
        """ALTER TABLE name act COLUMN ..."""
        table, column, rest = words[2], words[5], words[6:]
        there = [one for one in self._added if one[:2] != (table, column)]
        match words[3]:
            case "ADD":
                there.append((table, column, rest[0]))
            case "RENAME":
                there.append((table, rest[1], next(one[2] for one in self._added if one[:2] == (table, column))))
            case "CHANGE":
                there.append((table, rest[0], rest[1]))
        self._added = there
