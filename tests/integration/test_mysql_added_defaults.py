r"""ADD COLUMN while live: rows that are there show the source's value at every sink, or the table halts by name.

Each definition is added to one table with rows; the backslashes below are the servers' own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from syncd.model import Ddl, SchemaChange, Target
from syncd.sinks.clickhouse import ClickHouseSink
from syncd.spi import Sink
from syncd.testing.contracts.sink_kit import ACT, INSERT, Writer, made
from syncd.testing.sinks import ArrivalSink, SqliteSink
from tests.integration.log_tools import changes, log_end, read, schema, schemas
from tests.integration.mysql_tools import opened, schema_of, whole
from tests.services.database import Database

KEPT = [
    *["INT", "INT DEFAULT 7", "INT NOT NULL", "INT DEFAULT '-3'", "TINYINT(1) NOT NULL DEFAULT TRUE", "INT DEFAULT +5"],
    *["BIGINT UNSIGNED DEFAULT 18446744073709551615", "INT DEFAULT NULL", "INT(5) ZEROFILL DEFAULT 7"],
    *["DECIMAL(10,2) DEFAULT 1.5", "DECIMAL(10,2) DEFAULT '-1.50'", "DECIMAL(40,3) DEFAULT 7", "DECIMAL NOT NULL"],
    *["DOUBLE DEFAULT 0.1", "FLOAT DEFAULT 0.1", "FLOAT DEFAULT '3.14'", "DOUBLE DEFAULT -123456.789012"],
    *["FLOAT(7,2) DEFAULT 3", "DOUBLE NOT NULL", "FLOAT DEFAULT 16777217", "DOUBLE DEFAULT 1.005"],
    *["BIT(5) DEFAULT b'101'", "BIT(5) DEFAULT 6", "BIT(3) NOT NULL"],
    *["CHAR(5) DEFAULT 'a  '", "VARCHAR(5) DEFAULT 'a  '", "CHAR(5) DEFAULT ''", "VARCHAR(9) DEFAULT 5"],
    *[
        "VARCHAR(9) NOT NULL",
        "VARCHAR(9) DEFAULT 'it''s'",
        r"VARCHAR(9) DEFAULT 'a\nb\'\"\\\q'",
        "VARCHAR(9) DEFAULT 'ü€'",
    ],
    *[r"VARCHAR(9) DEFAULT 'a\%b\_'", r"VARCHAR(9) DEFAULT 'a\0\Zb'", "VARCHAR(9) DEFAULT 'x''41'''", "TEXT NOT NULL"],
    *["VARCHAR(9) CHARACTER SET latin1 DEFAULT 'ÿ'", "VARCHAR(9) DEFAULT '0x41'", "VARCHAR(9) DEFAULT \"b'1'\""],
    *[
        "BINARY(4) NOT NULL",
        "BINARY(4) DEFAULT 'a'",
        "BINARY(4)",
        "VARBINARY(10) DEFAULT '0x41'",
        "VARBINARY(4) NOT NULL",
    ],
    *["VARBINARY(4) DEFAULT x'4100'", "BINARY(3) DEFAULT X'4a'", "VARBINARY(9) DEFAULT 'a  '", "BLOB NOT NULL"],
    *["CHAR(3) CHARACTER SET binary DEFAULT 'a'", r"VARBINARY(9) DEFAULT 'x\0y'"],
    *["ENUM('red','blue') DEFAULT 'blue'", "ENUM('red','blue') NOT NULL", "ENUM('a ','b') DEFAULT 'a'"],
    *["ENUM('red','blue')", "ENUM('it''s','grün') DEFAULT 'grün'", "ENUM('it''s','b') NOT NULL"],
    *["SET('a','b','c') DEFAULT 'a,c'", "SET('a','b') DEFAULT ''", "SET('a','b') NOT NULL"],
    *["YEAR DEFAULT 1999", "YEAR DEFAULT '2024'", "YEAR NOT NULL", "DATE DEFAULT '2020-02-29'", "TIME NOT NULL"],
    *["DATETIME DEFAULT '2020-01-01 00:00:01'", "DATETIME(3) DEFAULT '2020-01-02'", "DATE DEFAULT '1900-01-01'"],
    *["DATETIME(6) DEFAULT '2020-01-01 00:00:00.123456'", "DATETIME(4) NOT NULL DEFAULT '2020-01-01 00:00:00.25'"],
    *["TIME DEFAULT '-838:59:59'", "TIME(2) DEFAULT '10:00:00.7'", "TIME DEFAULT '100:00:00'"],
]
IN_ZONE = [
    "TIMESTAMP NULL DEFAULT '2020-01-01 12:00:00'",
    "TIMESTAMP(3) NOT NULL DEFAULT '2020-01-01 03:00:00.5'",
    "DATETIME DEFAULT '2020-01-01 12:00:01'",
]
HALTS = [
    *["INT DEFAULT 007", "INT DEFAULT 1e2", "INT DEFAULT 1.4", "INT DEFAULT ' 7'", "INT DEFAULT -0"],
    *["DECIMAL(10,2) DEFAULT 1.005", "DECIMAL(10,2) DEFAULT 1e2", "DECIMAL(5,1) DEFAULT .5", "DOUBLE DEFAULT 1e2"],
    *["FLOAT(7,2) DEFAULT 1.005", "DOUBLE DEFAULT 0.12345678901234567", "FLOAT DEFAULT -0.0", "BIT(8) DEFAULT 'a'"],
    *["VARCHAR(10) DEFAULT x'41'", "VARCHAR(9) DEFAULT 1e2", "VARCHAR(9) DEFAULT 007", "VARCHAR(9) DEFAULT 1.50"],
    *["VARBINARY(9) DEFAULT 7", "VARBINARY(9) DEFAULT 'ü'", "VARCHAR(9) DEFAULT b'1000001'"],
    *["VARCHAR(9) DEFAULT 'a' 'b'", "VARCHAR(9) DEFAULT _latin1'a'", "DOUBLE DEFAULT TRUE COMMENT 'x' DEFAULT 1e1"],
    *["ENUM('red','blue') DEFAULT 'RED'", "ENUM('a ','b') DEFAULT 'a '", "SET('a','b','c') DEFAULT 'b,a'"],
    *[
        "SET('a','b') DEFAULT 'a,a'",
        "YEAR DEFAULT 99",
        "YEAR DEFAULT '70'",
        "YEAR DEFAULT '0'",
        "SET('a','b') DEFAULT 'A'",
    ],
    *["DATETIME DEFAULT '2020-01-01 00:00:00.6'", "DATETIME(3) DEFAULT '2020-01-01 00:00:00.0006'"],
    *["TIME DEFAULT '10:00:00.7'", "TIME DEFAULT '10:00'", "TIME DEFAULT 100", "TIME DEFAULT '1 10:00:00'"],
    *[
        "DATE DEFAULT '20200101'",
        "DATE DEFAULT 20200101",
        "DATE DEFAULT '20-1-1'",
        "DATETIME DEFAULT '2020-01-01T00:00:00'",
    ],
    *["TIMESTAMP NULL DEFAULT '2020-01-01 12:00:00'"],
]
MYSQL_HALTS = ["INT DEFAULT x'41'", "VARCHAR(3) DEFAULT 'abc  '"]
"""What MariaDB refuses, or has no such type."""
BINARY_CLIENT = ["VARCHAR(9) CHARACTER SET latin1 DEFAULT 'ü'"]


def added(database: Database, prefix: str, definitions: list[str], *session: str) -> dict[str, str]:
    """Each definition as a column of its own; column name -> definition."""
    names = {f"{prefix}{number}": definition for number, definition in enumerate(definitions)}
    alters = [f"ALTER TABLE t ADD COLUMN {name} {definition}" for name, definition in names.items()]
    database.execute("SET SESSION sql_mode = 'STRICT_TRANS_TABLES'", *session, *alters)
    return names


@pytest.fixture(params=["mariadb_database", "mysql9_database"])
def database(request: pytest.FixtureRequest) -> Database:
    made_: Database = request.getfixturevalue(request.param)
    made_.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20)) DEFAULT CHARSET=utf8mb4")
    made_.execute("INSERT INTO t VALUES (1, 'x'), (2, NULL)")
    return made_


@pytest.mark.chdb
def test_old_rows_show_the_sources_value_or_the_table_halts(database: Database, tmp_path: Path) -> None:
    start, known = log_end(database), schemas(database, "t")
    names = added(database, "k", KEPT) | added(database, "z", IN_ZONE, "SET time_zone = '+05:00'")
    never = HALTS if database.server.name == "MariaDB" else HALTS + MYSQL_HALTS
    halts = added(database, "h", never) | added(database, "b", BINARY_CLIENT, "SET NAMES binary")
    if database.server.name == "MariaDB":
        halts |= added(database, "n", ["VARCHAR(9) DEFAULT ''"], "SET sql_mode = 'EMPTY_STRING_IS_NULL'")
    present = schema(database, "t")
    events = read(database, start, known, describe=lambda of: present)
    wanted = dict.fromkeys(names, Ddl.ALTER) | dict.fromkeys(halts, Ddl.OTHER)
    told = zip((names | halts).items(), changes(events), strict=True)
    wrong = {definition: change.kind for (name, definition), change in told if change.kind is not wanted[name]}
    assert not wrong

    last = changes(events)[len(names) - 1]
    with opened(database, tmp_path) as source:
        truth = whole(source, schema_of(source, database)).select(["id", *names])
    for sink in (
        made(ClickHouseSink, ClickHouseSink.Options(url=f"chdb://{tmp_path}/engine", fsync=False), tmp_path),
        made(ArrivalSink, SqliteSink.Options(path=tmp_path / "copy.db"), tmp_path),
    ):
        copy = copied(sink, Target(known[last.table], "shop", "t"), last)
        for name, definition in names.items():
            assert copy[name].to_pylist() == truth[name].to_pylist(), (sink, definition)


def copied(sink: Sink, target: Target, change: SchemaChange) -> pa.Table:
    """The sink's table after the columns came to rows that were there, in the order of the key."""
    sink.open()
    try:
        sink.prepare(target)
        Writer(sink, target).write((INSERT, 10, (1, "x")), (INSERT, 11, (2, None)))
        after = replace(target, schema=change.schema)
        sink.apply(after, replace(change, kind=Ddl.ALTER), ACT)
        return pa.Table.from_batches(list(sink.scan(after, None, None))).sort_by("id")
    finally:
        sink.close()
