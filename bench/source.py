"""The MariaDB that all benches read: filled with `orders`, watched from outside."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pymysql

from bench.data import Orders
from bench.measure import cpu_of
from syncd.testing.servers import MariaDB

DATABASE = "bench"
FIRST_BYTES = 100_000
"""So much sent by the server means that rows have begun to flow."""


class SourceServer:
    """A running server with the database of the benches."""

    def __init__(self, server: MariaDB) -> None:
        self._server = server
        self.connection = self.connect()
        self.orders = Orders(self.connection)

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def version(self) -> str:
        return self._server.version

    def connect(self) -> Any:
        return pymysql.connect(
            host="127.0.0.1", port=self._server.port, user="root", charset="utf8mb4", autocommit=True, database=DATABASE
        )

    def cpu(self) -> float:
        """Processor seconds that the server has used until now."""
        assert self._server.pid is not None
        return cpu_of(self._server.pid)

    def one(self, sql: str) -> tuple[Any, ...]:
        """The first row that a statement answers."""
        with closing(self.connection.cursor()) as cursor:
            cursor.execute(sql)
            row: tuple[Any, ...] = cursor.fetchone() or ()
        return row

    def position(self) -> tuple[str, int]:
        """Where the log ends now."""
        file, place = self.one("SHOW MASTER STATUS")[:2]
        return str(file), int(place)

    def sums(self) -> str:
        """What a right copy of the table answers to the same question."""
        return "\t".join(
            str(value) for value in self.one("SELECT COUNT(*), SUM(id), SUM(qty), SUM(amount) FROM orders")
        )


SUMS = "SELECT count(), sum(id), sum(qty), sum(amount) FROM {table} FINAL"


@contextmanager
def source(folder: Path) -> Iterator[SourceServer]:
    """A fresh server, gone afterwards."""
    with MariaDB(folder / "db") as server:
        first = pymysql.connect(host="127.0.0.1", port=server.port, user="root", autocommit=True)
        with closing(first), closing(first.cursor()) as cursor:
            cursor.execute(f"CREATE DATABASE {DATABASE}")
        made = SourceServer(server)
        try:
            yield made
        finally:
            made.connection.close()


class FirstRows(threading.Thread):
    """Notes when rows begin to leave the server, whoever reads them. It stops looking then, so it costs nothing."""

    TICK = 0.01

    def __init__(self, source: SourceServer) -> None:
        super().__init__(name="first rows", daemon=True)
        self.at: float | None = None
        self._connection = source.connect()
        self._over = threading.Event()
        self._before = self._sent()
        self.start()

    def run(self) -> None:
        with suppress(pymysql.err.OperationalError):  # a bench that fails takes the server with it
            while not self._over.wait(self.TICK):
                if self._sent() - self._before > FIRST_BYTES:
                    self.at = time.time()
                    break
            self._connection.close()

    def stop(self) -> float:
        """Seconds since 1970 at which the rows began to flow."""
        self._over.set()
        self.join()
        if self.at is None:
            raise RuntimeError("the source was never read")
        return self.at

    def _sent(self) -> int:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Bytes_sent'")
            return int(cursor.fetchone()[1])
