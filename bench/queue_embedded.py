"""The embedded queue beside a bare file: events per second appended and read, at 10,000 events a message.

    bench/run queue_embedded [--quick] [--json] [--rounds N]

Bodies are 85 bytes an event (what Arrow and lz4 make of the `orders` table), one message a publish, `sync: FULL`; each
publish stores a position too. Beside it, in turns of ten messages: a bare segment file, one write and one fdatasync a
message. Reading is compared with the same file read back in pages as large as the queue's, each body against its
checksum, since the queue gives out nothing unchecked. Bodies do not compress. Both sides are warm: the queue's
write-ahead log has its steady size. Rates are by the clock; `cpu_s` is this process's, for a round of ten messages.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from bench.measure import Figure, emit, faster, median, parser, spread
from syncd import codec, partition
from syncd.model import ChangeBatch, Column, Kind, Lane, Message, Op, TableId, TableSchema
from syncd.mq.embedded import EmbeddedQueue, Options
from syncd.spi import Context, Lease

EVENTS = 10_000
BODY = 85 * EVENTS
PAGE = 8 << 20
LANE = Lane("shop.orders", 0)
TOPIC = "bench"
GROUP = "bench/sink"
RETAINED = 64 << 20
WARM = 150
ROUNDS, QUICK_ROUNDS = 60, 16


class Took(NamedTuple):
    wall: float
    cpu: float


class Sizes(NamedTuple):
    rounds: int
    messages: int


def timed(work: Callable[[], None]) -> Took:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - wall, time.process_time() - cpu)


class Bare:
    """A segment file: one write and one fdatasync a message."""

    def __init__(self, directory: Path) -> None:
        self._fd = os.open(directory / "segment", os.O_RDWR | os.O_CREAT, 0o600)
        self._places: list[tuple[int, int, int]] = []
        self._end = 0

    def append(self, bodies: list[bytes]) -> None:
        for body in bodies:
            os.pwrite(self._fd, body, self._end)
            os.fdatasync(self._fd)
            self._places.append((self._end, len(body), 0))
            self._end += len(body)

    def note_checksums(self, bodies: list[bytes]) -> None:
        checksums = [zlib.crc32(body) for body in bodies]
        places = self._places[-len(bodies) :]
        self._places[-len(bodies) :] = [(at, size, c) for (at, size, _), c in zip(places, checksums, strict=True)]

    def read(self, count: int) -> None:
        page: list[bytes] = []
        for at, size, checksum in self._places[-count:]:
            page.append(os.pread(self._fd, size, at))
            assert zlib.crc32(page[-1]) == checksum
            if sum(map(len, page)) + size > PAGE:
                page = []

    def start_anew(self) -> None:
        os.ftruncate(self._fd, 0)
        self._places, self._end = [], 0

    def close(self) -> None:
        os.close(self._fd)


class Queue:
    def __init__(self, directory: Path) -> None:
        self.queue = EmbeddedQueue(Options(keep_bytes=0), Context("bench", directory))
        self.queue.open()
        self.lease = self._lease()
        self.queue.subscribe(GROUP, TOPIC, None)
        self.read_to = 0
        for _ in range(WARM):
            self.append([b""])
        self.finish()

    def _lease(self) -> Lease:
        lease = self.queue.acquire("bench", "bench", 3600.0)
        assert lease is not None
        return lease

    def append(self, bodies: list[bytes]) -> None:
        for n, body in enumerate(bodies):
            self.queue.publish(self.lease, TOPIC, [message(n, body)], {"position": str(n).encode()})

    def read(self, count: int) -> None:
        end = self.read_to + count
        while self.read_to < end:
            self.read_to = self.queue.poll(TOPIC, LANE, self.read_to, PAGE)[-1].offset + 1

    def finish(self) -> None:
        """Everything is read: commit it, and let retention give the disk back."""
        end = self.queue.lanes(GROUP)[LANE][1]
        self.queue.commit(self.lease, GROUP, {LANE: end}, {}, [])
        self.read_to = end
        self.queue.trim()

    def close(self) -> None:
        self.queue.close()


def message(n: int, body: bytes) -> Message:
    return Message(LANE, Kind.ROWS, TableId("shop", "orders"), 1, EVENTS, n, n, n, 0, 0, body)


def bodies(count: int) -> list[bytes]:
    return [os.urandom(BODY) for _ in range(count)]


@contextmanager
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="syncd-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


# ------------------------------------------------------------------------------------------------------------ figures


def appended_and_read(sizes: Sizes) -> Iterator[Figure]:
    writes, reads = [], []
    made = bodies(sizes.messages)
    with directory() as path:
        bare, queue = Bare(path), Queue(path)
        for n in range(sizes.rounds):
            # Who goes first changes: the second finds a warmer disk.
            pair = [lambda: bare.append(made), lambda: queue.append(made)]
            took = [timed(pair[n % 2]), timed(pair[1 - n % 2])]
            writes.append((took[n % 2], took[1 - n % 2]))
            bare.note_checksums(made)
            reads.append((timed(lambda: bare.read(sizes.messages)), timed(lambda: queue.read(sizes.messages))))
            if n % 8 == 7:
                queue.finish()
                bare.start_anew()
        bare.close()
        queue.close()
    events = sizes.messages * EVENTS
    yield figure("append_events_per_s", events, writes, "bare segment file, fdatasync", 0.5)
    yield figure("read_events_per_s", events, reads, "bare segment file, checksums", 0.5)


def after_turnovers(sizes: Sizes) -> Iterator[Figure]:
    """Ten times the retained size goes through the queue, in pages that are committed and trimmed."""
    pairs = []
    with directory() as old_path, directory() as new_path:
        old = Queue(old_path)
        page = bodies(sizes.messages)
        for _ in range(10 * RETAINED // (BODY * len(page)) + 1):
            old.append(page)
            old.finish()
        held = sum(f.stat().st_size for f in (old_path / "queue").rglob("*") if f.name != "reserve")
        fresh = Queue(new_path)
        for n in range(sizes.rounds):
            pair = [lambda: fresh.append(page), lambda: old.append(page)]
            took = [timed(pair[n % 2]), timed(pair[1 - n % 2])]
            pairs.append((took[n % 2], took[1 - n % 2]))
            if n % 8 == 7:
                fresh.finish()
                old.finish()
        old.close()
        fresh.close()
    events = sizes.messages * EVENTS
    note = f"{held >> 20} MB on disk after the last trim"
    yield figure("append_after_ten_turnovers_events_per_s", events, pairs, "fresh queue", 0.9, note)


def with_codec(sizes: Sizes) -> Iterator[Figure]:
    """Arrow batch to queue and back to Arrow batch: key hash, encode, publish, poll, decode."""
    changes = orders(EVENTS)
    writes, reads = [], []
    with directory() as path:
        queue = Queue(path)
        for _ in range(sizes.rounds):
            writes.append(timed(lambda: encode_all(queue, changes, sizes.messages)))
            reads.append(timed(lambda: decode_all(queue, changes.schema, sizes.messages)))
            queue.finish()
        queue.close()
    events = sizes.messages * EVENTS
    yield alone("encode_append_events_per_s", events, writes)
    yield alone("read_decode_events_per_s", events, reads)


def encode_all(queue: Queue, changes: ChangeBatch, count: int) -> None:
    for n in range(count):
        hashes = partition.key_hash(changes.schema, changes.rows)
        made = codec.encode(changes, LANE, "bench", 0, hashes)
        queue.queue.publish(queue.lease, TOPIC, [made], {"position": str(n).encode()})


def decode_all(queue: Queue, schema: TableSchema, count: int) -> None:
    end = queue.read_to + count
    while queue.read_to < end:
        page = queue.queue.poll(TOPIC, LANE, queue.read_to, PAGE)
        for item in page:
            codec.decode(item.message, schema)
        queue.read_to = page[-1].offset + 1


def orders(count: int) -> ChangeBatch:
    rng = np.random.default_rng(7)
    words = np.array([f"SKU-{n * 2654435761 % 4294967296:010d}" for n in range(50_000)])
    moments = 1_700_000_000_000_000 + np.arange(count) * 1_000_003
    columns = {
        "id": pa.array(rng.integers(0, 10**7, count)),
        "user_id": pa.array(rng.integers(0, 10**5, count)),
        "shop_id": pa.array(rng.integers(0, 1000, count).astype(np.int32)),
        "status": pa.DictionaryArray.from_arrays(
            pa.array(rng.integers(0, 3, count), pa.int8()), ["new", "paid", "sent"]
        ),
        "amount": pa.array(rng.integers(0, 10**8, count)).cast(pa.decimal128(23, 4)),
        "qty": pa.array(rng.integers(0, 200, count).astype(np.int16)),
        "discount": pa.array(rng.random(count)),
        "sku": pa.array(rng.choice(words, count)),
        "note": pa.array(rng.choice(words, count), mask=rng.random(count) < 0.25),
        "attrs": pa.array(rng.choice(words, count), mask=rng.random(count) < 0.2),
        "created_at": pa.array(moments, pa.timestamp("us")),
        "updated_at": pa.array(moments + 77, pa.timestamp("us")),
    }
    schema = TableSchema(
        TableId("shop", "orders"), 1, tuple(Column(n, c.type) for n, c in columns.items()), ("id",), "primary"
    )
    rows = pa.RecordBatch.from_arrays(list(columns.values()), schema=schema.arrow())
    return ChangeBatch(schema, rows, np.full(count, Op.UPDATE, np.uint8), np.arange(count, dtype=np.uint64))


def figure(
    name: str, events: int, pairs: Sequence[tuple[Took, Took]], beside: str, bar: float, note: str = ""
) -> Figure:
    """`pairs`: (what it is compared with, ours)."""
    theirs, ours = ([pair[side] for pair in pairs] for side in (0, 1))
    cpu = {"syncd": [one.cpu for one in ours], beside: [one.cpu for one in theirs]}
    rates = rate(events, ours), rate(events, theirs)
    return faster(name, *rates, peer=beside, bar=bar, unit="events/s", cpu=cpu, note=note)


def alone(name: str, events: int, took: Sequence[Took]) -> Figure:
    rates, cpu = rate(events, took), {"syncd": median([one.cpu for one in took])}
    return Figure(name, median(rates), "events/s", spread=spread(rates), rounds=len(rates), cpu_s=cpu)


def rate(events: int, took: Sequence[Took]) -> list[float]:
    return [events / one.wall for one in took]


def main(argv: Sequence[str]) -> int:
    arguments = parser(__doc__, rounds=ROUNDS).parse_args(argv)
    sizes = Sizes(arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS), messages=10)
    holds = True
    for measure in (appended_and_read, after_turnovers, with_codec):
        for one in measure(sizes):
            emit(one, as_json=arguments.json)
            holds = holds and one.holds is not False
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
