"""Another server in the source's place: it has all that was copied, gets it later, lacks it, or is a foreign one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from syncd.errors import FatalError, TransactionsLost, TransientError
from syncd.model import Position
from syncd.sources.mysql import MySQLSource
from syncd.sources.mysql.connect import connect
from syncd.sources.mysql.log_identity import log_identity
from syncd.sources.mysql.options import Options
from syncd.spi import Context
from syncd.testing.servers import Server
from tests.e2e.proxy import proxied
from tests.services.database import Database, fresh_database
from tests.services.database import connect as connected
from tests.services.fixtures import PrivateServer
from tests.services.replication import follow, run

KINDS = [pytest.param("mariadb", marks=pytest.mark.mariadb), pytest.param("mysql9", marks=pytest.mark.mysql9)]


def source(folder: Path, port: int) -> MySQLSource:
    made = MySQLSource(Options(url=f"mysql://root@127.0.0.1:{port}"), Context("job", folder))
    made.open()
    return made


def copied(database: Database, folder: Path) -> Position:
    """The position behind all that is there."""
    asked = source(folder, database.port)
    try:
        return asked.head(1).position
    finally:
        asked.close()


def identified(server: Server, position: Position) -> str:
    options = Options(url=f"mysql://root@127.0.0.1:{server.port}")
    with closing(connect(options)) as connection:
        return log_identity(connection, position)


def until(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def soon(server: Server, position: Position) -> bool:
    try:
        identified(server, position)
    except TransientError:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_a_promoted_replica(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    private: PrivateServer = request.getfixturevalue(f"private_{kind}")
    more = ("--log-slave-updates",) if kind == "mariadb" else ()
    old, new = private("--server-id=11", *more), private("--server-id=12", *more)
    word = "REPLICA" if kind == "mysql9" else "SLAVE"
    follow(new, old)
    with fresh_database(old) as database:
        database.execute("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
        all_there = copied(database, tmp_path)
        until(lambda: soon(new, all_there))
        assert identified(new, all_there) != identified(old, all_there)

        with closing(connected(new)) as connection, connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLES `{database.name}`.t READ")
            database.execute("INSERT INTO t VALUES (2)")
            later = copied(database, tmp_path)
            with pytest.raises(TransientError, match=r"lacks 1 transaction .* it is a replica, and may still get them"):
                identified(new, later)
        until(lambda: soon(new, later))

        # Promoted without what comes now, and with a newer transaction of its own.
        run(new, f"STOP {word}")
        database.execute(*(f"INSERT INTO t VALUES ({n})" for n in (3, 4)))
        lost = copied(database, tmp_path)
        run(new, f"INSERT INTO `{database.name}`.t VALUES (30)", f"DELETE FROM `{database.name}`.t WHERE id = 30")
        with pytest.raises(TransactionsLost, match=r"lacks 2 transactions .* that were already copied from") as lacks:
            identified(new, lost)
        assert lacks.value.code == "E176"
        assert named(lost, 2) in str(lacks.value)
        assert identified(new, later)

        foreign: Server = request.getfixturevalue(kind)
        with fresh_database(foreign), pytest.raises(FatalError, match="another server altogether") as other:
            identified(foreign, lost)
        assert other.value.code == ("E176" if kind == "mariadb" else "E177")
        assert not isinstance(other.value, TransactionsLost)  # no policy makes the copies equal to it
        told = json.loads(lost)
        otherwise = "mysql:3e11fa47-71ca-11e1-9e33-c80aa9429562" if kind == "mariadb" else "mariadb:7"
        with pytest.raises(FatalError, match="nothing in common"):
            identified(new, Position(json.dumps({**told, "server": otherwise})))
        del told["gtid"]
        with pytest.raises(FatalError, match=r"is of the server .*, and no GTIDs are known") as unknown:
            identified(new, Position(json.dumps(told)))
        assert (type(unknown.value), unknown.value.code) == (FatalError, "E177")  # that no policy goes on with

        with proxied(old.port) as proxy:
            asked = source(tmp_path, proxy.port)
            assert asked.identity(later) == asked.identity(lost)
            proxy.lead_to(new.port)  # and the old one goes on answering whom it knows
            with pytest.raises(TransientError, match=r"led to .*:.*, and now it leads to"):
                asked.identity(later)
            with pytest.raises(TransientError, match="now it leads to"):
                next(iter(asked.stream(later, 1, {}, lambda table: False, lambda table: ())))
            asked.close()
            asked.open()
            assert asked.identity(later) == identified(new, later)
            asked.close()


def named(position: Position, count: int) -> str:
    """The last transactions of the position, as they are named."""
    gtid = str(json.loads(position)["gtid"])
    if ":" in gtid:
        uuid, _, last = gtid.rpartition(":")
        end = int(last.rpartition("-")[2])
        return f"{uuid.rpartition(',')[2].partition(':')[0]}:{end - count + 1}-{end}"
    domain, by, at = gtid.rpartition(",")[2].split("-")
    return f"{domain}-{by}-{int(at) - count + 1} to {gtid.rpartition(',')[2]}"
