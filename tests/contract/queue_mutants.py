"""Queues that are each wrong in one way: the conformance suite must name every one of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from syncd.errors import FencedError, QueueFull
from syncd.model import Hop, Lane, Message, Stored
from syncd.mq.embedded import EmbeddedQueue
from syncd.spi import Held, Lease

State = Mapping[str, bytes | None]


class DropsTheLast(EmbeddedQueue):
    def publish(self, lease: Lease, topic: str, messages: Sequence[Message], state: State) -> Sequence[int]:
        return [*super().publish(lease, topic, messages[:-1], state), 0]


class CommitsOffsetWithoutState(EmbeddedQueue):
    def commit(self, lease: Lease, group: str, offsets: Mapping[Lane, int], state: State, hops: Sequence[Hop]) -> None:
        super().commit(lease, group, offsets, {}, hops)


class ForgetsHops(EmbeddedQueue):
    def commit(self, lease: Lease, group: str, offsets: Mapping[Lane, int], state: State, hops: Sequence[Hop]) -> None:
        super().commit(lease, group, offsets, state, [])


class PublishesWithoutState(EmbeddedQueue):
    def publish(self, lease: Lease, topic: str, messages: Sequence[Message], state: State) -> Sequence[int]:
        return super().publish(lease, topic, messages, {} if messages else state)


class _Unfenced(EmbeddedQueue):
    """Writes under the lease's present owner instead of the caller's."""

    def _now(self, lease: Lease) -> Lease:
        return next((s.lease for s in self.leases(lease.name) if s.lease.name == lease.name), lease)


class IgnoresTheFenceAtPublish(_Unfenced):
    def publish(self, lease: Lease, topic: str, messages: Sequence[Message], state: State) -> Sequence[int]:
        return super().publish(self._now(lease), topic, messages, state)


class IgnoresTheFenceAtCommit(_Unfenced):
    def commit(self, lease: Lease, group: str, offsets: Mapping[Lane, int], state: State, hops: Sequence[Hop]) -> None:
        super().commit(self._now(lease), group, offsets, state, hops)


class IgnoresTheFenceAtPut(_Unfenced):
    def put(self, lease: Lease, state: State) -> None:
        super().put(self._now(lease), state)


class FencesAfterStoring(_Unfenced):
    """The check comes too late: the error is right and the state is stored."""

    def publish(self, lease: Lease, topic: str, messages: Sequence[Message], state: State) -> Sequence[int]:
        now = self._now(lease)
        offsets = super().publish(now, topic, messages, state)
        if now != lease:
            raise FencedError("too late")
        return offsets


class SwapsOrder(EmbeddedQueue):
    def publish(self, lease: Lease, topic: str, messages: Sequence[Message], state: State) -> Sequence[int]:
        return super().publish(lease, topic, list(reversed(messages)), state)


class ReturnsDuplicates(EmbeddedQueue):
    def poll(self, topic: str, lane: Lane, offset: int, max_bytes: int) -> Sequence[Stored]:
        return (
            super().poll(topic, lane, max(0, offset - 1), max_bytes)
            if offset > 2
            else super().poll(topic, lane, offset, max_bytes)
        )


class DropsDuplicates(EmbeddedQueue):
    def publish(self, lease: Lease, topic: str, messages: Sequence[Message], state: State) -> Sequence[int]:
        known = {s.message.first_seq for m in messages for s in self.poll(topic, m.lane, 0, 1 << 20)}
        fresh = [m for m in messages if m.first_seq not in known]
        return super().publish(lease, topic, fresh, state) or [0]


class PublishesInTwoSteps(EmbeddedQueue):
    def publish(self, lease: Lease, topic: str, messages: Sequence[Message], state: State) -> Sequence[int]:
        offsets = [super(PublishesInTwoSteps, self).publish(lease, topic, [m], {})[0] for m in messages]
        self.put(lease, state)
        return offsets


class SharesOffsetsBetweenGroups(EmbeddedQueue):
    def commit(self, lease: Lease, group: str, offsets: Mapping[Lane, int], state: State, hops: Sequence[Hop]) -> None:
        for (other,) in self._db.read("SELECT name FROM subscription"):
            super().commit(lease, other, offsets, state, hops if other == group else [])


class TrimsToTheFastest(EmbeddedQueue):
    def trim(self) -> int:
        with self._db.write() as c:
            c.execute("UPDATE progress SET offset = (SELECT MAX(offset) FROM progress p WHERE p.lane = progress.lane)")
        return super().trim()


class TellsOfWhatIsGone(EmbeddedQueue):
    def kept(self, topic: str, lane: Lane) -> int:
        return 0


class CountsTheFinished(EmbeddedQueue):
    def held(self) -> Mapping[str, Mapping[Lane, Held]]:
        return {
            group: dict.fromkeys(self.lanes(group), Held(2 * 262_400, 2, 1))
            for (group,) in self._db.read("SELECT name FROM subscription")
        }


class FullForCommitsToo(EmbeddedQueue):
    def put(self, lease: Lease, state: State) -> None:
        held, limit = self.usage()
        if held >= limit:
            raise QueueFull("full")
        super().put(lease, state)


class IgnoresTags(EmbeddedQueue):
    def subscribe(self, group: str, topic: str, tags: Collection[str] | None) -> None:
        super().subscribe(group, topic, None)


class ResetsOffsetsAtSubscribe(EmbeddedQueue):
    def subscribe(self, group: str, topic: str, tags: Collection[str] | None) -> None:
        self.unsubscribe(group)
        super().subscribe(group, topic, tags)


class LeavesUnsubscribed(EmbeddedQueue):
    def unsubscribe(self, group: str) -> None:
        pass


class TakesLiveLeases(EmbeddedQueue):
    def acquire(self, name: str, owner: str, ttl: float) -> Lease | None:
        for state in self.leases(name):
            self.release(state.lease)
        return super().acquire(name, owner, ttl)


class ScansByPattern(EmbeddedQueue):
    def scan(self, prefix: str) -> Mapping[str, bytes]:
        return dict(self._db.read("SELECT key, value FROM state WHERE key LIKE ? || '%'", (prefix,)))


class WaitsForTheLastLook(EmbeddedQueue):
    def poll(self, topic: str, lane: Lane, offset: int, max_bytes: int) -> Sequence[Stored]:
        self._waiting._woken.add(topic)
        return super().poll(topic, lane, offset, max_bytes)
