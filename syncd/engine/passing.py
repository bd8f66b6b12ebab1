"""Words and Arrow batches between two processes of one machine.

A word is pickled; the rows in it go apart, through memory that both processes map, so that they are copied once.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any

import pyarrow as pa

from syncd.model import ChangeBatch


def send(connection: Connection, word: tuple[Any, ...]) -> None:
    """A word whose items may be a RecordBatch or a ChangeBatch, at most one of them."""
    at = next((i for i, item in enumerate(word) if isinstance(item, pa.RecordBatch | ChangeBatch)), None)
    if at is None:
        connection.send((word, None))
        return
    item = word[at]
    rows = item.rows if isinstance(item, ChangeBatch) else item
    rest = replace(item, rows=None) if isinstance(item, ChangeBatch) else None
    fd, size = _written(rows)
    try:
        connection.send(((*word[:at], rest, *word[at + 1 :]), (at, size)))
        send_handle(connection, fd, None)
    finally:
        os.close(fd)


def receive(connection: Connection) -> tuple[Any, ...]:
    """The next word, as it was sent. EOFError, OSError: the other end is gone."""
    word, rows = connection.recv()
    if rows is None:
        return tuple(word)
    at, size = rows
    fd = recv_handle(connection)
    try:
        # Unmapped when the last array over it is gone.
        memory = mmap.mmap(fd, size, access=mmap.ACCESS_READ)
    finally:
        os.close(fd)
    batch = pa.ipc.open_stream(pa.py_buffer(memory)).read_next_batch()
    rest = word[at]
    return (*word[:at], batch if rest is None else replace(rest, rows=batch), *word[at + 1 :])


def _written(rows: pa.RecordBatch) -> tuple[int, int]:
    """(descriptor of a nameless file with the rows as an Arrow stream, its bytes)."""
    fd = _nameless()
    try:
        with os.fdopen(fd, "wb", closefd=False) as file, pa.ipc.new_stream(file, rows.schema) as writer:
            writer.write_batch(rows)
        return fd, os.fstat(fd).st_size
    except BaseException:
        os.close(fd)
        raise


def _nameless() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("rows")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
