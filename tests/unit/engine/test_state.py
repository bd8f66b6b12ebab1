"""What is saved comes back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.errors import StateError
from syncd.model import Chunk, Column, Head, Position, TableId, TableSchema
from syncd.spi import Lease
from syncd.state import (
    FORMAT,
    Done,
    Halt,
    Items,
    Phase,
    SchemaPair,
    SourceRecord,
    State,
    TableRecord,
    Wait,
    Wish,
    job_names,
    paused_part,
)
from tests.services.fuzz import SLOW, examples
from tests.unit.engine.kit import leased, opened_queue

TABLE = TableId("shop", "items")
SCHEMA = TableSchema(
    TABLE,
    7,
    (Column("id", pa.int64(), False, "bigint"), Column("d", pa.decimal128(20, 3), default="0.5", comment="ü")),
    ("id",),
    "primary",
)
U64 = st.integers(0, 2**64 - 1)
TEXT = st.text(max_size=20)


class Saved:
    def __init__(self, state: State, put: Lease) -> None:
        self.state = state
        self._lease = put

    def put(self, items: Items) -> None:
        self.state._queue.put(self._lease, items)


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Saved]:
    with opened_queue(tmp_path) as queue:
        yield Saved(State(queue, "j"), leased(queue))


QUICK = settings(
    max_examples=examples(30), deadline=None, suppress_health_check=[*SLOW, HealthCheck.function_scoped_fixture]
)


@QUICK
@given(
    st.sampled_from(Phase),
    st.builds(Head, TEXT.map(Position), U64),
    st.integers(1, 2**40),
    TEXT,
    st.none() | st.sampled_from(Phase),
)
def test_a_table(saved: Saved, phase: Phase, head: Head, epoch: int, reason: str, resume: Phase | None) -> None:
    record = TableRecord(TABLE, "sink", phase, head, epoch, 5, reason, resume)
    saved.put(saved.state.table_item(record))
    assert saved.state.table("sink", TABLE) == record
    assert saved.state.tables("sink") == saved.state.tables() == [record]
    assert saved.state.table("other", TABLE) is None


@QUICK
@given(st.integers(0, 255), TEXT, U64, st.integers(0, 2**60), TEXT)
def test_the_source(saved: Saved, epoch: int, position: str, seq: int, time: int, log: str) -> None:
    record = SourceRecord(epoch, Position(position), seq, time, time + 1, log)
    saved.put(saved.state.source_item(record))
    assert saved.state.source() == record


_keys = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
    st.binary(max_size=20),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.datetimes(),
    st.dates(),
    st.timedeltas(),
)
_bounds = st.none() | st.lists(_keys, min_size=1, max_size=3).map(tuple)


@QUICK
@given(st.integers(0, 10**8), _bounds, _bounds, _bounds, _bounds)
def test_a_chunk(
    saved: Saved,
    number: int,
    lower: tuple[int, ...] | None,
    upper: tuple[int, ...] | None,
    normal_lower: tuple[int, ...] | None,
    normal_upper: tuple[int, ...] | None,
) -> None:
    chunk = Chunk(TABLE, number, lower, upper, normal_lower, normal_upper, 9)
    (again,) = [Chunk.load(data) for data in saved.state.chunk_item("sink", chunk).values() if data is not None]
    assert again == chunk
    for before, after in ((lower, again.lower), (normal_upper, again.normal_upper)):
        assert before is None or [type(v) for v in before] == [type(v) for v in after or ()]


def test_chunks_and_their_marks_come_in_their_order(saved: Saved) -> None:
    keys: list[tuple[object, ...]] = [
        (1, "a"),
        (Decimal("1.50"), b"\0"),
        (datetime.fromisoformat("2026-01-02T03:04:05.000006"), date(1, 1, 1)),
    ]
    chunks = [Chunk(TABLE, 10**number, (timedelta(-1, 1),), key) for number, key in enumerate(keys)]  # type: ignore[arg-type]
    for chunk in reversed(chunks):
        saved.put(saved.state.chunk_item("sink", chunk))
        saved.put(saved.state.done_item("sink", chunk, Done(chunk.number, 2, 3)))
    saved.put(saved.state.chunk_item("sink", Chunk(TableId("shop", "items2"), 0)))
    assert saved.state.chunks("sink", TABLE) == chunks
    assert saved.state.done("sink", TABLE) == {chunk.number: Done(chunk.number, 2, 3) for chunk in chunks}
    assert saved.state.chunks("other", TABLE) == []


def test_versions_of_tables(saved: Saved) -> None:
    seen = {}
    for version in (0, 7, 2**64 - 1):
        pair = SchemaPair(
            replace(SCHEMA, version=version), replace(SCHEMA, version=version, columns=SCHEMA.columns[:1])
        )
        saved.put(saved.state.schema_item(pair))
        assert saved.state.schema(TABLE, version) == pair
        seen[version] = pair
    other = replace(SCHEMA, table=TableId("shop", "items2"))
    saved.put(saved.state.schema_item(SchemaPair(other, other)))
    assert saved.state.schemas(TABLE) == {TABLE: seen}
    assert set(saved.state.schemas()) == {TABLE, other.table}
    with pytest.raises(StateError, match=r"version 8 of shop\.items"):
        saved.state.schema(TABLE, 8)


def test_a_table_that_gave_its_share_up_stands_whatever_is_saved_of_it_later(saved: Saved) -> None:
    record = TableRecord(TABLE, "sink", Phase.HALTED, Head(Position("log:1"), 1), resume=Phase.LIVE)
    saved.put(saved.state.table_item(record))
    halt = Halt("the queue was full", Position("log:7"), 5)
    saved.put(saved.state.given_up_item("sink", TABLE, halt))
    saved.put(saved.state.table_item(replace(record, phase=Phase.LIVE, resume=None)))
    assert saved.state.given_up() == {("sink", TABLE): halt}
    (found,) = saved.state.tables("sink")
    assert (found.phase, found.resume, found.reason) == (Phase.NEEDS_RESYNC, None, "the queue was full")
    saved.put(saved.state.forget_items())
    assert saved.state.given_up() == {}


def test_halts_waits_and_wishes(saved: Saved) -> None:
    assert (saved.state.halts(), saved.state.waits(), saved.state.wish()) == ({}, {}, Wish())
    halt = Halt("a type that nobody knows: ü", Position("log:7"), 5)
    saved.put(saved.state.halt_item(TABLE, halt))
    saved.put(saved.state.waits_item({"capture": Wait("the server is away", 7)}))
    saved.put(saved.state.wish_item(Wish(("", "table:shop.items"), True)))
    assert Wish(("",)).pauses("sink", TABLE)
    assert Wish((paused_part("shop.items", ""),)).pauses("any", TABLE)
    assert Wish((paused_part("", "sink"),)).pauses("sink", TABLE)
    at_one_sink = Wish((paused_part("shop.items", "sink"),))
    assert (at_one_sink.pauses("sink", TABLE), at_one_sink.pauses("other", TABLE)) == (True, False)
    assert saved.state.halts() == {TABLE: halt}
    assert saved.state.waits() == {"capture": Wait("the server is away", 7)}
    assert saved.state.wish() == Wish(("", "table:shop.items"), True)
    saved.put(saved.state.halt_item(TABLE, None))
    assert saved.state.halts() == {}


def test_another_format_is_refused(saved: Saved) -> None:
    assert saved.state.meta() is None
    saved.put(saved.state.meta_item(mode="snapshot+cdc", queues=4))
    assert saved.state.meta() == {"format": FORMAT, "mode": "snapshot+cdc", "queues": 4}
    for other in (FORMAT + 97, FORMAT - 1):
        saved.put({"job/j/meta": f'{{"format": {other}}}'.encode()})
        with pytest.raises(StateError, match=f"format {other}, this syncd knows {FORMAT}"):
            saved.state.meta()


@pytest.mark.parametrize(
    ("key", "read"),
    [
        ("meta", State.meta),
        ("source", State.source),
        ("table/sink/shop/items", State.tables),
        ("halted/shop/items", State.halts),
        ("schema/shop/items/00000000000000000007/source", State.schemas),
        ("chunk/sink/shop/items/000000001", lambda state: state.chunks("sink", TABLE)),
        ("done/sink/shop/items/000000001", lambda state: state.done("sink", TABLE)),
        ("waits", State.waits),
        ("wish", State.wish),
    ],
)
@pytest.mark.parametrize("value", [b"", b"{", b"{}", b"[1]", b"7", b"\xff\xfe"])
def test_damaged_state_is_named(saved: Saved, key: str, read: Callable[[State], object], value: bytes) -> None:
    if (key, value) == ("waits", b"{}"):
        return
    saved.put({f"job/j/{key}": value})
    with pytest.raises(StateError, match=f"job/j/{key} in the saved state is damaged: "):
        read(saved.state)


def test_a_forgotten_job_leaves_nothing_and_takes_nothing_of_others(saved: Saved) -> None:
    other = State(saved.state._queue, "j2")
    record = TableRecord(TABLE, "sink", Phase.LIVE, Head(Position(""), 0))
    for state in (saved.state, other):
        saved.put(state.table_item(record))
        saved.put(state.meta_item())
    saved.put(saved.state.forget_items())
    assert (saved.state.tables(), saved.state.meta()) == ([], None)
    assert (other.tables(), other.meta()) == ([record], {"format": FORMAT})


def test_jobs_by_name_whatever_their_tables_are_called(saved: Saved) -> None:
    saved.put(saved.state.meta_item())
    saved.put(State(saved.state._queue, "j2").meta_item())
    saved.put(saved.state.table_item(TableRecord(TableId("shop", "meta"), "sink", Phase.LIVE, Head(Position(""), 0))))
    assert job_names(saved.state._queue) == ["j", "j2"]


def test_tables_whose_names_read_alike_stay_apart(saved: Saved) -> None:
    for table in (TableId("a.b", "c"), TableId("a", "b.c")):
        saved.put(saved.state.table_item(TableRecord(table, "sink", Phase.LIVE, Head(Position(""), 0))))
        saved.put(saved.state.chunk_item("sink", Chunk(table, 0)))
    assert {record.table for record in saved.state.tables()} == {TableId("a.b", "c"), TableId("a", "b.c")}
    assert [chunk.table for chunk in saved.state.chunks("sink", TableId("a", "b.c"))] == [TableId("a", "b.c")]


def test_a_slash_in_a_name_takes_nothing_of_another_table(saved: Saved) -> None:
    for table in (TableId("a", "b"), TableId("a", "b/c")):
        saved.put(saved.state.chunk_item("sink", Chunk(table, 0)))
        saved.put(saved.state.schema_item(SchemaPair(replace(SCHEMA, table=table), replace(SCHEMA, table=table))))
    assert [chunk.table for chunk in saved.state.chunks("sink", TableId("a", "b"))] == [TableId("a", "b")]
    assert set(saved.state.schemas(TableId("a", "b"))) == {TableId("a", "b")}
