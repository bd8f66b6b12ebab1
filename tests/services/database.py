"""A database of a test's own on a running server."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pymysql

from syncd.testing.servers import Server

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Database:
    """One database, by name, on `server`; connections are to `user`@`host`:`port` with an empty password."""

    server: Server
    name: str

    host = "127.0.0.1"
    user = "root"
    password = ""

    @property
    def port(self) -> int:
        """The server's TCP port."""
        return self.server.port

    def connect(self, **options: Any) -> pymysql.connections.Connection[Any]:
        """A new connection with this database chosen, in autocommit mode unless told otherwise."""
        return connect(self.server, **{"database": self.name, **options})

    def execute(self, *statements: str) -> None:
        """Run the statements in order on one connection."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run `statement` once for each of `rows`, in one transaction."""
        with closing(self.connect(autocommit=False)) as connection, connection.cursor() as cursor:
            cursor.executemany(statement, rows)
            connection.commit()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows that `statement` gives."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())


def connect(server: Server, **options: Any) -> pymysql.connections.Connection[Any]:
    """A new connection to `server` as root, in autocommit mode unless told otherwise."""
    settings = {"host": "127.0.0.1", "port": server.port, "user": "root", "charset": "utf8mb4", "autocommit": True}
    return pymysql.connect(**{**settings, **options})


@contextmanager
def fresh_database(server: Server) -> Iterator[Database]:
    """A new, empty database, dropped afterwards. Its name is unlike that of any other test of this run."""
    name = f"t{os.getpid()}_{next(_numbers)}"
    with closing(connect(server)) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{name}`")
    try:
        yield Database(server, name)
    finally:
        # a server that the test has killed or frozen takes its databases with it
        if server.running:
            with closing(connect(server, read_timeout=30)) as connection, connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")


@contextmanager
def user(database: Database, *grants: str, password: str = "", name: str = "someone") -> Iterator[str]:
    """The url of an account that has these grants alone."""
    account = f"{name}@'127.0.0.1'"
    database.execute(f"CREATE USER {account} IDENTIFIED BY '{password}'")
    for grant in grants:
        database.execute(f"GRANT {grant} TO {account}")
    try:
        yield f"mysql://{name}@127.0.0.1:{database.port}/"
    finally:
        database.execute(f"DROP USER {account}")
