"""A full disk, a damaged file, a directory that cannot be used: said by name, and nothing half stored."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from syncd.errors import FatalError, StateError, TransientError
from syncd.mq.embedded import EmbeddedQueue, Options
from syncd.mq.embedded.bodies import Disk
from syncd.spi import Context, Lease, Queue
from syncd.testing.contracts.queue_kit import A0, B0, GROUP, TOPIC, leased, message, opened, patiently, seqs
from tests.services.small_disk import small_disk


def make(directory: Path, disk: Disk | None = None, **options: object) -> EmbeddedQueue:
    return EmbeddedQueue(Options.model_validate(options), Context("job", directory), disk=disk)


def filled(path: Path) -> Path:
    """A closed queue with some messages; its directory."""
    with opened(lambda _=None: make(path)) as queue:
        queue.subscribe(GROUP, TOPIC, None)
        queue.publish(leased(queue), TOPIC, [message(n, body=b"x" * 1000) for n in range(100)], {"position": b"p"})
    return path / "queue"


class FullDisk(Disk):
    full = False

    def write(self, fd: int, buffers: Sequence[bytes], at: int) -> int:
        if self.full:
            super().write(fd, [buffers[0][:10]], at)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(fd, buffers, at)


def test_no_room_for_bodies(tmp_path: Path) -> None:
    disk = FullDisk()
    with opened(lambda _=None: make(tmp_path, disk)) as queue:
        lease = leased(queue)
        queue.publish(lease, TOPIC, [message(1)], {"position": b"1"})
        disk.full = True
        with pytest.raises(TransientError, match=r"bodies: the disk is full.*free some space"):
            queue.publish(lease, TOPIC, [message(2)], {"position": b"2"})
        assert (seqs(queue), queue.get("position")) == ([1], b"1")
        disk.full = False
        queue.publish(lease, TOPIC, [message(3)], {"position": b"3"})
        assert (seqs(queue), queue.get("position")) == ([1, 3], b"3")


def test_no_room_in_the_database(tmp_path: Path) -> None:
    queue = make(tmp_path)
    with opened(lambda _=None: queue) as opened_queue:
        lease = leased(opened_queue)
        queue.put(lease, {"a": b"1"})
        queue._db._c.execute("PRAGMA max_page_count = 1")
        with pytest.raises(TransientError, match=r"queue\.db: the disk is full"):
            queue.put(lease, {"a": b"2", "large": bytes(1 << 20)})
        assert dict(queue.scan("")) == {"a": b"1"}
        queue._db._c.execute("PRAGMA max_page_count = 1000000")
        queue.put(lease, {"a": b"2", "large": bytes(1 << 20)})
        assert queue.get("a") == b"2"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", 12) as disk:
        yield disk


def test_a_disk_that_really_is_full(small: Path) -> None:
    """Capture waits, the sinks go on, and what they finish makes room again."""
    with opened(lambda _=None: make(small, segment_bytes=1 << 20, keep_bytes=0, reserve_bytes=1 << 20)) as queue:
        queue.subscribe(GROUP, TOPIC, None)
        lease = leased(queue)
        stored = _fill(queue, lease)
        assert seqs(queue) == list(range(stored))
        assert queue.get("position") == str(stored - 1).encode()
        for offset in range(1, stored + 1):
            patiently(lambda offset=offset: queue.commit(lease, GROUP, {A0: offset}, {}, []))  # type: ignore[misc]
        patiently(queue.trim)
        queue.publish(lease, TOPIC, [message(stored)], {})
        assert seqs(queue)[-1] == stored


def _fill(queue: Queue, lease: Lease) -> int:
    for n in range(1000):
        try:
            queue.publish(lease, TOPIC, [message(n, body=bytes(100_000))], {"position": str(n).encode()})
        except TransientError as error:
            if "disk is full" in str(error):
                return n
            raise
    pytest.fail("12 MiB took 100 MB")


def _overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def _damage(directory: Path, how: str) -> None:
    database = directory / "queue.db"
    (segment,) = (directory / "bodies").iterdir()
    match how:
        case "head":
            _overwrite(database, 0, b"garbage garbage ")
        case "schema page":
            _overwrite(database, 100, os.urandom(3000))
        case "body file missing":
            segment.unlink()
        case "body file cut":
            os.truncate(segment, 5000)


@pytest.mark.parametrize("how", ["head", "schema page", "body file missing", "body file cut"])
def test_damage_is_found_when_the_queue_is_opened(tmp_path: Path, how: str) -> None:
    _damage(filled(tmp_path), how)
    with pytest.raises(StateError, match=r"queue.*(damaged|not a queue)") as caught:
        make(tmp_path).open()
    assert "keep the directory aside" in str(caught.value) or "not a queue" in str(caught.value)


def test_a_changed_body_is_found_when_it_is_read(tmp_path: Path) -> None:
    (segment,) = (filled(tmp_path) / "bodies").iterdir()
    _overwrite(segment, 50_500, b"y")
    with opened(lambda _=None: make(tmp_path)) as queue:
        assert len(queue.poll(TOPIC, A0, 0, 50_000)) == 50
        with pytest.raises(StateError, match=r"damaged at 50000: offset 50 of lane shop\.a/0") as caught:
            queue.poll(TOPIC, A0, 50, 1)
    assert caught.value.table == "shop.a"


def test_a_changed_body_holds_up_no_other_table_when_retention_moves_what_is_left(tmp_path: Path) -> None:
    said: list[tuple[str, dict[str, object]]] = []
    options = Options(keep_bytes=0, segment_bytes=65536)

    def again() -> EmbeddedQueue:
        return EmbeddedQueue(
            options, Context("job", tmp_path, log=lambda event, **fields: said.append((event, fields)))
        )

    with opened(lambda _=None: again()) as queue:
        queue.subscribe(GROUP, TOPIC, None)
        lease = leased(queue)
        for n in range(0, 20, 2):
            here, there = message(n, A0, os.urandom(3000)), message(n + 1, B0, os.urandom(1000))
            queue.publish(lease, TOPIC, [here, there], {})
    (segment,) = (tmp_path / "queue" / "bodies").iterdir()
    _overwrite(segment, 3500, b"damage")
    with opened(lambda _=None: again()) as queue:
        queue.commit(lease, GROUP, {A0: 10}, {}, [])
        queue.trim()
        queue.trim()
        assert [(event, fields["file"]) for event, fields in said] == [("body_damaged", str(segment))]
        with pytest.raises(StateError, match=r"damaged at 3000: offset 0 of lane shop\.b/0"):
            queue.poll(TOPIC, B0, 0, 1000)
        queue.publish(lease, TOPIC, [message(99)], {})
        assert [stored.message.first_seq for stored in queue.poll(TOPIC, A0, 10, 1000)] == [99]


def test_a_directory_that_is_away_for_a_while_is_not_called_damaged(tmp_path: Path) -> None:
    directory = filled(tmp_path)
    with opened(lambda _=None: make(tmp_path)) as queue:
        directory.rename(tmp_path / "away")
        lease = queue.leases("capture")[0].lease
        for call in (
            lambda: queue.poll(TOPIC, A0, 0, 50_000),
            lambda: queue.publish(lease, TOPIC, [message(1000)], {}),
            lambda: queue.trim(),
        ):
            with pytest.raises(TransientError, match=r"queue(/bodies)? is not there; put the data directory"):
                call()
        (tmp_path / "away").rename(directory)
        assert len(queue.poll(TOPIC, A0, 0, 50_000)) == 50


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(filled(tmp_path) / "queue.db") as connection:
        connection.execute("PRAGMA user_version = 3")
    connection.close()
    with pytest.raises(StateError, match=r"queue\.db: written by a newer syncd \(format 3, this one knows 2\)"):
        make(tmp_path).open()


def test_an_older_format_is_taken_over(tmp_path: Path) -> None:
    """Format 1 had no sums: what is held is known all the same, and goes on to be."""
    with sqlite3.connect(filled(tmp_path) / "queue.db") as connection:
        for table, columns in {"lane": ("rows", "bytes"), "message": ("rows_before", "bytes_before")}.items():
            for column in columns:
                connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    for extra in range(2):
        with opened(lambda _=None: make(tmp_path)) as queue:
            lane_end = queue.lanes(GROUP)[A0][1]
            assert queue.held()[GROUP][A0].rows == lane_end == 100 + extra
            assert queue.held()[GROUP][A0].bytes == sum(
                len(stored.message.body) + 250 for stored in queue.poll(TOPIC, A0, 0, 1 << 20)
            )
            queue.publish(leased(queue), TOPIC, [message(1000 + extra, body=b"more")], {})


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "queue").mkdir()
    connection = sqlite3.connect(tmp_path / "queue" / "queue.db")
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(StateError, match="not a queue of syncd"):
        make(tmp_path).open()


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"not/there: No such file.*the directory above must exist"):
        make(tmp_path, path="not/there").open()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "queue").write_text("")
    with pytest.raises(FatalError, match=r"queue: (Not a directory|File exists)"):
        make(tmp_path).open()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere (run as another user)")
def test_a_read_only_directory_is_named(tmp_path: Path) -> None:
    directory = filled(tmp_path)
    directory.chmod(0o500)
    try:
        with pytest.raises(FatalError, match=r"queue.*writable by this user"):
            make(tmp_path).open()
    finally:
        directory.chmod(0o700)


def test_only_the_user_may_read_the_files(tmp_path: Path) -> None:
    directory = filled(tmp_path)
    with opened(lambda _=None: make(tmp_path)) as queue:
        queue.publish(leased(queue), TOPIC, [message(1)], {})
        queue.wait(TOPIC, 0.0)
        for path in [directory, *directory.rglob("*")]:
            assert path.stat().st_mode & 0o077 == 0, path
