"""Tables as the source tells them: types, keys, twins, defaults, and everything that is refused, by name."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from syncd.model import Index, IndexPart, TableId, TableSchema
from syncd.sources.mysql.binlog.seq import file_number, make
from syncd.sources.mysql.place import log_end
from syncd.spi import Later, Named
from tests.integration.mysql_tools import found, opened, schema_of, whole
from tests.services.database import Database


def test_columns_defaults_and_comments(database: Database, tmp_path: Path) -> None:
    database.execute(
        "CREATE TABLE t (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY COMMENT 'the id', "
        "a VARCHAR(20) NOT NULL DEFAULT 'it''s \\\\ x', b INT DEFAULT 7, c DECIMAL(5,2) DEFAULT -1.5, d INT, "
        "e DATETIME DEFAULT CURRENT_TIMESTAMP, f INT GENERATED ALWAYS AS (b + 1) STORED, "
        "g ENUM('x','y') DEFAULT 'y', h VARCHAR(9) DEFAULT '', i BIT(3) DEFAULT b'101') COMMENT 'orders'"
    )
    with opened(database, tmp_path) as source:
        one = found(source, database)
    schema = one.schema
    assert one.refusals == ()
    assert (schema.table, schema.key, schema.key_from, schema.comment) == (
        TableId(database.name, "t"),
        ("id",),
        "primary",
        "orders",
    )
    defaults = {c.name: c.default for c in schema.columns if c.default is not None}
    assert defaults == {"a": "it's \\ x", "b": "7", "c": "-1.50", "g": "y", "h": "", "i": "b'101'"}
    assert [c.nullable for c in schema.columns] == [False, False, *[True] * 8]
    assert schema.column("id").comment == "the id"
    assert schema.column("id").type == pa.uint64()
    assert schema.column("f").type == pa.int32()
    assert schema.column("a").charset == "utf8mb4"
    assert schema.column("f").generated.endswith("STORED")
    assert [c.filled for c in schema.columns if c.filled] == ["AUTO_INCREMENT", "DEFAULT CURRENT_TIMESTAMP"]
    assert TableSchema.load(schema.dump()) == schema


def test_indexes_expressions_and_what_is_made_later(database: Database, tmp_path: Path) -> None:
    database.execute(
        "CREATE TABLE p (id INT PRIMARY KEY)",
        "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(40) NOT NULL, b TEXT, p INT, "
        "`o`` (dd` VARCHAR(50) AS (CONCAT(a, ' (it''s)')) VIRTUAL COMMENT 'DEFAULT (1)', "
        "m DATETIME(3) DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), "
        "UNIQUE u (a, p), KEY k (b(7), a DESC) COMMENT 'it''s', FULLTEXT f (b), "
        "CONSTRAINT c FOREIGN KEY (p) REFERENCES p (id)) COLLATE utf8mb4_bin",
        "CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.p = 1",
    )
    with opened(database, tmp_path) as source:
        one = found(source, database)
    schema = one.schema
    by_name = {index.name: index for index in schema.indexes}
    assert by_name["u"] == Index("u", (IndexPart("a"), IndexPart("p")), "unique")
    assert by_name["k"] == Index("k", (IndexPart("b", 7), IndexPart("a", 0, descending=True)), "", "it's")
    assert by_name["f"] == Index("f", (IndexPart("b"),), "fulltext")
    assert {*by_name} - {"u", "k", "f"} == {"c"}  # the server made one for the foreign key
    assert schema.column("m").filled == "DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3)"
    assert (schema.collation, schema.partitions) == ("utf8mb4_bin", "")
    table, other = (TableId(database.name, name) for name in "tp")
    key, trigger = one.later
    named = (Named(table, "p"), ") REFERENCES ", Named(other), " (", Named(other, "id"))
    assert key == Later(("ALTER TABLE ", Named(table), " ADD CONSTRAINT `c` FOREIGN KEY (", *named, ")"))
    begin, *names, body = trigger.pieces
    assert names == [Named(table, beside="tr"), " BEFORE INSERT ON ", Named(table)]
    assert (begin, body) == ("CREATE DEFINER=`root`@`127.0.0.1` TRIGGER ", " FOR EACH ROW SET NEW.p = 1")
    # The words are good for making the column again.
    odd = schema.column("o` (dd")
    database.execute(f"CREATE TABLE again (a VARCHAR(40), o VARCHAR(50) GENERATED ALWAYS AS {odd.generated})")
    database.execute("INSERT INTO again (a) VALUES ('x')")
    assert database.query("SELECT o FROM again") == [("x (it's)",)]
    assert TableSchema.load(schema.dump()) == schema


def test_checks_are_made_later(database: Database, tmp_path: Path) -> None:
    """Those of columns, too, and good for making them again. MySQL has none before 8.0.16."""
    columns = "id INT PRIMARY KEY, n INT{}, `o`` k` VARCHAR(20) COMMENT 'CHECK (n)'"
    big = "CONSTRAINT big CHECK (n < 9 OR `o`` k` <> 'it''s (')"
    database.execute(f"CREATE TABLE t ({columns.format(' CHECK (n > 0)')}, {big})")
    ((_, shown),) = database.query("SHOW CREATE TABLE t")
    with opened(database, tmp_path) as source:
        first = found(source, database).later
        database.execute("DROP TABLE t", f"CREATE TABLE again ({columns.format('')})")
        for later in first:
            words = (p if isinstance(p, str) else f"`{(p.column or 'again').replace('`', '``')}`" for p in later.pieces)
            database.execute("".join(words))
        second = found(source, database, "again").later
    assert len(first) == shown.replace("'CHECK", "").count("CHECK")
    assert {conditions(later) for later in first} == {conditions(later) for later in second}
    assert {name.column for later in first for name in later.pieces[1:] if isinstance(name, Named)} <= {"n", "o` k", ""}


def conditions(later: Later) -> str:
    """What is behind the table's name, and that of the constraint."""
    text = "".join(p if isinstance(p, str) else p.column for p in later.pieces)
    return text.partition(" CHECK ")[2]


def test_the_counter_is_set_at_the_cut_over(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY) AUTO_INCREMENT = 77")
    with opened(database, tmp_path) as source:
        (later,) = found(source, database).later
    table = Named(TableId(database.name, "t"))
    assert later == Later(("ALTER TABLE ", table, " AUTO_INCREMENT = 77"), needs=("id",))


def test_partitions_and_computed_defaults(database: Database, tmp_path: Path) -> None:
    database.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, d VARCHAR(9) DEFAULT (CONCAT('a', CHAR(39)))) "
        "PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE)"
    )
    with opened(database, tmp_path) as source:
        schema = schema_of(source, database)
    database.execute(
        f"CREATE TABLE again (id INT PRIMARY KEY, d VARCHAR(9) {schema.column('d').filled}) " + schema.partitions
    )
    database.execute("INSERT INTO again (id) VALUES (1)")
    assert database.query("SELECT d FROM again") == [("a'",)]
    assert schema.partitions.startswith("PARTITION BY RANGE")


def test_cascades_that_the_log_does_not_show(database: Database, tmp_path: Path) -> None:
    child = "CREATE TABLE {} (id INT PRIMARY KEY, p INT, CONSTRAINT k{} FOREIGN KEY (p) REFERENCES p (id) {})"
    acts = {"c": "ON DELETE CASCADE", "n": "ON DELETE RESTRICT ON UPDATE SET NULL", "r": "ON DELETE NO ACTION"}
    database.execute("CREATE TABLE p (id INT PRIMARY KEY)", *(child.format(t, t, act) for t, act in acts.items()))
    with opened(database, tmp_path) as source:
        refused = {name: found(source, database, name).refusals for name in "pcnr"}
    with opened(database, tmp_path, policy={"cascades": "ignore"}) as source:
        warned = {name: [f.text for f in found(source, database, name).findings] for name in "pcnr"}
        assert found(source, database, "c").refusals == ()
    if logs_cascades(database):
        assert not any(refused.values())
        assert not any(warned.values())
        return
    assert [name for name, reasons in refused.items() if reasons] == ["c", "n"]
    assert refused["c"][0].startswith("foreign key kc ON DELETE CASCADE changes its rows without a trace in the log")
    assert refused["n"][0].startswith("foreign key kn ON UPDATE SET NULL ")
    assert [name for name, texts in warned.items() if texts] == ["c", "n"]


def logs_cascades(database: Database) -> bool:
    """Asked of the log itself."""
    database.execute("INSERT INTO p VALUES (1)", "INSERT INTO c VALUES (1, 1)", "FLUSH BINARY LOGS")
    database.execute("DELETE FROM p")
    file = database.query("SHOW BINARY LOGS")[-1][0]
    events = [row[2] for row in database.query(f"SHOW BINLOG EVENTS IN '{file}'")]
    return len([event for event in events if event.lower().startswith("delete_rows")]) == 2


@pytest.mark.parametrize(
    ("definition", "key", "key_from"),
    [
        ("a INT, b INT, PRIMARY KEY (b, a)", ("b", "a"), "primary"),
        ("a INT NOT NULL, b INT, UNIQUE (b), UNIQUE (a)", ("a",), "unique"),
        ("a INT NOT NULL, b INT NOT NULL, UNIQUE (a, b), UNIQUE zz (b)", ("b",), "unique"),
        ("a INT, b INT, UNIQUE (a)", (), ""),
        ("a VARBINARY(90) NOT NULL, UNIQUE (a(5))", (), ""),
        ("a INT, KEY (a)", (), ""),
    ],
)
def test_the_key(database: Database, tmp_path: Path, definition: str, key: tuple[str, ...], key_from: str) -> None:
    database.execute(f"CREATE TABLE t ({definition})")
    with opened(database, tmp_path) as source:
        schema = schema_of(source, database)
    assert (schema.key, schema.key_from) == (key, key_from)


def test_twins_of_text_keys(database: Database, tmp_path: Path) -> None:
    database.execute(
        "CREATE TABLE t (a VARCHAR(9) COLLATE utf8mb4_general_ci, b INT, c VARBINARY(9), d CHAR(3) CHARACTER SET ascii "
        "COLLATE ascii_bin, PRIMARY KEY (a, b, c, d), e VARCHAR(9) COLLATE utf8mb4_general_ci)"
    )
    with opened(database, tmp_path) as source:
        schema = schema_of(source, database)
    assert schema.identity == ("_key_a", "b", "c", "_key_d")
    assert [(c.name, c.type, c.normal_of) for c in schema.columns[-2:]] == [
        ("_key_a", pa.binary(), "a"),
        ("_key_d", pa.binary(), "d"),
    ]


REFUSED = [
    ("id INT PRIMARY KEY, v GEOMETRY", "column v: type geometry"),
    ("id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET gbk", "column v: character set gbk"),
    ("id FLOAT PRIMARY KEY", "key column id: float"),
    ("id ENUM('a','') PRIMARY KEY", "key column id: its ENUM's member '' and the server's error value are one text"),
    (
        "id VARCHAR(9) COLLATE utf8mb4_swedish_ci PRIMARY KEY",
        "key column id: the order of collation utf8mb4_swedish_ci",
    ),
    ("id VARCHAR(9) CHARACTER SET latin1 COLLATE latin1_german2_ci PRIMARY KEY", "latin1_german2_ci"),
]


@pytest.mark.parametrize(("definition", "said"), REFUSED)
def test_refusals_name_the_column(database: Database, tmp_path: Path, definition: str, said: str) -> None:
    database.execute(f"CREATE TABLE t ({definition})")
    with opened(database, tmp_path) as source:
        (refusal,) = found(source, database).refusals
    assert said in refusal


def test_a_foreign_collation_is_refused_in_a_key_only(database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9) COLLATE utf8mb4_swedish_ci)")
    with opened(database, tmp_path) as source:
        assert found(source, database).refusals == ()


def test_mariadb_only_types_are_refused(mariadb_database: Database, tmp_path: Path) -> None:
    mariadb_database.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, u UUID, i INET6, c VARCHAR(99) COMPRESSED)",
        "CREATE TABLE v (id INT PRIMARY KEY) WITH SYSTEM VERSIONING",
        "CREATE SEQUENCE s",
    )
    with opened(mariadb_database, tmp_path) as source:
        assert [r.split(":")[0] for r in found(source, mariadb_database).refusals] == [
            "column u",
            "column i",
            "column c",
        ]
        assert "system versioned" in found(source, mariadb_database, "v").refusals[0]
        assert "sequence" in found(source, mariadb_database, "s").refusals[0]


def test_views_engines_and_partitions(database: Database, tmp_path: Path) -> None:
    database.execute(
        "CREATE TABLE t (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 3",
        "CREATE TABLE m (id INT PRIMARY KEY) ENGINE = MyISAM",
        "CREATE VIEW w AS SELECT * FROM t",
        "CREATE TABLE e (k ENUM('a','b') PRIMARY KEY)",
    )
    with opened(database, tmp_path) as source:
        tables = {f.schema.table.name: f for f in source.tables(lambda t: t.database == database.name)}
    assert list(tables) == ["e", "m", "t", "w"]
    assert tables["t"].refusals == () == tables["t"].findings
    assert "view" in tables["w"].refusals[0]
    assert tables["m"].findings[0].level == "warning"
    assert "ENGINE = InnoDB" in tables["m"].findings[0].todo
    assert "one chunk" in tables["e"].findings[0].text


def test_the_version_is_a_head_with_no_ddl_after_it(database: Database, tmp_path: Path) -> None:
    """A table is altered over and over: the columns found are always those of the log at the version found."""
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    places: list[tuple[int, int]] = []
    stop = threading.Event()

    def alter() -> None:
        with database.connect() as connection, connection.cursor() as cursor:
            for n in range(1, 60):
                if stop.is_set():
                    return
                cursor.execute(f"ALTER TABLE t ADD COLUMN c{n} INT")
                end = log_end(connection)
                places.append((make(0, file_number(end.file), end.pos), n))
                time.sleep(0.01)

    altering = threading.Thread(target=alter)
    altering.start()
    seen: list[tuple[int, int]] = []
    try:
        with opened(database, tmp_path) as source:
            while altering.is_alive():
                schema = schema_of(source, database)
                seen.append((schema.version, len(schema.columns) - 1))
    finally:
        stop.set()
        altering.join()
    assert len({count for _, count in seen}) > 3
    for version, count in seen:
        # the log's end after the n-th ALTER: whoever reads at or behind it has n columns, whoever reads before it less
        assert count == max((n for place, n in places if place <= version), default=0)


def test_system_tables_are_not_offered(database: Database, tmp_path: Path) -> None:
    with opened(database, tmp_path) as source:
        assert {f.schema.table.database for f in source.tables(lambda t: "mysql" in t.database)} == set()


@pytest.mark.mariadb
def test_a_table_beside_one_whose_name_differs_in_its_case_alone(mariadb_database: Database, tmp_path: Path) -> None:
    """MariaDB's information_schema takes their names for one."""
    database = mariadb_database
    database.execute(
        "CREATE TABLE t (id INT PRIMARY KEY)",
        "CREATE TABLE T (Id BIGINT, x INT, PRIMARY KEY (Id, x))",
        "CREATE TABLE other (id INT PRIMARY KEY)",
    )
    with opened(database, tmp_path) as source:
        for name in "tT":
            names = {name, "other"}
            one, two = source.tables(lambda t: t.database == database.name and t.name in names)  # noqa: B023
            assert {one.schema.table.name, two.schema.table.name} == names
        assert {len(schema_of(source, database, name).columns) for name in ("t", "other")} == {1}
        assert [*schema_of(source, database, "T").key] == ["Id", "x"]
        assert whole(source, schema_of(source, database)).num_rows == 0
