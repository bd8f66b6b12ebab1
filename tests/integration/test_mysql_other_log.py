"""A server whose log is another one under the same name: the saved position is lost by name, never gone on from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from syncd.errors import FatalError, PositionLost
from syncd.model import Checkpoint, Position
from syncd.sources.mysql.connect import Connection, connect
from syncd.sources.mysql.head import head
from syncd.sources.mysql.log_identity import log_identity
from syncd.sources.mysql.options import Options
from syncd.sources.mysql.place import log_end as asked_end
from syncd.testing.servers import Server
from tests.integration.log_tools import here, log_end, read, schemas
from tests.services.database import Database, fresh_database, user
from tests.services.fixtures import KINDS, PrivateServer


@pytest.fixture(params=KINDS)
def private(request: pytest.FixtureRequest) -> Server:
    """A server of the test's own, of each kind in turn."""
    make: PrivateServer = request.getfixturevalue(f"private_{request.param}")
    return make()


def saved(database: Database) -> Position:
    """A position as capture saves it, behind everything."""
    options, connection = connected(database.server)
    with closing(connection):
        start = head(connection, options, 1).position
    last = read(database, start, schemas(database, "t"))[-1]
    assert isinstance(last, Checkpoint)
    assert json.loads(last.position).keys() == {"file", "pos", "gtid", "server", "made"}
    return last.position


def connected(server: Server) -> tuple[Options, Connection]:
    options = Options.model_validate({"url": f"mysql://root@127.0.0.1:{server.port}"})
    return options, connect(options)


def identified(server: Server, position: Position) -> str:
    with closing(connected(server)[1]) as connection:
        return log_identity(connection, position)


def without_gtids(position: Position) -> Position:
    return Position(json.dumps({name: value for name, value in json.loads(position).items() if name != "gtid"}))


def insert(database: Database, first: int, many: int) -> None:
    """Transactions that are all of the same size, whatever log they are in."""
    database.execute(*(f"INSERT INTO t VALUES ({n}, 'always as long')" for n in range(first, first + many)))


def reset(database: Database) -> None:
    newer = database.server.flavour == "mysql" and not database.server.version.startswith("8.0")
    database.execute("RESET BINARY LOGS AND GTIDS" if newer else "RESET MASTER")


def until_there(database: Database, position: Position, write: Callable[[], None]) -> None:
    """Write until the log has the saved place again."""
    for _ in range(50):
        if here(log_end(database)) >= here(position):
            return
        write()
    raise AssertionError(f"{position} is not reached: {log_end(database)}")


def lost(database: Database, position: Position) -> None:
    """In the stream, by the file, with GTIDs that say nothing any more and without any."""
    for place in (position, without_gtids(position)):
        with pytest.raises(PositionLost, match="is not the file that the saved position is in"):
            read(database, place, schemas(database, "t"))


def test_a_log_that_was_reset(private: Server) -> None:
    """Enough is written behind the reset that the saved place is there again, a boundary by chance."""
    with fresh_database(private) as database:
        database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
        reset(database)
        insert(database, 0, 40)
        position = saved(database)
        assert identified(private, position)
        assert read(database, position, schemas(database, "t"))
        reset(database)
        insert(database, 100, 30)
        with pytest.raises(PositionLost, match="lacks transactions that were already copied from it"):
            identified(private, position)
        with pytest.raises(PositionLost, match=r"ends at .*, before .*, up to which it was copied"):
            identified(private, without_gtids(position))
        insert(database, 130, 10)  # from here on, new transactions have the names of all that were copied
        numbers = count(140)
        until_there(database, position, lambda: insert(database, next(numbers), 1))
        identified(private, position)
        lost(database, position)


def test_an_account_that_may_not_ask_where_the_log_ends(database: Database) -> None:
    """The log is identified all the same; only that it has lost its end stays unseen."""
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    insert(database, 0, 2)
    position = saved(database)
    with user(database, "SELECT, REPLICATION SLAVE ON *.*") as url:
        options = Options.model_validate({"url": url})
        with closing(connect(options)) as connection:
            with pytest.raises(FatalError) as refused:
                asked_end(connection)
            assert refused.value.code == "E182"
            assert log_identity(connection, position) == identified(database.server, position)


def test_a_restored_older_data_directory(private: Server, tmp_path: Path) -> None:
    """The copy goes on in a file of the name of the one that the position is in."""
    with fresh_database(private) as database:
        database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
        insert(database, 0, 10)
        private.stop()
        shutil.copytree(private.data, tmp_path / "copy")
        private.start()
        insert(database, 10, 10)
        position = saved(database)
        assert identified(private, position)
        private.stop()
        shutil.rmtree(private.data)
        shutil.copytree(tmp_path / "copy", private.data)
        private.start()
        insert(database, 100, 5)
        with pytest.raises(PositionLost, match="lacks transactions that were already copied from it"):
            identified(private, position)
        numbers = count(105)
        until_there(database, position, lambda: insert(database, next(numbers), 1))
        lost(database, position)
