"""A sample shop: four tables with keys of several kinds, filled once, then changed without pause."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

TABLES = ("users", "products", "orders", "order_items")

SCHEMA = (
    "CREATE DATABASE IF NOT EXISTS shop CHARACTER SET utf8mb4",
    """CREATE TABLE shop.users (
        id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        email VARCHAR(120) NOT NULL,
        name VARCHAR(80) NULL,
        country CHAR(2) NOT NULL,
        born DATE NULL,
        flags SET('news','vip','test') NOT NULL DEFAULT '',
        created_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
    )""",
    """CREATE TABLE shop.products (
        sku VARCHAR(32) NOT NULL PRIMARY KEY,
        title VARCHAR(200) NOT NULL,
        price DECIMAL(12,2) NOT NULL,
        weight DOUBLE NULL,
        picture VARBINARY(64) NULL,
        attributes JSON NULL
    )""",
    """CREATE TABLE shop.orders (
        id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
        user_id INT UNSIGNED NOT NULL,
        status ENUM('new','paid','packed','shipped','done','cancelled') NOT NULL,
        amount DECIMAL(18,4) NOT NULL,
        note VARCHAR(255) NULL,
        created_at DATETIME(6) NOT NULL,
        updated_at DATETIME(6) NULL
    )""",
    """CREATE TABLE shop.order_items (
        order_id BIGINT NOT NULL,
        line SMALLINT NOT NULL,
        sku VARCHAR(32) NOT NULL,
        quantity MEDIUMINT UNSIGNED NOT NULL,
        price DECIMAL(12,2) NOT NULL,
        PRIMARY KEY (order_id, line)
    )""",
)

_STATUS = ("new", "paid", "packed", "shipped", "done", "cancelled")
_WORDS = ("blue", "größer", "élan", "紙", "🚲", "tab\tand 'quote'", "", "  spaces  ", "plain")


class Shop:
    """`connect` gives a new autocommit connection (PEP 249); everything random comes from `rng`."""

    def __init__(self, connect: Callable[[], Any], rng: random.Random) -> None:
        self._connect = connect
        self._rng = rng
        self.changes = 0

    def create(self, rows: int) -> None:
        """The tables, with `rows` rows in all."""
        with self._connect() as connection, connection.cursor() as cursor:
            for statement in SCHEMA:
                cursor.execute(statement)
            users, products, orders = rows // 10, rows // 20, rows // 3
            self._fill(cursor, "users (email, name, country, born, flags)", users, self._user)
            self._fill(cursor, "products", products, self._product)
            self._fill(cursor, "orders (user_id, status, amount, note, created_at, updated_at)", orders, self._order)
            self._fill(cursor, "order_items", rows - users - products - orders, self._item)

    def keep_changing(self, stop: threading.Event, pause: float = 0.002) -> None:
        """Transactions of one to ten statements until `stop` is set."""
        with self._connect() as connection, connection.cursor() as cursor:
            while not stop.wait(pause):
                cursor.execute("BEGIN")
                for _ in range(self._rng.randint(1, 10)):
                    self.change(cursor)
                cursor.execute("COMMIT")

    def change(self, cursor: Any) -> None:
        """One statement: mostly updates, some inserts and deletes, now and then a row that changes its key."""
        what = self._rng.random()
        order = self._rng.randint(1, 200_000)
        if what < 0.35:
            cursor.execute(
                "UPDATE shop.orders SET status=%s, amount=amount+0.0001, note=%s, updated_at=NOW(6)"
                " WHERE id>=%s LIMIT 3",
                (self._rng.choice(_STATUS), self._rng.choice(_WORDS), order),
            )
        elif what < 0.55:
            cursor.execute(
                "INSERT INTO shop.orders (user_id, status, amount, note, created_at) VALUES (%s,%s,%s,%s,NOW(6))",
                (self._rng.randint(1, 9999), "new", self._rng.randint(-999, 99999) / 100, self._rng.choice(_WORDS)),
            )
        elif what < 0.7:
            cursor.execute("DELETE FROM shop.order_items WHERE order_id>=%s LIMIT 2", (order,))
        elif what < 0.85:
            cursor.execute("INSERT IGNORE INTO shop.order_items VALUES (%s,%s,%s,%s,%s)", self._item(order))
        elif what < 0.95:
            cursor.execute(
                "UPDATE shop.products SET price=price+1, attributes=%s WHERE sku>=%s LIMIT 2",
                (f'{{"seen": {order}}}', f"SKU-{order % 2000:06}"),
            )
        else:
            cursor.execute("UPDATE IGNORE shop.users SET id=id+1000000, name=NULL WHERE id=%s", (order % 5000,))
        self.changes += 1

    def _fill(self, cursor: Any, table: str, rows: int, make: Callable[[int], tuple[object, ...]]) -> None:
        for start in range(0, rows, 2000):
            values = [make(number) for number in range(start, min(start + 2000, rows))]
            if values:
                marks = ",".join(["%s"] * len(values[0]))
                cursor.executemany(f"INSERT INTO shop.{table} VALUES ({marks})", values)

    def _user(self, number: int) -> tuple[object, ...]:
        rng = self._rng
        flags = ",".join(flag for flag in ("news", "vip", "test") if rng.random() < 0.3)
        born = f"{rng.randint(1930, 2010)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
        return f"user{number}@example.com", rng.choice(_WORDS), rng.choice(("DE", "FR", "JP")), born, flags

    def _product(self, number: int) -> tuple[object, ...]:
        rng = self._rng
        picture = rng.randbytes(rng.randint(0, 40)) if rng.random() < 0.8 else None
        attributes = f'{{"colour": "{rng.choice(("red", "blau"))}", "stock": {rng.randint(0, 99)}}}'
        return (
            f"SKU-{number:06}",
            f"Product {number}",
            rng.randint(1, 99999) / 100,
            rng.random() * 50,
            picture,
            attributes,
        )

    def _order(self, number: int) -> tuple[object, ...]:
        rng = self._rng
        day = f"2026-0{rng.randint(1, 9)}-{rng.randint(1, 28):02}"
        time = f"{day} 12:{rng.randint(0, 59):02}:00.{rng.randint(0, 999999):06}"
        return rng.randint(1, 9999), rng.choice(_STATUS), rng.randint(0, 10**8) / 10**4, rng.choice(_WORDS), time, None

    def _item(self, number: int) -> tuple[object, ...]:
        rng = self._rng
        line = number % 7
        return number, line, f"SKU-{rng.randint(0, 2000):06}", rng.randint(1, 100_000), rng.randint(1, 9999) / 100
