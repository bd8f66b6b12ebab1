"""Key bytes and hash: the frozen layout, its test vectors, and the last change of each key."""

from __future__ import annotations

import datetime as dt
import re
import struct
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from syncd import partition
from syncd.errors import FatalError
from syncd.model import ChangeBatch, Column, TableId, TableSchema
from syncd.partition import keys

DOC = Path(__file__).parents[3] / "docs" / "partitioning.md"


def schema(*types: pa.DataType) -> TableSchema:
    columns = tuple(Column(f"k{n}", kind, nullable=False) for n, kind in enumerate(types))
    return TableSchema(TableId("shop", "t"), 1, columns, tuple(c.name for c in columns), "primary")


def rows(*columns: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(columns), [f"k{n}" for n in range(len(columns))])


def key_of(kind: pa.DataType, value: Any) -> bytes:
    data, borders = partition.key_bytes(schema(kind), rows(pa.array([value], kind)))
    assert borders.tolist() == [0, len(data)]
    return data.tobytes()


def i64(value: int) -> bytes:
    return struct.pack("<q", value)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (pa.int8(), -1, i64(-1)),
        (pa.uint16(), 2026, i64(2026)),
        (pa.int32(), -(2**31), i64(-(2**31))),
        (pa.int64(), 2**63 - 1, i64(2**63 - 1)),
        (pa.uint64(), 2**64 - 1, b"\xff" * 8),
        (pa.bool_(), True, i64(1)),
        (pa.date32(), dt.date(1969, 12, 31), i64(-1)),
        (pa.timestamp("us"), dt.datetime(1970, 1, 1, 0, 0, 1), i64(1_000_000)),  # noqa: DTZ001
        (pa.duration("us"), dt.timedelta(seconds=-1), i64(-1_000_000)),
        (pa.time64("us"), dt.time(0, 0, 1), i64(1_000_000)),
        (pa.float64(), -0.0, struct.pack("<d", 0.0)),
        (pa.float32(), 1.5, struct.pack("<d", 1.5)),
        (pa.decimal128(10, 2), Decimal("-1.00"), (-100).to_bytes(32, "little", signed=True)),
        (pa.decimal128(38, 0), Decimal(10**37), (10**37).to_bytes(32, "little")),
        (pa.decimal256(65, 30), Decimal("1E-30"), (1).to_bytes(32, "little")),
        (pa.string(), "é", b"\x02\0\0\0\xc3\xa9"),
        (pa.large_string(), "", b"\0\0\0\0"),
        (pa.binary(), b"\0", b"\x01\0\0\0\0"),
        (pa.binary(3), b"abc", b"\x03\0\0\0abc"),
        (pa.dictionary(pa.int8(), pa.string()), "red", b"\x03\0\0\0red"),
    ],
    ids=str,
)
def test_key_bytes_of_each_type(kind: pa.DataType, value: Any, expected: bytes) -> None:
    assert key_of(kind, value) == expected


def test_columns_follow_each_other_in_key_order() -> None:
    table = schema(pa.string(), pa.int32(), pa.binary())
    batch = rows(pa.array(["a", ""]), pa.array([1, 2], pa.int32()), pa.array([b"", b"xy"]))
    data, borders = partition.key_bytes(table, batch)
    first = b"\1\0\0\0a" + i64(1) + b"\0\0\0\0"
    second = b"\0\0\0\0" + i64(2) + b"\2\0\0\0xy"
    assert (data.tobytes(), borders.tolist()) == (first + second, [0, len(first), len(first) + len(second)])


def test_a_twin_takes_the_key_columns_part() -> None:
    columns = (Column("k0", pa.string()), Column("k0~", pa.binary(), normal_of="k0"))
    table = TableSchema(TableId("shop", "t"), 1, columns, ("k0",), "primary")
    batch = pa.RecordBatch.from_arrays([pa.array(["Ab", "aB"]), pa.array([b"AB", b"AB"])], ["k0", "k0~"])
    hashes = partition.key_hash(table, batch)
    assert hashes[0] == hashes[1] == xxhash.xxh64_intdigest(b"\2\0\0\0AB")


def test_slices_are_their_own_rows() -> None:
    table = schema(pa.string(), pa.int64(), pa.decimal128(20, 3))
    decimals = pa.array([Decimal(n) for n in range(50)], pa.decimal128(20, 3))
    batch = rows(pa.array([str(n) * (n % 5) for n in range(50)]), pa.array(range(50)), decimals)
    whole = partition.key_hash(table, batch)
    assert partition.key_hash(table, batch.slice(7, 11)).tolist() == whole[7:18].tolist()
    assert partition.key_hash(table, batch.slice(50, 0)).tolist() == []


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=30))
def test_the_hash_is_xxh64(strings: list[bytes]) -> None:
    data = np.frombuffer(b"".join(strings), np.uint8)
    borders = np.cumsum([0, *map(len, strings)])
    assert partition.xxh64(data, borders).tolist() == [xxhash.xxh64_intdigest(s) for s in strings]


def test_every_length_up_to_200_hashes_as_xxh64() -> None:
    strings = [bytes(range(n)) for n in range(200)] * 50
    data = np.frombuffer(b"".join(strings), np.uint8)
    assert partition.xxh64(data, np.cumsum([0, *map(len, strings)])).tolist() == [
        xxhash.xxh64_intdigest(s) for s in strings
    ]


def test_the_documented_vectors_hold() -> None:
    found = re.findall(
        r"^\| `(\w+)` \| `([^`]*)` \| `([0-9a-f]*)` \| `([0-9a-f]{16})` \| (\d+) \|$", DOC.read_text(), re.MULTILINE
    )
    assert len(found) >= 10
    for kind, value, data, digest, slot in found:
        made = pa.array([value]).cast(_TYPES[kind])
        got, _ = partition.key_bytes(schema(_TYPES[kind]), rows(made))
        hashes = partition.key_hash(schema(_TYPES[kind]), rows(made))
        assert (got.tobytes().hex(), f"{int(hashes[0]):016x}") == (data, digest)
        assert (partition.slots(hashes)[0], xxhash.xxh64_hexdigest(got.tobytes())) == (int(slot), digest)


_TYPES = {
    "int64": pa.int64(),
    "uint64": pa.uint64(),
    "date32": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "float64": pa.float64(),
    "decimal": pa.decimal128(20, 4),
    "string": pa.string(),
    "bool": pa.bool_(),
}


def test_null_in_a_key_is_refused_by_name() -> None:
    with pytest.raises(FatalError, match=r"shop\.t.*NULL.*'k0'") as caught:
        partition.key_hash(schema(pa.int64()), rows(pa.array([1, None])))
    assert caught.value.table == "shop.t"


def test_a_type_without_key_bytes_is_refused_by_name() -> None:
    with pytest.raises(FatalError, match=r"'k0'.*list"):
        partition.key_hash(schema(pa.list_(pa.int8())), rows(pa.array([[1]], pa.list_(pa.int8()))))


def test_slots_spread_over_the_queues() -> None:
    hashes = partition.key_hash(schema(pa.int64()), rows(pa.array(range(100_000))))
    for count in (1, 3, 8, 1024):
        sizes = np.bincount(partition.queues(hashes, count), minlength=count)
        assert sizes.min() > 0.5 * 100_000 / count
    assert (partition.queues(hashes, 8) == partition.slots(hashes) % 8).all()


def changes(values: list[int]) -> ChangeBatch:
    batch = rows(pa.array(values, pa.int64()))
    return ChangeBatch(
        schema(pa.int64()), batch, np.ones(len(values), np.uint8), np.arange(len(values), dtype=np.uint64)
    )


@given(st.lists(st.integers(0, 20), max_size=60))
def test_last_per_key_is_the_last_of_each_key(values: list[int]) -> None:
    batch = changes(values)
    expected = sorted({value: n for n, value in enumerate(values)}.values())
    assert partition.last_per_key(batch.schema, batch).tolist() == expected
    assert partition.ends_per_key(batch.schema, batch)[0].tolist() == [values.index(values[n]) for n in expected]


@given(st.lists(st.integers(0, 20), max_size=60), st.integers(1, 4))
def test_keys_that_share_a_hash_are_not_merged(values: list[int], hashes: int) -> None:
    batch = changes(values)
    expected = sorted({value: n for n, value in enumerate(values)}.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "xxh64", lambda data, borders: keys_weak(data, borders, hashes))
        first, last = partition.ends_per_key(batch.schema, batch)
    assert last.tolist() == expected
    assert first.tolist() == [values.index(values[n]) for n in expected]


def keys_weak(data: np.ndarray[Any, Any], borders: np.ndarray[Any, Any], hashes: int) -> np.ndarray[Any, Any]:
    weak: np.ndarray[Any, Any] = (data[borders[:-1]] % hashes).astype(np.uint64)
    return weak
