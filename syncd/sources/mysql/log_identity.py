"""Whose log answers now, and places in it that people wrote."""

from __future__ import annotations

import re

from syncd.errors import FatalError, PositionLost, TransactionsLost, TransientError
from syncd.model import Head, Position
from syncd.sources.mysql.binlog import gtid as gtids
from syncd.sources.mysql.binlog import position as positions
from syncd.sources.mysql.binlog.seq import file_number, make
from syncd.sources.mysql.connect import Connection, dicts, server
from syncd.sources.mysql.head import identity
from syncd.sources.mysql.lacking import coming, lacking
from syncd.sources.mysql.place import log_end

_WITHIN = re.compile(
    r"table_map|(write|update|delete|partial_update)_rows|rows_query|annotate_rows|query|xid|xa_prepare|intvar|rand"
    r"|user.?var|transaction_payload|begin_load|execute_load",
    re.IGNORECASE,
)
"""How the names of events begin before which a GTID event stands (MySQL's also without GTIDs)."""

_COMING_SECONDS = 5.0

_FILE_AND_BYTE = re.compile(r"^([^:,/\s]+\.\d+):(\d+)$")


def log_identity(connection: Connection, position: Position) -> str:
    """The name of the log that answers now. PositionLost, TransactionsLost, FatalError: not to be gone on with.

    TransientError: not yet, since what was copied from another server is still to come here.
    """
    here, saved = identity(connection), positions.load(position)
    if saved.server in {"", here}:
        _still_there(connection, here, saved)
        _reaches(connection, here, saved)
        return here
    if saved.gtid is None:
        # No policy makes copies equal to a server that may be a stranger's.
        raise FatalError(
            f"the saved position {saved.file}:{saved.pos} is of the server {saved.server}, {here} answers, and no "
            "GTIDs are known: a place in one server's log says nothing of another's",
            hint="let the source's address lead to the old server, or load anew (`syncd jobs resync`); a job that "
            "begins with GTIDs (MySQL: gtid_mode ON) can change servers",
            code="E177",
        )
    if server(connection).mariadb != saved.server.startswith("mariadb:"):
        raise FatalError(
            f"the saved position is of {saved.server}, the server is {here}: their logs have nothing in common",
            hint="let the source's address lead to a server of the same kind, or load anew",
            code="E177",
        )
    _has_all(connection, here, saved.server, saved.gtid)
    return here


def _has_all(connection: Connection, here: str, before: str, copied: str) -> None:
    """The transactions that were copied from `before` are `here`. TransientError: they are on their way.

    TransactionsLost: some are not; FatalError: none is, or that cannot be told.
    """
    lost = lacking(connection, copied, itself=False)
    if not lost.gtids:
        return
    if lost.kin == "no":
        raise FatalError(
            f"{here} has no transaction of those that were copied from {before}: it is another server altogether, "
            f"with other data; it has {lost.has or 'none'}, copied was {copied or 'none'}",
            hint="let the source's address lead to the old server or to a replica of it, or load anew",
            code="E177",
        )
    what = f"{here} lacks {lost} that were already copied from {before}"
    if coming(connection):
        raise TransientError(f"{what}; it is a replica, and may still get them", retry_after=_COMING_SECONDS)
    what += f": it has {lost.has or 'none'}, copied was {copied}"
    hint = "let the source's address lead to a server that has them, bring them there and start again, or load anew"
    if lost.kin == "yes":
        raise TransactionsLost(what, hint=hint)
    # No policy makes copies equal to a server that may be a stranger's.
    what += "; or it is another server altogether: it knows none of the server of these"
    raise FatalError(what, hint=hint, code="E176")


def _still_there(connection: Connection, here: str, saved: positions.Place) -> None:
    """PositionLost: the server of this name no longer knows a transaction that was copied: its log was reset, it was
    restored, or it is another one. Where new ones have the old names, the log file itself tells (`Place.made`)."""
    lost = lacking(connection, saved.gtid, itself=True) if saved.gtid else None
    if lost is not None and lost.gtids:
        raise PositionLost(
            f"{here} lacks transactions that were already copied from it, {lost}: it has {lost.has or 'none'}, "
            f"copied was {saved.gtid}; its log was reset, or it was restored",
            hint="load anew",
        )


def _reaches(connection: Connection, here: str, saved: positions.Place) -> None:
    """PositionLost: the log ends before the saved place."""
    if not saved.file:
        return
    try:
        end = log_end(connection)
    except FatalError as error:
        if error.code == "E182":  # the grant is named by `check`, and the job can do its work without it
            return
        raise
    if end.order < (file_number(saved.file), saved.pos):
        raise PositionLost(
            f"the log of {here} ends at {end.file}:{end.pos}, before {saved.file}:{saved.pos}, up to which it was "
            "copied; it was reset, or it lost its end, or the server was restored",
            hint="load anew",
        )


def written_place(connection: Connection, text: str, epoch: int) -> Head:
    """`binlog.000012:4711`, or a GTID set. FatalError: neither."""
    here = identity(connection)
    found = _FILE_AND_BYTE.match(text.strip())
    if found:
        file, byte = found[1], int(found[2])
        _begins_there(connection, here, file, byte)
        return Head(positions.Place(file, byte, None, here).dump(), make(epoch, file_number(file), byte))
    try:
        known = gtids.parse(text, mariadb=server(connection).mariadb)
    except FatalError as error:
        raise FatalError(
            f"{text!r} is no place in the log of {here}: {error.what}",
            hint="write binlog.000012:4711, or a GTID set of this server",
        ) from error
    return Head(positions.Place(gtid=known.text(), server=here).dump(), make(epoch, 0, 0))


def _begins_there(connection: Connection, here: str, file: str, byte: int) -> None:
    """FatalError: no event begins at this byte, or one amid a transaction, half of which would be copied."""
    hint = f"`SHOW BINLOG EVENTS IN '{file}'` says where transactions begin: at their GTID events"
    quoted = file.replace("'", "''")
    try:
        found = dicts(connection, f"SHOW BINLOG EVENTS IN '{quoted}' FROM {byte} LIMIT 1")
    except FatalError as error:
        raise FatalError(f"{file}:{byte} is no place in the log of {here}: {error.what}", hint=hint) from error
    if found and _WITHIN.match(str(found[0]["event_type"])):
        raise FatalError(
            f"{file}:{byte} is in the middle of a transaction in the log of {here}: "
            f"a {found[0]['event_type']} event begins there",
            hint=hint,
        )
