"""The embedded queue beyond the conformance suite: retention and disk, leases over time, options."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from syncd.errors import StateError
from syncd.model import Hop, Lane
from syncd.mq.embedded import EmbeddedQueue, Options
from syncd.mq.embedded.clock import Clock, machine_clock
from syncd.spi import Context, Lease
from syncd.testing.contracts.queue_kit import A0, A1, B0, GROUP, TOPIC, leased, message, opened, seqs

CHUNK = os.urandom(100_000)


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.since_boot = 1000.0
        self.wall = 1_700_000_000.0

    def clock(self, boot: str = "this boot") -> Clock:
        return Clock(boot, now=lambda: self.since_boot, wall=lambda: self.wall)


def make(path: Path, clock: Clock | None = None, **options: object) -> EmbeddedQueue:
    values = {"segment_bytes": 1 << 20, **options}
    return EmbeddedQueue(Options.model_validate(values), Context("job", path), clock=clock)


def segments(path: Path) -> list[Path]:
    return sorted((path / "queue" / "bodies").iterdir())


def on_disk(path: Path) -> int:
    """Without the write-ahead log and the reserve, which keep their size."""
    files = [p for p in (path / "queue").rglob("*") if p.is_file() and p.name not in ("reserve", "queue.db-wal")]
    return sum(p.stat().st_size for p in files)


# --------------------------------------------------------------------------------------------------------- retention


def publish(queue: EmbeddedQueue, lease: Lease, count: int, *lanes: Lane) -> None:
    for n in range(count):
        queue.publish(lease, TOPIC, [message(n, lane, CHUNK) for lane in lanes or (A0,)], {})


def finish(queue: EmbeddedQueue, lease: Lease, *lanes: Lane) -> None:
    ends = {lane: end for lane, (_, end) in queue.lanes(GROUP).items() if not lanes or lane in lanes}
    queue.commit(lease, GROUP, ends, {}, [])


def test_the_disk_comes_back(tmp_path: Path) -> None:
    with opened(lambda _=None: make(tmp_path, keep_bytes=0)) as queue:
        assert isinstance(queue, EmbeddedQueue)
        lease = leased(queue)
        queue.subscribe(GROUP, TOPIC, None)
        publish(queue, lease, 100)
        full = on_disk(tmp_path)
        finish(queue, lease)
        given = queue.trim()
        assert full > 10_000_000
        assert on_disk(tmp_path) < 500_000
        assert given > 9_000_000
        assert queue.usage()[0] < 20_000_000


def test_the_database_file_shrinks(tmp_path: Path) -> None:
    with opened(lambda _=None: make(tmp_path)) as queue:
        assert isinstance(queue, EmbeddedQueue)
        lease = leased(queue)
        queue.put(lease, {f"parked/{n}": CHUNK for n in range(100)})
        full = on_disk(tmp_path)
        queue.put(lease, {f"parked/{n}": None for n in range(100)})
        assert queue.trim() > 8_000_000
        assert on_disk(tmp_path) < full // 3


def test_a_slow_lane_keeps_its_own_bytes_only(tmp_path: Path) -> None:
    """A halted table must not fill the queue with what its neighbours have finished."""
    with opened(lambda _=None: make(tmp_path, keep_bytes=0)) as queue:
        assert isinstance(queue, EmbeddedQueue)
        lease = leased(queue)
        queue.subscribe(GROUP, TOPIC, None)
        for n in range(200):
            slow = [message(n, B0, CHUNK[:10_000])] if n % 4 == 0 else []
            queue.publish(lease, TOPIC, [message(n, A0, CHUNK), *slow], {})
        finish(queue, lease, A0)
        queue.trim()
        assert on_disk(tmp_path) < 2_500_000, "0.5 MB of 20 are needed"
        found = queue.poll(TOPIC, B0, 0, 1 << 30)
        assert [item.message.first_seq for item in found] == list(range(0, 200, 4))
        assert all(item.message.body == CHUNK[:10_000] for item in found)


def test_a_reader_goes_on_while_bodies_move(tmp_path: Path) -> None:
    with opened(lambda _=None: make(tmp_path, keep_bytes=0)) as queue, opened(lambda _=None: make(tmp_path)) as other:
        assert isinstance(queue, EmbeddedQueue)
        lease = leased(queue)
        queue.subscribe(GROUP, TOPIC, None)
        publish(queue, lease, 50, A0, A1, B0)
        assert seqs(other, A1) == list(range(50))
        finish(queue, lease, A0, B0)
        before = segments(tmp_path)
        queue.trim()
        publish(queue, lease, 1, A1)
        assert set(before) & set(segments(tmp_path)) != set(before)
        assert seqs(other, A1) == [*range(50), 0]


def test_finished_messages_stay_for_trace_up_to_keep_bytes(tmp_path: Path) -> None:
    time = Time()
    with opened(lambda _=None: make(tmp_path, time.clock(), keep_bytes=1_000_000, keep_hours=1.0)) as queue:
        assert isinstance(queue, EmbeddedQueue)
        lease = leased(queue)
        queue.subscribe(GROUP, TOPIC, None)
        for n in range(30):
            time.wall += 1
            queue.publish(lease, TOPIC, [message(n, body=CHUNK)], {})
        finish(queue, lease)
        queue.trim()
        assert seqs(queue) == list(range(21, 30)), "the newest megabyte"
        time.wall += 3601
        queue.trim()
        assert seqs(queue) == []


def test_hops_go_with_time(tmp_path: Path) -> None:
    time = Time()
    with opened(lambda _=None: make(tmp_path, time.clock(), keep_hours=1.0)) as queue:
        lease = leased(queue)
        queue.subscribe(GROUP, TOPIC, None)
        for n in range(3):
            hop = Hop(7, "sink", A0, n, int(time.wall * 1_000_000), 1, "w")
            queue.commit(lease, GROUP, {}, {}, [hop])
            time.wall += 1800
        queue.trim()
        assert [hop.offset for hop in queue.hops(TOPIC, 7)] == [1, 2]


def test_what_a_dead_process_left_is_swept_up(tmp_path: Path) -> None:
    with opened(lambda _=None: make(tmp_path)) as queue:
        lease = leased(queue)
        queue.publish(lease, TOPIC, [message(1, body=CHUNK)], {})
        (own,) = segments(tmp_path)
        left = own.with_name("00000000000000000000000000000000.seg")
        left.write_bytes(CHUNK)
        with opened(lambda _=None: make(tmp_path)) as other:
            assert isinstance(other, EmbeddedQueue)
            writing = other._writer.append([CHUNK])  # not committed yet
            queue.trim()
            assert set(segments(tmp_path)) == {own, own.with_name(writing.name)}
            other._writer.abandon()
        queue.trim()
        assert segments(tmp_path) == [own]


def test_a_new_owner_does_not_write_into_an_old_ones_file(tmp_path: Path) -> None:
    for n in range(3):
        with opened(lambda _=None: make(tmp_path)) as queue:
            queue.publish(leased(queue), TOPIC, [message(n)], {})
            assert seqs(queue) == list(range(n + 1))
            assert len(segments(tmp_path)) == n + 1


# ------------------------------------------------------------------------------------------------------------ leases


def test_a_jump_of_the_wall_clock_changes_no_lease(tmp_path: Path) -> None:
    time = Time()
    with opened(lambda _=None: make(tmp_path, time.clock())) as queue:
        leased(queue, "x", "one", 10.0)
        time.wall += 1e9
        assert queue.acquire("x", "two", 10.0) is None
        time.since_boot += 10
        assert queue.acquire("x", "two", 10.0) is not None


@pytest.mark.parametrize(("boot", "now"), [("another boot", 5.0), ("another boot", 1001.0), ("this boot", 999.0)])
def test_a_lease_of_an_earlier_boot_is_dead(tmp_path: Path, boot: str, now: float) -> None:
    time = Time()
    with opened(lambda _=None: make(tmp_path, time.clock())) as queue:
        old = leased(queue, "x", "one", 100.0)
    time.since_boot = now
    with opened(lambda _=None: make(tmp_path, time.clock(boot))) as queue:
        assert [state.live for state in queue.leases("")] == [False]
        new = queue.acquire("x", "two", 100.0)
        assert new is not None
        assert new.epoch == old.epoch + 1


def test_the_machines_clock_goes_on() -> None:
    clock = machine_clock()
    assert clock.boot
    assert clock.now() < clock.now() + 1e-9 <= clock.now() + 1


# ----------------------------------------------------------------------------------------------------------- options


def test_every_option_is_described() -> None:
    for name, field in Options.model_fields.items():
        assert field.description, name
    json.dumps(Options.model_json_schema())


@pytest.mark.parametrize("wrong", [{"sync": "OFF"}, {"max_bytes": 0}, {"keep_bytes": 1 << 40}, {"unknown": 1}])
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(wrong)


def test_two_queues_in_one_directory_are_one(tmp_path: Path) -> None:
    with opened(lambda _=None: make(tmp_path)) as one, opened(lambda _=None: make(tmp_path)) as two:
        assert one.incarnation() == two.incarnation()
        two.publish(leased(two), TOPIC, [message(1)], {})
        assert seqs(one) == [1]


def test_a_group_ahead_of_a_restored_queue_is_refused(tmp_path: Path) -> None:
    with opened(lambda _=None: make(tmp_path)) as queue:
        queue.subscribe(GROUP, TOPIC, None)
        queue.publish(leased(queue), TOPIC, [message(1)], {})
        with pytest.raises(StateError, match=r"offset 5 of lane shop\.a/0, whose end is 1.*resync"):
            queue.commit(leased(queue), GROUP, {A0: 5}, {}, [])


def test_every_option_is_in_the_docs() -> None:
    text = (Path(__file__).parents[3] / "docs" / "queues" / "embedded.md").read_text(encoding="utf-8")
    assert [name for name in Options.model_fields if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize(
    "options",
    [{"keep_hours": float("inf")}, {"keep_hours": 1e17}, {"keep_hours": float("nan")}, {"reserve_bytes": 1 << 63}],
)
def test_sizes_that_no_clock_and_no_disk_has_are_refused(options: dict[str, float]) -> None:
    """Else the first trim would end the daemon with a stack trace."""
    with pytest.raises(ValidationError, match=r"(less|greater) than or equal to"):
        Options.model_validate(options)
