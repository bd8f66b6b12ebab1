"""Leases, fencing, waiting, and what several processes see: killed, frozen, at once."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

import pytest

from syncd.errors import FencedError, TransientError
from syncd.model import Hop
from syncd.spi import Lease, Queue
from syncd.testing.contracts.queue_kit import (
    A0,
    A1,
    B0,
    GROUP,
    TOPIC,
    TTL,
    Factory,
    child,
    commit_for_ever,
    heard,
    leased,
    message,
    opened,
    publish_for_ever,
    publish_some,
    seqs,
    tell_wakes,
)

_SHORT = 0.3
_LONG = 3.0
"""Seconds of a lease that must not run out, however busy the machine is."""


class Leases:
    def test_a_live_lease_has_one_owner(self, factory: Factory, queue: Queue) -> None:
        assert leased(queue, "x", "one").owner == "one"
        with opened(factory) as other:
            assert other.acquire("x", "two", 1.0) is None
            assert other.acquire("y", "two", 1.0) is not None

    def test_each_owner_has_a_larger_epoch(self, queue: Queue) -> None:
        first = leased(queue, "x", "one")
        queue.release(first)
        second = leased(queue, "x", "two")
        queue.release(second)
        third = leased(queue, "x", "one")
        assert first.epoch < second.epoch < third.epoch

    def test_an_owner_that_comes_again_fences_its_former_self(self, queue: Queue) -> None:
        old, new = leased(queue, "x", "one"), leased(queue, "x", "one")
        assert old.epoch < new.epoch
        with pytest.raises(FencedError):
            queue.put(old, {"a": b"1"})

    def test_a_lease_runs_out(self, queue: Queue) -> None:
        old = leased(queue, "x", "one", _SHORT)
        self.later(queue, _SHORT * 1.5)
        assert [state.live for state in queue.leases("x")] == [False]
        queue.put(old, {"a": b"nobody has taken it yet"})
        assert queue.acquire("x", "two", 5.0) is not None
        with pytest.raises(FencedError):
            queue.renew(old)

    def test_renewing_keeps_it(self, queue: Queue) -> None:
        lease = leased(queue, "x", "one", _LONG)
        for _ in range(5):
            self.later(queue, _LONG / 4)
            queue.renew(lease)
            assert queue.acquire("x", "two", 5.0) is None

    def test_release_of_a_lost_lease_changes_nothing(self, queue: Queue) -> None:
        old = leased(queue, "x", "one", _SHORT)
        self.later(queue, _SHORT * 1.5)
        new = leased(queue, "x", "two")
        queue.release(old)
        queue.put(new, {"a": b"1"})
        assert queue.acquire("x", "three", 5.0) is None

    def test_leases_are_listed_by_prefix(self, queue: Queue) -> None:
        lanes = [leased(queue, f"job/lane/{n}", "w", 9.0) for n in range(2)]
        leased(queue, "other", "w")
        states = queue.leases("job/")
        assert sorted(state.lease for state in states) == sorted(lanes)
        assert all(state.live and 0 <= state.age < 9 for state in states)

    def test_a_released_lease_writes_no_more(self, queue: Queue) -> None:
        lease = leased(queue, "x", "one")
        queue.release(lease)
        with pytest.raises(FencedError):
            queue.put(lease, {"a": b"1"})

    def test_a_fenced_publish_stores_nothing(self, queue: Queue) -> None:
        old = self._passed_on(queue)
        with pytest.raises(FencedError):
            queue.publish(old, TOPIC, [message(1)], {"position": b"p"})
        assert (seqs(queue), queue.get("position")) == ([], None)

    def test_a_fenced_commit_stores_nothing(self, queue: Queue) -> None:
        queue.subscribe(GROUP, TOPIC, None)
        queue.publish(leased(queue), TOPIC, [message(1)], {})
        before = queue.lanes(GROUP)
        old = self._passed_on(queue)
        with pytest.raises(FencedError):
            queue.commit(old, GROUP, {A0: before[A0][1]}, {"mark": b"m"}, [Hop(1, "s", A0, 0, 0, 0, "w")])
        assert (queue.lanes(GROUP), queue.get("mark"), list(queue.hops(TOPIC, 1))) == (before, None, [])

    def test_a_fenced_put_stores_nothing(self, queue: Queue) -> None:
        old = self._passed_on(queue)
        with pytest.raises(FencedError):
            queue.put(old, {"mark": b"m"})
        assert queue.get("mark") is None

    def _passed_on(self, queue: Queue) -> Lease:
        old = leased(queue, "passed", "one", 0.01)
        self.later(queue, 0.05)
        leased(queue, "passed", "two")
        return old

    def later(self, queue: Queue, seconds: float) -> None:
        raise NotImplementedError


class Waits:
    def test_wait_gives_up_after_its_time(self, queue: Queue) -> None:
        queue.publish(leased(queue), TOPIC, [message(1)], {})
        seqs(queue)
        queue.wait(TOPIC, 0.0)
        seqs(queue)
        began = time.monotonic()
        assert not queue.wait(TOPIC, 0.3)
        assert 0.2 < time.monotonic() - began < 30.0

    def test_wait_ends_at_another_process_publish(self, factory: Factory, queue: Queue) -> None:
        lease = leased(queue)
        queue.publish(lease, TOPIC, [message(0)], {})
        with child(tell_wakes, factory) as (_, pipe):
            late = [self._time_to_wake(pipe.recv, queue, lease, seq) for seq in range(1, 21)]
        assert sorted(late)[10] < 1.0, "it waits for the publish, not for the end of its thirty seconds"

    def _time_to_wake(self, hear: Callable[[], object], queue: Queue, lease: Lease, seq: int) -> float:
        while hear() != "waiting":
            pass
        time.sleep(0.05)
        queue.publish(lease, TOPIC, [message(seq)], {})
        published = time.monotonic()
        while isinstance(answer := hear(), str):
            pass
        assert isinstance(answer, tuple)
        assert answer[0] is True
        return float(answer[1]) - published

    def test_nothing_is_missed_between_the_polls_of_two_lanes(self, factory: Factory, queue: Queue) -> None:
        with opened(factory) as publisher:
            lease = leased(publisher)
            publisher.publish(lease, TOPIC, [message(1), message(1, B0)], {})
            for _ in range(2):
                seqs(queue, A0), seqs(queue, B0)
                queue.wait(TOPIC, 0.0)
            end = len(seqs(queue, A0))
            publisher.publish(lease, TOPIC, [message(2)], {})
            seqs(queue, B0)
            assert queue.wait(TOPIC, 5.0), "A0 has a message that no poll has seen"
            assert len(seqs(queue, A0)) == end + 1


class Processes:
    def test_several_processes_publish_at_once(self, factory: Factory, queue: Queue) -> None:
        names = [f"writer{n}" for n in range(3)]
        with contextlib.ExitStack() as stack:
            pipes = [
                stack.enter_context(child(publish_some, factory, name, 1000 * n, 100))[1]
                for n, name in enumerate(names)
            ]
            assert [heard(pipe) for pipe in pipes] == ["done"] * 3
        found = seqs(queue)
        assert len(found) == 300
        for n in range(3):
            own = [seq for seq in found if seq // 1000 == n]
            assert own == list(range(1000 * n, 1000 * n + 100)), "each one's messages, once, in its order"

    def test_a_killed_publisher_loses_nothing_and_halves_nothing(self, factory: Factory) -> None:
        with opened(factory) as queue:
            queue.publish(
                leased(queue, "first"), TOPIC, [message(0, lane) for lane in (A0, A1, B0)], {"position": b"0"}
            )
        for round_ in range(4):
            acknowledged = self._kill(publish_for_ever, factory, 0.02 + 0.03 * round_)
            with opened(factory) as queue:
                lanes = [seqs(queue, lane) for lane in (A0, A1, B0)]
                position = int(queue.get("position") or b"")
                assert lanes[0] == lanes[1] == lanes[2], "a publish is there whole or not at all"
                assert lanes[0][-1] == position, "the position is that of the last message"
                run = lanes[0][len(lanes[0]) - position :]
                assert run == list(range(1, position + 1)), "once each, in order"
                assert acknowledged <= position <= acknowledged + 1

    def test_a_killed_consumer_keeps_offset_and_state_together(self, factory: Factory) -> None:
        with opened(factory) as queue:
            queue.subscribe(GROUP, TOPIC, None)
            queue.publish(leased(queue), TOPIC, [message(n) for n in range(3000)], {})
            begin = queue.lanes(GROUP)[A0][0]
        acknowledged = self._kill(commit_for_ever, factory, 0.1)
        with opened(factory) as queue:
            offset = queue.lanes(GROUP)[A0][0]
            assert queue.get("applied") == str(offset).encode()
            assert max(acknowledged, begin) <= offset

    def _kill(self, target: Callable[..., None], factory: Factory, after: float) -> int:
        """The last number that the process told before it was killed."""
        args = (TTL,) if target is publish_for_ever else ()
        with child(target, factory, *args) as (process, pipe):
            last = heard(pipe)
            time.sleep(after)
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            with contextlib.suppress(EOFError):
                while pipe.poll():
                    told = pipe.recv()
                    last = told if isinstance(told, int) else last
        assert isinstance(last, int)
        return last

    def test_a_frozen_owner_that_wakes_up_changes_nothing(self, factory: Factory, queue: Queue) -> None:
        with child(publish_for_ever, factory, _SHORT, 1) as (process, pipe):
            heard(pipe)
            assert process.pid is not None
            lease = self._freeze_and_take(process.pid, queue)
            queue.publish(lease, TOPIC, [message(10**9)], {"position": b"mine"})
            os.kill(process.pid, signal.SIGCONT)
            answers = []
            while not isinstance(answer := heard(pipe), FencedError):
                answers.append(answer)
        found = seqs(queue)
        assert found[-1] == 10**9, "nothing was stored behind the new owner's message"
        assert queue.get("position") == b"mine"
        assert found[:-1] == list(range(1, len(found)))
        assert answers[-1:] <= [found[-2]], "whatever was acknowledged is there"

    def _freeze_and_take(self, pid: int, queue: Queue) -> Lease:
        """Stop the process, outside of a write, and take its lease when it has run out."""
        while True:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(_SHORT * 1.2)
            # Frozen in the middle of a write it holds all others up, which is a TransientError: let it go on then.
            with contextlib.suppress(TransientError):
                if taken := queue.acquire("capture", "parent", 30.0):
                    return taken
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.013)
