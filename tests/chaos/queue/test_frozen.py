"""Frozen processes: the one that reads, the one that writes, the one that waits."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from syncd.errors import QueueFull, TransientError
from syncd.mq.embedded import EmbeddedQueue, Options
from syncd.spi import Context, Lease, Queue
from syncd.testing.contracts.queue_kit import A0, GROUP, TOPIC, child, heard, leased, message, opened, seqs

WAL = 1 << 20


def make(path: Path, _max_bytes: int | None = None) -> EmbeddedQueue:
    return EmbeddedQueue(Options(wal_bytes=WAL, lock_seconds=0.5), Context("job", path))


def read_and_stay(pipe: Connection, path: Path) -> None:
    """Stop in the middle of a read, as a SIGSTOP may do at any time."""
    connection = sqlite3.connect(path / "queue" / "queue.db")
    cursor = connection.execute("SELECT * FROM message ORDER BY offset")
    cursor.fetchone()
    pipe.send("reading")
    os.kill(os.getpid(), signal.SIGSTOP)


def write_and_stay(pipe: Connection, path: Path) -> None:
    with opened(lambda _=None: make(path)) as queue:
        assert isinstance(queue, EmbeddedQueue)
        with queue._db.write():
            pipe.send("writing")
            os.kill(os.getpid(), signal.SIGSTOP)


def wait_and_stay(pipe: Connection, path: Path) -> None:
    with opened(lambda _=None: make(path)) as queue:
        queue.wait(TOPIC, 0.0)
        pipe.send("waiting")
        os.kill(os.getpid(), signal.SIGSTOP)


def test_a_frozen_reader_cannot_fill_the_disk(tmp_path: Path) -> None:
    with opened(lambda _=None: make(tmp_path)) as queue:
        lease = leased(queue)
        queue.subscribe(GROUP, TOPIC, None)
        queue.publish(lease, TOPIC, [message(n) for n in range(3)], {})
        log = tmp_path / "queue" / "queue.db-wal"
        with child(read_and_stay, tmp_path) as (process, pipe):
            heard(pipe)
            with pytest.raises(QueueFull, match=rf"held by process {process.pid}.*kill -CONT"):
                _publish_for_ever(queue, lease)
            assert log.stat().st_size < 4 * WAL
            queue.put(lease, {"control": b"goes on"})
            queue.commit(lease, GROUP, {A0: 1}, {}, [])
        stored = len(seqs(queue))
        queue.publish(lease, TOPIC, [message(stored)], {})
        assert log.stat().st_size <= WAL


def _publish_for_ever(queue: Queue, lease: Lease) -> None:
    for n in range(3, 100_000):
        queue.publish(lease, TOPIC, [message(n)], {"large": os.urandom(20_000)})


def test_a_frozen_writer_is_named(tmp_path: Path) -> None:
    with opened(lambda _=None: make(tmp_path)) as queue:
        lease = leased(queue)
        with child(write_and_stay, tmp_path) as (process, pipe):
            heard(pipe)
            with pytest.raises(TransientError, match=rf"held by process {process.pid}.*kill -CONT"):
                queue.put(lease, {"a": b"1"})
            assert queue.get("a") is None, "reads go on"
        queue.put(lease, {"a": b"2"})


def test_a_frozen_or_dead_waiter_holds_nobody_up(tmp_path: Path) -> None:
    pipes = tmp_path / "queue" / "waiting"
    with opened(lambda _=None: make(tmp_path)) as queue:
        lease = leased(queue)
        with child(wait_and_stay, tmp_path) as (_, pipe):
            heard(pipe)
            for n in range(200):
                queue.publish(lease, TOPIC, [message(n)], {})
            assert len(list(pipes.iterdir())) == 1
        queue.publish(lease, TOPIC, [message(200)], {})
        assert list(pipes.iterdir()) == [], "a dead process's pipe is removed"


def test_waiting_costs_next_to_nothing(tmp_path: Path) -> None:
    with opened(lambda _=None: make(tmp_path)) as queue:
        queue.wait(TOPIC, 0.0)
        before = time.thread_time()  # other threads of this process have work of their own
        assert not queue.wait(TOPIC, 2.0)
        assert time.thread_time() - before < 0.05, "more than a fortieth of a core"
