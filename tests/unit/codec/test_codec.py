"""The message body: what goes in comes out, in this version and from the golden files of every version before it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from syncd import codec, partition
from syncd.errors import StateError
from syncd.model import ChangeBatch, Column, Ddl, Kind, Message, TableId
from tests.unit.codec.samples import GOLDEN, LANE, MESSAGES, SCHEMA, batch, change, encoded, refresh


def same(left: ChangeBatch, right: ChangeBatch) -> None:
    assert left.rows.equals(right.rows)
    assert left.rows.schema.equals(right.rows.schema, check_metadata=True)
    assert (left.op.tolist(), left.seq.tolist()) == (right.op.tolist(), right.seq.tolist())
    assert (left.op.dtype, left.seq.dtype) == (right.op.dtype, right.seq.dtype)
    assert (left.schema, left.time, left.trace) == (right.schema, right.time, right.trace)
    assert (left.before is None) == (right.before is None)
    assert left.before is None or left.before.equals(right.before)


@pytest.mark.parametrize("count", [1, 5, 100])
@pytest.mark.parametrize("before", [True, False])
def test_a_batch_comes_back_as_it_was(count: int, before: bool) -> None:
    changes = batch(count, before=before)
    same(codec.decode(encoded(changes), SCHEMA), changes)


def test_a_slice_and_a_selection_come_back_as_they_were() -> None:
    changes = batch(100)
    same(codec.decode(encoded(changes.slice(13, 40)), SCHEMA), changes.slice(13, 40))
    chosen = changes.take(np.array([99, 0, 50]))
    same(codec.decode(encoded(chosen), SCHEMA), chosen)


def test_enumerations_keep_their_dictionary() -> None:
    (column,) = codec.decode(encoded(batch(2)), SCHEMA).rows.select(["state"]).columns
    assert column.type == pa.dictionary(pa.int8(), pa.string())
    assert column.dictionary.to_pylist() == ["new", "paid", "sent"]


def test_the_header_says_what_is_inside() -> None:
    changes = batch(7)
    found = encoded(changes)
    assert (found.lane, found.kind, found.table, found.schema_version) == (
        LANE,
        Kind.ROWS,
        SCHEMA.table,
        SCHEMA.version,
    )
    assert (found.rows, found.first_seq, found.last_seq) == (7, int(changes.seq[0]), int(changes.seq[-1]))
    assert (found.trace, found.time, found.captured, found.source) == (changes.trace, changes.time, 99, "origin")


def test_schema_metadata_is_not_repeated() -> None:
    body = encoded(batch(1)).body
    assert b"source_type" not in body
    assert b"decimal(20,4)" not in body


def test_a_barrier_comes_back_as_it_was() -> None:
    message = codec.encode_change(change(), LANE, "origin", 99)
    assert codec.decode_change(message) == change()
    assert (message.kind, message.rows, message.first_seq) == (Kind.BARRIER, 0, change().seq)


def test_keys_to_refresh_come_back_as_they_were() -> None:
    message = refresh()
    assert codec.decode_refresh(message).equals(batch(3).rows.select(["id"]))
    assert (message.kind, message.rows, message.last_seq) == (Kind.REFRESH, 3, 77)


def test_the_filter_finds_every_key() -> None:
    changes = batch(500)
    hashes = partition.key_hash(SCHEMA, changes.rows)
    message = encoded(changes)
    assert all(codec.may_hold(message, int(h)) for h in hashes)


def test_the_filter_is_wrong_about_once_in_a_hundred() -> None:
    message = encoded(batch(1000))
    others = np.random.default_rng(5).integers(0, 2**64, 20_000, np.uint64)
    assert 0.001 < np.mean([codec.may_hold(message, int(h)) for h in others]) < 0.02


def test_a_barrier_holds_no_key() -> None:
    assert not codec.may_hold(codec.encode_change(change(), LANE, "origin", 99), 5)


def test_what_an_alter_and_a_rename_say_comes_back() -> None:
    before = replace(SCHEMA, version=1)
    for told in (
        replace(change(), before=before, renamed=(("a", "b"),), unsure="a is filled by the server"),
        replace(change(), kind=Ddl.RENAME, to=TableId("shop", "new")),
    ):
        assert codec.decode_change(codec.encode_change(told, LANE, "origin", 99)) == told


def test_another_schema_is_refused_by_column() -> None:
    message = encoded(batch(5))
    renamed = replace(SCHEMA, columns=(replace(SCHEMA.columns[0], name="uid"), *SCHEMA.columns[1:]))
    with pytest.raises(StateError, match=r"shop\.orders.*column 0.*uid"):
        codec.decode(message, renamed)
    retyped = replace(SCHEMA, columns=(*SCHEMA.columns[:-1], Column("_op", pa.int64())))
    with pytest.raises(StateError, match=r"column 6.*int64"):
        codec.decode(message, retyped)
    longer = replace(SCHEMA, columns=(*SCHEMA.columns, Column("x", pa.int8())))
    with pytest.raises(StateError, match="column 7"):
        codec.decode(message, longer)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_newer_format_is_refused_by_version(name: str) -> None:
    message = MESSAGES[name]()
    newer = replace(message, body=bytes([codec.VERSION + 1]) + message.body[1:])
    with pytest.raises(StateError, match="format 2, this syncd reads 1"):
        codec.may_hold(newer, 1)
    with pytest.raises(StateError, match="format 2, this syncd reads 1"):
        decoded(newer)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_cut_body_is_refused_by_name(name: str) -> None:
    message = MESSAGES[name]()
    for size in (0, 3, 9, len(message.body) // 2):
        with pytest.raises(StateError, match=r"shop\.orders.*(damaged|fit)"):
            decoded(replace(message, body=message.body[:size]))


@pytest.mark.parametrize("name", MESSAGES)
def test_golden_files_are_still_read(name: str) -> None:
    fresh = MESSAGES[name]()
    golden = replace(fresh, body=(GOLDEN / f"v1-{name}.bin").read_bytes())
    left, right = decoded(golden), decoded(fresh)
    if isinstance(left, ChangeBatch) and isinstance(right, ChangeBatch):
        same(left, right)
    else:
        assert left == right
    size = codec._filter(golden)[0]
    assert golden.body[: 8 + size] == fresh.body[: 8 + size], "the filter's bits are part of the format"


def decoded(message: Message) -> object:
    match message.kind:
        case Kind.ROWS:
            return codec.decode(message, SCHEMA)
        case Kind.BARRIER:
            return codec.decode_change(message)
        case Kind.REFRESH:
            return codec.decode_refresh(message)
