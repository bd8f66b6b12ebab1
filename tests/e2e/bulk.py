"""Changes of every kind to `tables`, hundreds of rows at a time, with statements that change tables in between."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

from tests.e2e.statements import NUMBERS, Statements
from tests.e2e.tables import ALL, AWAY, KINDS, MAILS, Table
from tests.e2e.workload import Workload
from tests.services.database import Database

CHUNK = 5000


class BulkWorkload(Workload):
    """`changes`: rows changed since the start; there it rests when they have reached `limit`.

    `ddl`: the statements that change tables. After `statements_every` changed rows comes a turn of them; 0: none. As
    many as `statements_at_most`; `every`: of all kinds.

    `rows`: how many are there at first, in all tables together.
    """

    def __init__(
        self,
        database: Database,
        seed: int,
        rows: int,
        statements_every: int = 20_000,
        statements_at_most: int = 60,
        *,
        every: bool = False,
    ) -> None:
        super().__init__(database, seed)
        self._rows = {table.name: max(10, int(rows * table.share)) for table in ALL}
        self._every = statements_every
        self._next = statements_every // 2
        self._salts = itertools.count(1)
        self.ddl = Statements(random.Random(self._rng.random()), self._rows, self._salts, every=every)
        self._turns = itertools.islice(self.ddl.turns(), statements_at_most)
        self.changes = 0
        self.limit = math.inf

    def create(self, rows: int = 0) -> None:
        """The tables, with their first rows."""
        if self.ddl.every:
            self._database.execute("SET GLOBAL log_bin_trust_function_creators = ON")
        self._database.execute(*(table.ddl for table in ALL))
        for table in ALL:
            size = self._rows[table.name]
            for first in range(0, size, CHUNK):
                self._database.execute(table.insert("INSERT", first, min(CHUNK, size - first), next(self._salts)))

    @property
    def names(self) -> list[str]:
        return [table.name for table in self.ddl.tables]

    @property
    def database(self) -> Database:
        return self._database

    def go_over(self, database: Database) -> None:
        """From the next start on the changes are made there."""
        self._database = database

    def row_of_its_own(self, number: int) -> str:
        return KINDS.insert("INSERT", number, 1, next(self._salts))

    def transaction(self, cursor: Any) -> None:
        if self.changes >= self.limit:
            if self.ddl.busy is not None:
                self._say(cursor)
            self._stop.wait(0.05)
            return
        if self._every and self.changes >= self._next:
            self._next += self._every
            self._say(cursor)
        weights = [8 if table is KINDS else 4 for table in self.ddl.tables]
        for _ in range(self._rng.randint(1, 6)):
            self._change(cursor, self._rng.choices(self.ddl.tables, weights)[0])

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
        elif what < 0.74 and self.ddl.added:
            name, column, kind = rng.choice(self.ddl.added)
            if kind in NUMBERS:
                where = self._where(next(t for t in self.ddl.tables if t.name == name))
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

    def _say(self, cursor: Any) -> None:
        """The next turn."""
        for statement in next(self._turns, []):
            if statement.startswith(("INSERT", "REPLACE")) and " INTO _" not in statement:
                self._run_one(cursor, statement)
            else:
                cursor.execute(statement)
