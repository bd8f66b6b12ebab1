"""Groups: tags, offsets, commit, retention, limits; and the state store."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from syncd.errors import FatalError, QueueFull
from syncd.model import Hop
from syncd.spi import Lease, Queue
from syncd.testing.contracts.queue_kit import (
    A0,
    A1,
    B0,
    GROUP,
    TOPIC,
    Factory,
    leased,
    message,
    opened,
    patiently,
    seqs,
)

_SMALL = 4 << 20
_CHUNK = b"x" * (256 << 10)


class Groups:
    def test_a_group_sees_the_lanes_of_its_tags(self, queue: Queue) -> None:
        queue.subscribe("all", TOPIC, None)
        queue.subscribe("one", TOPIC, {"shop.a"})
        queue.subscribe("none", TOPIC, set())
        queue.publish(leased(queue), TOPIC, [message(1), message(2, A1), message(3, B0)], {})
        assert set(queue.lanes("all")) == {A0, A1, B0}
        assert set(queue.lanes("one")) == {A0, A1}
        assert set(queue.lanes("none")) == set()

    def test_a_group_reads_from_its_registration_on(self, queue: Queue) -> None:
        """What was published before is another's: the new group's snapshot covers it."""
        lease = leased(queue)
        queue.publish(lease, TOPIC, [message(1)], {})
        queue.subscribe(GROUP, TOPIC, None)
        queue.publish(lease, TOPIC, [message(2), message(3, B0)], {})
        lanes = queue.lanes(GROUP)
        assert seqs(queue, A0, lanes[A0][0]) == [2]
        assert seqs(queue, B0, lanes[B0][0]) == [3]

    def test_subscribing_again_keeps_the_offsets(self, queue: Queue) -> None:
        queue.subscribe(GROUP, TOPIC, {"shop.a"})
        lease = leased(queue)
        queue.publish(lease, TOPIC, [message(1), message(2), message(3, B0)], {})
        queue.commit(leased(queue, "sink"), GROUP, {A0: queue.lanes(GROUP)[A0][0] + 1}, {}, [])
        read_from = queue.lanes(GROUP)[A0]
        queue.subscribe(GROUP, TOPIC, {"shop.a", "shop.b"})
        assert queue.lanes(GROUP)[A0] == read_from
        begin, end = queue.lanes(GROUP)[B0]
        assert begin == end, "a tag that is new to the group begins at its end"
        queue.subscribe(GROUP, TOPIC, {"shop.b"})
        assert set(queue.lanes(GROUP)) == {B0}

    def test_groups_have_their_own_offsets(self, queue: Queue) -> None:
        queue.subscribe("one", TOPIC, None)
        queue.subscribe("two", TOPIC, None)
        (offset,) = queue.publish(leased(queue), TOPIC, [message(1)], {})
        queue.commit(leased(queue, "sink"), "one", {A0: offset + 1}, {}, [])
        assert queue.lanes("one")[A0] == (offset + 1, offset + 1)
        assert queue.lanes("two")[A0][1] == offset + 1
        assert queue.lanes("two")[A0][0] <= offset

    def test_commit_stores_offset_state_and_hops_together(self, factory: Factory, queue: Queue) -> None:
        queue.subscribe(GROUP, TOPIC, None)
        offsets = queue.publish(leased(queue), TOPIC, [message(7), message(8, B0)], {"old": b"1"})
        hops = [Hop(7, "sink", A0, offsets[0], 10, 20, "w", "ok"), Hop(7, "retry", None, 0, 30, 40, "w", "refused")]
        moves = {A0: offsets[0] + 1, B0: offsets[1] + 1}
        queue.commit(leased(queue, "sink"), GROUP, moves, {"parked": b"row", "old": None}, hops)
        with opened(factory) as other:
            assert {lane: begin for lane, (begin, _) in other.lanes(GROUP).items()} == moves
            assert dict(other.scan("")) == {"parked": b"row"}
            assert list(other.hops(TOPIC, 7)) == hops
            assert list(other.hops(TOPIC, 8)) == []

    def test_commit_past_the_end_is_refused(self, queue: Queue) -> None:
        queue.subscribe(GROUP, TOPIC, None)
        (offset,) = queue.publish(leased(queue), TOPIC, [message(1)], {})
        with pytest.raises(FatalError):
            queue.commit(leased(queue, "sink"), GROUP, {A0: offset + 2}, {"mark": b"m"}, [])
        assert (queue.lanes(GROUP)[A0][0] <= offset, queue.get("mark")) == (True, None)

    def test_commit_of_a_lane_that_is_not_the_groups_is_refused(self, queue: Queue) -> None:
        queue.subscribe(GROUP, TOPIC, {"shop.a"})
        (offset,) = queue.publish(leased(queue), TOPIC, [message(1, B0)], {})
        with pytest.raises(FatalError):
            queue.commit(leased(queue, "sink"), GROUP, {B0: offset + 1}, {"mark": b"m"}, [])
        assert queue.get("mark") is None

    def test_unsubscribe_ends_the_group_and_no_other(self, queue: Queue) -> None:
        queue.subscribe("one", TOPIC, None)
        queue.subscribe("two", TOPIC, None)
        queue.publish(leased(queue), TOPIC, [message(1)], {})
        queue.unsubscribe("one")
        assert dict(queue.lanes("one")) == {}
        queue.trim()
        assert seqs(queue, A0, queue.lanes("two")[A0][0]) == [1]

    def test_lanes_of_an_unknown_group_are_none(self, queue: Queue) -> None:
        assert dict(queue.lanes("nobody")) == {}


class Limits:
    def test_retention_keeps_what_a_group_has_not_finished(self, factory: Factory) -> None:
        with opened(factory, _SMALL) as queue:
            queue.subscribe("fast", TOPIC, None)
            queue.subscribe("slow", TOPIC, None)
            lease = leased(queue)
            ends = [queue.publish(lease, TOPIC, [message(n, body=_CHUNK)], {})[0] + 1 for n in range(8)]
            consumer = leased(queue, "sink")
            queue.commit(consumer, "fast", {A0: ends[-1]}, {}, [])
            queue.commit(consumer, "slow", {A0: ends[2]}, {}, [])
            queue.trim()
            assert seqs(queue, A0, queue.lanes("slow")[A0][0]) == [3, 4, 5, 6, 7]

    def test_what_is_still_there_is_told_and_an_offset_may_step_back_to_it(self, factory: Factory) -> None:
        """A sink that was put back from a copy goes on from its own marks."""
        with opened(factory, _SMALL) as queue:
            queue.subscribe(GROUP, TOPIC, None)
            assert queue.kept(TOPIC, A0) == 0
            lease, consumer = leased(queue), leased(queue, "sink")
            offsets: list[int] = []
            for n in range(40):  # several times the limit
                offsets += patiently(partial(queue.publish, lease, TOPIC, [message(n, body=_CHUNK)], {}))
                queue.commit(consumer, GROUP, {A0: offsets[-1] + 1}, {}, [])
            first = queue.kept(TOPIC, A0)
            assert offsets[0] < first <= offsets[-1] + 1
            there = [n for n, offset in enumerate(offsets) if offset >= first]
            assert seqs(queue, A0, first) == there
            offsets += queue.publish(lease, TOPIC, [message(n) for n in range(40, 44)], {})
            queue.commit(consumer, GROUP, {A0: offsets[-1] + 1}, {}, [])
            queue.commit(consumer, GROUP, {A0: offsets[41]}, {}, [])
            assert queue.lanes(GROUP)[A0] == (offsets[41], offsets[-1] + 1)
            queue.trim()
            assert queue.kept(TOPIC, A0) <= offsets[41]
            assert seqs(queue, A0, offsets[41]) == [41, 42, 43]

    def test_what_each_group_has_not_finished_is_told(self, queue: Queue) -> None:
        queue.subscribe("fast", TOPIC, None)
        queue.subscribe("slow", TOPIC, {"shop.a"})
        messages = [
            replace(message(n, lane, _CHUNK), rows=10**n, time=n and 500 + n, captured=700)
            for n, lane in enumerate((A0, A0, A1, B0))
        ]
        offsets = queue.publish(leased(queue), TOPIC, messages, {})
        queue.commit(leased(queue, "sink"), "fast", {A0: offsets[0] + 1, B0: offsets[3] + 1}, {}, [])
        held = {
            group: {lane: (kept.bytes // len(_CHUNK), kept.rows, kept.since) for lane, kept in lanes.items()}
            for group, lanes in queue.held().items()
        }
        assert held == {
            "fast": {A0: (1, 10, 501), A1: (1, 100, 502)},
            "slow": {A0: (2, 11, 700), A1: (1, 100, 502)},
        }
        queue.subscribe("slow", TOPIC, set())
        assert set(queue.held()) == {"fast"}

    def test_retention_gives_back_what_all_have_finished(self, factory: Factory) -> None:
        with opened(factory, _SMALL) as queue:
            queue.subscribe(GROUP, TOPIC, None)
            lease, consumer = leased(queue), leased(queue, "sink")
            for n in range(100):  # several times the limit
                offsets = patiently(partial(queue.publish, lease, TOPIC, [message(n, body=_CHUNK)], {}))
                queue.commit(consumer, GROUP, {A0: offsets[0] + 1}, {}, [])
            queue.trim()
            held, limit = queue.usage()
            assert held <= limit

    def test_a_full_queue_refuses_publish_and_nothing_else(self, factory: Factory) -> None:
        with opened(factory, _SMALL) as queue:
            queue.subscribe(GROUP, TOPIC, None)
            lease, consumer = leased(queue), leased(queue, "sink")
            stored = self._fill(queue, lease)
            assert queue.get("position") == str(stored - 1).encode(), "a refused publish stores no state either"
            queue.put(lease, {"control": b"c"})
            queue.publish(lease, TOPIC, [], {"position": b"idle"})
            assert seqs(queue) == list(range(stored))
            queue.commit(consumer, GROUP, {A0: queue.lanes(GROUP)[A0][1]}, {"parked": b"p" * 100_000}, [])
            queue.trim()
            queue.publish(lease, TOPIC, [message(stored)], {})
            assert seqs(queue)[-1] == stored

    def _fill(self, queue: Queue, lease: Lease) -> int:
        for n in range(200):
            try:
                queue.publish(lease, TOPIC, [message(n, body=_CHUNK)], {"position": str(n).encode()})
            except QueueFull:
                held, limit = queue.usage()
                assert held >= limit // 2
                return n
        pytest.fail("publish never answered QueueFull")


class State:
    def test_put_get_and_delete(self, queue: Queue) -> None:
        lease = leased(queue)
        queue.put(lease, {"a": b"1", "b": b"", "c": bytes(range(256)) * 5000})
        assert (queue.get("a"), queue.get("b"), queue.get("nothing")) == (b"1", b"", None)
        assert queue.get("c") == bytes(range(256)) * 5000
        queue.put(lease, {"a": None, "b": b"2", "never": None})
        assert (queue.get("a"), queue.get("b")) == (None, b"2")

    def test_scan_takes_the_prefix_as_it_is(self, queue: Queue) -> None:
        keys = ["t/a", "t/a/1", "t/b", "t%", "t_", "T/a", "t/é", "t/\U0010ffff", "u"]
        queue.put(leased(queue), {key: key.encode() for key in keys})
        assert set(queue.scan("t/")) == {"t/a", "t/a/1", "t/b", "t/é", "t/\U0010ffff"}
        assert set(queue.scan("t%")) == {"t%"}
        assert set(queue.scan("t_")) == {"t_"}
        assert set(queue.scan("")) == set(keys)
        assert dict(queue.scan("nothing")) == {}
