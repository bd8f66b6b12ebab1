"""Replication between two servers of a test's own."""

from __future__ import annotations

from contextlib import closing

from syncd.testing.servers import MySQL9, Server
from tests.services.database import connect


def run(server: Server, *statements: str) -> None:
    with closing(connect(server)) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def follow(replica: Server, source: Server) -> None:
    """Let `replica` replicate, from now on."""
    new = isinstance(source, MySQL9)
    with closing(connect(source)) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW BINARY LOG STATUS" if new else "SHOW MASTER STATUS")
        row = cursor.fetchone()
        assert row is not None
        file, place = row[:2]
    words = {"host": "'127.0.0.1'", "port": source.port, "user": "'root'", "log_file": f"'{file}'", "log_pos": place}
    if new:
        words["ssl"] = 1
    side = "SOURCE" if new else "MASTER"
    settings = ", ".join(f"{side}_{name.upper()} = {value}" for name, value in words.items())
    run(replica, f"CHANGE REPLICATION SOURCE TO {settings}" if new else f"CHANGE MASTER TO {settings}")
    run(replica, "START REPLICA" if new else "START SLAVE")
