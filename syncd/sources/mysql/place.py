"""A place in the log, as the heads are found by."""

from __future__ import annotations

from typing import NamedTuple

from syncd.errors import FatalError
from syncd.sources.mysql.binlog.seq import file_number
from syncd.sources.mysql.connect import Connection, dicts, server


class Place(NamedTuple):
    """Before byte `pos` of log file `file`; `gtid` the transactions before it, None where the server has no GTIDs."""

    file: str
    pos: int
    gtid: str | None = None

    @property
    def order(self) -> tuple[int, int]:
        return file_number(self.file), self.pos


def log_end(connection: Connection) -> Place:
    """The end of the log. FatalError: the server writes none, or the grant is missing."""
    at = server(connection)
    new = not at.mariadb and at.at_least(8, 2)
    found = dicts(connection, "SHOW BINARY LOG STATUS" if new else "SHOW MASTER STATUS")
    if not found:
        raise no_log()
    row = found[0]
    return Place(str(row["file"]), int(row["position"]))


def no_log() -> FatalError:
    return FatalError("the server writes no binary log", hint="start it with --log-bin, and resync", code="E186")
