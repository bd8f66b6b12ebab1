"""What is published comes back: whole, once, in order, together with its state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncd.errors import SyncdError
from syncd.model import Hop, Kind, Lane, Message, Stored, TableId
from syncd.spi import Queue
from syncd.testing.contracts.queue_kit import A0, A1, B0, GROUP, TOPIC, Factory, leased, message, opened, seqs

_LARGEST = (1 << 64) - 1
_FULL = Message(
    lane=Lane("tag of its own", 1023),
    kind=Kind.REFRESH,
    table=TableId("näme", "with.dots"),
    schema_version=_LARGEST,
    rows=7,
    first_seq=1 << 63,
    last_seq=_LARGEST,
    trace=_LARGEST - 1,
    time=1_700_000_000_000_000,
    captured=1_700_000_000_000_001,
    body=bytes(range(256)) * 300,
    source="other",
)


class Messages:
    def test_a_message_comes_back_as_it_was(self, queue: Queue) -> None:
        (offset,) = queue.publish(leased(queue), TOPIC, [_FULL], {})
        assert list(queue.poll(TOPIC, _FULL.lane, 0, 1)) == [Stored(offset, _FULL)]

    def test_an_empty_body_comes_back(self, queue: Queue) -> None:
        queue.publish(leased(queue), TOPIC, [message(1, body=b"")], {})
        assert [item.message.body for item in queue.poll(TOPIC, A0, 0, 1)] == [b""]

    def test_offsets_name_the_messages(self, queue: Queue) -> None:
        offsets = queue.publish(leased(queue), TOPIC, [message(1), message(2, B0), message(3)], {})
        assert [item.offset for item in queue.poll(TOPIC, A0, 0, 1 << 20)] == [offsets[0], offsets[2]]
        assert [item.offset for item in queue.poll(TOPIC, B0, 0, 1 << 20)] == [offsets[1]]

    def test_order_in_a_lane_is_the_order_of_publishing(self, queue: Queue) -> None:
        lease = leased(queue)
        for first in range(0, 60, 3):
            queue.publish(lease, TOPIC, [message(first), message(first + 1), message(first + 2)], {})
        assert seqs(queue) == list(range(60))

    def test_the_last_message_is_there(self, queue: Queue) -> None:
        queue.publish(leased(queue), TOPIC, [message(1), message(2)], {})
        queue.subscribe(GROUP, TOPIC, None)
        assert seqs(queue)[-1] == 2
        assert queue.lanes(GROUP)[A0][1] == queue.poll(TOPIC, A0, 0, 1 << 20)[-1].offset + 1

    def test_lanes_share_nothing(self, queue: Queue) -> None:
        lanes = [A0, A1, B0, Lane("shop.b", 1)]
        queue.publish(leased(queue), TOPIC, [message(10 * n + k, lanes[n]) for k in range(3) for n in range(4)], {})
        assert [seqs(queue, lane) for lane in lanes] == [[10 * n, 10 * n + 1, 10 * n + 2] for n in range(4)]

    def test_topics_share_nothing(self, queue: Queue) -> None:
        queue.publish(leased(queue), "other", [message(1)], {})
        queue.publish(leased(queue), TOPIC, [message(2)], {})
        assert seqs(queue) == [2]

    def test_a_duplicate_is_stored_twice(self, queue: Queue) -> None:
        """Delivery drops duplicates by seq; a queue that guessed would drop what is none."""
        lease = leased(queue)
        offsets = [queue.publish(lease, TOPIC, [message(5)], {})[0] for _ in range(2)]
        assert offsets[0] < offsets[1]
        assert seqs(queue) == [5, 5]

    def test_poll_gives_each_message_once(self, queue: Queue) -> None:
        queue.publish(leased(queue), TOPIC, [message(n, body=b"x" * 1000) for n in range(20)], {})
        assert seqs(queue, max_bytes=3500) == list(range(20))

    def test_poll_keeps_to_its_bytes(self, queue: Queue) -> None:
        queue.publish(leased(queue), TOPIC, [message(n, body=b"x" * 1000) for n in range(20)], {})
        assert 1 <= len(queue.poll(TOPIC, A0, 0, 5500)) <= 5
        assert len(queue.poll(TOPIC, A0, 0, 1)) == 1, "a message larger than max_bytes is given alone"

    def test_poll_begins_at_its_offset(self, queue: Queue) -> None:
        offsets = queue.publish(leased(queue), TOPIC, [message(n) for n in range(5)], {})
        assert seqs(queue, offset=offsets[3]) == [3, 4]
        assert seqs(queue, offset=offsets[4] + 1) == []

    def test_poll_of_an_unknown_lane_is_empty(self, queue: Queue) -> None:
        assert list(queue.poll("no topic", A0, 0, 1)) == []
        assert list(queue.poll(TOPIC, Lane("no.tag", 0), 0, 1)) == []

    def test_publish_stores_the_state_with_the_messages(self, factory: Factory, queue: Queue) -> None:
        queue.publish(leased(queue), TOPIC, [message(1)], {"position": b"here"})
        with opened(factory) as other:
            assert (seqs(other), other.get("position")) == ([1], b"here")

    def test_publish_without_messages_stores_the_state(self, queue: Queue) -> None:
        assert list(queue.publish(leased(queue), TOPIC, [], {"position": b"here"})) == []
        assert queue.get("position") == b"here"

    def test_a_publish_that_fails_stores_nothing(self, queue: Queue) -> None:
        lease = leased(queue)
        broken = replace(message(2), rows="not a number", body=None)  # type: ignore[arg-type]
        with pytest.raises((SyncdError, TypeError, ValueError, AttributeError)):
            queue.publish(lease, TOPIC, [message(1), broken], {"position": b"here"})
        assert (seqs(queue), queue.get("position")) == ([], None)
        queue.publish(lease, TOPIC, [message(3)], {})
        assert seqs(queue) == [3]

    def test_everything_survives_a_reopening(self, factory: Factory) -> None:
        with opened(factory) as queue:
            queue.subscribe(GROUP, TOPIC, None)
            queue.publish(leased(queue), TOPIC, [message(1), message(2)], {"position": b"p"})
            hop = Hop(1, "sink", A0, 0, 5, 6, "w")
            queue.commit(leased(queue, "sink"), GROUP, {A0: 1}, {"mark": b"m"}, [hop])
            name = queue.incarnation()
        with opened(factory) as queue:
            assert queue.incarnation() == name
            assert seqs(queue) == [1, 2]
            assert queue.lanes(GROUP) == {A0: (1, 2)} or queue.lanes(GROUP)[A0][0] == 1
            assert dict(queue.scan("")) == {"position": b"p", "mark": b"m"}
            assert list(queue.hops(TOPIC, 1)) == [hop]
            lease = queue.acquire("capture", "two", 1.0)
            assert lease is None, "a lease outlives the instance that took it"
