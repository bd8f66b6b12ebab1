"""The driver's and the server's errors, mapped to syncd's once.

Numbers are the server's (`perror`, "Server Error Message Reference") and the client's (2000 and above).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pymysql

from syncd.errors import FatalError, PluginError, SyncdError, TransientError

_LOST = {2000, 2002, 2003, 2004, 2005, 2006, 2013, 2014, 2027, 1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1184}
_LOST |= {1927, 3169, 4031}
_BUSY = {1040, 1203, 1205, 1213, 1226, 1317, 1836, 1969, 3024, 3572, 1637, 1206, 1021, 1037, 1041, 1135}
_BUSY |= {4012, 4013, 4023, 4030, 4038, 4184, 4264, 4654, 4721, 5066, 6002, 6005, 6210, 6330}
"""The second line: OceanBase's own for time, memory, disk, a leader that moves, and a lock, transaction or session that
it took away. What the others mean by these numbers is no answer to what syncd says."""
_PASSWORD = {1045, 1698, 1251, 2054, 2059, 1524}
_ACCOUNT = {1129, 1130, 1820, 1862, 3118, 4151, 3159}
_GRANT = {1044, 1142, 1143, 1227, 1370, 1345}
_CHANGED = {1146, 1412, 1054, 1049, 1051, 1932, 1109}
_TOO_LARGE = {1153, 1301, 2020}
_TLS = {2026}


def code_of(error: BaseException) -> int:
    """The number of a driver error; 0 without one."""
    number = error.args[0] if error.args else 0
    return number if isinstance(number, int) else 0


def text_of(error: BaseException) -> str:
    """The server's words alone."""
    return str(error.args[1]) if len(error.args) > 1 else str(error)


def translate(error: BaseException, where: str, table: str | None = None) -> SyncdError:
    """The syncd error for a driver error met while doing something at `where`, on `table` if it concerns one."""
    cause = getattr(error, "original_exception", error)
    number, text = code_of(error), text_of(error)
    place = f"{where}, table {table}" if table else where
    if isinstance(cause, ssl.SSLError) or number in _TLS:
        hint = "see `tls`: the authority, the certificate's name, and whether the server speaks TLS at all"
        return FatalError(f"{place}: TLS was refused: {text}", hint=hint, code="E180")
    closed = isinstance(error, pymysql.err.InterfaceError) and not number  # it broke in the statement before
    if number in _LOST or closed or isinstance(error, OSError):
        hint = "is the server up, and its address and port right?"
        return TransientError(f"{place}: the server cannot be reached: {text}", hint=hint)
    if number in _BUSY:
        return TransientError(f"{place}: {text} ({number})", retry_after=2.0)
    if isinstance(error, RuntimeError) and "cryptography" in text:
        hint = "pip install '.[mysql]' in the checkout of syncd"
        return PluginError(f"{place}: the account's password method needs the package cryptography", hint=hint)
    return _fatal(number, text, place, table)


def _fatal(number: int, text: str, place: str, table: str | None) -> SyncdError:
    if number in _PASSWORD:
        hint = "check user and `password`, and that the account may come from this host"
        return FatalError(f"{place}: the server refused the log-in: {text}", hint=hint, code="E181")
    if number in _ACCOUNT:
        return FatalError(
            f"{place}: the server does not let this account or host in: {text}", hint="ask its owner", code="E181"
        )
    if number in _GRANT:
        hint = "`syncd check` prints the GRANT statements of what every job needs"
        return FatalError(f"{place}: a grant is missing: {text}", table=table, hint=hint, code="E182")
    if number in _CHANGED:
        hint = "resync the table if it was changed on purpose"
        return FatalError(
            f"{place}: dropped, renamed or altered meanwhile: {text}", table=table, hint=hint, code="E183"
        )
    if number in _TOO_LARGE:
        hint = "raise max_allowed_packet at the server above the largest row"
        return FatalError(
            f"{place}: a row or statement is larger than max_allowed_packet: {text}",
            table=table,
            hint=hint,
            code="E184",
        )
    return FatalError(f"{place}: {text} ({number})", table=table)


@contextmanager
def mapped(where: str, table: str | None = None) -> Iterator[None]:
    """Let only errors of syncd out: what the driver or the socket raises inside is translated."""
    try:
        yield
    except (pymysql.err.Error, OSError, RuntimeError) as error:
        raise translate(error, where, table) from error
