"""Whatever the bytes: an error of syncd or a result, never another exception, never an endless loop."""

from __future__ import annotations

from contextlib import suppress

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.errors import SyncdError
from syncd.model import ChangeBatch, Column, TableSchema
from syncd.sources.mysql.binlog import kinds, tablemap
from syncd.sources.mysql.binlog.compressed import inflate, payload
from syncd.sources.mysql.binlog.control import query
from syncd.sources.mysql.binlog.gtid import MariaGtids, MySQLGtids
from syncd.sources.mysql.binlog.tagged import parse_tagged
from syncd.testing.log_bytes import packet
from tests.services.fuzz import examples
from tests.unit.mysql_binlog.craft import (
    TABLE,
    Log,
    decoder,
    event,
    gtid_body,
    image,
    play,
    query_body,
    rows_body,
    table_map,
)

WIDE = TableSchema(
    TABLE,
    0,
    (
        Column("id", pa.int64(), False, "bigint"),
        Column("a", pa.string(), True, "longtext", "utf8mb4"),
        Column("b", pa.decimal128(30, 5), True, "decimal(30,5)"),
        Column("c", pa.binary(), True, "binary(5)"),
        Column("d", pa.dictionary(pa.int16(), pa.string()), True, "enum('x','y')"),
        Column("e", pa.string(), True, "set('x','y')"),
        Column("f", pa.string(), True, "json"),
        Column("g", pa.timestamp("us"), True, "datetime(3)"),
        Column("h", pa.duration("us"), True, "time(1)"),
        Column("i", pa.int32(), True, "mediumint"),
        Column("j", pa.string(), True, "text", "latin1"),
        Column("k", pa.uint64(), True, "bit(9)"),
    ),
    ("id",),
    "primary",
)
_TYPES = bytes([8, 252, 246, 254, 254, 254, 245, 18, 19, 9, 252, 16])
_META = bytes([4, 30, 5, 254, 5, 247, 1, 248, 1, 4, 3, 1, 2, 1, 1])
WIDE_MAP = table_map()[:-7] + bytes([12]) + _TYPES + bytes([len(_META)]) + _META + b"\xfe\x0f"


def a_log() -> Log:
    log = Log().transaction(1, (kinds.WRITE_ROWS_V1, rows_body(image(1, "a"), image(2, None))))
    log.transaction(2, (kinds.UPDATE_ROWS_V1, rows_body(image(1, "a"), image(9, "z"), update=True)))
    log.add(kinds.MARIA_GTID, gtid_body(3, standalone=True)).add(kinds.QUERY, query_body("ALTER TABLE t ADD n INT"))
    return log.transaction(4, (kinds.DELETE_ROWS_V1, rows_body(image(9, "z"))))


def survives(wire: bytes, **options: object) -> None:
    try:
        for one in play(wire, decoder(**options), checksum=False):  # type: ignore[arg-type]
            if isinstance(one, ChangeBatch):
                one.rows.validate(full=True)
    except SyncdError:
        pass


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_damaged_logs(data: st.DataObject) -> None:
    plain = [one[:-4] for one in a_log().events]
    events = [one[:9] + len(one).to_bytes(4, "little") + one[13:] for one in plain]
    which = data.draw(st.integers(0, len(events) - 1))
    damaged = bytearray(events[which])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(19, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    events[which] = bytes(damaged)
    survives(b"".join(map(packet, events)))


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_on_the_wire(data: bytes) -> None:
    survives(data)
    survives(packet(data))


@settings(max_examples=examples(300), deadline=None)
@given(st.sampled_from(sorted(kinds.ROWS | kinds.ROWS_COMPRESSED)), st.binary(max_size=200))
def test_any_rows_of_any_types(kind: int, data: bytes) -> None:
    bitmaps = b"\xff\xff" * (2 if kind in kinds.UPDATES else 1)
    extra = b"\2\0" if kind >= kinds.WRITE_ROWS else b""
    body = (7).to_bytes(6, "little") + b"\1\0" + extra + b"\x0c" + bitmaps + data
    events = [(kinds.MARIA_GTID, gtid_body()), (kinds.TABLE_MAP, WIDE_MAP), (kind, body), (kinds.XID, bytes(8))]
    survives(b"".join(packet(event(which, content, checksum=False)) for which, content in events), schema=WIDE)


def test_the_wide_table_is_read_at_all() -> None:
    body = (7).to_bytes(6, "little") + b"\1\0" + b"\x0c" + b"\xff\xff" + b"\xfe\xff" + bytes(8)
    events = [
        (kinds.MARIA_GTID, gtid_body()),
        (kinds.TABLE_MAP, WIDE_MAP),
        (kinds.WRITE_ROWS_V1, body),
        (kinds.XID, bytes(8)),
    ]
    wire = b"".join(packet(event(which, content, checksum=False)) for which, content in events)
    (batch,) = (one for one in play(wire, decoder(schema=WIDE), checksum=False) if isinstance(one, ChangeBatch))
    assert batch.rows.to_pylist() == [{"id": 0} | dict.fromkeys("abcdefghijk")]


@settings(max_examples=examples(300), deadline=None)
@given(st.binary(max_size=120))
def test_any_bodies(data: bytes) -> None:
    for parse in (tablemap.parse, query, MySQLGtids.decode, MariaGtids.decode, parse_tagged, inflate):
        with suppress(SyncdError):
            parse(data)
    with suppress(SyncdError):
        list(payload(data))


@settings(max_examples=examples(100), deadline=None)
@given(st.sampled_from([15, 2, 4, 33, 35, 38, 39, 40, 41, 42, 162, 163, 165, 18, 27]), st.binary(max_size=100))
def test_any_body_of_any_control_event(kind: int, data: bytes) -> None:
    wire = packet(event(kind, data, checksum=False)) + a_log().wire
    survives(wire)
    survives(wire, mariadb=False)
