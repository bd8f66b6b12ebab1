"""What a server says instead of an event of its log."""

from __future__ import annotations

import pytest

from syncd.errors import FatalError, PositionLost, SyncdError, TransientError
from syncd.sources.mysql.binlog.answers import error_of, raise_answer


@pytest.mark.parametrize(
    ("code", "text", "kind", "says"),
    [
        (1053, "Server shutdown in progress", TransientError, "(1053)"),
        (1227, "Access denied; you need REPLICATION SLAVE", FatalError, "GRANT REPLICATION SLAVE [E182]"),
        (
            1236,
            "A slave with the same server_uuid/server_id as this slave",
            FatalError,
            "a server_id of its own [E190]",
        ),
        (1236, "log event entry exceeded max_allowed_packet", FatalError, "raise max_allowed_packet [E184]"),
        (1236, "Could not find first log file name in binary log index", PositionLost, "the log is gone [E151]"),
        (1236, "I/O error reading log event", FatalError, "when it was reset, load anew [E150]"),
        (1105, "Unknown error", FatalError, "Unknown error (1105) [E150]"),
    ],
)
def test_each_is_answered_by_what_to_do(code: int, text: str, kind: type[SyncdError], says: str) -> None:
    error = error_of(code, text)
    assert type(error) is kind
    assert text in str(error)
    assert all(word in str(error) for word in says.split())


def test_the_text_is_taken_out_of_the_packet() -> None:
    with pytest.raises(PositionLost, match=r"refused the log: it was purged \(1236\)"):
        raise_answer(b"\xff\xd4\x04#HY000it was purged")
    with pytest.raises(TransientError, match="ended the log"):
        raise_answer(b"\xfe\0\0\2\0")
    with pytest.raises(FatalError, match="a packet of 3 bytes is neither"):
        raise_answer(b"abc")
