"""Conformance of sinks, part three: every type with the values at its edges, and the ranges of a scan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from syncd.model import Column, KeyValue, TableId, TableSchema, Target
from syncd.spi import Sink
from syncd.testing.contracts.sink_kit import DELETE, INSERT, Writer, batch, rows, target

_LONGEST_TIME = timedelta(hours=838, minutes=59, seconds=59, microseconds=999_999)
_INTS = [(f"{sign}int{bits}", bits, bool(sign)) for bits in (8, 16, 32, 64) for sign in ("", "u")]


@dataclass(frozen=True)
class Case:
    """A type and the values that must come back as they were."""

    name: str
    kind: pa.DataType
    values: tuple[Any, ...]


def _decimals(precision: int, scale: int) -> tuple[Decimal, ...]:
    nines = "9" * (precision - scale) + ("." if scale else "") + "9" * scale
    small = "0." + "0" * (scale - 1) + "1" if scale else "1"
    return tuple(Decimal(text) for text in (nines, f"-{nines}", small, f"-{small}", "0"))


def _wall(*texts: str) -> tuple[datetime, ...]:
    return tuple(datetime.fromisoformat(text) for text in texts)


CASES = (
    *(
        Case(
            name,
            getattr(pa, name)(),
            (0, 1, 2**bits - 1, 2 ** (bits - 1)) if unsigned else (-(2 ** (bits - 1)), -1, 0, 2 ** (bits - 1) - 1),
        )
        for name, bits, unsigned in _INTS
    ),
    Case("float32", pa.float32(), (0.0, -0.0, 1.5, 3.4028234663852886e38, 1.401298464324817e-45)),
    Case("float64", pa.float64(), (0.0, -0.0, 0.1, 1.7976931348623157e308, 5e-324, -1.5)),
    *(
        Case(f"decimal_{p}_{s}", pa.decimal128(p, s) if p <= 38 else pa.decimal256(p, s), _decimals(p, s))
        for p, s in ((1, 0), (4, 2), (9, 9), (18, 4), (20, 0), (38, 10), (65, 0), (65, 30))
    ),
    Case("date", pa.date32(), (date(1970, 1, 1), date(1969, 12, 31), date(2299, 12, 31), date(1900, 1, 1))),
    Case(
        "datetime",
        pa.timestamp("us"),
        _wall("1970-01-01", "1969-12-31 23:59:59.999999", "1900-01-01", "2299-12-31 23:59:59.999999"),
    ),
    Case(
        "timestamp",
        pa.timestamp("us", "UTC"),
        (datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), datetime(2038, 1, 19, 3, 14, 7, 999_999, tzinfo=UTC)),
    ),
    Case("time", pa.duration("us"), (timedelta(0), _LONGEST_TIME, -_LONGEST_TIME, timedelta(microseconds=-1))),
    Case(
        "text",
        pa.string(),
        ("", "a", 'it\'s \\ "quoted" `so`', "\x00\n\r\t", "ß汉字🙂\u0301", "NULL", "\\N", "x" * 70_000, " pad "),
    ),
    Case("json", pa.string(), ('{"a": [1, 2.50, null], "b": "\\u00e9"}', "null", "[]")),
    Case("bytes", pa.binary(), (b"", b"\x00", b"\xff\xfe\x80", bytes(range(256)), b"x" * 70_000, b"a ")),
    Case("enum", pa.dictionary(pa.int16(), pa.string()), ("", "b", "a", "b", "with, comma", "é")),
)

LINES = TableSchema(
    TableId("shop", "lines"),
    1,
    (
        Column("order", pa.int64(), nullable=False),
        Column("line", pa.int32(), nullable=False),
        Column("text", pa.string()),
    ),
    ("order", "line"),
    "primary",
)

KEYS: tuple[tuple[pa.DataType, tuple[Any, ...]], ...] = (
    (pa.string(), ("", "B", "a", "a ", "ab", "it's", "é", "汉", "🙂")),
    (pa.binary(), (b"", b"\x00", b"\x00\xff", b"a", b"\xff", b"\xff\x00")),
    (pa.uint64(), (0, 1, 2**63 - 1, 2**63, 2**64 - 1)),
    (pa.decimal128(20, 2), (Decimal("-10.00"), Decimal("-9.99"), Decimal("0.00"), Decimal("9.90"), Decimal("10.00"))),
    (pa.decimal256(50, 0), (Decimal(-(10**45)), Decimal(-2), Decimal(10), Decimal(10**45))),
    (pa.date32(), (date(1969, 12, 31), date(1970, 1, 1), date(2024, 2, 29))),
    (pa.timestamp("us"), _wall("1969-12-31 23:59:59.999999", "1970-01-01", "2024-02-29 01:00")),
    (pa.timestamp("us", "UTC"), (datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC))),
    (pa.duration("us"), (-_LONGEST_TIME, timedelta(microseconds=-1), timedelta(0), _LONGEST_TIME)),
)


def _bits(array: pa.Array) -> list[Any]:
    """Values that are equal only when they are the same, -0.0 and 0.0 apart; enums by name."""
    if pa.types.is_dictionary(array.type):
        return list(array.cast(array.type.value_type).to_pylist())
    if pa.types.is_floating(array.type):
        return list(array.view(pa.int32() if array.type == pa.float32() else pa.int64()).to_pylist())
    return list(array.to_pylist())


class Values:
    """See `sink.SinkContract`."""

    negative_zero = True
    """Whether the target has a -0.0 that is not 0.0."""
    longest_time = _LONGEST_TIME
    """What its type of a duration holds; more is refused."""

    def held(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Those that the target has room for."""
        return tuple(v for v in values if not isinstance(v, timedelta) or abs(v) <= self.longest_time)

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
    @pytest.mark.parametrize("nullable", [True, False], ids=["nullable", "required"])
    def test_every_value_comes_back_as_it_was(self, sink: Sink, case: Case, nullable: bool) -> None:
        """Guarantee 6."""
        columns = (Column("id", pa.int64(), nullable=False), Column("v", case.kind, nullable=nullable))
        schema = TableSchema(TableId("shop", "values"), 1, columns, ("id",), "primary")
        of = target(schema)
        sink.prepare(of)
        values = (*self.held(case.values), *([None] if nullable else []))
        changes = [(INSERT, 10 + i, (i, value)) for i, value in enumerate(values)]
        sent = batch(schema, changes)
        Writer(sink, of).write(*changes)
        parts = list(sink.scan(of, None, None))
        assert all(part.schema.equals(schema.arrow()) for part in parts)
        got = pa.Table.from_batches(parts).sort_by("id").column("v").combine_chunks()
        wanted = sent.rows.column("v")
        if pa.types.is_floating(case.kind) and not self.negative_zero:
            wanted = pc.if_else(pc.equal(wanted, 0.0), pa.scalar(0.0, case.kind), wanted)
        assert _bits(got) == _bits(wanted)

    @pytest.mark.parametrize(
        ("kind", "keys"), KEYS, ids=lambda value: str(value) if isinstance(value, pa.DataType) else ""
    )
    def test_a_scan_of_each_kind_of_key(self, sink: Sink, kind: pa.DataType, keys: tuple[KeyValue, ...]) -> None:
        """Keys in ascending order; text as its UTF-8 bytes."""
        keys = self.held(keys)
        columns = (Column("k", kind, nullable=False), Column("v", pa.int64()))
        of = target(TableSchema(TableId("shop", "keys"), 1, columns, ("k",), "primary"))
        sink.prepare(of)
        Writer(sink, of).write(*((INSERT, 10 + i, (key, i)) for i, key in enumerate(reversed(keys))))
        assert [row[0] for row in rows(sink, of)] == list(keys)
        for i, key in enumerate(keys):
            assert [row[0] for row in rows(sink, of, None, (key,))] == list(keys[: i + 1])
            assert [row[0] for row in rows(sink, of, (key,), None)] == list(keys[i + 1 :])

    def test_a_scan_of_a_key_of_two_columns(self, sink: Sink) -> None:
        of = target(LINES)
        sink.prepare(of)
        keys = [(a, b) for a in (1, 2, 3) for b in (-1, 5, 9)]
        Writer(sink, of).write(*((INSERT, 10 + i, (*key, "x")) for i, key in enumerate(keys)))
        bounds = [None, (0, 0), *keys, (2, 6), (9, 9)]
        for lower in bounds:
            for upper in bounds:
                want = [k for k in keys if (lower is None or k > lower) and (upper is None or k <= upper)]
                assert [row[:2] for row in rows(sink, of, lower, upper)] == want

    def test_a_key_is_compared_by_its_normalised_twin(self, sink: Sink) -> None:
        """Two spellings that the source takes as one key are one row here, whose last spelling shows."""
        columns = (
            Column("name", pa.string(), nullable=False),
            Column("v", pa.int64()),
            Column("_key_name", pa.binary(), nullable=False, normal_of="name"),
        )
        of = target(TableSchema(TableId("shop", "names"), 1, columns, ("name",), "primary"))
        sink.prepare(of)
        writer = Writer(sink, of)
        writer.write((INSERT, 10, ("anna", 1, b"ANNA")), (INSERT, 11, ("Bob", 2, b"BOB")))
        writer.write((INSERT, 12, ("Anna", 3, b"ANNA")), (DELETE, 13, ("bob", None, b"BOB")))
        assert rows(sink, of) == [("Anna", 3, b"ANNA")]
        assert rows(sink, of, (b"ANNA",), None) == []
        assert rows(sink, of, None, (b"ANNA",)) == [("Anna", 3, b"ANNA")]

    def test_a_scan_of_more_rows_than_one_batch(self, sink: Sink, items: Target) -> None:
        count = 25_000
        Writer(sink, items).write(*((INSERT, 10 + i, (i, "x", i)) for i in range(count)))
        Writer(sink, items, number=1).write(*((DELETE, count + 10 + i, (i, "x", i)) for i in range(0, count, 5)))
        found = [row[0] for row in rows(sink, items)]
        assert found == [i for i in range(count) if i % 5]

    def test_a_scan_gives_the_columns_in_the_order_of_the_target(self, sink: Sink, items: Target) -> None:
        Writer(sink, items).write((INSERT, 10, (1, "a", 2)))
        turned = replace(items, schema=replace(items.schema, columns=tuple(reversed(items.schema.columns))))
        assert rows(sink, turned) == [(2, "a", 1)]
