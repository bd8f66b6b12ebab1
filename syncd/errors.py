"""Errors, named by what the caller does next.

    SyncdError
    ├── ConfigError        mend the file; knows file, line, column and key
    ├── PluginError        install or name the plugin; carries the command that does it
    ├── TransientError     try the same call again, after `retry_after` seconds
    │   └── QueueFull      wait for the readers: nothing of the call was stored
    ├── BatchError         some rows were refused, each with its reason; all other rows of the call are durable
    ├── FencedError        stop at once: another process owns this now; nothing of the call was stored
    ├── MovedError         read the sink's marks anew, and go on from there; nothing of the call was stored
    └── FatalError         a person must act; the table (or the job) halts at its checkpoint
        ├── PositionLost   the source no longer has the log at the saved position
        ├── TransactionsLost  the source's log goes on, and lacks what was already copied
        ├── Unsupported    a type, event, collation or statement that syncd does not understand; never skipped
        └── StateError     the saved state is damaged, newer than this syncd, or contradicts the job file

Every error says what, where and what to do (`hint`). `code` names its entry in `CATALOGUE` (`syncd explain CODE`).
A foreign exception is mapped to one of these once, in its plugin; an unmapped one is fatal for its table.
"""

from __future__ import annotations

from collections.abc import Mapping


class SyncdError(Exception):
    """`str(error)` is one line: what and where, then the hint, then `[code]`."""

    code = "E100"

    def __init__(self, what: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.code = code or type(self).code

    def __str__(self) -> str:
        return f"{self.what}{'; ' if self.hint else ''}{self.hint} [{self.code}]"

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders: keyword-only arguments need their own way back.
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(cls: type[SyncdError], args: tuple[object, ...], state: dict[str, object]) -> SyncdError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(SyncdError):
    """One fault of a file. `line` and `column` count from 1; 0 means the file as a whole."""

    code = "C100"

    def __init__(
        self,
        what: str,
        *,
        path: str = "",
        line: int = 0,
        column: int = 0,
        key: str = "",
        hint: str = "",
        code: str | None = None,
    ) -> None:
        super().__init__(what, hint=hint, code=code)
        self.path, self.line, self.column, self.key = path, line, column, key

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        where = " ".join(part for part in (place, self.key) if part)
        return f"{where}{': ' if where else ''}{super().__str__()}"


class PluginError(SyncdError):
    code = "E110"


class TransientError(SyncdError):
    code = "E120"

    def __init__(self, what: str, *, retry_after: float = 1.0, hint: str = "", code: str | None = None) -> None:
        super().__init__(what, hint=hint, code=code)
        self.retry_after = retry_after


class QueueFull(TransientError):
    code = "E121"


class BatchError(SyncdError):
    """`rows`: index in the batch -> reason."""

    code = "E130"

    def __init__(self, what: str, rows: Mapping[int, str], *, hint: str = "", code: str | None = None) -> None:
        super().__init__(what, hint=hint, code=code)
        self.rows = dict(rows)


class FencedError(SyncdError):
    code = "E140"


class MovedError(SyncdError):
    code = "E141"


class FatalError(SyncdError):
    """`table` is the table that halts, as `str()` of its `TableId`; None halts the whole job."""

    code = "E150"

    def __init__(self, what: str, *, table: str | None = None, hint: str = "", code: str | None = None) -> None:
        super().__init__(what, hint=hint, code=code)
        self.table = table


class PositionLost(FatalError):
    code = "E151"


class TransactionsLost(FatalError):
    code = "E176"


class Unsupported(FatalError):
    code = "E152"


class Unfollowed(Unsupported):
    """The table has changed so that its rows are to be read anew, all of them: `policy.ddl.reload`."""

    code = "E155"


class StateError(FatalError):
    code = "E153"
