from __future__ import annotations

import json
import struct

import pytest

from syncd.errors import FatalError, Unsupported
from syncd.model import ChangeBatch, Checkpoint, Ddl, Op, SchemaChange
from syncd.sources.mysql.binlog import kinds, seq, tables
from syncd.sources.mysql.binlog.decoder import Event
from syncd.sources.mysql.binlog.position import Place
from syncd.testing.log_bytes import packet
from tests.unit.mysql_binlog.craft import (
    FILE,
    TABLE,
    Log,
    decoder,
    event,
    format_body,
    gtid_body,
    image,
    play,
    query_body,
    rows_body,
    table_map,
)

INSERT, UPDATE, DELETE = kinds.WRITE_ROWS_V1, kinds.UPDATE_ROWS_V1, kinds.DELETE_ROWS_V1


def rows(events: list[Event]) -> list[tuple[int, int, str | None]]:
    return [
        (int(op), row["id"], row["v"])
        for batch in events
        if isinstance(batch, ChangeBatch)
        for op, row in zip(batch.op, batch.rows.to_pylist(), strict=True)
    ]


def batches(events: list[Event]) -> list[ChangeBatch]:
    return [one for one in events if isinstance(one, ChangeBatch)]


def some_log() -> Log:
    log = Log()
    log.transaction(1, (INSERT, rows_body(image(1, "a"), image(2, None))))
    log.transaction(
        2,
        (UPDATE, rows_body(image(1, "a"), image(9, "z"), image(2, None), image(2, "b"), update=True)),
        (DELETE, rows_body(image(9, "z"))),
    )
    return log


SOME = [(1, 1, "a"), (1, 2, None), (2, 9, "z"), (2, 2, "b"), (3, 9, "z")]


@pytest.mark.parametrize("step", [1, 13, 100, 1 << 20])
@pytest.mark.parametrize("size", [128, 256, 1 << 16])
def test_rows_places_and_boundaries_do_not_depend_on_the_pieces(step: int, size: int) -> None:
    whole = play(some_log().wire)
    events = play(some_log().wire, size=size, step=step)
    assert rows(events) == SOME
    seqs = [int(one) for batch in batches(events) for one in batch.seq]
    assert seqs == [int(one) for batch in batches(whole) for one in batch.seq]
    assert seqs == sorted(set(seqs))
    last = [one for one in events if isinstance(one, Checkpoint)][-1]
    assert json.loads(last.position) == {"file": FILE, "pos": some_log().at, "server": "mariadb:1"}


def test_a_rows_place_is_its_first_byte_in_the_file() -> None:
    (batch,) = batches(play(Log().transaction(1, (INSERT, rows_body(image(1, "a"), image(2, None)))).wire))
    before = sum(
        len(event(kind, body)) for kind, body in ((kinds.MARIA_GTID, gtid_body()), (kinds.TABLE_MAP, table_map()))
    )
    first = 4 + before + kinds.HEADER + len(rows_body())
    assert [seq.split(int(one)) for one in batch.seq] == [(1, 1, first), (1, 1, first + len(image(1, "a")))]


def test_keys_before_an_update() -> None:
    before = [
        row for batch in batches(play(some_log().wire)) for row in (batch.before or batch.rows.slice(0, 0)).to_pylist()
    ]
    assert before == [{"id": None}, {"id": None}, {"id": 1}, {"id": 2}, {"id": None}]


def test_rows_wait_for_the_end_of_their_transaction() -> None:
    log = some_log()
    assert rows(play(b"".join(map(packet, log.events[:-1])))) == SOME[:2]


def test_places_go_on_behind_four_gigabytes() -> None:
    start = (1 << 32) - 60
    log = Log(start)
    for number in range(1, 5):
        log.transaction(number, (INSERT, rows_body(image(number, "x"))))
    events = play(log.wire, decoder(Place(FILE, start)))
    places = [seq.split(int(one)).place for batch in batches(events) for one in batch.seq]
    assert places == sorted(places)
    assert places[-1] > 1 << 32
    assert json.loads([one for one in events if isinstance(one, Checkpoint)][-1].position)["pos"] == log.at


def test_events_that_the_server_left_out_are_counted() -> None:
    log = Log()
    log.add(kinds.MARIA_ANNOTATE_ROWS, bytes(100))
    log.events.clear()
    log.transaction(1, (INSERT, rows_body(image(1, "a"))))
    (batch,) = batches(play(log.wire))
    whole = Log()
    whole.add(kinds.MARIA_ANNOTATE_ROWS, bytes(100)).transaction(1, (INSERT, rows_body(image(1, "a"))))
    assert list(batch.seq) == list(batches(play(whole.wire))[0].seq)


def test_a_place_that_goes_backwards_is_named() -> None:
    with pytest.raises(FatalError, match="backwards"):
        play(
            packet(event(kinds.XID, bytes(8), 1000)) + packet(event(kinds.XID, bytes(8), 900)),
            decoder(Place(FILE, 969)),
        )


def test_artificial_events_do_not_count() -> None:
    rotate = event(kinds.ROTATE, struct.pack("<Q", 4) + FILE.encode(), 0, flags=kinds.FLAG_ARTIFICIAL, seconds=0)
    described = event(kinds.FORMAT_DESCRIPTION, format_body(), 0)
    heartbeat = event(kinds.HEARTBEAT, FILE.encode(), 4)
    events = play(packet(rotate) + packet(described) + packet(heartbeat) + some_log().wire)
    assert [int(one) for batch in batches(events) for one in batch.seq] == [
        int(one) for batch in batches(play(some_log().wire)) for one in batch.seq
    ]
    assert isinstance(events[0], Checkpoint)
    assert events[0].time == 5


def test_a_heartbeat_tells_the_place_of_a_dump_by_gtid() -> None:
    """Until its first transaction comes nothing else does; of the position only the GTIDs count."""
    rotate = event(kinds.ROTATE, struct.pack("<Q", 4) + FILE.encode(), 0, flags=kinds.FLAG_ARTIFICIAL, seconds=0)
    heartbeat = event(kinds.HEARTBEAT, FILE.encode(), 4711)
    begun = Log(4711).transaction(8, (INSERT, rows_body(image(1, "a"))))
    events = play(packet(rotate) + packet(heartbeat) + begun.wire, decoder(Place(gtid="0-1-7", server="mariadb:1")))
    first, last = events[0], events[-1]
    assert isinstance(first, Checkpoint)
    assert json.loads(first.position) == {"gtid": "0-1-7", "server": "mariadb:1"}
    assert seq.split(first.seq) == (1, 1, 4711)
    assert isinstance(last, Checkpoint)
    assert json.loads(last.position) == {"file": FILE, "pos": begun.at, "gtid": "0-1-8", "server": "mariadb:1"}
    assert rows(events) == [(1, 1, "a")]


def test_the_next_file() -> None:
    log = some_log().add(kinds.ROTATE, struct.pack("<Q", 4) + b"binlog.000002")
    events = play(log.wire + packet(event(kinds.ROTATE, struct.pack("<Q", 4) + b"binlog.000002", 0)) + some_log().wire)
    assert rows(events) == SOME + SOME
    assert json.loads([e for e in events if isinstance(e, Checkpoint)][-1].position)["file"] == "binlog.000002"


@pytest.mark.parametrize("kind", [kinds.MARIA_BINLOG_CHECKPOINT, kinds.MARIA_START_ENCRYPTION, kinds.STOP])
def test_events_between_transactions_move_the_position(kind: int) -> None:
    log = some_log().add(kind, bytes(20))
    last = play(log.wire)[-1]
    assert isinstance(last, Checkpoint)
    assert json.loads(last.position)["pos"] == log.at
    inside = some_log().add(kinds.MARIA_GTID, gtid_body(3)).add(kind, bytes(20))
    last = play(inside.wire)[-1]
    assert isinstance(last, Checkpoint)
    assert json.loads(last.position)["pos"] == some_log().at


def test_a_transaction_cut_off_by_a_crash_never_was() -> None:
    log = some_log()
    log.add(kinds.MARIA_GTID, gtid_body(3)).add(kinds.TABLE_MAP, table_map()).add(INSERT, rows_body(image(5, "lost")))
    fresh = event(kinds.ROTATE, struct.pack("<Q", 4) + b"binlog.000002", 0)
    events = play(log.wire + packet(fresh) + some_log().wire)
    assert rows(events) == SOME + SOME
    assert json.loads([e for e in events if isinstance(e, Checkpoint)][-1].position).get("gtid") is None


def test_a_cut_off_transaction_that_was_given_out_in_parts_halts_its_table() -> None:
    log = Log().add(kinds.MARIA_GTID, gtid_body(1)).add(kinds.TABLE_MAP, table_map())
    for number in range(20):
        log.add(INSERT, rows_body(image(number, "lost")))
    fresh = event(kinds.ROTATE, struct.pack("<Q", 4) + b"binlog.000002", 0)
    with pytest.raises(FatalError, match="in the middle of a transaction") as cut:
        play(log.wire + packet(fresh), size=512)
    assert cut.value.table == str(TABLE)


def test_gtids_of_finished_transactions_only() -> None:
    log = some_log().add(kinds.MARIA_GTID, gtid_body(3)).add(kinds.TABLE_MAP, table_map())
    events = play(log.wire, decoder(Place(FILE, 4, "0-1-0", "mariadb:1")))
    assert json.loads([e for e in events if isinstance(e, Checkpoint)][-1].position)["gtid"] == "0-1-2"


def test_statements_change_schemas_at_their_place() -> None:
    log = (
        some_log().add(kinds.MARIA_GTID, gtid_body(3, standalone=True)).add(kinds.QUERY, query_body("TRUNCATE TABLE t"))
    )
    log.transaction(4, (INSERT, rows_body(image(7, "q"))))
    events = play(log.wire)
    kinds_ = [type(one) for one in events if not isinstance(one, Checkpoint)]
    assert kinds_ == [ChangeBatch, SchemaChange, ChangeBatch]
    change = next(one for one in events if isinstance(one, SchemaChange))
    assert change.kind is Ddl.TRUNCATE
    assert int(batches(events)[0].seq[-1]) < change.seq < int(batches(events)[1].seq[0])


def test_images_without_all_columns() -> None:
    log = Log().transaction(1, (INSERT, rows_body(image(1, "a"), present=0xFD)))
    with pytest.raises(Unsupported, match="binlog_row_image") as refused:
        play(log.wire)
    assert refused.value.table == str(TABLE)


@pytest.mark.parametrize(
    "body",
    [
        rows_body(image(1, "a")[:-1]),
        rows_body(image(1, "a") + b"\0"),
        rows_body(image(1, "a"), image(2, "b")[:3]),
        rows_body(b"\xfc\1\0\0\0\xffabc"),
        rows_body()[:-1],
        rows_body(),
        rows_body(image(1, "a")).replace(b"\2\xff", b"\3\xff", 1),
        (7).to_bytes(6, "little"),
    ],
)
def test_malformed_row_events_are_named(body: bytes) -> None:
    with pytest.raises(FatalError, match="malformed") as refused:
        play(Log().transaction(1, (INSERT, body)).wire)
    assert refused.value.table in {str(TABLE), None}


def test_a_row_event_without_table_map() -> None:
    log = Log().add(kinds.MARIA_GTID, gtid_body()).add(INSERT, rows_body(image(1, "a"))).add(kinds.XID, bytes(8))
    with pytest.raises(FatalError, match="no TABLE_MAP"):
        play(log.wire)


@pytest.mark.parametrize("kind", [43, 99, 159, 200, kinds.TRANSACTION_CONTEXT + 100])
def test_unknown_events(kind: int) -> None:
    with pytest.raises(Unsupported, match=f"type {kind}"):
        play(Log().add(kind, bytes(10)).wire)
    assert rows(play((some_log().add(kind, bytes(10), flags=kinds.FLAG_IGNORABLE)).wire)) == SOME


def test_an_incident_halts() -> None:
    with pytest.raises(FatalError, match="INCIDENT"):
        play(Log().add(kinds.INCIDENT, b"\1\0\0").wire)


def test_two_table_maps_of_one_number() -> None:
    other = table_map(table=TABLE._replace(name="u"))
    log = (
        Log().add(kinds.MARIA_GTID, gtid_body()).add(kinds.TABLE_MAP, table_map()).add(INSERT, rows_body(image(1, "a")))
    )
    log.add(kinds.TABLE_MAP, other).add(INSERT, rows_body(image(2, "b")))
    log.add(kinds.TABLE_MAP, table_map()).add(INSERT, rows_body(image(3, "c"))).add(kinds.XID, bytes(8))
    assert rows(play(log.wire)) == [(1, 1, "a"), (1, 3, "c")]


@pytest.mark.parametrize("numbers", [(9, 7), (7, 9), (7, 9, 7), (9, 9, 7, 7, 9)])
def test_two_numbers_of_one_table(numbers: tuple[int, ...]) -> None:
    """The server has opened the table anew beside a transaction that began before."""
    log = Log()
    for at, number in enumerate(numbers, 1):
        log.add(kinds.MARIA_GTID, gtid_body(at)).add(kinds.TABLE_MAP, table_map(number))
        log.add(INSERT, rows_body(image(at, "x"), number=number)).add(kinds.XID, bytes(8))
    events = play(log.wire)
    assert rows(events) == [(1, at, "x") for at in range(1, len(numbers) + 1)]
    seqs = [int(at) for batch in batches(events) for at in batch.seq]
    assert seqs == sorted(set(seqs))


def test_numbers_of_long_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server gives a table a new number whenever it opens it anew; capture must not grow by that."""
    monkeypatch.setattr(tables, "_KEPT", 3)
    log = Log()
    numbers = [*range(100, 120), 100, 101, *range(200, 220)]
    for at, number in enumerate(numbers, 1):
        log.add(kinds.MARIA_GTID, gtid_body(at)).add(kinds.TABLE_MAP, table_map(number))
        log.add(INSERT, rows_body(image(at, "x"), number=number))
        log.add(INSERT, rows_body(image(at, "y"), number=number)).add(kinds.XID, bytes(8))
    made = decoder()
    events = play(log.wire, made, size=256)
    assert rows(events) == [(1, at, v) for at in range(1, len(numbers) + 1) for v in "xy"]
    assert len(made._tables._maps) <= 5
    assert len(made._tables._plans) == 1


def test_a_row_event_that_only_ends_a_statement() -> None:
    log = Log().transaction(1, (INSERT, rows_body(image(1, "a"))), (INSERT, rows_body(number=0xFFFFFF)))
    assert rows(play(log.wire)) == [(Op.INSERT, 1, "a")]


def test_a_format_that_is_not_known() -> None:
    for body in (b"\3\0" + format_body()[2:], format_body(7), format_body()[:40]):
        with pytest.raises(FatalError):
            play(packet(event(kinds.FORMAT_DESCRIPTION, body)))


def payload_body(*events: bytes) -> bytes:
    """A TRANSACTION_PAYLOAD that is not compressed (way 255)."""
    algorithm = b"\xfc" + (255).to_bytes(2, "little")
    return b"\2" + bytes([len(algorithm)]) + algorithm + b"\0" + b"".join(events)


def mysql_gtid_body(number: int, committed: int) -> bytes:
    """`committed`: microseconds; then the original commit's time, the same one, is left out."""
    head = b"\1" + bytes(range(16)) + struct.pack("<QB", number, 2) + struct.pack("<QQ", 0, 1)
    return head + committed.to_bytes(7, "little") + b"\xfc" + bytes(8)


def test_rows_of_a_payload_have_the_time_of_its_transaction() -> None:
    """Its events are counted anew: none of them stands where the transaction's GTID stands in the log."""
    times = [1_700_000_000_000_001, 1_700_000_100_000_002]
    log = Log()
    for number, committed in enumerate(times, 1):
        inner = [
            (kinds.QUERY, query_body("BEGIN")),
            (kinds.TABLE_MAP, table_map()),
            (INSERT, rows_body(image(number, "a" * 20))),
            (kinds.XID, bytes(8)),
        ]
        body = payload_body(*(event(kind, part, checksum=False) for kind, part in inner))
        log.add(kinds.GTID, mysql_gtid_body(number, committed)).add(kinds.TRANSACTION_PAYLOAD, body)
    for wire in (log.wire, b"".join(map(packet, log.events[:2]))):
        events = play(wire, decoder(mariadb=False))
        assert [batch.time for batch in batches(events)] == times[: len(batches(events))]
        assert batches(events)
