"""The sink's own table `_syncd`, one in every database that it writes to, in the transactions of the rows.

    kind     owner            part        number   value
    fence    job/sink         -           epoch    -             the largest epoch that has written or was fenced for
    writer   job/sink         an id       epoch    connection    a connection that may write for the owner
    mark     job/sink         queue/tag   offset   JSON          how far a lane has been written
    mark     job/sink/chunk/t number/tag  writes   JSON          how much of a chunk has been written
    call     job/sink         epoch/n/tbl epoch    -             a write without marks, to a table without a key
    act      -                table       seq      -             the last TRUNCATE that was done
    act      -, job/sink      table/...   seq      -             other acts; those of one source table among several

It lies beside the rows, so that a database that is put back from a backup has the marks of its own rows. A writer is
registered before its first write, where the fence lets it; each transaction holds its writer's row. A fence removes the
writers of older epochs, which waits for their transactions, and ends their connections, so that a frozen process can
do nothing when it wakes up, not even an ALTER TABLE (7).
"""

# ruff: noqa: S608 - names are quoted, values are parameters

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping

from syncd.drivers.mysql.connection import Connection, quoted, rows
from syncd.drivers.mysql.faults import code_of
from syncd.errors import FatalError, FencedError, TransientError
from syncd.model import Lane, Target
from syncd.sinks.mysql.words import BOOK
from syncd.spi import Mark, Ticket

_GONE_SECONDS = 30.0
_SEEN_SECONDS = 10.0
_NO_SUCH_THREAD, _NO_TEXT = 1094, 3854
"""The server's errors: no such connection; a text cannot be converted."""
_TABLE = (
    "CREATE TABLE IF NOT EXISTS {} (kind VARBINARY(8) NOT NULL, owner VARBINARY(512) NOT NULL, part VARBINARY(300) NOT "
    "NULL, number BIGINT UNSIGNED NOT NULL, value TEXT CHARACTER SET utf8mb4 NULL, PRIMARY KEY (kind, owner, part)) "
    "DEFAULT CHARACTER SET utf8mb4 COMMENT 'syncd: who may write here, and how far it has; needed while a job does'"
)


class Unregistered(Exception):
    """The writer's row is gone: it is registered anew, or told that its epoch is over."""


class Book:
    """One connection's view of it."""

    def __init__(self, connection: Connection, *, folds: bool) -> None:
        """`folds`: databases are told by small letters, whatever they were called when they were made."""
        self._connection, self._folds = connection, folds
        self._me = uuid.uuid4().hex
        self._registered: dict[tuple[str, str], int] = {}

    def make(self, database: str) -> None:
        """It is there, and this connection finds it: OceanBase says "exists" of a database or table that another
        connection is just making, and "doesn't exist" in the next statement."""
        deadline = time.monotonic() + _SEEN_SECONDS
        while not self._finds(quoted(database, BOOK), patient=time.monotonic() < deadline):
            time.sleep(0.01)

    def _finds(self, book: str, *, patient: bool) -> bool:
        try:
            rows(self._connection, _TABLE.format(book))
            rows(self._connection, f"SELECT 1 FROM {book} LIMIT 0")
        except FatalError as error:
            if error.code != "E183" or not patient:
                raise
            return False
        return True

    def databases(self) -> list[str]:
        """Those that have one."""
        sql = "SELECT table_schema FROM information_schema.tables WHERE table_name = %s"
        return sorted(str(row[0]) for row in rows(self._connection, sql, [BOOK]))

    # -- who may write

    def fence(self, owner: str, epoch: int) -> None:
        for database in self.databases():
            self._fence(database, owner, epoch)

    def _fence(self, database: str, owner: str, epoch: int) -> None:
        book = quoted(database, BOOK)
        sql = f"SELECT part, value FROM {book} WHERE kind = 'writer' AND owner = %s AND number < %s"
        found = rows(self._connection, f"SELECT number FROM {book} WHERE kind = 'fence' AND owner = %s", [owner])
        _check_epoch(Ticket(owner, epoch, 0), int(found[0][0]) if found else 0)
        self._raise(book, owner, epoch)
        gone = f"DELETE FROM {book} WHERE kind = 'call' AND owner = %s AND number < %s"
        rows(self._connection, gone, [owner, epoch])
        for part, value in rows(self._connection, sql, [owner, epoch]):
            self._end(json.loads(value))
            rows(
                self._connection,
                f"DELETE FROM {book} WHERE kind = 'writer' AND owner = %s AND part = %s",
                [owner, part],
            )

    def _raise(self, book: str, owner: str, epoch: int) -> None:
        sql = (
            f"INSERT INTO {book} (kind, owner, part, number) VALUES ('fence', %s, '', %s) "
            "ON DUPLICATE KEY UPDATE number = GREATEST(number, VALUES(number))"
        )
        rows(self._connection, sql, [owner, epoch])

    def _end(self, connection: Mapping[str, float]) -> None:
        """End the connection, and wait until the server has forgotten it with all that it was doing.

        A number of a time before the server's own start is another one's by now.
        """
        if connection["at"] < self._started():
            return
        number, deadline = int(connection["id"]), time.monotonic() + _GONE_SECONDS
        if number == self._connection.thread_id():
            return  # our own, of an epoch before
        while (alive := self._alive()) is None or number in alive:
            if time.monotonic() > deadline:
                raise TransientError(f"connection {number} of an older writer does not end", retry_after=5.0)
            if not self._kill(number) and alive is None:
                return
            time.sleep(0.01)

    def _kill(self, number: int) -> bool:
        """Whether the server has known it: it may just have ended by itself."""
        try:
            rows(self._connection, f"KILL {number}")
        except FatalError as error:
            if _number(error) != _NO_SUCH_THREAD:
                raise
            return False
        return True

    def _alive(self) -> set[int] | None:
        """The numbers of the user's connections. None: MySQL 9 does not tell them while a statement of one of them has
        bytes that are no text.

        Not SHOW PROCESSLIST, which has the beginnings of their statements: cut in the middle of a character.
        """
        try:
            found = rows(self._connection, "SELECT id FROM information_schema.processlist")
        except FatalError as error:
            if _number(error) != _NO_TEXT:
                raise
            return None
        return {int(row[0]) for row in found}

    def _started(self) -> float:
        """When the server was started, by its own clock."""
        uptime = rows(self._connection, "SHOW GLOBAL STATUS LIKE 'Uptime'")
        return self._now() - float(uptime[0][1]) - 1 if uptime else 0.0

    def _now(self) -> float:
        return float(rows(self._connection, "SELECT UNIX_TIMESTAMP()")[0][0])

    def register(self, database: str, ticket: Ticket) -> None:
        """FencedError: the owner's epoch is over."""
        key = (database, ticket.owner)
        if self._registered.get(key) == ticket.epoch:
            return
        book = quoted(database, BOOK)
        rows(self._connection, "BEGIN")
        try:
            # Its row is locked by that, also where none was: a fence is seen here, or finds this writer afterwards.
            self._raise(book, ticket.owner, ticket.epoch)
            sql = f"SELECT number FROM {book} WHERE kind = 'fence' AND owner = %s FOR UPDATE"
            ((now,),) = rows(self._connection, sql, [ticket.owner])
            _check_epoch(ticket, int(now))
            value = json.dumps({"id": self._connection.thread_id(), "at": self._now()})
            sql = f"REPLACE INTO {book} (kind, owner, part, number, value) VALUES ('writer', %s, %s, %s, %s)"
            rows(self._connection, sql, [ticket.owner, self._me, ticket.epoch, value])
            rows(self._connection, "COMMIT")
        except BaseException:
            self._registered.pop(key, None)
            if self._connection.open:  # else a fence has ended it, which is what is told
                rows(self._connection, "ROLLBACK")
            raise
        self._registered[key] = ticket.epoch

    def admit(self, database: str, ticket: Ticket) -> None:
        """In the transaction of the rows: nobody can take over between this look and the commit."""
        sql = (
            f"SELECT number FROM {quoted(database, BOOK)} WHERE kind = 'writer' AND owner = %s AND part = %s FOR UPDATE"
        )
        found = rows(self._connection, sql, [ticket.owner, self._me])
        if not found or int(found[0][0]) != ticket.epoch:
            self._registered.pop((database, ticket.owner), None)
            raise Unregistered

    def leave(self) -> None:
        """This connection writes no more."""
        for database, owner in self._registered:
            sql = f"DELETE FROM {quoted(database, BOOK)} WHERE kind = 'writer' AND owner = %s AND part = %s"
            rows(self._connection, sql, [owner, self._me])
        self._registered.clear()

    # -- how far

    def marks(self, owner: str) -> dict[Lane, Mark]:
        found: dict[Lane, Mark] = {}
        for database in self.databases():
            sql = f"SELECT part, number, value FROM {quoted(database, BOOK)} WHERE kind = 'mark' AND owner = %s"
            for part, number, value in rows(self._connection, sql, [owner]):
                # A copy of the database under another name has the marks of its own rows, not of those.
                if self._same(str(json.loads(value).get("database", database)), database):
                    found[_lane(part)] = _mark(number, value)
        return found

    def _same(self, one: str, other: str) -> bool:
        return one == other or (self._folds and one.lower() == other.lower())

    def look(self, database: str, ticket: Ticket) -> bool:
        """Whether nothing of the write was done before. In its transaction, before its first row. MovedError: the marks
        are not those that it goes on from."""
        if not ticket.behind:
            return False
        parts = ", ".join(["%s"] * len(ticket.behind))
        book = quoted(database, BOOK)
        sql = f"SELECT part, number FROM {book} WHERE kind = 'mark' AND owner = %s AND part IN ({parts})"
        found = rows(self._connection, sql, [ticket.owner, *map(_part, ticket.behind)])
        return ticket.check_behind({_lane(part): int(number) for part, number in found})

    def done_before(self, target: Target, ticket: Ticket) -> bool:
        """Whether this very write was done: asked for tables without a key, where a second one would add its rows."""
        book, table = quoted(target.database, BOOK), target.name
        if not ticket.marks:
            sql = f"SELECT 1 FROM {book} WHERE kind = 'call' AND owner = %s AND part = %s"
            return bool(rows(self._connection, sql, [ticket.owner, _call(ticket, table)]))
        parts = ", ".join(["%s"] * len(ticket.marks))
        sql = f"SELECT part, number, value FROM {book} WHERE kind = 'mark' AND owner = %s AND part IN ({parts})"
        found = rows(self._connection, sql, [ticket.owner, *map(_part, ticket.marks)])
        there = {_lane(part): _mark(number, value) for part, number, value in found if _table(value) == table}
        return all(
            (known := there.get(lane)) is not None
            and known.incarnation == mark.incarnation
            and known.offset >= mark.offset
            for lane, mark in ticket.marks.items()
        )

    def mark(self, target: Target, ticket: Ticket) -> None:
        """The marks of all lanes in one statement: a copy of the database has all of them, or none."""
        book, table = quoted(target.database, BOOK), target.name
        if not ticket.marks and not target.schema.key:
            sql = f"INSERT INTO {book} (kind, owner, part, number) VALUES ('call', %s, %s, %s)"
            rows(self._connection, sql, [ticket.owner, _call(ticket, table), ticket.epoch])
        if not ticket.marks:
            return
        args: list[object] = []
        for lane, mark in sorted(ticket.marks.items()):
            named = {"database": target.database, "table": table}
            value = json.dumps({**named, "incarnation": mark.incarnation, "seqs": dict(mark.seqs)})
            args += [ticket.owner, _part(lane), mark.offset, value]
        values = ", ".join(["('mark', %s, %s, %s, %s)"] * len(ticket.marks))
        sql = (
            f"INSERT INTO {book} (kind, owner, part, number, value) VALUES {values} "
            "ON DUPLICATE KEY UPDATE number = VALUES(number), value = VALUES(value)"
        )
        rows(self._connection, sql, args)

    # -- acts

    def done(self, database: str, act: str, owner: str = "") -> int:
        """The seq of the last act of this name (a table's, for its TRUNCATE) that was done; 0 for none."""
        sql = f"SELECT number FROM {quoted(database, BOOK)} WHERE kind = 'act' AND owner = %s AND part = %s"
        found = rows(self._connection, sql, [owner, act])
        return int(found[0][0]) if found else 0

    def do(self, database: str, act: str, seq: int, owner: str = "") -> None:
        """An owner's number is the last one; of other acts it is the largest."""
        sql = (
            f"INSERT INTO {quoted(database, BOOK)} (kind, owner, part, number) VALUES ('act', %s, %s, %s) "
            f"ON DUPLICATE KEY UPDATE number = {'VALUES(number)' if owner else 'GREATEST(number, VALUES(number))'}"
        )
        rows(self._connection, sql, [owner, act, seq])

    def forget_acts(self, database: str, table: str) -> None:
        """Of a table that is made now nothing was ever done."""
        parts = f"{table}/".encode()
        sql = f"DELETE FROM {quoted(database, BOOK)} WHERE kind = 'act' AND (part = %s OR LEFT(part, %s) = %s)"
        rows(self._connection, sql, [table, len(parts), parts])


def _check_epoch(ticket: Ticket, now: int) -> None:
    if now > ticket.epoch:
        raise FencedError(
            f"{ticket.owner}: epoch {ticket.epoch} is over, {now} writes now",
            hint=f"where no other daemon runs the job, its data directory is another one than it was: drop the target "
            f"tables, and the rows of the job in the tables {BOOK} beside them",
        )


def _call(ticket: Ticket, table: str) -> str:
    return f"{ticket.epoch}/{ticket.number}/{table}"


def _table(value: str) -> str:
    return str(json.loads(value)["table"])


def _part(lane: Lane) -> str:
    return f"{lane.queue}/{lane.tag}"


def _lane(part: bytes | str) -> Lane:
    queue, _, tag = (part.decode() if isinstance(part, bytes) else part).partition("/")
    return Lane(tag, int(queue))


def _mark(number: int, value: str) -> Mark:
    told = json.loads(value)
    return Mark(int(number), told["incarnation"], {str(name): int(seq) for name, seq in told["seqs"].items()})


def _number(error: FatalError) -> int | None:
    """The server's own."""
    return None if error.__cause__ is None else code_of(error.__cause__)
