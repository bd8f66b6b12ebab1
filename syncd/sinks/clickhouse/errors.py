"""The one place where errors of ClickHouse and of its driver become errors of syncd."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from syncd.errors import FatalError, SyncdError, TransientError

_BUSY = {
    159: (5, "the statement ran out of time"),
    202: (5, "the server runs as many queries as it may"),
    209: (2, "the network timed out"),
    210: (2, "the network failed"),
    216: (5, "the same write is still running there"),
    236: (2, "the server gave the statement up"),
    241: (10, "the server has no memory left for it: fewer lanes, smaller batches or a higher max_memory_usage"),
    242: (10, "the table is read only for now: its replica has lost its keeper"),
    243: (60, "the server's disk is full: free space there"),
    252: (15, "too many parts: merges do not keep up; larger batches, fewer lanes, or no PARTITION BY"),
    285: (10, "too few replicas are alive"),
    469: (0, "the table was closed to older rows meanwhile: they are left out of the next try"),
    319: (5, "the server does not know what became of the insert"),
    394: (2, "the statement was cancelled at the server"),
    999: (10, "the keeper of the replicas is away"),
}
_REFUSED = {
    192: "name another `user`, or make it at the server",
    193: "mend `password`",
    194: "give `password`",
    516: "mend `user` and `password`",
    497: "grant what the message names to the user",
    164: "the user or the server is read only: take another user",
    201: "the user's quota is used up: raise it, or take another user",
    115: "`settings` names one that this server does not know",
    452: "`settings` holds a value that the server's constraints forbid",
}
_CHANGED = {
    10: "a column is gone",
    16: "a column is gone",
    47: "a column is gone",
    53: "a column has another type",
    60: "the table is gone",
    81: "the database is gone",
    349: "a column does not take NULL",
}
_NAMES = {
    (36, "nested name"): "the server renames no column with a dot in its name: `syncd jobs resync` the table",
    (69, "length of table name"): "give the table a shorter name (`to`), without letters beyond ASCII",
}
CHANGED_CODES = frozenset(_CHANGED)

_PROXY = re.compile(r"HTTP status (408|425|429|5\d\d)\b")
"""How the driver says an answer without an error code of ClickHouse: what stands before it, or a server that is just
starting or going, cannot answer now."""


def mapped(error: Exception, doing: str, table: str | None) -> SyncdError:
    """The error of syncd for an error that the driver raised while `doing` something."""
    code = getattr(error, "code", None)
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    text = f"{doing}: ClickHouse {f'error {code}' if code else type(error).__name__}: {first[:500]}"
    if code in _BUSY:
        wait, hint = _BUSY[code]
        return TransientError(text, retry_after=wait, hint=hint)
    if code in _REFUSED:
        return FatalError(text, hint=_REFUSED[code])
    if code in _CHANGED:
        return FatalError(text, table=table, hint=f"{_CHANGED[code]}: compare the table with `plan`")
    if code is None and any(getattr(cause, "errno", None) == errno.ENOSPC for cause in _causes(error)):
        return TransientError(text, retry_after=2, hint="free some space on this machine's disk")
    if code is None and (transport := _transport(error)):
        text = f"{doing}: the server cannot be reached: {transport}"
        return TransientError(text, retry_after=2, hint="is the server up, and the url right?")
    if code is None and _PROXY.search(first):
        return TransientError(text, retry_after=2, hint="is the server behind the proxy up?")
    for (number, words), hint in _NAMES.items():
        if code == number and words in first:
            return FatalError(text, table=table, hint=hint)
    return FatalError(text, table=table, hint="an error that syncd does not know: nothing was acknowledged")


def _causes(error: Exception) -> list[BaseException]:
    """The error and what led to it: the driver wraps what its transport raises."""
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    return chain


def _transport(error: Exception) -> str:
    """What the transport has raised; "": it was the driver itself."""
    found = [e for e in _causes(error) if isinstance(e, OSError) or type(e).__module__.startswith("urllib3.")]
    if not found:
        return ""
    system = [e.strerror for e in found if isinstance(e, OSError) and e.strerror]
    return (system or [str(found[-1]) or type(found[-1]).__name__])[-1]


@contextmanager
def mapping(doing: str, table: str | None = None) -> Iterator[None]:
    """Everything raised inside comes out as an error of syncd."""
    try:
        yield
    except SyncdError:
        raise
    except Exception as error:
        raise mapped(error, doing, table) from error
