"""A message's body: version byte, key filter, payload.

    offset  size  what
    0       1     format version (1)
    1       1     number of filter bits per key (7)
    2       2     zero
    4       4     filter bytes f (u32, a multiple of 8)
    8       f     Bloom filter over the key hashes of the message
    8 + f         payload: ROWS, REFRESH: an Arrow IPC stream of one batch, lz4. BARRIER: JSON, then the schema

All numbers are little-endian. The stream has no metadata: the caller gives the schema that the message names, and a
message that does not fit it is refused by name. Columns of ROWS: the after-images, `_op`, `_seq`, then the before
columns, each with `before:` in front. Columns of REFRESH: the key columns.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from syncd.errors import StateError
from syncd.model import ChangeBatch, Ddl, Kind, Lane, Message, SchemaChange, TableId, TableSchema

VERSION = 1
FILTER_HASHES = 7
FILTER_BITS_PER_KEY = 10

_HEAD = struct.Struct("<BBHI")
_SIZE = struct.Struct("<I")
_BEFORE = "before:"
_MARKS = (pa.field("_op", pa.uint8(), False), pa.field("_seq", pa.uint64(), False))
_COMPRESS_FROM = 32  # rows; below, lz4's frames are larger than what they save
_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")
_PLAIN = pa.ipc.IpcWriteOptions()


def encode(batch: ChangeBatch, lane: Lane, source: str, captured: int, hashes: NDArray[np.uint64]) -> Message:
    """One lane's slice of a batch. `hashes`: its key hashes (`partition.key_hash`); `captured`: microseconds."""
    arrays = [*batch.rows.columns, pa.array(batch.op), pa.array(batch.seq)]
    fields = [*(f.remove_metadata() for f in batch.rows.schema), *_MARKS]
    if batch.before is not None:
        arrays += batch.before.columns
        # A row without a before-image is null in every column.
        fields += [pa.field(_BEFORE + f.name, f.type, True) for f in batch.before.schema]
    return Message(
        lane=lane,
        kind=Kind.ROWS,
        table=batch.table,
        schema_version=batch.schema.version,
        rows=len(batch),
        first_seq=int(batch.seq[0]),
        last_seq=int(batch.seq[-1]),
        trace=batch.trace,
        time=batch.time,
        captured=captured,
        body=_write(_head(hashes), pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))),
        source=source,
    )


def decode(message: Message, schema: TableSchema) -> ChangeBatch:
    """The batch as it was encoded. StateError: newer format, damaged, or not of `schema`."""
    stored = _read(message)
    width = len(schema.columns)
    names = [*(c.name for c in schema.columns), "_op", "_seq"]
    types = [*(c.type for c in schema.columns), pa.uint8(), pa.uint64()]
    _expect(message, stored.schema, names, types)
    columns = stored.columns
    return ChangeBatch(
        schema=schema,
        rows=pa.RecordBatch.from_arrays(columns[:width], schema=schema.arrow()),
        op=columns[width].to_numpy(),
        seq=columns[width + 1].to_numpy(),
        before=_before(stored, width + 2),
        time=message.time,
        trace=message.trace,
    )


def encode_refresh(
    schema: TableSchema,
    keys: pa.RecordBatch,
    lane: Lane,
    source: str,
    captured: int,
    hashes: NDArray[np.uint64],
    seq: int,
    trace: int = 0,
) -> Message:
    """Keys whose rows the lane is to read at the source when it reaches this message."""
    fields = [f.remove_metadata() for f in keys.schema]
    return Message(
        lane=lane,
        kind=Kind.REFRESH,
        table=schema.table,
        schema_version=schema.version,
        rows=keys.num_rows,
        first_seq=seq,
        last_seq=seq,
        trace=trace,
        time=0,
        captured=captured,
        body=_write(_head(hashes), pa.RecordBatch.from_arrays(keys.columns, schema=pa.schema(fields))),
        source=source,
    )


def decode_refresh(message: Message) -> pa.RecordBatch:
    """The keys of a REFRESH message."""
    return _read(message)


_FORMER_KINDS = {"add_column": "alter"}
"""Messages of earlier versions of syncd are still read."""


def encode_change(change: SchemaChange, lane: Lane, source: str, captured: int) -> Message:
    """A barrier: one of these goes to every lane of the table."""
    told: dict[str, object] = {
        "kind": change.kind,
        "seq": change.seq,
        "statement": change.statement,
        "time": change.time,
    }
    if change.before is not None:
        told |= {"before": base64.b64encode(change.before.dump()).decode(), "renamed": change.renamed}
    if change.unsure:
        told["unsure"] = change.unsure
    if change.to is not None:
        told["to"] = change.to
    if change.kept:
        told["kept"] = change.kept
    text = json.dumps(told).encode()
    return Message(
        lane=lane,
        kind=Kind.BARRIER,
        table=change.table,
        schema_version=change.schema.version,
        rows=0,
        first_seq=change.seq,
        last_seq=change.seq,
        trace=change.seq,
        time=change.time,
        captured=captured,
        body=_head(np.empty(0, np.uint64)) + _SIZE.pack(len(text)) + text + change.schema.dump(),
        source=source,
    )


def decode_change(message: Message) -> SchemaChange:
    """The schema change of a BARRIER message. StateError: newer format or damaged."""
    payload = _payload(message)
    try:
        (size,) = _SIZE.unpack_from(payload)
        told = json.loads(bytes(payload[4 : 4 + size]))
        schema = TableSchema.load(bytes(payload[4 + size :]))
        before = TableSchema.load(base64.b64decode(told["before"])) if "before" in told else None
        renamed = tuple((old, new) for old, new in told.get("renamed", ()))
        kind = Ddl(_FORMER_KINDS.get(told["kind"], told["kind"]))
        unsure, to = told.get("unsure", ""), TableId(*told["to"]) if "to" in told else None
        seq, statement, time, kept = told["seq"], told["statement"], told["time"], tuple(told.get("kept", ()))
        return SchemaChange(kind, schema, seq, statement, time, before, renamed, unsure, to, kept)
    except (struct.error, TypeError, ValueError, KeyError, pa.ArrowException) as error:
        raise _damaged(message, error) from error


def may_hold(message: Message, key_hash: int) -> bool:
    """False: no row of the message has this key. True: one may (1 message in about 100 by chance)."""
    size, hashes = _filter(message)
    bits = size * 8
    return bool(size) and all(
        message.body[_HEAD.size + (at >> 3)] >> (at & 7) & 1
        for at in (_place(key_hash, i, bits) for i in range(hashes))
    )


# ------------------------------------------------------------------------------------------------------------ filter


def _head(hashes: NDArray[np.uint64]) -> bytes:
    bits = (len(hashes) * FILTER_BITS_PER_KEY + 63) // 64 * 64
    flags = np.zeros(bits, np.bool_)
    low = hashes & np.uint64(0xFFFFFFFF)
    step = hashes >> np.uint64(32) | np.uint64(1)
    for i in range(FILTER_HASHES):
        # The same arithmetic as `_place`: 32-bit double hashing, scaled to the filter by a multiplication.
        place = ((low + np.uint64(i) * step) & np.uint64(0xFFFFFFFF)) * np.uint64(bits) >> np.uint64(32)
        flags[place.view(np.int64)] = True
    packed = np.packbits(flags, bitorder="little").tobytes()
    return _HEAD.pack(VERSION, FILTER_HASHES, 0, len(packed)) + packed


def _place(key_hash: int, i: int, bits: int) -> int:
    return ((key_hash + i * (key_hash >> 32 | 1)) & 0xFFFFFFFF) * bits >> 32


def _filter(message: Message) -> tuple[int, int]:
    """(filter bytes, bits per key). Checks the version, as everything that reads a body comes by here."""
    if len(message.body) < _HEAD.size:
        raise _damaged(message, "shorter than its head")
    version, hashes, _, size = _HEAD.unpack_from(message.body)
    if version != VERSION:
        raise StateError(
            f"message of {message.table} in lane {message.lane.tag}/{message.lane.queue}: format {version}, "
            f"this syncd reads {VERSION}",
            table=str(message.table),
            hint="run the syncd version that wrote it, or a newer one",
        )
    if len(message.body) < _HEAD.size + size:
        raise _damaged(message, "shorter than its filter")
    return size, hashes


# ----------------------------------------------------------------------------------------------------------- payload


def _payload(message: Message) -> memoryview:
    size, _ = _filter(message)
    return memoryview(message.body)[_HEAD.size + size :]


def _write(head: bytes, batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    sink.write(head)
    with pa.ipc.new_stream(sink, batch.schema, options=_LZ4 if batch.num_rows >= _COMPRESS_FROM else _PLAIN) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _read(message: Message) -> pa.RecordBatch:
    try:
        with pa.ipc.open_stream(pa.py_buffer(_payload(message))) as reader:
            batch = reader.read_next_batch()
    except (pa.ArrowException, OSError, StopIteration) as error:
        raise _damaged(message, error) from error
    if batch.num_rows != message.rows:
        raise _damaged(message, f"{batch.num_rows} rows, its header says {message.rows}")
    return batch


def _before(stored: pa.RecordBatch, start: int) -> pa.RecordBatch | None:
    fields = list(stored.schema)[start:]
    if not fields:
        return None
    own = pa.schema([f.with_name(f.name.removeprefix(_BEFORE)) for f in fields])
    return pa.RecordBatch.from_arrays(stored.columns[start:], schema=own)


def _expect(message: Message, found: pa.Schema, names: Sequence[str], types: Sequence[pa.DataType]) -> None:
    for name, kind, at in zip(names, types, range(len(found)), strict=False):
        if found.field(at).name != name or found.field(at).type != kind:
            raise _misfit(message, f"column {at} is {found.field(at)}, the schema says {name}: {kind}")
    if len(found) < len(names):
        raise _misfit(message, f"{len(found)} columns, the schema says {len(names)}")


def _misfit(message: Message, why: str) -> StateError:
    return StateError(
        f"message of {message.table} does not fit schema version {message.schema_version}: {why}",
        table=str(message.table),
        hint="the saved schema or the queue is not of this job; resync the table",
    )


def _damaged(message: Message, why: object) -> StateError:
    return StateError(
        f"message of {message.table} in lane {message.lane.tag}/{message.lane.queue} is damaged: {why}",
        table=str(message.table),
        hint="resync the table",
    )
