"""Changes of every kind, without pause: key changes, swaps inside a transaction, deletes, re-inserts, and transactions
that stay open while their table is opened anew."""

from __future__ import annotations

import itertools
import random
import threading
from contextlib import closing
from typing import Any

from tests.services.database import Database

TABLES = ("items", "pairs", "words")

SCHEMA = (
    """CREATE TABLE items (id INT NOT NULL PRIMARY KEY, n INT NOT NULL, note VARCHAR(60) NULL,
       price DECIMAL(12,3) NULL, at DATETIME(6) NULL)""",
    "CREATE TABLE pairs (a BIGINT NOT NULL, b VARCHAR(20) NOT NULL, v DOUBLE NULL, PRIMARY KEY (a, b))",
    "CREATE TABLE words (word VARCHAR(30) COLLATE utf8mb4_general_ci NOT NULL PRIMARY KEY, n INT NOT NULL)",
)

KEYS = 3000
BESIDE = 50_000_000
"""From here on are the keys of rows written beside an open transaction."""
_WORDS = ("Apfel", "APFEL", "apfel", "Ä", "a", "straße", "zwölf", "Zwolf", "été", "ETE", "x", "X ")


class Workload:
    """`start` to `stop` in a thread, as often as one likes. Everything random comes from `seed`.

    `pause`: seconds between two transactions.
    """

    def __init__(self, database: Database, seed: int, pause: float = 0.005) -> None:
        self._database = database
        self._rng = random.Random(seed)
        self._beside = itertools.count(BESIDE)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self.pause = pause
        self.statements = 0

    def create(self, rows: int) -> None:
        self._database.execute(*SCHEMA)
        rng = self._rng
        self._database.many(
            "INSERT INTO items VALUES (%s,%s,%s,%s,%s)",
            [(i, i, f"note {i}", i / 8, "2026-01-01 00:00:00.000001") for i in rng.sample(range(rows * 2), rows)],
        )
        self._database.many("INSERT INTO pairs VALUES (%s,%s,%s)", [(i // 3, f"k{i % 3}", i / 3) for i in range(rows)])
        self._database.many("INSERT IGNORE INTO words VALUES (%s,%s)", [(f"Wort{i}", i) for i in range(rows // 10)])

    def start(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="workload")
        self._thread.start()

    def check(self) -> None:
        """An error of the thread is raised here, too."""
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Ends the thread; an error of it is raised here."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.check()

    def _run(self) -> None:
        try:
            one, other = (self._database.connect(autocommit=False) for _ in range(2))
            with closing(one), closing(other), one.cursor() as cursor, other.cursor() as held:
                while not self._stop.wait(self.pause):
                    if self._rng.random() < 0.05:
                        self._open_anew(cursor, held)
                        one.commit()
                        other.commit()
                    self.transaction(cursor)
                    one.commit()
        except BaseException as error:  # noqa: BLE001 - raised again in `stop`
            self._error = error

    def _open_anew(self, cursor: Any, held: Any) -> None:
        """The log then names the table by two numbers, the older one last: that of the transaction begun first."""
        held.execute(self.row_of_its_own(next(self._beside)))
        cursor.execute("FLUSH TABLES")
        cursor.execute(self.row_of_its_own(next(self._beside)))

    def row_of_its_own(self, number: int) -> str:
        """The statement that inserts it."""
        return f"INSERT INTO items (id, n) VALUES ({number}, {number})"

    def transaction(self, cursor: Any) -> None:
        """One to twelve statements; the caller commits."""
        for _ in range(self._rng.randint(1, 12)):
            self.change(cursor)
            self.statements += 1

    def change(self, cursor: Any) -> None:
        rng, key = self._rng, self._rng.randrange(KEYS)
        what = rng.random()
        if what < 0.65:
            self._change_items(cursor, what, key)
        elif what < 0.90:
            self._change_pairs(cursor, what, key // 3)
        elif what < 0.97:
            cursor.execute("INSERT INTO words VALUES (%s,1) ON DUPLICATE KEY UPDATE n=n+1", (rng.choice(_WORDS),))
        else:
            cursor.execute("DELETE FROM words WHERE word=%s", (rng.choice(_WORDS),))

    def _change_items(self, cursor: Any, what: float, key: int) -> None:
        rng = self._rng
        if what < 0.30:
            cursor.execute("UPDATE items SET n=n+1, note=%s WHERE id=%s", (rng.choice((None, "ü", "")), key))
        elif what < 0.45:
            columns = "items (id, n, note, price, at)"
            values = (key, rng.randrange(10**6), rng.random())
            cursor.execute(f"REPLACE INTO {columns} VALUES (%s,%s,'new',%s,NOW(6))", values)
        elif what < 0.55:
            cursor.execute("DELETE FROM items WHERE id=%s", (key,))
        elif what < 0.60:
            cursor.execute("UPDATE IGNORE items SET id=id+%s WHERE id=%s", (rng.choice((1, -1, 7)), key))
        else:
            self._swap(cursor, key, rng.randrange(KEYS))

    def _change_pairs(self, cursor: Any, what: float, a: int) -> None:
        rng = self._rng
        b = f"k{rng.randrange(9)}"
        if what < 0.75:
            cursor.execute("UPDATE pairs SET v=v+0.5 WHERE a=%s", (a,))
        elif what < 0.80:
            cursor.execute("UPDATE IGNORE pairs SET b=%s WHERE a=%s LIMIT 1", (b, a))
        elif what < 0.85:
            cursor.execute("DELETE FROM pairs WHERE a=%s LIMIT 2", (a,))
        else:
            cursor.execute("INSERT IGNORE INTO pairs VALUES (%s,%s,%s)", (a, b, rng.random()))

    def _swap(self, cursor: Any, one: int, other: int) -> None:
        """Two rows change places, over a key that is free."""
        if one != other:
            cursor.execute("UPDATE IGNORE items SET id=-1 WHERE id=%s", (one,))
            cursor.execute("UPDATE IGNORE items SET id=%s WHERE id=%s", (one, other))
            cursor.execute("UPDATE IGNORE items SET id=%s WHERE id=-1", (other,))
            cursor.execute("DELETE FROM items WHERE id=-1")
