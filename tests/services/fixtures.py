"""Fixtures of real servers: one of each kind for a worker's whole session, started when first asked for.

| fixture | gives |
|---|---|
| `mariadb`, `mysql9`, `mysql80`, `oceanbase` | the worker's server of that kind |
| `mysql_server` | each of the first three in turn: those that are sources too |
| `mariadb_database`, `mysql9_database`, `mysql80_database`, `oceanbase_database` | a fresh `Database` there |
| `database` | a fresh `Database` on each `mysql_server` in turn |
| `private_mariadb`, `private_mysql9`, `private_mysql80`, `private_oceanbase` | makes servers `(*options)` to break |

A database is dropped after its test.

A server that cannot be had skips the test with the reason, but fails it where CI is set: CI tests everything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from syncd.testing.servers import MariaDB, MySQL9, MySQL80, OceanBase, Server, ServerUnavailable
from tests.services.database import Database, fresh_database

PrivateServer = Callable[..., Server]
"""Called with the server's options; gives a started server that is the test's own."""

KINDS = [
    pytest.param("mariadb", marks=pytest.mark.mariadb),
    pytest.param("mysql9", marks=pytest.mark.mysql9),
    pytest.param("mysql80", marks=pytest.mark.mysql80),
]


def in_ci() -> bool:
    """Whether this run may leave nothing out."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false", "no")


def started(server: Server, stack: ExitStack) -> Server:
    """Start `server` until `stack` closes; where it cannot be had, skip, or fail in CI."""
    try:
        return stack.enter_context(server)
    except ServerUnavailable as e:
        if in_ci():
            pytest.fail(str(e), pytrace=False)
        pytest.skip(str(e))


def _session(kind: type[Server]) -> Iterator[Server]:
    with ExitStack() as stack:
        yield started(kind(), stack)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """The worker's MariaDB."""
    yield from _session(MariaDB)


@pytest.fixture(scope="session")
def mysql9() -> Iterator[Server]:
    """The worker's MySQL 9."""
    yield from _session(MySQL9)


@pytest.fixture(scope="session")
def mysql80() -> Iterator[Server]:
    """The worker's MySQL 8.0."""
    yield from _session(MySQL80)


@pytest.fixture(scope="session")
def _oceanbase() -> Iterator[Server]:
    for server in _session(OceanBase):
        server.freeze()
        yield server
        server.thaw()


@pytest.fixture
def oceanbase(_oceanbase: Server) -> Iterator[Server]:
    """The worker's OceanBase. It takes a fifth of a core also while nobody asks it anything, so between the tests of
    it, it stands still."""
    _oceanbase.thaw()
    yield _oceanbase
    _oceanbase.freeze()


@pytest.fixture(params=KINDS)
def mysql_server(request: pytest.FixtureRequest) -> Server:
    """Each of the three servers in turn."""
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def database(mysql_server: Server) -> Iterator[Database]:
    """A fresh database on each of the three servers in turn."""
    with fresh_database(mysql_server) as made:
        yield made


@pytest.fixture
def mariadb_database(mariadb: Server) -> Iterator[Database]:
    """A fresh database on MariaDB."""
    with fresh_database(mariadb) as made:
        yield made


@pytest.fixture
def mysql9_database(mysql9: Server) -> Iterator[Database]:
    """A fresh database on MySQL 9."""
    with fresh_database(mysql9) as made:
        yield made


@pytest.fixture
def mysql80_database(mysql80: Server) -> Iterator[Database]:
    """A fresh database on MySQL 8.0."""
    with fresh_database(mysql80) as made:
        yield made


@pytest.fixture
def oceanbase_database(oceanbase: Server) -> Iterator[Database]:
    """A fresh database on OceanBase."""
    with fresh_database(oceanbase) as made:
        yield made


def _private(kind: type[Server]) -> Iterator[PrivateServer]:
    with ExitStack() as stack:
        yield lambda *options, port=None: started(kind(options=options, port=port), stack)


@pytest.fixture
def private_mariadb() -> Iterator[PrivateServer]:
    """A factory of MariaDB servers that the test may kill, freeze and reconfigure."""
    yield from _private(MariaDB)


@pytest.fixture
def private_mysql9() -> Iterator[PrivateServer]:
    """A factory of MySQL 9 servers that the test may kill, freeze and reconfigure."""
    yield from _private(MySQL9)


@pytest.fixture
def private_mysql80() -> Iterator[PrivateServer]:
    """A factory of MySQL 8.0 servers that the test may kill, freeze and reconfigure."""
    yield from _private(MySQL80)


@pytest.fixture
def private_oceanbase() -> Iterator[PrivateServer]:
    """A factory of OceanBase servers that the test may kill, freeze and reconfigure."""
    yield from _private(OceanBase)
