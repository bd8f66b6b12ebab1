"""The `orders` table of all benches, and fast generators of its rows and of changes to it.

Everything is made by the server itself from row numbers and hashes of them: the same rows every time, on MariaDB and
MySQL alike. About 160 bytes a row.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

ROWS, EVENTS = 1_500_000, 1_000_000
QUICK_ROWS, QUICK_EVENTS = 200_000, 60_000
STATEMENT = 1000
"""Rows of one statement in the second shape of changes."""

TABLE = """
CREATE TABLE {name} (
 id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
 user_id INT UNSIGNED NOT NULL,
 shop_id INT NOT NULL,
 status ENUM('new','paid','packed','shipped','done','cancelled') NOT NULL,
 amount DECIMAL(18,4) NOT NULL,
 qty SMALLINT NOT NULL,
 discount DOUBLE NULL,
 sku VARCHAR(64) NOT NULL,
 note VARCHAR(255) NULL,
 attrs JSON NULL,
 created_at DATETIME(6) NOT NULL,
 updated_at DATETIME(6) NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4
"""

COLUMNS = "id, user_id, shop_id, status, amount, qty, discount, sku, note, attrs, created_at, updated_at"

_ROW = """
 n, 1 + (n * 7919) % 100003, (n * 31) % 997 - 7, 1 + n % 6, (n * 104729 % 100000000) / 10000 - 100, n % 211 - 5,
 IF(n % 3 = 0, NULL, (n % 1000) / 7), CONCAT('SKU-', LPAD(n * 2654435761 % 4294967296, 10, '0')),
 IF(n % 4 = 0, NULL, CONCAT('note ', n, ' ', LEFT(SHA1(n), 8 + n % 33))),
 IF(n % 5 = 0, NULL, CONCAT('{"color": "', ELT(1 + n % 3, 'red', 'green', 'blue'), '", "weight": ', n % 977, '}')),
 TIMESTAMPADD(MICROSECOND, n % 1000000, TIMESTAMPADD(SECOND, n, '2024-01-01')),
 IF(n % 2 = 0, NULL, TIMESTAMPADD(MICROSECOND, n % 999983, TIMESTAMPADD(SECOND, n + 60, '2024-01-01')))
"""
"""One row as a function of its number `n`."""
_UPDATED = "updated_at = '2025-02-03 04:05:06.789'"

_SMALL = f"""
CREATE PROCEDURE small_changes(events INT, first_id BIGINT, next_id BIGINT)
BEGIN
  DECLARE k INT DEFAULT 0; DECLARE until INT; DECLARE n BIGINT; DECLARE gone BIGINT DEFAULT first_id;
  DECLARE span BIGINT DEFAULT next_id - first_id - events DIV 10 - 1;
  DECLARE low BIGINT DEFAULT first_id + events DIV 10 + 1;
  WHILE k < events DO
    SET until = LEAST(events, k + 1 + (k * 7 + 3) % 20);
    START TRANSACTION;
    WHILE k < until DO
      CASE
        WHEN k % 10 < 7 THEN
          SET n = low + (k * 2654435761) % span;
          UPDATE orders SET qty = k % 32000, status = 1 + k % 6, amount = amount + 1.25, {_UPDATED} WHERE id = n;
        WHEN k % 10 < 9 THEN
          SET n = next_id; SET next_id = next_id + 1;
          INSERT INTO orders SELECT {_ROW};
        ELSE DELETE FROM orders WHERE id = gone; SET gone = gone + 1;
      END CASE;
      SET k = k + 1;
    END WHILE;
    COMMIT;
  END WHILE;
END
"""


@dataclass(frozen=True)
class Orders:
    """The table in a database of an open connection's server."""

    connection: Any

    def create(self, rows: int) -> None:
        """The table with ids 1..rows, in statements of 10,000 rows."""
        self._run("DROP TABLE IF EXISTS orders, digits")
        self._run("CREATE TABLE digits (d INT PRIMARY KEY)")
        self._run("INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)")
        self._run(TABLE.format(name="orders"))
        for first in range(0, rows, 10_000):
            self._insert(first + 1, min(10_000, rows - first))

    def small(self, events: int) -> None:
        """Row changes (70 % update, 20 % insert, 10 % delete), in transactions of 1 to 20 single-row statements."""
        low, high = self._bounds()
        self._run("DROP PROCEDURE IF EXISTS small_changes")
        self._run(_SMALL)
        self._run(f"CALL small_changes({events}, {low}, {high + 1})")
        self._run("DROP PROCEDURE small_changes")

    def large(self, events: int) -> None:
        """The same mix in statements of 1,000 rows, a transaction each."""
        low, high = self._bounds()
        after, span = high + 1, (high - low) // STATEMENT * STATEMENT - events // 10
        spare = low + events // 10
        for number in range(max(events // STATEMENT, 1)):
            if number % 10 < 7:
                first = spare + number * STATEMENT * 37 % max(span - STATEMENT, 1)
                self._run(
                    f"UPDATE orders SET qty = {number % 32000}, amount = amount + 1.25, {_UPDATED} "
                    f"WHERE id >= {first} ORDER BY id LIMIT {STATEMENT}"
                )
            elif number % 10 < 9:
                self._insert(after, STATEMENT)
                after += STATEMENT
            else:
                self._run(f"DELETE FROM orders WHERE id >= {low} ORDER BY id LIMIT {STATEMENT}")

    def _insert(self, first: int, count: int) -> None:
        number = f"{first} + a.d + 10 * b.d + 100 * c.d + 1000 * e.d"
        numbers = f"SELECT {number} AS n FROM digits a, digits b, digits c, digits e"
        self._run(f"INSERT INTO orders SELECT {_ROW} FROM ({numbers}) numbers WHERE n < {first + count} ORDER BY n")

    def _bounds(self) -> tuple[int, int]:
        with closing(self.connection.cursor()) as cursor:
            cursor.execute("SELECT MIN(id), MAX(id) FROM orders")
            low, high = cursor.fetchone()
        return int(low), int(high)

    def _run(self, sql: str) -> None:
        with closing(self.connection.cursor()) as cursor:
            cursor.execute(sql)
