"""The one place where errors of the disk and of Parquet become errors of syncd."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from syncd.errors import FatalError, SyncdError, TransientError

_LATER = {
    errno.ENOSPC: (5.0, "free some space on the disk"),
    errno.EDQUOT: (5.0, "raise the quota, or free some space"),
    errno.EMFILE: (2.0, "raise the limit of open files (`ulimit -n`)"),
    errno.ENFILE: (2.0, "raise the machine's limit of open files"),
    errno.EAGAIN: (1.0, ""),
}
_REFUSED = {
    errno.EACCES: "let the user that runs syncd write there",
    errno.EPERM: "let the user that runs syncd write there; the file system must have hard links",
    errno.EROFS: "the file system is read only: mount it for writing",
    errno.ENOENT: "is the disk mounted? A table whose folder is gone is to be loaded anew",
    errno.ENOTDIR: "a file stands where a folder is wanted",
    errno.ENAMETOOLONG: "give the target a shorter name",
    errno.EIO: "the disk is failing: look at the kernel's log",
    errno.EXDEV: "all of `path` must be on one file system",
}


def mapped(error: Exception, doing: str, table: str | None) -> SyncdError:
    """The error of syncd for what the disk or pyarrow raised while `doing` something."""
    text = f"{doing}: {_said(error)}"
    number = error.errno if isinstance(error, OSError) else None
    if number in _LATER:
        wait, hint = _LATER[number]
        return TransientError(text, retry_after=wait, hint=hint)
    if number in _REFUSED:
        return FatalError(text, table=table, hint=_REFUSED[number])
    hint = "an error that syncd does not know: nothing was acknowledged"
    if number is None and isinstance(error, OSError | pa.ArrowException):
        hint = "a damaged file, or one that syncd did not write: take it away and load the table anew"
    return FatalError(text, table=table, hint=hint)


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return ": ".join(filter(None, [os.fspath(error.filename or ""), os.strerror(error.errno)]))
    return (str(error).strip() or type(error).__name__).splitlines()[0][:500]


@contextmanager
def mapping(doing: str, table: str | None = None) -> Iterator[None]:
    """Everything raised inside comes out as an error of syncd."""
    try:
        yield
    except SyncdError:
        raise
    except Exception as error:
        raise mapped(error, doing, table) from error
