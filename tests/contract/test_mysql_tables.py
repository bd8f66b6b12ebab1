"""Tables of one server made at another as docs/sinks/mysql.md says, and their rows right through load and changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from syncd.errors import BatchError
from syncd.model import ChangeBatch, Chunk, Column, Ddl, Op, SchemaChange, Target
from syncd.sinks.mysql import MySQLSink, OceanBaseSink
from syncd.sinks.mysql.present import spelled
from syncd.sinks.mysql.types import canonical
from syncd.spi import Sink, Source, Ticket
from syncd.testing.contracts.sink import made
from syncd.testing.contracts.sink_kit import ACT, Writer, altered, change, with_columns
from syncd.testing.servers import Server
from tests.contract.test_mysql_sinks import ask
from tests.integration.mysql_tools import opened, schema_of
from tests.services.database import Database, fresh_database

PAIRS = [
    pytest.param(
        source, sink, marks=[getattr(pytest.mark, name) for name in sorted({source, sink})], id=f"{source}-{sink}"
    )
    for source, sink in (
        ("mysql9", "mariadb"),
        ("mariadb", "mysql9"),
        ("mysql9", "mysql80"),
        ("mysql9", "oceanbase"),
    )
]
_EVERYWHERE = {
    "sql_mode": "'ANSI_QUOTES,PIPES_AS_CONCAT,IGNORE_SPACE'",
    "time_zone": "'+05:30'",
    "autocommit": "0",
    "unique_checks": "0",
    "sql_safe_updates": "1",
    "sql_select_limit": "1",
}
_NOT_OCEANBASE = {
    "character_set_server": "latin1",
    "collation_server": "latin1_bin",
    "init_connect": "\"SET NAMES latin1, SESSION sql_mode = 'ANSI_QUOTES'\"",
    "completion_type": "CHAIN",
    "default_storage_engine": "MyISAM",
    "innodb_strict_mode": "0",
    "sql_big_selects": "0",
    "max_join_size": "1",
    "explicit_defaults_for_timestamp": "0",
}
_MYSQL = {
    "transaction_isolation": "'SERIALIZABLE'",
    "transaction_read_only": "1",
    "sql_require_primary_key": "1",
}
_TX = {"tx_isolation": "'SERIALIZABLE'", "tx_read_only": "1"}
HOSTILE = {
    "mysql": _EVERYWHERE | _NOT_OCEANBASE | _MYSQL,
    "mariadb": _EVERYWHERE | _NOT_OCEANBASE | _TX,
    "oceanbase": _EVERYWHERE | _TX | {"character_set_server": "binary"},
}
"""Defaults of new sessions that would spoil what is written, or refuse it."""

TABLE = r"""CREATE TABLE t (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT COMMENT 'it''s \\ "the" id`s',
  day DATE NOT NULL DEFAULT '2024-02-29',
  price DECIMAL(12,4) NOT NULL DEFAULT -1.5,
  n INT NULL DEFAULT 7 COMMENT 'ß汉🙂\nsecond line',
  word VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci NOT NULL DEFAULT 'é''\\',
  code CHAR(4) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT '',
  raw VARBINARY(8) NULL DEFAULT 'a\\b',
  bits BIT(5) NULL DEFAULT b'101',
  kind ENUM('a','it''s','c\\d') CHARACTER SET utf8mb4 NOT NULL DEFAULT 'it''s',
  many SET('x','y') CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT 'x,y',
  made DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  changed TIMESTAMP(6) NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  note TEXT CHARACTER SET utf8mb4 NULL COMMENT 'no default',
  total DECIMAL(14,4) GENERATED ALWAYS AS (price * n) STORED COMMENT 'stored',
  label VARCHAR(60) CHARACTER SET utf8mb4 GENERATED ALWAYS AS (CONCAT(kind, '\\''', n)) VIRTUAL,
  words VARCHAR(40) CHARACTER SET utf8mb4 DEFAULT (CONCAT('a\\', 'b''')),
  PRIMARY KEY (id, day), KEY by_total (total), KEY by_label (label(10))
) COMMENT 'orders of 汉, it''s \\ all' DEFAULT CHARACTER SET latin1 COLLATE latin1_bin
PARTITION BY RANGE (YEAR(day)) (
  PARTITION `p 1` VALUES LESS THAN (2000), PARTITION p2 VALUES LESS THAN (2030))"""
ROWS = r"""INSERT INTO t (id, day, price, n, word, code, raw, kind, changed, note) VALUES
  (1, '1999-12-31', 10.5, 3, 'ÿ''\\', 'ab', x'00ff27', 'c\\d', '2020-01-01 10:00:00.000001', 'it''s \\ ß汉🙂'),
  (1, '2000-01-01', -0.0001, NULL, '', NULL, NULL, 'a', NULL, NULL),
  (2, '2029-12-31', 99999999.9999, 9, 'x', '', '', 'a', '2020-01-01', ''),
  (3, '2024-02-29', 1, 1, 'y', 'z', 'z', 'a', '2020-01-01', '')"""
CHANGES = (
    "SET time_zone = '+00:00'",
    r"UPDATE t SET price = price - 1, n = id, word = 'ü', kind = 'c\\d', changed = '2002-02-02 02:02:02.000002'",
    "UPDATE t SET day = '1990-01-01', changed = changed WHERE id = 2",
    "DELETE FROM t WHERE id = 3",
)


@pytest.fixture
def source(request: pytest.FixtureRequest) -> Iterator[Database]:
    with fresh_database(request.getfixturevalue(request.param)) as database:
        database.execute("SET NAMES utf8mb4", "SET time_zone = '+00:00'", TABLE, ROWS)
        yield database


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """With a database of the user `sync`, who has the documented grants, and defaults that are hostile to it."""
    found: Server = request.getfixturevalue(request.param)
    wanted = HOSTILE[found.flavour]
    before = ask(found, "SELECT " + ", ".join(f"QUOTE(@@GLOBAL.{name})" for name in wanted))[0]
    grants = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP"
    made = ["DROP DATABASE IF EXISTS shop", "CREATE DATABASE shop", "CREATE USER sync@'127.0.0.1'"]
    ask(found, *made, f"GRANT {grants} ON shop.* TO sync@'127.0.0.1'")
    try:
        ask(found, *(f"SET GLOBAL {name} = {value}" for name, value in wanted.items()))
        yield found
    finally:
        ask(found, *(f"SET GLOBAL {n} = {_back(v)}" for n, v in zip(wanted, before, strict=True)))
        ask(found, "DROP USER sync@'127.0.0.1'", "DROP DATABASE shop")


def _back(value: str) -> str:
    """A number is no text to every variable."""
    return value[1:-1] if value[1:-1].isdigit() else value


def sink_of(server: Server, folder: Path) -> Sink:
    plugin = OceanBaseSink if server.flavour == "oceanbase" else MySQLSink
    url = f"{plugin.name}://sync@127.0.0.1:{server.port}/"
    sink = made(plugin, plugin.Options.model_validate({"url": url}), folder)
    sink.open()
    return sink


def read(of: Source, target: Target, op: Op, seq: int) -> ChangeBatch:
    """All rows of the source, as if the log had them so."""
    (batch,) = of.scan(target.schema, Chunk(target.schema.table, 0), seq)
    return replace(batch, op=np.full(len(batch), op, np.uint8), seq=np.arange(seq, seq + len(batch), dtype=np.uint64))


def look(server: Server, *statements: str) -> list[tuple[Any, ...]]:
    """Whatever the server's defaults are."""
    session = ["SET sql_mode = '', time_zone = '+00:00', autocommit = 1, sql_select_limit = 1000, sql_safe_updates = 0"]
    if server.flavour != "oceanbase":
        session += ["SET sql_big_selects = 1, completion_type = 0"]
    session += ["SET SESSION TRANSACTION READ WRITE"]
    return ask(server, *session, *statements)


def values(server: Server, database: str, table: str = "t") -> list[tuple[Any, ...]]:
    names = ("word", "code", "kind", "many", "note", "label")
    texts = ", ".join(f"HEX(CONVERT({name} USING utf8mb4))" for name in names)
    plain = "id, day, price, n, HEX(raw), bits + 0, changed, total"
    return look(server, f"SELECT {plain}, {texts} FROM `{database}`.{table} ORDER BY id, day")


def defined(server: Server, database: str) -> dict[str, list[Any]]:
    """Of each column what all servers say alike."""
    sql = (
        "SELECT column_name, column_type, is_nullable, collation_name, column_comment FROM information_schema.columns "
        f"WHERE table_schema = '{database}' AND table_name = 't'"
    )
    return {str(name): [canonical(spelled(str(kind))), *more] for name, kind, *more in look(server, sql)}


def filled(server: Server, database: str) -> tuple[Any, ...]:
    """What a row gets that somebody else writes, as after the cut-over: constant defaults and a computed one, then
    whether the moments are now."""
    table = f"`{database}`.t"
    moments = "made > NOW() - INTERVAL 1 DAY, changed > NOW() - INTERVAL 1 DAY"
    sql = f"SELECT words, id > 3, day, n, word, code, raw, bits + 0, kind, many, {moments} FROM {table}"
    (row,) = look(
        server,
        f"INSERT INTO {table} (price, changed, note) VALUES (1, '2001-01-01', 'filled')",
        f"UPDATE {table} SET price = 2 WHERE note = 'filled'",
        f"{sql} WHERE note = 'filled'",
    )
    look(server, f"DELETE FROM {table} WHERE note = 'filled'")
    return row


def rows_at(sink: Sink, target: Target) -> list[dict[str, Any]]:
    return [row for part in sink.scan(target, None, None) for row in part.to_pylist()]


@pytest.mark.parametrize(("source", "server"), PAIRS, indirect=True)
def test_a_table_with_everything(source: Database, server: Server, tmp_path: Path) -> None:
    """Made, loaded and changed at a server whose defaults are all hostile; then it is like the source's."""
    with opened(source, tmp_path) as of, closing(sink_of(server, tmp_path)) as sink:
        target = Target(schema_of(of, source), "shop", "t", options={"partitions": True})
        found = sink.plan(target).findings
        assert [f for f in found if f.level == "error"] == []
        left_out = [f.text.rpartition(": ")[2] for f in found if "fills these by itself" in f.text]
        assert left_out == (["words"] if server.flavour == "oceanbase" else [])
        sink.prepare(target, 5)
        chunk = Ticket("job/sink/chunk/t", 1, 1)
        sink.write(target, read(of, target, Op.READ, 10), chunk)
        sink.write(target, read(of, target, Op.READ, 10), chunk)
        sink.apply(target, change(Ddl.INDEX, target, 11), ACT)
        assert values(server, "shop") == values(source.server, source.name)
        like_the_source(source, server)
        changes(source, of, sink, target)
        assert values(server, "shop") == values(source.server, source.name)
        assert rows_at(sink, target) == read(of, target, Op.READ, 1).rows.sort_by("id").to_pylist()
        sink.apply(*with_a_text(target), ACT)
        soft(of, sink, replace(target, name="soft", deletes="soft"))
    assert values(server, "shop") == values(source.server, source.name)
    moments = "SELECT id, day, changed FROM {} ORDER BY id, day"
    assert look(server, moments.format("shop.soft")) == look(server, moments.format("shop.t"))


def like_the_source(source: Database, server: Server) -> None:
    known = {row[0] for row in look(server, "SHOW COLLATION")}
    alike = {
        name: [kind, null, collation if not collation or collation in known else other(collation), comment]
        for name, (kind, null, collation, comment) in defined(source.server, source.name).items()
    }
    assert defined(server, "shop") == alike
    there, wanted = filled(server, "shop"), filled(source.server, source.name)
    oceanbase = server.flavour == "oceanbase"
    assert there == ((None, *wanted[1:]) if oceanbase else wanted)
    sql = "SELECT partition_name FROM information_schema.partitions WHERE table_schema = 'shop' AND table_name = 't'"
    assert {name for (name,) in look(server, sql)} == {"p 1", "p2"}
    sql = "SELECT table_name, table_comment, engine FROM information_schema.tables WHERE table_schema = '{}'"
    found = {name: more for name, *more in look(server, sql.format("shop"))}
    ((_, comment, _),) = look(source.server, sql.format(source.name))
    assert found["t"][0] == comment
    assert oceanbase or {engine for _, engine in found.values()} == {"InnoDB"}


def other(collation: str) -> str:
    return "utf8mb4_bin" if collation.endswith("_bin") else "utf8mb4_general_ci"


def changes(source: Database, of: Source, sink: Sink, target: Target) -> None:
    """Values of all columns, a key that moves to another partition, a row for which there is no partition."""
    gone = read(of, target, Op.DELETE, 20)
    source.execute(*CHANGES)
    writer = Writer(sink, target)
    sink.write(target, gone.slice(2, 2), writer.ticket([(Op.DELETE, 23, ())]))
    now = read(of, target, Op.UPDATE, 30)
    sink.write(target, now, writer.ticket([(Op.UPDATE, 33, ())]))
    place = now.rows.schema.get_field_index("day")
    days = pa.array([date(2024, 1, 1), date(2031, 1, 1), date(2025, 1, 1)], pa.date32())
    late = replace(now, rows=now.rows.set_column(place, now.rows.schema.field(place), days))
    with pytest.raises(BatchError) as caught:
        sink.write(target, late, writer.ticket([(Op.INSERT, 43, ())]))
    assert [*caught.value.rows] == [1]
    written = replace(late.take(np.array([0, 2])), op=np.full(2, Op.DELETE, np.uint8))
    assert len(rows_at(sink, target)) == len(now) + len(written)
    sink.write(target, written, writer.ticket([(Op.DELETE, 53, ())]))


def with_a_text(target: Target) -> tuple[Target, SchemaChange]:
    """A column is added whose default the rows that are there get by an UPDATE: their ON UPDATE does not act."""
    text = Column("more", pa.string(), False, "text", "utf8mb4", "utf8mb4_bin", "it's")
    after = replace(target, schema=with_columns(target.schema, *target.schema.columns, text))
    return after, altered(target, after, 60)


def soft(of: Source, sink: Sink, target: Target) -> None:
    """Rows that are marked as deleted are otherwise as they were."""
    sink.prepare(target)
    rows = read(of, target, Op.READ, 70)
    writer = Writer(sink, target, number=9)
    sink.write(target, rows, writer.ticket([(Op.READ, 70, ())]))
    gone = replace(rows, op=np.full(len(rows), Op.DELETE, np.uint8)).slice(0, 1)
    sink.write(target, gone, writer.ticket([(Op.DELETE, 80, ())]))
    sink.apply(target, change(Ddl.TRUNCATE, target, 90), ACT)
    assert rows_at(sink, target) == []
