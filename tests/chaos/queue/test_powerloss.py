"""Power cuts at any instant: what was acknowledged is there, and never half a publish (guarantee 1)."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from syncd.errors import SyncdError
from syncd.model import Lane
from syncd.mq.embedded import EmbeddedQueue, Options, database
from syncd.spi import Context
from syncd.testing.contracts.queue_kit import GROUP, TOPIC, leased, message, opened
from tests.chaos.queue.powerloss import ForgetfulDisk, Tape, TapeDisk, taped

LANES = [Lane("shop.a", 0), Lane("shop.a", 1), Lane("shop.b", 0)]
PUBLISHES = 120
CUTS = 120


def body(seq: int, lane: Lane) -> bytes:
    return random.Random(f"{seq} {lane}").randbytes(200 + (seq * 997) % 9000)


def plan(number: int) -> list[Lane]:
    """The lanes that publish `number` (from 1) writes to; the slow lane 2 leaves gaps for compaction."""
    return LANES if number % 10 == 0 else LANES[: 1 + number % 2]


def record(root: Path, disk: type[TapeDisk], sync: str) -> Tape:
    tape = Tape(root)
    connector, _vfs = taped(tape, f"tape-{root.name}")
    options = Options.model_validate({"segment_bytes": 64 << 10, "keep_bytes": 0, "sync": sync})
    queue = EmbeddedQueue(options, Context("job", root), disk=disk(tape), connector=connector)
    queue.open()
    lease = leased(queue)
    queue.subscribe(GROUP, TOPIC, None)
    for number in range(1, PUBLISHES + 1):
        lanes = plan(number)
        queue.publish(lease, TOPIC, [message(number, lane, body(number, lane)) for lane in lanes], state(number))
        tape.add("acknowledged", at=number)
        if number % 3 == 0:
            done = {lane: end for lane, (_, end) in queue.lanes(GROUP).items() if lane != LANES[2]}
            queue.commit(lease, GROUP, done, {"applied": repr(sorted(done.items())).encode()}, [])
        if number % 25 == 0:
            queue.trim()
    queue.close()
    return tape


def state(number: int) -> dict[str, bytes | None]:
    return {"position": str(number).encode()}


def check(root: Path, acknowledged: int, *, durable: bool) -> None:
    with opened(lambda _=None: EmbeddedQueue(Options(), Context("job", root))) as queue:
        position = int(queue.get("position") or b"0")
        assert position <= acknowledged + 1
        assert position >= acknowledged or not durable, f"publish {position + 1} was acknowledged and is lost"
        lanes = queue.lanes(GROUP)
        applied = queue.get("applied")
        assert applied is None or eval(applied) == sorted(
            (tuple(lane), offset) for lane, (offset, _) in lanes.items() if lane != LANES[2]
        )
        for lane, (begin, end) in lanes.items():
            expected = [n for n in range(1, position + 1) if lane in plan(n)]
            assert end == len(expected), "half of a publish"
            found = [item.message for item in queue.poll(TOPIC, lane, begin, 1 << 30)]
            assert [m.first_seq for m in found] == expected[begin:]
            assert all(m.body == body(m.first_seq, lane) for m in found)
        queue.publish(leased(queue, "after", "after"), TOPIC, [message(10**6)], {})
        queue.trim()


def failures(tape: Tape, target: Path, *, durable: bool) -> list[str]:
    found = []
    rng = random.Random(20261121)
    for number in range(CUTS):
        cut = rng.randrange(len(tape.events) + 1)
        acknowledged = max((e.at for e in tape.events[:cut] if e.kind == "acknowledged"), default=0)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        tape.disk_after(cut, random.Random(number), target)
        try:
            check(target, acknowledged, durable=durable)
        except (SyncdError, AssertionError) as error:
            found.append(f"cut {cut} (seed {number}): {error}")
    return found


def test_what_was_acknowledged_survives_a_power_loss(tmp_path: Path) -> None:
    tape = _record(tmp_path, TapeDisk, "FULL")
    assert failures(tape, tmp_path / "after", durable=True) == []


def test_without_sync_the_last_may_be_lost_but_nothing_is_torn(tmp_path: Path) -> None:
    tape = _record(tmp_path, TapeDisk, "NORMAL")
    assert failures(tape, tmp_path / "after", durable=False) == []


def test_the_harness_finds_a_sync_that_is_left_out(tmp_path: Path) -> None:
    tape = _record(tmp_path, ForgetfulDisk, "FULL")
    assert len(failures(tape, tmp_path / "after", durable=True)) > CUTS // 10


@pytest.fixture(autouse=True)
def _small_write_ahead_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 30)


def _record(tmp_path: Path, disk: type[TapeDisk], sync: str) -> Tape:
    (tmp_path / "before").mkdir()
    return record(tmp_path / "before", disk, sync)
