"""MySQL and MariaDB under the conformance suite of sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pymysql
import pytest

from syncd.sources.mysql import MySQLSource
from syncd.spi import Context, Source
from syncd.testing.contracts.source import Factory, Hands, SourceContract, Transaction
from syncd.testing.contracts.source_kit import VISITS, WORDS
from tests.contract.slow_wire import SlowWire
from tests.services.database import Database

COLUMNS = "(id BIGINT NOT NULL PRIMARY KEY, name VARCHAR(250) NULL, qty BIGINT NULL) CHARACTER SET utf8mb4"
WORD_COLUMNS = (
    "(word VARCHAR(50) NOT NULL PRIMARY KEY, qty BIGINT NULL) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
)


class MySQLHands:
    def __init__(self, made: Database) -> None:
        self._made = made
        self.database = made.name

    def create(self, table: str) -> None:
        columns = WORD_COLUMNS if table == WORDS else COLUMNS
        if table == VISITS:
            columns = columns.replace(" PRIMARY KEY", "")
        self._made.execute(f"CREATE TABLE {table} {columns}")

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        connection = self._made.connect(autocommit=False)
        try:
            with connection.cursor() as cursor:
                tx = _Statements(self.database, cursor)
                yield tx
                tx.flush()
            connection.commit()
        finally:
            connection.close()

    def add_column(self, table: str) -> None:
        self._made.execute(f"ALTER TABLE {table} ADD COLUMN added BIGINT NOT NULL DEFAULT 7")

    def change_type(self, table: str) -> None:
        self._made.execute(f"ALTER TABLE {table} MODIFY COLUMN qty VARCHAR(30) NULL")

    def truncate(self, table: str) -> None:
        self._made.execute(f"TRUNCATE TABLE {table}")

    def drop(self, table: str) -> None:
        self._made.execute(f"DROP TABLE {table}")

    def cut(self) -> None:
        """Every connection but this one; the worker's server has no other users meanwhile."""
        own = int(self._made.query("SELECT CONNECTION_ID()")[0][0])
        found = self._made.query("SELECT id, user FROM information_schema.processlist")
        for number, user in found:
            if user == self._made.user and number != own:
                with suppress(pymysql.Error):
                    self._made.execute(f"KILL {number}")


class _Statements:
    """INSERTs of one table in a row go as one statement."""

    def __init__(self, database: str, cursor: Any) -> None:
        self._database, self._cursor = database, cursor
        self._table, self._rows = "", [()][:0]

    def put(self, table: str, row: Sequence[Any]) -> None:
        if self._table != table:
            self.flush()
        self._table = table
        self._rows.append(tuple(row))
        if len(self._rows) >= 2000:
            self.flush()

    def change(self, table: str, key: Sequence[Any], row: Sequence[Any]) -> None:
        self.flush()
        names = self._names(table)
        values = ", ".join(f"{name} = %s" for name in names)
        assert self._cursor.execute(f"UPDATE {table} SET {values} WHERE {names[0]} = %s", (*row, *key)) == 1

    def delete(self, table: str, key: Sequence[Any]) -> None:
        self.flush()
        assert self._cursor.execute(f"DELETE FROM {table} WHERE {self._names(table)[0]} = %s", tuple(key)) == 1

    def flush(self) -> None:
        if self._rows:
            names = self._names(self._table)
            marks = ", ".join(["%s"] * len(names))
            updates = ", ".join(f"{name} = VALUES({name})" for name in names[1:])
            sql = f"INSERT INTO {self._table} VALUES ({marks}) ON DUPLICATE KEY UPDATE {updates}"
            self._cursor.executemany(sql, self._rows)
        self._rows = []

    def _names(self, table: str) -> list[str]:
        self._cursor.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s "
            "ORDER BY ordinal_position",
            (self._database, table),
        )
        return [row[0] for row in self._cursor.fetchall()]


def made(folder: Path, port: int) -> Source:
    options = MySQLSource.Options(url=f"mysql://root@127.0.0.1:{port}/", heartbeat=0.3)
    return MySQLSource(options, Context("job", folder))


class MySQLContract(SourceContract):
    large = 30_000

    @pytest.fixture
    def factory(self, tmp_path_factory: pytest.TempPathFactory, own_database: Database) -> Factory:
        return partial(made, _folder(tmp_path_factory), own_database.port)

    @pytest.fixture
    def slow_factory(self, tmp_path_factory: pytest.TempPathFactory, own_database: Database) -> Iterator[Factory]:
        wire = SlowWire(own_database.port)
        yield partial(made, _folder(tmp_path_factory), wire.port)
        wire.close()

    @pytest.fixture
    def hands(self, own_database: Database) -> Hands:
        return MySQLHands(own_database)


def _folder(factory: pytest.TempPathFactory) -> Path:
    """One for the whole run: weights of collations are asked of each kind of server once."""
    folder = factory.getbasetemp() / "mysql-source"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.mariadb
class TestMariaDB(MySQLContract):
    @pytest.fixture
    def own_database(self, mariadb_database: Database) -> Database:
        return mariadb_database


@pytest.mark.mysql9
class TestMySQL9(MySQLContract):
    @pytest.fixture
    def own_database(self, mysql9_database: Database) -> Database:
        return mysql9_database


@pytest.mark.mysql80
class TestMySQL80(MySQLContract):
    @pytest.fixture
    def own_database(self, mysql80_database: Database) -> Database:
        return mysql80_database
