"""The events that are no row changes: their bodies, parsed one at a time.

`body` is an event without header and checksum. Sources: MySQL `libbinlogevents/include/control_events.h`,
`statement_events.h`; MariaDB `sql/log_event.h`.
"""

from __future__ import annotations

from dataclasses import dataclass

from syncd.errors import FatalError
from syncd.sources.mysql.binlog.kinds import (
    DELETE_ROWS,
    DELETE_ROWS_V1,
    PARTIAL_UPDATE_ROWS,
    TABLE_MAP,
    WRITE_ROWS,
    WRITE_ROWS_V1,
)
from syncd.sources.mysql.binlog.reader import Reader
from syncd.sources.mysql.binlog.tokens import PLAIN, Quoting

_BEFORE_LENGTHS = 2 + 50 + 4 + 1
_LENGTHS = {TABLE_MAP: 8, PARTIAL_UPDATE_ROWS: 10, **dict.fromkeys(range(WRITE_ROWS_V1, DELETE_ROWS_V1 + 1), 8)}
_LENGTHS |= dict.fromkeys(range(WRITE_ROWS, DELETE_ROWS + 1), 10)


def rotate(body: bytes) -> tuple[str, int]:
    """The next log file and the place in it."""
    reader = Reader(body, "ROTATE")
    place = reader.number(8)
    return reader.rest().decode("utf-8", "replace"), place


def checksum_of(event: bytes) -> bool:
    """Whether the events behind this whole FORMAT_DESCRIPTION event have a CRC32.

    It ends in the algorithm and four bytes, whatever the algorithm. FatalError: the log has another format.
    """
    reader = Reader(event[19:-5], "FORMAT_DESCRIPTION")
    version = reader.number(2)
    reader.take(50 + 4)
    header = reader.number(1)
    lengths = reader.rest()
    if (version, header) != (4, 19):
        raise FatalError(f"the log has format {version} with headers of {header} bytes, not 4 with 19")
    for kind, wanted in _LENGTHS.items():
        # a server that does not know an event type says nothing of it, or 0
        if kind <= len(lengths) and lengths[kind - 1] not in (wanted, 0):
            raise FatalError(
                f"the log's events of type {kind} have fixed parts of {lengths[kind - 1]} bytes, not {wanted}"
            )
    algorithm = event[-5]
    if algorithm > 1:
        raise FatalError(f"the log has checksums of kind {algorithm}", hint="SET GLOBAL binlog_checksum = CRC32")
    return algorithm == 1


@dataclass(frozen=True, slots=True)
class Query:
    """A statement. `charset`: number of the client's collation, 0 where unknown; `zone`: the session's time zone, ""
    where the statement's effect does not depend on it; `empty_is_null`: an empty literal is NULL (MariaDB).
    `utf8mb4`: number of the collation that the session gives to utf8mb4 where none is said (MySQL), else 0. `strict`:
    the session refuses values that do not fit."""

    database: str
    text: bytes
    charset: int = 0
    database_charset: int = 0
    quoting: Quoting = PLAIN
    zone: str = ""
    empty_is_null: bool = False
    utf8mb4: int = 0
    strict: bool = False


_STRICT = 1 << 21 | 1 << 22
_ANSI_QUOTES, _NO_BACKSLASH_ESCAPES, _EMPTY_STRING_IS_NULL = 1 << 2, 1 << 20, 1 << 32
"""The last is MariaDB's; MySQL's TIME_TRUNCATE_FRACTIONAL has the same bit, and is taken for it to be safe."""
_SIZES = {0: 4, 3: 4, 7: 2, 9: 8, 10: 4, 13: 3, 16: 1, 17: 8, 19: 1, 20: 1, 128: 3, 129: 8}
"""Status variables of a fixed size that are passed over."""


_LOAD_PART = 13


def query(body: bytes, *, load: bool = False) -> Query:
    """Statement and the session values that its reading needs. Status variables behind an unknown one are passed over.

    `load`: of EXECUTE_LOAD_QUERY, which has the loaded file's number and name before the status variables.
    """
    what = "EXECUTE_LOAD_QUERY" if load else "QUERY"
    reader = Reader(body, what)
    reader.take(8)
    name_size = reader.number(1)
    reader.take(2)
    status_size = reader.number(2)
    reader.take(_LOAD_PART if load else 0)
    status = Reader(reader.take(status_size), what)
    database = reader.text(name_size)
    reader.take(1)
    charset = database_charset = utf8mb4 = 0
    quoting, mode, zone = PLAIN, 0, ""
    while status.left:
        kind = status.number(1)
        if kind == 1:
            mode = status.number(8)
            quoting = Quoting(bool(mode & _ANSI_QUOTES), not mode & _NO_BACKSLASH_ESCAPES)
        elif kind == 4:
            charset = status.number(2)
            status.take(4)
        elif kind == 5:
            zone = status.text(status.number(1))
        elif kind == 8:
            database_charset = status.number(2)
        elif kind == 18:
            utf8mb4 = status.number(2)
        elif not _skip_status(status, kind):
            break
    empty_is_null = bool(mode & _EMPTY_STRING_IS_NULL)
    return Query(
        database, reader.rest(), charset, database_charset, quoting, zone, empty_is_null, utf8mb4, bool(mode & _STRICT)
    )


def _skip_status(status: Reader, kind: int) -> bool:
    """Pass over one status variable; False: its size is not known."""
    if kind in (2, 6):  # catalog; 2 has a zero byte behind
        status.take(status.number(1) + (kind == 2))
    elif kind == 11:  # invoker: user and host
        status.take(status.number(1))
        status.take(status.number(1))
    elif kind == 12:  # databases touched
        count = status.number(1)
        if count != 254:
            for _ in range(count):
                while status.number(1):
                    pass
    elif kind in _SIZES:
        status.take(_SIZES[kind])
    else:
        return False
    return True
