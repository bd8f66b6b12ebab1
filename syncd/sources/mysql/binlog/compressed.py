"""Compressed parts of the log: MariaDB's single events (`log_bin_compress`), MySQL's whole transactions.

MariaDB `sql/log_event.cc`, binlog_buf_uncompress: a byte with 0x80, the algorithm (bits 4-6, 0 is zlib) and the size of
the length (bits 0-2); the length, big endian; a zlib stream. MySQL `libbinlogevents`, Transaction_payload_event: fields
of type, size and value, then the events without checksums, as zstd or plain.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from syncd.errors import FatalError, Unsupported
from syncd.sources.mysql.binlog import kinds
from syncd.sources.mysql.binlog.arrays import Ints, Views
from syncd.sources.mysql.binlog.feed import PAD
from syncd.sources.mysql.binlog.reader import Reader
from syncd.sources.mysql.binlog.window import Window, of_events

_COMPRESSED = np.zeros(256, bool)
_COMPRESSED[list(kinds.ROWS_COMPRESSED)] = True
_END, _SIZE, _ALGORITHM, _PLAIN_SIZE = range(4)
_ZSTD, _NONE = 0, 255
_PIECE = 4 << 20


def inflate(data: bytes) -> bytes:
    """MariaDB's compressed part of one event."""
    reader = Reader(data, "compressed")
    head = reader.number(1)
    if not head & 0x80 or head >> 4 & 7:
        raise FatalError(f"malformed compressed event: {head:#x} is no algorithm")
    size = int.from_bytes(reader.take(head & 7), "big")
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(reader.rest(), size)
    except zlib.error as error:
        raise FatalError(f"malformed compressed event: {error}") from error
    if len(plain) != size:
        raise FatalError(f"malformed compressed event: {len(plain)} bytes instead of {size}")
    return plain


def query_body(body: bytes) -> bytes:
    """The body of a QUERY_COMPRESSED event as that of a QUERY."""
    reader = Reader(body, "QUERY_COMPRESSED", 8)
    database = reader.number(1)
    reader.take(2)
    reader.take(reader.number(2) + database + 1)
    return body[: reader.at] + inflate(reader.rest())


def expand(window: Window, first: int, after: int) -> Window:
    """The events from `first` up to `after`, the compressed row events among them as plain ones.

    All of them are laid out anew, one behind the other in the log's order, which is the order that rows are read in.
    What the window says of other events is not to be used.
    """
    index = np.flatnonzero(_COMPRESSED[window.kind[first:after]]) + first
    if not index.size:
        return window
    data = window.views.data
    start, end, kind = window.start.copy(), window.end.copy(), window.kind.copy()
    room = np.zeros(len(window), np.int64)
    out, at, begun = [], 0, first
    for one in [*index.tolist(), after]:
        if one > begun:
            lead = data[window.start[begun] : window.end[one - 1]]
            start[begun:one] += at - window.start[begun]
            end[begun:one] += at - window.start[begun]
            out.append(lead)
            at += len(lead)
        if one < after:
            event = _plain_rows(window.event(one)[: int(window.end[one] - window.start[one])])
            start[one], end[one] = at, at + len(event)
            kind[one] = kinds.PLAIN_OF_COMPRESSED[int(kind[one])]
            room[one] = window.size[one]
            out.append(np.frombuffer(event, np.uint8))
            at += len(event)
        begun = one + 1
    out.append(np.zeros(PAD, np.uint8))
    return replace(window, views=Views(np.concatenate(out)), start=start, end=end, kind=kind, room=room)


def _plain_rows(event: bytes) -> bytes:
    """A compressed row event, without checksum, as a plain one; its header stays as it was."""
    kind = kinds.PLAIN_OF_COMPRESSED[event[4]]
    reader = Reader(event, "compressed row", kinds.HEADER + 8)
    if kind >= kinds.WRITE_ROWS:
        reader.take(max(reader.number(2) - 2, 0))
    bitmap = (reader.packed() + 7) // 8
    reader.take(bitmap * (2 if kind in kinds.UPDATES else 1))
    return event[: reader.at] + inflate(reader.rest())


def payload(body: bytes) -> Iterator[Window]:
    """The events of a TRANSACTION_PAYLOAD, a few megabytes at a time."""
    reader = Reader(body, "TRANSACTION_PAYLOAD")
    algorithm = _NONE
    while (field := reader.packed()) != _END:
        part = Reader(reader.take(reader.packed()), "TRANSACTION_PAYLOAD")
        if field == _ALGORITHM:
            algorithm = part.packed()
    if algorithm not in {_ZSTD, _NONE}:
        raise Unsupported(
            f"a transaction in the log is compressed in way {algorithm}",
            hint="SET GLOBAL binlog_transaction_compression = OFF, then resync",
        )
    source = pa.BufferReader(reader.rest())
    stream = pa.CompressedInputStream(source, "zstd") if algorithm == _ZSTD else source
    rest = b""
    while True:
        try:
            piece = stream.read(_PIECE)
        except OSError as error:
            raise FatalError(f"malformed TRANSACTION_PAYLOAD event: {error}") from error
        if not piece:
            break
        data = rest + piece
        starts, ends = _chain(data)
        if starts:
            yield of_events(_padded(data), np.array(starts), np.array(ends), checksum=False)
        rest = data[ends[-1] :] if ends else data
    if rest:
        raise FatalError("malformed TRANSACTION_PAYLOAD event: it ends in the middle of an event")


def _chain(data: bytes) -> tuple[list[int], list[int]]:
    starts, ends, at = [], [], 0
    while at + kinds.HEADER <= len(data):
        size = int.from_bytes(data[at + 9 : at + 13], "little")
        if size < kinds.HEADER:
            raise FatalError(f"malformed TRANSACTION_PAYLOAD event: an event of {size} bytes")
        if at + size > len(data):
            break
        starts.append(at)
        ends.append(at + size)
        at += size
    return starts, ends


def _padded(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data + bytes(PAD), np.uint8)


def inside(window: Window, place: int, size: int) -> Window:
    """The window of a payload at `place`, whose event has `size` bytes in the log file."""
    every = np.full(len(window), place, np.int64)
    rooms: Ints = np.full(len(window), size, np.int64)
    return replace(window, place=every, room=rooms)
