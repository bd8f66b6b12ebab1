"""Other ways in which servers write the log: compressed, without checksums, with tagged GTIDs, partial JSON."""

from __future__ import annotations

import json
import time
from contextlib import closing

import pytest

from syncd.errors import Unsupported
from syncd.model import Checkpoint, Op, Position
from tests.integration.log_tools import batches, log_end, read, rows, schemas, seqs, table
from tests.services.database import Database, fresh_database
from tests.services.fixtures import PrivateServer

LONG = "REPEAT('abc', 300)"


def test_mysql_compressed_transactions(mysql9_database: Database) -> None:
    database = mysql9_database
    database.execute("CREATE TABLE a (id INT PRIMARY KEY, v TEXT)", "CREATE TABLE b (id INT PRIMARY KEY)")
    start, known = log_end(database), schemas(database, "a", "b")
    with closing(database.connect(autocommit=False)) as writer, writer.cursor() as cursor:
        cursor.execute("SET SESSION binlog_transaction_compression = ON")
        for number in range(200):
            cursor.execute(f"INSERT INTO a VALUES ({number}, {LONG})")
            cursor.execute(f"INSERT INTO b VALUES ({number})")
        cursor.execute("UPDATE a SET id = id + 1000 WHERE id < 50")
        writer.commit()
    database.execute("INSERT INTO a VALUES (5000, 'plain')")
    events = read(database, start, known)
    assert len(rows(events)) == 451
    assert rows(events)[-1] == (Op.INSERT, {"id": 5000, "v": "plain"})
    a = [int(seq) for batch in batches(events) if batch.table.name == "a" for seq in batch.seq]
    assert a == sorted(set(a))
    assert all(abs(batch.time / 1e6 - time.time()) < 60 for batch in batches(events))
    for checkpoint in (event for event in events if isinstance(event, Checkpoint)):
        rest = seqs(read(database, checkpoint.position, known))
        assert sorted(rest) == sorted(seq for seq in seqs(events) if seq >= checkpoint.seq)


def test_a_compressed_transaction_of_other_tables(mysql9_database: Database) -> None:
    database = mysql9_database
    database.execute("CREATE TABLE a (id INT PRIMARY KEY)", "CREATE TABLE other (id INT PRIMARY KEY)")
    start, known = log_end(database), schemas(database, "a")
    database.execute("SET SESSION binlog_transaction_compression = ON", "INSERT INTO other VALUES (1)")
    database.execute("INSERT INTO a VALUES (1)")
    assert rows(read(database, start, known)) == [(Op.INSERT, {"id": 1})]


def test_compressed_xa_rows_are_refused_for_their_table_only(mysql9_database: Database) -> None:
    """XA START, XA END and XA PREPARE lie inside of the compressed transaction, with its rows."""
    database = mysql9_database
    database.execute("CREATE TABLE a (id INT PRIMARY KEY, v TEXT)", "CREATE TABLE other (id INT PRIMARY KEY, v TEXT)")
    start, known = log_end(database), schemas(database, "a")

    def branch(table: str) -> None:
        name = f"'{database.name}'"
        insert = f"INSERT INTO {table} VALUES (1, {LONG})"
        ends = [f"XA END {name}", f"XA PREPARE {name}", f"XA COMMIT {name}"]
        database.execute("SET SESSION binlog_transaction_compression = ON", f"XA START {name}", insert, *ends)

    branch("other")
    database.execute("SET SESSION binlog_transaction_compression = ON", f"INSERT INTO a VALUES (2, {LONG})")
    events = read(database, start, known)
    assert rows(events) == [(Op.INSERT, {"id": 2, "v": "abc" * 300})]
    for checkpoint in (event for event in events if isinstance(event, Checkpoint)):
        assert len(rows(read(database, checkpoint.position, known))) == (checkpoint.seq <= seqs(events)[0])
    branch("a")
    with pytest.raises(Unsupported, match="rows of an XA transaction") as refused:
        read(database, start, known)
    assert refused.value.table == f"{database.name}.a"


def test_more_rows_than_compressed_bytes_are_refused(mysql9_database: Database) -> None:
    database = mysql9_database
    database.execute(
        "CREATE TABLE a (id INT PRIMARY KEY AUTO_INCREMENT, v TINYINT NOT NULL)", "CREATE TABLE k (v TINYINT NOT NULL)"
    )
    start, known = log_end(database), schemas(database, "k")
    database.execute(
        "SET SESSION binlog_transaction_compression = ON, cte_max_recursion_depth = 100000",
        "INSERT INTO k WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i + 1 FROM n WHERE i < 50000) SELECT 1 FROM n",
    )
    with pytest.raises(Unsupported, match="more rows than bytes") as refused:
        read(database, start, known)
    assert refused.value.table == f"{database.name}.k"


def test_mariadb_compressed_events(private_mariadb: PrivateServer) -> None:
    server = private_mariadb("--log-bin-compress=ON", "--log-bin-compress-min-len=10")
    with fresh_database(server) as database:
        database.execute("CREATE TABLE a (id INT PRIMARY KEY, v TEXT)")
        start, known = log_end(database), schemas(database, "a")
        database.execute(
            f"INSERT INTO a VALUES (1, {LONG}), (2, {LONG}), (3, 'x')",
            "UPDATE a SET id = id + 10",
            "DELETE FROM a WHERE id = 11",
            f"ALTER TABLE a ADD COLUMN w INT COMMENT 'long, so that it is compressed too {'y' * 300}'",
            "INSERT INTO a VALUES (20, 'z', 5)",
        )
        events = read(database, start, known)
        assert [(op, row["id"]) for op, row in rows(events)] == [
            (Op.INSERT, 1),
            (Op.INSERT, 2),
            (Op.INSERT, 3),
            (Op.UPDATE, 11),
            (Op.UPDATE, 12),
            (Op.UPDATE, 13),
            (Op.DELETE, 11),
            (Op.INSERT, 20),
        ]
        assert rows(events)[0][1]["v"] == "abc" * 300
        found = seqs(events)
        assert found == sorted(set(found))
        one = read(database, start, known, buffer=1 << 12)
        assert seqs(one) == found


@pytest.mark.parametrize("ends", ["long", "short"])
def test_mariadb_short_rows_among_compressed_ones(private_mariadb: PrivateServer, ends: str) -> None:
    """Guarantee 3: rows come in the log's order, though those below log_bin_compress_min_len are not compressed."""
    with fresh_database(private_mariadb("--log-bin-compress=ON")) as database:
        database.execute("CREATE TABLE a (id INT PRIMARY KEY, v TEXT)")
        start, known = log_end(database), schemas(database, "a")
        database.execute(
            f"INSERT INTO a VALUES (1, {LONG}), (2, {LONG})",
            "REPLACE INTO a VALUES (1, 'x'), (2, 'y')",
            "UPDATE a SET v = CONCAT(v, 'z')",
            f"UPDATE a SET v = {LONG}",
            *(["DELETE FROM a", "INSERT INTO a VALUES (3, 'short'), (4, '')"] if ends == "short" else []),
        )
        events = read(database, start, known)
        found = seqs(events)
        assert found == sorted(set(found))
        last = {row["id"]: (op, row["v"]) for op, row in rows(events)}
        if ends == "short":
            long = "abc" * 300
            assert last == {
                1: (Op.DELETE, long),
                2: (Op.DELETE, long),
                3: (Op.INSERT, "short"),
                4: (Op.INSERT, ""),
            }
        else:
            assert last == {1: (Op.UPDATE, "abc" * 300), 2: (Op.UPDATE, "abc" * 300)}


def test_checksums_may_come_and_go(database: Database) -> None:
    database.execute("CREATE TABLE a (id INT PRIMARY KEY)")
    start, known = log_end(database), schemas(database, "a")
    try:
        database.execute("INSERT INTO a VALUES (1)", "SET GLOBAL binlog_checksum = NONE", "INSERT INTO a VALUES (2)")
        database.execute("SET GLOBAL binlog_checksum = CRC32", "INSERT INTO a VALUES (3)")
        assert [row["id"] for _, row in rows(read(database, start, known))] == [1, 2, 3]
        database.execute("SET GLOBAL binlog_checksum = NONE", "INSERT INTO a VALUES (4)")
        assert [row["id"] for _, row in rows(read(database, start, known))] == [1, 2, 3, 4]
        behind = log_end(database)
        database.execute("INSERT INTO a VALUES (5)")
        assert [row["id"] for _, row in rows(read(database, behind, known))] == [5]
        # From the middle of a file without checksums, when the server writes them again.
        database.execute("SET GLOBAL binlog_checksum = CRC32", "INSERT INTO a VALUES (6)")
        assert [row["id"] for _, row in rows(read(database, behind, known))] == [5, 6]
    finally:
        database.execute("SET GLOBAL binlog_checksum = CRC32")


def test_tagged_gtids(mysql9_database: Database) -> None:
    database = mysql9_database
    database.execute("CREATE TABLE a (id INT PRIMARY KEY)", "FLUSH BINARY LOGS")
    start, known = log_end(database), schemas(database, "a")
    (before,) = database.query("SELECT @@GLOBAL.gtid_executed")[0]
    database.execute(
        "SET SESSION gtid_next = 'AUTOMATIC:blue'",
        "INSERT INTO a VALUES (1)",
        "INSERT INTO a VALUES (2)",
        "SET SESSION gtid_next = 'AUTOMATIC'",
        "INSERT INTO a VALUES (3)",
        "SET SESSION gtid_next = 'AUTOMATIC:green'",
        "INSERT INTO a VALUES (4)",
    )
    database.execute("FLUSH BINARY LOGS", "INSERT INTO a VALUES (5)")
    named = Position(json.dumps({"gtid": before.replace("\n", "")}))
    events = read(database, named, known)
    assert [row["id"] for _, row in rows(events)] == [1, 2, 3, 4, 5]
    last = events[-1]
    assert isinstance(last, Checkpoint)
    gtid = json.loads(last.position)["gtid"]
    assert ":blue:1-2" in gtid
    assert ":green:1" in gtid
    assert database.query(f"SELECT GTID_SUBTRACT(@@GLOBAL.gtid_executed, '{gtid}') = ''")[0][0] == 1
    database.execute("INSERT INTO a VALUES (6)")
    again = Position(json.dumps({"gtid": gtid}))
    assert [row["id"] for _, row in rows(read(database, again, known))] == [6]
    assert rows(read(database, start, known))


def test_partial_json_is_refused(mysql9_database: Database) -> None:
    database = mysql9_database
    database.execute("CREATE TABLE a (id INT PRIMARY KEY, j JSON)", "CREATE TABLE other (id INT PRIMARY KEY, j JSON)")
    document = json.dumps({f"k{n}": "v" * 20 for n in range(50)})
    database.execute(f"INSERT INTO a VALUES (1, '{document}')", f"INSERT INTO other VALUES (1, '{document}')")
    start, known = log_end(database), schemas(database, "a")
    partial = "SET SESSION binlog_row_value_options = PARTIAL_JSON"
    database.execute(partial, "UPDATE other SET j = JSON_REPLACE(j, '$.k1', 'w')", "INSERT INTO a VALUES (2, NULL)")
    assert rows(read(database, start, known)) == [(Op.INSERT, {"id": 2, "j": None})]
    database.execute(partial, "UPDATE a SET j = JSON_REPLACE(j, '$.k1', 'w')")
    with pytest.raises(Unsupported, match="binlog_row_value_options") as refused:
        read(database, start, known)
    assert refused.value.table == f"{database.name}.a"


def test_updates_without_a_partial_column_are_read(mysql9_database: Database) -> None:
    """A session with PARTIAL_JSON writes the same event for every UPDATE, with or without a JSON column."""
    database = mysql9_database
    database.execute(
        "CREATE TABLE a (id INT PRIMARY KEY, v VARCHAR(9), d DECIMAL(9,2))",
        "CREATE TABLE j (id INT PRIMARY KEY, j JSON, v INT)",
        "INSERT INTO a VALUES (1, 'x', 1), (2, NULL, 2)",
        "INSERT INTO j VALUES (1, NULL, 1), (2, '[]', 2)",
    )
    start, known = log_end(database), schemas(database, "a", "j")
    partial = "SET SESSION binlog_row_value_options = PARTIAL_JSON"
    updates = ["UPDATE a SET v = 'y', id = id + 2", "UPDATE a SET d = NULL", "UPDATE j SET j = '{\"k\": 1}', v = v + 1"]
    database.execute(partial, *updates, "SET SESSION binlog_transaction_compression = ON", "UPDATE a SET v = 'z'")
    database.execute("INSERT INTO a VALUES (9, '', 9)", "UPDATE a SET v = 'plain' WHERE id = 9")
    events = read(database, start, known)
    both = [(3, "y", 1), (4, "y", 2), (3, "y", None), (4, "y", None), (3, "z", None), (4, "z", None)]
    wanted = [(Op.UPDATE, *row) for row in both] + [(Op.INSERT, 9, "", 9), (Op.UPDATE, 9, "plain", 9)]
    assert [(op, *row.values()) for op, row in rows(events, table(database, "a"))] == wanted
    found = rows(events, table(database, "j"))
    assert found == [(Op.UPDATE, {"id": n, "j": '{"k": 1}', "v": n + 1}) for n in (1, 2)]
    old = [
        row["id"] for batch in batches(events, table(database, "a")) if batch.before for row in batch.before.to_pylist()
    ]
    assert old[:2] == [1, 2]


def test_anonymous_transactions_leave_no_gtids(private_mysql80: PrivateServer) -> None:
    server = private_mysql80("--gtid-mode=OFF", "--enforce-gtid-consistency=OFF")
    with fresh_database(server) as database:
        database.execute("CREATE TABLE a (id INT PRIMARY KEY)", "FLUSH BINARY LOGS")
        start, known = log_end(database), schemas(database, "a")
        database.execute("INSERT INTO a VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO a VALUES (2)")
        events = read(database, start, known)
        assert [row["id"] for _, row in rows(events)] == [1, 2]
        assert all("gtid" not in json.loads(e.position) for e in events if isinstance(e, Checkpoint))
