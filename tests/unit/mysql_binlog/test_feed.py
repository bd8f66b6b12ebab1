from __future__ import annotations

import pytest

from syncd.errors import FatalError, PositionLost, SyncdError, TransientError
from syncd.sources.mysql.binlog import kinds
from syncd.sources.mysql.binlog.feed import Feed
from syncd.testing.log_bytes import BytesWire, packet
from tests.unit.mysql_binlog.craft import event


def feed_of(data: bytes, *, size: int = 1 << 12, step: int = 1 << 20, checksum: bool = True) -> Feed:
    return Feed(BytesWire(data, step), checksum=checksum, size=size)


def drained(feed: Feed) -> list[bytes]:
    """Every event that the feed gives until its wire ends."""
    found: list[bytes] = []
    while True:
        try:
            feed.fill(0)
        except TransientError:
            return found
        found += [bytes(feed.data[a:b]) for a, b in zip(feed.start, feed.end, strict=True)]
        feed.drop(len(feed))


@pytest.mark.parametrize("step", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize("size", [64, 4096, 1 << 20])
def test_events_come_whole_whatever_the_pieces(step: int, size: int) -> None:
    events = [event(kinds.XID, bytes(n % 60)) for n in range(1 if step == 1 else 300)]
    assert drained(feed_of(b"".join(map(packet, events)), size=size, step=step)) == events


def test_packets_of_sixteen_megabytes_are_joined() -> None:
    limit = (1 << 24) - 1
    lengths = [10, limit - 25, limit - 24, limit - 23, 2 * limit + 5, 12]
    events = [event(kinds.XID, bytes([n % 251]) * size) for n, size in enumerate(lengths)]
    assert drained(feed_of(b"".join(map(packet, events)))) == events


def test_a_wrong_checksum_is_named() -> None:
    good, bad = packet(event(kinds.XID, bytes(8))), bytearray(packet(event(kinds.XID, bytes(8))))
    bad[30] ^= 1
    with pytest.raises(FatalError, match="wrong checksum"):
        drained(feed_of(good + bytes(bad) + good))
    assert len(drained(feed_of(good + bytes(bad) + good, checksum=False))) == 3


def test_an_open_files_first_event_has_a_flag_beside_its_checksum() -> None:
    whole = bytearray(event(kinds.FORMAT_DESCRIPTION, bytes(100)))
    whole[17] |= 1
    assert drained(feed_of(packet(bytes(whole)))) == [bytes(whole)]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (b"\xff\xd4\x04#HY000Could not find first log file name in binary log index file", PositionLost, "resync"),
        (b"\xff\xd4\x04#HY000the master has purged binary logs containing GTIDs", PositionLost, "purged"),
        (
            b"\xff\xd4\x04#HY000A replica with the same server_uuid/server_id as this replica has connected",
            FatalError,
            "server_id",
        ),
        (b"\xff\xd4\x04#HY000log event entry exceeded max_allowed_packet", FatalError, "raise max_allowed_packet"),
        (b"\xff\x1d\x04#08S01Server shutdown in progress", TransientError, "shutdown"),
        (b"\xff\xcb\x04#42000Access denied", FatalError, "GRANT REPLICATION"),
        (b"\xfe\0\0\2\0", TransientError, "ended"),
        (b"\x07garbage that is nothing at all", FatalError, "neither"),
        (b"\0short", FatalError, "neither"),
    ],
)
def test_what_the_server_says_instead(answer: bytes, error: type[SyncdError], words: str) -> None:
    data = packet(event(kinds.XID, bytes(8))) + len(answer).to_bytes(3, "little") + b"\1" + answer
    feed = feed_of(data)
    feed.fill(0)
    assert len(feed) == 1  # the event before it comes first
    feed.drop(1)
    with pytest.raises(error, match=words):
        feed.fill(0)


def test_the_end_of_the_wire_is_transient() -> None:
    with pytest.raises(TransientError, match="closed"):
        feed_of(b"").fill(0)


def test_memory_is_given_back_after_a_long_event() -> None:
    small = packet(event(kinds.XID, bytes(8)))
    feed = feed_of(packet(event(kinds.XID, bytes(1 << 20))) + small * 2, step=1 << 16)
    for _ in range(200):
        try:
            feed.fill(0)
        except TransientError:
            break
        feed.drop(len(feed))
    assert len(feed.data) < 1 << 16
