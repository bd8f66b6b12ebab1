"""A consistent read whose place in the log is known: every change of the table before it is seen, none behind it.

| server | how |
|---|---|
| MariaDB | a consistent snapshot, which says its own place; no lock |
| MySQL | the table is locked for a moment: the snapshot that is begun then and the end of the log belong together |

While it is locked, nothing of the table is on its way between the log and visibility. The lock waits for open
transactions on the table, prepared XA branches among them. `READ` does so without holding up anybody; where writers
never leave a gap, `WRITE` gets in line before them, for a second at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from syncd.drivers.mysql.faults import code_of
from syncd.errors import FatalError, SyncdError, TransientError
from syncd.model import Head, TableId, TableSchema
from syncd.sources.mysql import head as heads
from syncd.sources.mysql.connect import Connection, quoted, rows, server
from syncd.sources.mysql.options import Options
from syncd.sources.mysql.place import Place, log_end

CONSISTENT = "innodb"
_LOCK_SECONDS = 10
_LOCKED, _REDEFINED = 1205, 1412
_HOLDERS = (
    "SELECT t.processlist_id, t.processlist_user, t.processlist_host FROM performance_schema.metadata_locks m "
    "LEFT JOIN performance_schema.threads t ON t.thread_id = m.owner_thread_id "
    "WHERE m.object_schema = %s AND m.object_name = %s AND m.lock_status = 'GRANTED' LIMIT 5"
)


def begin_at_a_place(
    table: TableId, locking: Callable[[], Connection], options: Options, epoch: int, reading: Connection
) -> Head:
    """Begin a consistent read on `reading`; its place. `locking`: another connection, asked for where one is needed.

    TransientError: somebody holds the table.
    """
    if server(reading).mariadb:
        heads.begin_snapshot(reading)
        return heads.head_at(reading, options, epoch, heads.snapshot_place(reading))
    with _locked(locking(), table, min(_LOCK_SECONDS, max(1, int(options.head_timeout)))) as lock:
        heads.begin_snapshot(reading)
        # Nothing of the table is between the log and visibility: its changes so far are before this end, and executed.
        place: Place = log_end(lock)
        if heads.by_gtids(lock, options):
            place = place._replace(gtid=heads.executed(lock))
    return heads.head_at(reading, options, epoch, place)


@contextmanager
def _locked(connection: Connection, table: TableId, seconds: int) -> Iterator[Connection]:
    try:
        _lock(connection, table, "READ", seconds)
    except TransientError as error:
        if _code(error) != _LOCKED:
            raise
        _lock_before_writers(connection, table, seconds)
    try:
        yield connection
    finally:
        rows(connection, "UNLOCK TABLES")


def _lock_before_writers(connection: Connection, table: TableId, waited: int) -> None:
    try:
        _lock(connection, table, "WRITE", 1)
    except TransientError as error:
        if _code(error) != _LOCKED:
            raise
        raise TransientError(
            f"{table}: transactions have held the table for {waited + 1} s, so that it cannot be locked for a moment: "
            f"{_holders(connection, table)}",
            hint="end them; XA RECOVER shows prepared ones",
            retry_after=5.0,
        ) from error


def _lock(connection: Connection, table: TableId, mode: str, seconds: int) -> None:
    rows(connection, f"SET SESSION lock_wait_timeout = {seconds}")
    rows(connection, f"LOCK TABLES {quoted(*table)} {mode}", table=str(table))


def _holders(connection: Connection, table: TableId) -> str:
    try:
        found = rows(connection, _HOLDERS, table)
    except FatalError as error:
        return f"who they are cannot be seen ({error.what})"
    names = [f"connection {number} ({user}@{host})" if number else "a prepared one" for number, user, host in found]
    return ", ".join(names) or "see SHOW PROCESSLIST"


def consistent(connection: Connection, schema: TableSchema) -> None:
    """FatalError: the table's engine has no consistent reads. TransientError: it has more columns than `schema`."""
    table = schema.table
    found = rows(
        connection,
        "SELECT engine FROM information_schema.tables WHERE table_schema = %s AND table_name = %s",
        table,
    )
    engine = str(found[0][0]) if found else CONSISTENT  # that it is gone is told by the read
    if engine.lower() != CONSISTENT:
        raise FatalError(
            f"{table}: engine {engine} has no consistent reads, which a table without a key needs",
            table=str(table),
            hint=f"ALTER TABLE {quoted(*table)} ENGINE = InnoDB, or give it a primary key",
            code="E194",
        )
    sql = "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"
    added = {str(name) for (name,) in rows(connection, sql, table)} - {c.name for c in schema.columns}
    if added:
        raise _altered(table, f"it has column {min(added)} now")


@contextmanager
def defined(table: TableId) -> Iterator[None]:
    """A table that was altered after the read began and before it came to the table: the read is begun again."""
    try:
        yield
    except FatalError as error:
        if _code(error) != _REDEFINED:
            raise
        raise _altered(table, error.what) from error


def _altered(table: TableId, what: str) -> TransientError:
    hint = "it is read once its new columns are known from the log"
    return TransientError(f"{table} was altered while its read began: {what}", hint=hint, retry_after=2.0)


def _code(error: SyncdError) -> int:
    return code_of(error.__cause__) if error.__cause__ is not None else 0
