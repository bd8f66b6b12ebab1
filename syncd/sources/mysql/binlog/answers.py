"""What the server says instead of an event, as syncd's errors."""

from __future__ import annotations

from typing import NoReturn

from syncd.errors import FatalError, PositionLost, SyncdError, TransientError

_LOST = (
    "could not find first log file",
    "purged",
    "could not find gtid state",
    "not in the master's binlog",
    "which is not in",
    "impossible position",
    "bogus data in log event",
    "find next log",
    "position > file size",
    "binlog truncated in the middle",
    "an alternate replication master",
)
_PASSING = {1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1317, 1927, 2006, 2013, 3169, 4031}
_UNREADABLE = 1236
_DENIED = {1044, 1045, 1142, 1227, 1698}


def raise_answer(body: bytes) -> NoReturn:
    """`body`: a packet's content that is no event: an ERR (0xff), an EOF (0xfe) or something unknown."""
    if body[:1] == b"\xff" and len(body) >= 3:
        text = body[9:] if body[3:4] == b"#" else body[3:]
        raise error_of(int.from_bytes(body[1:3], "little"), text.decode("utf-8", "replace"))
    if body[:1] == b"\xfe" and len(body) < 9:
        raise TransientError("the server ended the log")
    raise FatalError(
        f"a packet of {len(body)} bytes is neither an event nor an answer of the server: {body[:16].hex()}"
    )


def error_of(code: int, text: str) -> SyncdError:
    """The server's error `code` with its text, by what to do about it."""
    said, lower = f"the server refused the log: {text} ({code})", text.lower()
    if code in _PASSING:
        return TransientError(said)
    if code in _DENIED:
        return FatalError(said, hint="GRANT REPLICATION SLAVE ON *.* to syncd's user", code="E182")
    if "same server_uuid/server_id" in lower or "same server_id" in lower or "duplicate" in lower:
        return FatalError(
            f"another reader of the log took this job's server_id: {text} ({code})",
            hint="end the other syncd that runs a job of this name, or give each job and each replica a server_id of "
            "its own",
            code="E190",
        )
    if "max_allowed_packet" in lower:
        return FatalError(said, hint="raise max_allowed_packet at the server", code="E184")
    if any(part in lower for part in _LOST):
        return PositionLost(
            said,
            hint="the log at the saved position is gone: resync, and keep it for longer (binlog_expire_logs_seconds)",
        )
    if code == _UNREADABLE:
        hint = "mend the log at the server; when it was reset, or its files are lost, load anew"
        return FatalError(f"{said}; it cannot be read at the saved position", hint=hint)
    return FatalError(said)
