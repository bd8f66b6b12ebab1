"""The throttle `replica_lag_s` on real replication: lag, a replica that stands still, is away, or is none."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from syncd.errors import FatalError
from syncd.model import Finding
from syncd.sources.mysql import MySQLSource
from syncd.sources.mysql.snapshot.throttle import Throttle
from syncd.spi import Context
from syncd.testing.servers import Server
from tests.services.database import connect
from tests.services.fixtures import PrivateServer
from tests.services.replication import follow, run

LIMIT = 2.0
KINDS = [
    pytest.param("mariadb", marks=pytest.mark.mariadb),
    pytest.param("mysql9", marks=pytest.mark.mysql9),
    pytest.param("mysql80", marks=pytest.mark.mysql80),
]


class Asked:
    """A throttle of a job that reads from `url`; `finding` is what it sees now."""

    def __init__(self, folder: Path, url: str, **options: Any) -> None:
        self.waits: list[str] = []
        self.sleeps: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None
        context = Context("job", folder, throttle={"replica_lag_s": LIMIT}, waits=self.waits.append)
        made = MySQLSource.Options(url=url, **options)
        self.throttle = Throttle(context, lambda: None, made, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.meanwhile()
        time.sleep(0.1)

    def finding(self) -> Finding:
        (one,) = self.throttle.findings()
        return one


def until(what: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_lag(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    private: PrivateServer = request.getfixturevalue(f"private_{kind}")
    source, replica = private(), private()
    follow(replica, source)
    word = "REPLICA" if kind == "mysql9" else "SLAVE"
    to = {name: f"mysql://root@127.0.0.1:{server.port}/" for name, server in (("s", source), ("r", replica))}
    watching, itself = Asked(tmp_path, to["s"], replicas=(to["r"],)), Asked(tmp_path, to["r"])
    for asked in (watching, itself):
        until(partial(is_ok, asked))
        asked.throttle(1)
        assert asked.waits == []

    run(replica, f"STOP {word}")
    assert "not known (its replication does not run)" in watching.finding().text
    watching.meanwhile = lambda: run(replica, f"START {word}") if len(watching.sleeps) == 2 else None
    watching.throttle._looked = float("-inf")
    watching.throttle(1)
    assert "not known" in watching.waits[0]
    assert watching.waits[-1] == ""

    with closing(connect(replica)) as connection, connection.cursor() as cursor:
        run(source, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)")
        until(lambda: "t" in tables(replica))
        cursor.execute("LOCK TABLES d.t READ")
        run(source, "INSERT INTO d.t VALUES (1)")
        until(lambda: itself.finding().level == "warning")
        assert "s behind" in itself.finding().text
    until(lambda: itself.finding().level == "ok")

    replica.kill()
    assert "cannot be reached" in watching.finding().text
    replica.start()
    until(lambda: watching.finding().level == "ok")
    assert Asked(tmp_path, to["s"]).finding().text.endswith("is no replica")
    with pytest.raises(FatalError, match="is no replica"):
        Asked(tmp_path, to["s"]).throttle(1)
    for asked in (watching, itself):
        asked.throttle.close()


def is_ok(asked: Asked) -> bool:
    return asked.finding().level == "ok"


def tables(server: Server) -> set[str]:
    with closing(connect(server)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'd'")
        return {str(row[0]) for row in cursor.fetchall()}
