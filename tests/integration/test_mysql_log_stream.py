"""The log as a stream: operations, positions, resume, heartbeats, silence, long transactions."""

from __future__ import annotations

import json
import time
from contextlib import closing
from itertools import islice

import pytest

from syncd.errors import FatalError, PositionLost, TransientError
from syncd.model import ChangeBatch, Checkpoint, Op, Position, TableId
from tests.integration.log_tools import (
    SERVER_ID,
    batches,
    follows,
    here,
    log_end,
    read,
    rows,
    schemas,
    seqs,
    streaming,
    table,
    until,
)
from tests.services.database import Database, fresh_database
from tests.services.fixtures import PrivateServer

WORK = (
    "INSERT INTO a VALUES (1, 'one'), (2, NULL)",
    "UPDATE a SET v = 'ONE' WHERE id = 1",
    "UPDATE a SET id = id + 10",
    "INSERT INTO b VALUES (1)",
    "DELETE FROM a WHERE id = 12",
    "INSERT INTO a VALUES (3, 'three')",
)


@pytest.fixture
def start(database: Database) -> Position:
    """Tables a (id, v), b (id) and other (id); the position behind their creation."""
    database.execute(
        "CREATE TABLE a (id INT PRIMARY KEY, v VARCHAR(20))",
        "CREATE TABLE b (id INT PRIMARY KEY)",
        "CREATE TABLE other (id INT PRIMARY KEY)",
    )
    return log_end(database)


def test_operations_come_in_order_with_keys_before(database: Database, start: Position) -> None:
    database.execute(*WORK)
    events = read(database, start, schemas(database, "a", "b"))
    a, b = table(database, "a"), table(database, "b")
    assert rows(events, a) == [
        (Op.INSERT, {"id": 1, "v": "one"}),
        (Op.INSERT, {"id": 2, "v": None}),
        (Op.UPDATE, {"id": 1, "v": "ONE"}),
        (Op.UPDATE, {"id": 11, "v": "ONE"}),
        (Op.UPDATE, {"id": 12, "v": None}),
        (Op.DELETE, {"id": 12, "v": None}),
        (Op.INSERT, {"id": 3, "v": "three"}),
    ]
    assert rows(events, b) == [(Op.INSERT, {"id": 1})]
    before = [
        row
        for batch in batches(events, a)
        for row in (batch.before.to_pylist() if batch.before else [None] * len(batch))
    ]
    assert [row and row["id"] for row in before] == [None, None, 1, 1, 2, None, None]
    found = [int(seq) for batch in batches(events, a) for seq in batch.seq]
    assert found == sorted(set(found))


def test_before_images_are_whole_when_asked_for(database: Database, start: Position) -> None:
    database.execute(*WORK[:2])
    events = read(database, start, schemas(database, "a"), before=lambda table: ("v",))
    before = [row for batch in batches(events) for row in (batch.before.to_pylist() if batch.before else [])]
    assert before[-1] == {"id": 1, "v": "one"}


def test_every_checkpoint_is_a_place_to_resume_at(database: Database, start: Position) -> None:
    known = schemas(database, "a", "b")
    positions = [start]
    for statement in WORK:
        database.execute(statement)
        positions.append(log_end(database))
    database.execute("BEGIN", "INSERT INTO b VALUES (7)", "INSERT INTO a VALUES (7, '')", "COMMIT")
    whole = sorted(seqs(read(database, start, known)))
    for position in positions:
        events = read(database, position, known)
        rest = sorted(seqs(events))
        assert rest == whole[len(whole) - len(rest) :]
        for checkpoint in (e for e in events if isinstance(e, Checkpoint)):
            again = seqs(read(database, checkpoint.position, known))
            assert sorted(again) == [seq for seq in rest if seq >= checkpoint.seq]
    assert all(seqs(read(database, position, known)) for position in positions)


def test_gtids_resume_where_the_file_is_unknown(database: Database, start: Position) -> None:
    known = schemas(database, "a", "b")
    mariadb = database.server.flavour == "mariadb"
    if mariadb:
        place = json.loads(start)
        (gtid,) = database.query(f"SELECT BINLOG_GTID_POS('{place['file']}', {place['pos']})")[0]
    else:
        (gtid,) = database.query("SELECT @@GLOBAL.gtid_executed")[0]
    database.execute(*WORK)
    named = Position(json.dumps({"gtid": gtid.replace("\n", "")}))
    expected = seqs(read(database, start, known))
    events = read(database, named, known)
    assert seqs(events) == expected
    last = events[-1]
    assert isinstance(last, Checkpoint)
    assert follows(last.position, named)
    database.execute("INSERT INTO a VALUES (50, 'later')")
    moved = json.loads(last.position) | {"server": f"{database.server.flavour}:another"}
    assert rows(read(database, Position(json.dumps(moved)), known)) == [(Op.INSERT, {"id": 50, "v": "later"})]


def test_changes_of_other_tables_move_the_position(database: Database, start: Position) -> None:
    with streaming(database, start, schemas(database, "a"), heartbeat=30) as events:
        database.execute("INSERT INTO other VALUES (1)")
        found = until(events, log_end(database))
    assert not batches(found)
    assert here(found[-1].position) == here(log_end(database))  # type: ignore[union-attr]


def test_an_idle_log_still_gives_checkpoints(database: Database, start: Position) -> None:
    database.execute("INSERT INTO a VALUES (1, '')")
    with streaming(database, start, schemas(database, "a"), heartbeat=0.2) as events:
        until(events, log_end(database))
        began = time.time()
        beats = [next(events) for _ in range(3)]
    assert all(isinstance(beat, Checkpoint) for beat in beats)
    assert time.time() - began < 30
    for beat in beats:
        assert isinstance(beat, Checkpoint)
        assert abs(beat.time / 1e6 - time.time()) < 5


@pytest.mark.mariadb
@pytest.mark.parametrize("ahead", [-86_400, 86_400])
def test_checkpoints_tell_the_time_of_our_clock(mariadb_database: Database, ahead: int) -> None:
    """A source whose clock differs from ours would else look like a lag, or like one that is never there."""
    mariadb_database.execute("CREATE TABLE a (id INT PRIMARY KEY, v TEXT)")
    start = log_end(mariadb_database)
    mariadb_database.execute("INSERT INTO a VALUES (1, '')")
    known = schemas(mariadb_database, "a")
    with streaming(mariadb_database, start, known, heartbeat=0.2, now=lambda: time.time() + ahead) as events:
        marks = list(islice((event for event in events if isinstance(event, Checkpoint)), 4))
    assert all(abs(mark.time / 1e6 - time.time() - ahead) < 5 for mark in marks)


def test_a_row_comes_without_waiting_for_more(database: Database, start: Position) -> None:
    with (
        streaming(database, start, schemas(database, "a"), heartbeat=30) as events,
        closing(database.connect()) as writer,
    ):
        database.execute("INSERT INTO a VALUES (0, '')")
        until(events, log_end(database))
        waited = []
        for number in range(1, 20):
            with writer.cursor() as cursor:
                cursor.execute(f"INSERT INTO a VALUES ({number}, '')")
            began = time.perf_counter()
            while not isinstance(next(events), ChangeBatch):
                pass
            waited.append(time.perf_counter() - began)
            next(events)
    assert sorted(waited)[len(waited) // 2] < 1  # not the heartbeat's 30 s


def test_the_next_log_file_goes_on(database: Database, start: Position) -> None:
    known = schemas(database, "a")
    database.execute(
        "INSERT INTO a VALUES (1, '')", "FLUSH BINARY LOGS", "INSERT INTO a VALUES (2, '')", "FLUSH BINARY LOGS"
    )
    database.execute("INSERT INTO a VALUES (3, '')")
    events = read(database, start, known)
    assert [row["id"] for _, row in rows(events)] == [1, 2, 3]
    found = seqs(events)
    assert found == sorted(found)
    assert [seq >> 36 & 0xFFFFF for seq in found] == [
        found[0] >> 36 & 0xFFFFF,
        (found[0] >> 36 & 0xFFFFF) + 1,
        (found[0] >> 36 & 0xFFFFF) + 2,
    ]


def test_the_beginning_of_a_file_is_reached_too(database: Database, start: Position) -> None:
    database.execute("INSERT INTO a VALUES (1, '')", "FLUSH BINARY LOGS")
    last = read(database, start, schemas(database, "a"))[-1]
    assert isinstance(last, Checkpoint)
    assert here(last.position)[1] > 4


def test_positions_carry_gtids_once_a_file_begins(database: Database, start: Position) -> None:
    database.execute("FLUSH BINARY LOGS", "INSERT INTO a VALUES (1, '')")
    last = read(database, start, schemas(database, "a"))[-1]
    assert isinstance(last, Checkpoint)
    gtid = json.loads(last.position)["gtid"]
    if database.server.flavour == "mariadb":
        assert gtid == database.query("SELECT @@GLOBAL.gtid_binlog_pos")[0][0]
    else:
        assert database.query(f"SELECT GTID_SUBTRACT(@@GLOBAL.gtid_executed, '{gtid}') = ''")[0][0] == 1


def test_a_long_transaction_flows_before_its_end(database: Database, start: Position) -> None:
    count = 60_000
    with closing(database.connect(autocommit=False)) as writer, writer.cursor() as cursor:
        for first in range(0, count, 5000):
            values = ",".join(f"({n},'{n:020}')" for n in range(first, first + 5000))
            cursor.execute(f"INSERT INTO a VALUES {values}")
        cursor.execute("INSERT INTO b VALUES (1)")
        writer.commit()
    events = read(database, start, schemas(database, "a", "b"), buffer=1 << 18)
    kinds = [type(event) for event in events]
    first = kinds.index(ChangeBatch)
    assert kinds.count(ChangeBatch) > 5
    assert Checkpoint not in kinds[first : len(kinds) - 1 - kinds[::-1].index(ChangeBatch)]
    assert [row["id"] for _, row in rows(events, table(database, "a"))] == list(range(count))


def test_a_value_larger_than_the_buffer_and_than_a_packet(database: Database) -> None:
    database.execute("CREATE TABLE big (id INT PRIMARY KEY, v LONGBLOB)")
    start = log_end(database)
    size = 17 << 20
    database.execute("SET GLOBAL max_allowed_packet = 134217728")
    with closing(database.connect(max_allowed_packet=1 << 27)) as writer, writer.cursor() as cursor:
        cursor.execute(f"INSERT INTO big VALUES (1, REPEAT(x'61', {size})), (2, x'00ff')")
    found = rows(read(database, start, schemas(database, "big"), buffer=1 << 16))
    assert found[0][1]["v"] == b"a" * size
    assert found[1][1]["v"] == b"\x00\xff"


def test_a_frozen_server_is_noticed_within_three_heartbeats(
    private_mariadb: PrivateServer, private_mysql9: PrivateServer
) -> None:
    for make in (private_mariadb, private_mysql9):
        server = make()
        with fresh_database(server) as database:
            database.execute("CREATE TABLE a (id INT PRIMARY KEY)")
            with streaming(database, log_end(database), schemas(database, "a"), heartbeat=1.0) as events:
                next(events)
                next(events)
                server.freeze()
                began = time.monotonic()
                try:
                    with pytest.raises(TransientError, match=r"the server has sent nothing for 2\.7 s"):
                        for _ in events:
                            pass
                    assert 2.5 < time.monotonic() - began < 30
                finally:
                    server.thaw()


def test_a_taken_server_id_is_named(database: Database, start: Position) -> None:
    known = schemas(database, "a")
    with streaming(database, start, known) as first:
        next(first)
        with streaming(database, start, known) as second:
            next(second)
            with pytest.raises((FatalError, TransientError), match=r"server_id|server_uuid|closed|killed") as told:
                list(islice(first, 100))
    if database.server.flavour == "mysql":
        assert "server_id" in str(told.value)
    assert SERVER_ID


def test_a_purged_log_is_a_lost_position(database: Database, start: Position) -> None:
    known = schemas(database, "a")
    gone = Position(json.dumps(json.loads(start) | {"file": "binlog.099999"}))
    with pytest.raises(PositionLost, match="resync"):
        read(database, gone, known)
    with pytest.raises(PositionLost):
        read(database, Position(json.dumps({"file": "binlog.000001", "pos": 4, "server": "mysql:other"})), known)


def test_a_place_that_is_no_boundary_is_a_lost_position(database: Database, start: Position) -> None:
    database.execute("INSERT INTO a VALUES (1, '')")
    place = json.loads(start)
    wrong = Position(json.dumps(place | {"pos": place["pos"] + 7}))
    with pytest.raises((PositionLost, FatalError)):
        read(database, wrong, schemas(database, "a"))


def test_a_killed_connection_is_transient(database: Database, start: Position) -> None:
    with streaming(database, start, schemas(database, "a")) as events:
        next(events)
        dumps = database.query("SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'")
        for (number,) in dumps:
            database.execute(f"KILL {number}")
        with pytest.raises(TransientError):
            list(islice(events, 50))


def test_only_wanted_tables_come(database: Database, start: Position) -> None:
    database.execute(*WORK)
    known = schemas(database, "a", "b")
    only = TableId(database.name, "b")
    assert rows(read(database, start, known, lambda t: t == only)) == [(Op.INSERT, {"id": 1})]


def test_a_table_opened_anew_beside_an_open_transaction(database: Database, start: Position) -> None:
    """Then the log names one table by two numbers in turn; its changes still come in the order of the log."""
    held = database.connect(autocommit=False)
    with closing(held), held.cursor() as cursor:
        for n in range(1, 30, 3):
            cursor.execute("INSERT INTO a VALUES (%s, 'held')", (n,))
            database.execute("FLUSH TABLES", f"INSERT INTO a VALUES ({n + 1}, 'meanwhile')")
            held.commit()
            database.execute(f"INSERT INTO a VALUES ({n + 2}, 'after')")
    events = read(database, start, schemas(database, "a"))
    order = [row["id"] for _, row in rows(events, table(database, "a"))]
    assert order == [n + more for n in range(1, 30, 3) for more in (1, 0, 2)]
    found = seqs(events)
    assert found == sorted(set(found))
