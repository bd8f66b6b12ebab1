"""The ClickHouse sink on the embedded engine: what the conformance suite cannot know of ClickHouse."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from syncd.errors import BatchError, FatalError, TransientError
from syncd.model import Column, Ddl, TableId, TableSchema, Target
from syncd.sinks.clickhouse import ClickHouseSink
from syncd.sinks.clickhouse.limits import Limits
from syncd.sinks.clickhouse.options import ClickHouseOptions
from syncd.spi import Context
from syncd.testing.contracts.sink_kit import (
    ACT,
    DELETE,
    INSERT,
    ITEMS,
    KEYLESS,
    Writer,
    altered,
    change,
    gone,
    live,
    rows,
    target,
    with_column,
)

pytestmark = pytest.mark.chdb

Opened = Callable[..., ClickHouseSink]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Makes open sinks on one engine; options by name, `policy` apart."""
    made: list[ClickHouseSink] = []

    def make(policy: dict[str, str] | None = None, **given: object) -> ClickHouseSink:
        options = ClickHouseOptions.model_validate({"url": f"chdb://{tmp_path}/engine", "fsync": False, **given})
        sink = ClickHouseSink(options, Context("job/sink", tmp_path, policy=policy or {}))
        made.append(sink)
        sink.open()
        return sink

    yield make
    for sink in made:
        sink.close()


def asked(sink: ClickHouseSink, sql: str) -> str:
    return sink._client.text(sql, doing="asking").strip()


def ordered(sink: ClickHouseSink, sql: str) -> None:
    sink._client.command(sql, doing="ordering")


WRITER = """
import sys
from pathlib import Path
from syncd.sinks.clickhouse import ClickHouseSink
from syncd.testing.contracts.sink_kit import INSERT, Writer, made, target

sink = made(ClickHouseSink, ClickHouseSink.Options(url=sys.argv[1]), Path(sys.argv[2]))
sink.open()
sink.prepare(target())
writer = Writer(sink, target())
first = int(sys.argv[3])
while True:
    at = first + writer.number
    writer.write(*((INSERT, 10 + at, (at * 10_000 + i, "x" * 100, at)) for i in range(10_000)))
    print(at, flush=True)
"""


def test_a_kill_in_the_middle_of_an_insert(opened: Opened, tmp_path: Path) -> None:
    """Guarantee 1: what was acknowledged is there whole; what was not is there whole or not at all."""
    done = -1
    for pause in (0.0, 0.013, 0.031):
        command = [sys.executable, "-c", WRITER, f"chdb://{tmp_path}/engine", str(tmp_path), str(done + 1)]
        env = {**os.environ, "TMPDIR": str(tmp_path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as child:
            assert child.stdout is not None
            for _ in range(3):
                done = int(child.stdout.readline())
            time.sleep(pause)
            child.kill()
            done = max([done, *(int(line) for line in child.stdout.read().split())])
    counts = asked(opened(), "SELECT qty, count() FROM shop.items FINAL GROUP BY qty ORDER BY qty")
    batches = {int(line.split("\t")[0]): int(line.split("\t")[1]) for line in counts.splitlines()}
    assert set(batches) >= set(range(done + 1))
    assert set(batches.values()) == {10_000}


def test_a_second_process_waits_for_the_engine(opened: Opened, tmp_path: Path) -> None:
    opened()
    code = (
        "import sys; from pathlib import Path; from syncd.sinks.clickhouse import ClickHouseSink as S\n"
        "from syncd.testing.contracts.sink_kit import made\n"
        "made(S, S.Options(url=sys.argv[1]), Path('.')).open()"
    )
    command = [sys.executable, "-c", code, f"chdb://{tmp_path}/engine"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "TransientError" in ran.stderr
    assert "another process" in ran.stderr


@pytest.mark.parametrize(("place", "why"), [("", "File exists"), ("/in", "Not a directory")])
def test_a_place_where_no_engine_can_be(tmp_path: Path, place: str, why: str) -> None:
    (tmp_path / "file").touch()
    url = f"chdb://{tmp_path}/file{place}"
    code = "from syncd.sinks.clickhouse.client import Client; from syncd.sinks.clickhouse.options import *; "
    done = subprocess.run(
        [sys.executable, "-c", code + f"Client(ClickHouseOptions(url={url!r})).open()"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"FatalError: {tmp_path}/file{place} cannot be the engine's folder: {why}" in done.stderr


def test_a_second_engine_in_one_process_is_refused(opened: Opened, tmp_path: Path) -> None:
    opened()
    with pytest.raises(FatalError, match="one process"):
        opened(url=f"chdb://{tmp_path}/other")


def test_the_engine_opens_again_after_close(opened: Opened) -> None:
    first = opened()
    first.prepare(target())
    Writer(first, target()).write((INSERT, 10, (1, "a", 1)))
    first.close()
    assert live(opened(), target()) == {1: ("a", 1)}


def test_a_soft_deleted_row_stays_and_is_marked(opened: Opened) -> None:
    sink, soft = opened(), target(deletes="soft")
    sink.prepare(soft)
    Writer(sink, soft).write((INSERT, 10, (1, "a", 5)), (DELETE, 11, (1, "a", 5)))
    assert asked(sink, "SELECT id, name, qty, _deleted, _version FROM shop.items FINAL") == "1\ta\t5\t1\t11"


def test_a_soft_delete_without_the_whole_row_is_refused(opened: Opened) -> None:
    """Else NULLs would take the place of what the row was."""
    sink, soft = opened(), target(deletes="soft")
    sink.prepare(soft)
    writer = Writer(sink, soft)
    writer.write((INSERT, 10, (1, "a", 5)))
    with pytest.raises(BatchError, match="1 of 1"):
        writer.write((DELETE, 11, gone(ITEMS, (1, "a", 5))))


def test_the_view_of_live_rows(opened: Opened) -> None:
    sink = opened(current_views=True)
    sink.prepare(target())
    Writer(sink, target()).write((INSERT, 10, (1, "a", 1)), (INSERT, 11, (2, "b", 1)), (DELETE, 12, (2, "b", 1)))
    assert asked(sink, "SELECT * FROM shop.items_current") == "1\ta\t1"
    after = target(with_column(ITEMS, Column("note", pa.string(), default="x"), 1))
    sink.apply(after, change(Ddl.ALTER, after, 20), ACT)
    assert asked(sink, "SELECT * FROM shop.items_current") == "1\tx\ta\t1"


DATED = TableSchema(
    TableId("shop", "dated"),
    1,
    (
        Column("id", pa.int64(), nullable=False),
        Column("d", pa.date32()),
        Column("t", pa.timestamp("us"), nullable=False),
    ),
    ("id",),
    "primary",
)


def test_a_date_that_the_server_would_change_is_refused(opened: Opened) -> None:
    """Servers before 25 hold 1900 to 2299 and clamp what lies outside without a word."""
    sink, of = opened(), target(DATED)
    sink._limits = Limits((-25_567, 120_529), (-25_567, 120_529))
    sink.prepare(of)
    good, t = datetime(2000, 1, 1), datetime(1899, 12, 31, 23, 59, 59, 999_999)  # noqa: DTZ001
    with pytest.raises(BatchError) as caught:
        Writer(sink, of).write(
            (INSERT, 10, (1, date(1900, 1, 1), good)),
            (INSERT, 11, (2, date(1899, 12, 31), good)),
            (INSERT, 12, (3, date(2299, 12, 31), good)),
            (INSERT, 13, (4, date(9999, 12, 31), good)),
            (INSERT, 14, (5, None, t)),
        )
    assert caught.value.rows[1] == (
        "shop.dated.d: 1899-12-31 is outside of what the server holds, 1900-01-01 to 2299-12-31"
    )
    assert set(caught.value.rows) == {1, 3, 4}
    assert "shop.dated.t: 1899-12-31 23:59:59.999999" in caught.value.rows[4]
    assert set(live(sink, of)) == {1, 3}
    mended = Writer(sink, of, number=1)
    mended.write((DELETE, 15, (2, date(1899, 12, 31), good)), (DELETE, 16, (5, None, t)), (INSERT, 17, (6, None, good)))
    assert live(sink, of)[6] == (None, good)
    assert set(live(sink, of)) == {1, 3, 6}


def test_this_engine_holds_the_years_1_to_9999(opened: Opened) -> None:
    sink, of = opened(), target(DATED)
    sink.prepare(of)
    first, last = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999)  # noqa: DTZ001
    Writer(sink, of).write((INSERT, 10, (1, first.date(), first)), (INSERT, 11, (2, last.date(), last)))
    assert live(sink, of) == {1: (first.date(), first), 2: (last.date(), last)}


def test_names_of_any_characters(opened: Opened) -> None:
    """In the key too, whose names the server writes with escapes; one that no file can have is refused."""
    sink = opened()
    names = ("a`b", "back\\slash", "new\nline", "(a, b)", "tab\t'")
    columns = tuple(Column(name, pa.string(), nullable=False) for name in names)
    of = replace(target(DATED), schema=replace(DATED, columns=columns, key=names), name="it's `a`.\\b")
    for number in range(2):
        sink.prepare(of)
        assert not [f for f in sink.plan(of).findings if f.level == "error"]
        Writer(sink, of, number=number).write((INSERT, 10 + number, tuple("abcde")))
    assert [part.to_pylist() for part in sink.scan(of, None, None)] == [[dict(zip(names, "abcde", strict=True))]]
    dotted = replace(of, name="dotted", schema=replace(of.schema, columns=(*columns, Column("a.b", pa.int64()))))
    sink.prepare(dotted)
    after = replace(dotted, schema=replace(dotted.schema, columns=(*columns, Column("c.d", pa.int64())), version=5))
    with pytest.raises(FatalError, match="`syncd jobs resync` the table"):
        sink.apply(after, altered(dotted, after, 20, ("a.b", "c.d")), ACT)
    with pytest.raises(FatalError, match="give the table a shorter name"):
        sink.prepare(replace(of, name="ü" * 63))


def test_zero_dates_that_become_null_make_columns_nullable(opened: Opened) -> None:
    sink = opened(policy={"zero_date": "null"})
    sink.prepare(target(DATED))
    Writer(sink, target(DATED)).write((INSERT, 10, (1, None, None)))
    assert live(sink, target(DATED)) == {1: (None, None)}


def test_a_null_where_none_may_be_is_refused_by_name(opened: Opened) -> None:
    sink = opened()
    sink.prepare(target(DATED))
    with pytest.raises(BatchError) as caught:
        Writer(sink, target(DATED)).write((INSERT, 10, (1, None, None)))
    assert caught.value.rows == {0: "shop.dated.t: NULL in a column that has none"}


@pytest.mark.parametrize(
    ("table", "difference"),
    [
        ("ENGINE = MergeTree ORDER BY id", "the engine is MergeTree"),
        ("ENGINE = ReplacingMergeTree(_version) ORDER BY id", r"the engine is ReplacingMergeTree\(_version\)"),
        ("ENGINE = ReplacingMergeTree(_version, _deleted) ORDER BY (id, name)", r"ORDER BY is \(id, name\)"),
        ("ENGINE = ReplacingMergeTree(_version, _deleted) ORDER BY id PARTITION BY name", "PARTITION BY uses name"),
    ],
)
def test_a_table_of_another_make_is_named(opened: Opened, table: str, difference: str) -> None:
    sink = opened()
    ordered(sink, "CREATE DATABASE shop")
    columns = "id Int64, name String, qty Nullable(Int64), _version UInt64, _deleted UInt8"
    ordered(sink, f"CREATE TABLE shop.items ({columns}) {table}")
    with pytest.raises(FatalError, match=difference):
        sink.prepare(target())
    assert [f for f in sink.plan(target()).findings if f.level == "error"]


@pytest.mark.parametrize(
    ("column", "fits"),
    [
        ("note Nullable(String)", True),
        ("note String DEFAULT 'x'", True),
        ("note UInt8 ALIAS 1", True),
        ("note String", False),
    ],
)
def test_columns_of_the_targets_own(opened: Opened, column: str, fits: bool) -> None:
    sink = opened()
    sink.prepare(target())
    ordered(sink, f"ALTER TABLE shop.items ADD COLUMN {column}")
    if fits:
        Writer(sink, target()).write((INSERT, 10, (1, "a", 1)))
        assert live(sink, target()) == {1: ("a", 1)}
    else:
        with pytest.raises(FatalError, match="note"):
            Writer(sink, target()).write((INSERT, 10, (1, "a", 1)))


def test_a_column_dropped_by_hand_is_named(opened: Opened) -> None:
    sink = opened()
    sink.prepare(target())
    ordered(sink, "ALTER TABLE shop.items DROP COLUMN qty")
    with pytest.raises(FatalError, match="column qty is missing"):
        Writer(sink, target()).write((INSERT, 10, (1, "a", 1)))


def unmerged(sink: ClickHouseSink) -> None:
    """The table `items`, whose parts are never merged, so that every version stays."""
    sink.prepare(target())
    limits = ", ".join(f"max_bytes_to_merge_at_{m}_space_in_pool = 1" for m in ("max", "min"))
    ordered(sink, f"ALTER TABLE shop.items MODIFY SETTING {limits}")


def refused(sink: ClickHouseSink, of: Target) -> str:
    found = "; ".join(f.text for f in sink.plan(of).findings if f.level == "error")
    if found:
        with pytest.raises(FatalError):
            sink.prepare(of)
    return found


def test_what_plan_refuses(opened: Opened) -> None:
    sink = opened()
    of = target()

    def with_key(**changes: object) -> Target:
        column = replace(ITEMS.columns[0], **changes)  # type: ignore[arg-type]
        return replace(of, schema=replace(ITEMS, columns=(column, *ITEMS.columns[1:])))

    assert "takes NULL" in refused(sink, with_key(nullable=True))
    assert "is double" in refused(sink, with_key(type=pa.float64()))
    assert "PARTITION BY names name" in refused(sink, replace(of, options={"partition_by": "cityHash64(name) % 8"}))
    assert "list" in refused(sink, target(with_column(ITEMS, Column("v", pa.list_(pa.int8())), 1)))
    assert "_version" in refused(sink, target(with_column(ITEMS, Column("_version", pa.int64()), 1)))
    assert "no key" in refused(sink, target(KEYLESS))
    assert refused(sink, replace(of, options={"partition_by": "intDiv(id, 1000)"})) == ""


def test_partitions_of_the_key(opened: Opened) -> None:
    sink, of = opened(), replace(target(), options={"partition_by": "intDiv(id, 10)"})
    sink.prepare(of)
    Writer(sink, of).write(*((INSERT, 10 + i, (i, "x", i)) for i in range(30)))
    assert asked(sink, "SELECT uniq(partition) FROM system.parts WHERE table = 'items' AND active") == "3"
    assert len(live(sink, of)) == 30


def test_names_that_need_quotes(opened: Opened) -> None:
    sink = opened(current_views=True)
    odd = replace(
        ITEMS, columns=(*ITEMS.columns, Column('o`d\'d \\ "c"', pa.string(), comment="it's")), comment="it's \\"
    )
    of = Target(odd, "da`ta'ba\\se", "ta`b'le \\n")
    sink.prepare(of)
    sink.prepare(of)
    Writer(sink, of).write((INSERT, 10, (1, "a", 1, "x")))
    assert rows(sink, of) == [(1, "a", 1, "x")]
    sink.apply(of, change(Ddl.TRUNCATE, of, 20), ACT)
    assert rows(sink, of) == []


def test_versions_use_all_64_bits(opened: Opened) -> None:
    sink = opened()
    sink.prepare(target())
    writer = Writer(sink, target())
    writer.write((INSERT, 2**63 + 5, (1, "new", 1)))
    writer.write((INSERT, 2**63 - 5, (1, "old", 1)))
    assert live(sink, target()) == {1: ("new", 1)}
    sink.apply(target(), change(Ddl.TRUNCATE, target(), 2**63 + 5), ACT)
    assert live(sink, target()) == {1: ("new", 1)}


def test_expired_tombstones_hide_no_rows_in_other_parts(opened: Opened) -> None:
    """The older row lies in a part of its own that no merge has met."""
    sink = opened(expire_rows=1)
    unmerged(sink)
    writer = Writer(sink, target())
    for i in range(3):
        writer.write((INSERT, 10 + i, (i, "x", i)))
    for i in range(2):
        writer.write((DELETE, 20 + i, gone(ITEMS, (i, "x", i))))
    writer.write((INSERT, 30, (1, "again", 1)))
    for below, tombstones in ((20, 2), (21, 1), (100, 0)):
        sink.expire(target(), below)
        assert asked(sink, "SELECT count() FROM shop.items WHERE _deleted = 1") == str(tombstones)
        assert live(sink, target()) == {1: ("again", 1), 2: ("x", 2)}


def test_few_tombstones_stay(opened: Opened) -> None:
    sink = opened(expire_rows=3)
    unmerged(sink)
    writer = Writer(sink, target())
    writer.write((DELETE, 20, gone(ITEMS, (1, "x", 1))), (DELETE, 21, gone(ITEMS, (2, "x", 1))))
    sink.expire(target(), 100)
    assert asked(sink, "SELECT count() FROM shop.items") == "2"
    writer.write((DELETE, 22, gone(ITEMS, (3, "x", 1))))
    sink.expire(target(), 100)
    assert asked(sink, "SELECT count() FROM shop.items") == "0"


def test_a_drop_is_told_and_keeps_the_table(opened: Opened, tmp_path: Path) -> None:
    opened().prepare(target())
    told: list[str] = []
    options = ClickHouseOptions(url=f"chdb://{tmp_path}/engine")
    sink = ClickHouseSink(options, Context("job/sink", tmp_path, log=lambda event, **fields: told.append(event)))
    sink.open()
    try:
        sink.apply(target(), change(Ddl.DROP, target(), 20), ACT)
    finally:
        sink.close()
    assert told == ["target_kept"]


def test_plan_of_a_new_table(opened: Opened) -> None:
    planned = opened(fsync=True).plan(replace(target(), options={"partition_by": "intDiv(id, 1000000)"}))
    assert planned.columns == (
        ("id", "bigint", "Int64", "key"),
        ("name", "varchar(2000)", "String", "UTF-8"),
        ("qty", "bigint", "Nullable(Int64)", ""),
        ("_version", "", "UInt64", "seq of the change"),
        ("_deleted", "", "UInt8", "1: the row is deleted"),
    )
    assert planned.ddl[0] == "CREATE DATABASE IF NOT EXISTS `shop`"
    assert planned.ddl[1] == (
        "CREATE TABLE IF NOT EXISTS `shop`.`items`\n(\n"
        "    `id` Int64 CODEC(Delta, ZSTD(1)),\n    `name` String,\n    `qty` Nullable(Int64),\n"
        "    `_version` UInt64 CODEC(Delta, ZSTD(1)),\n    `_deleted` UInt8,\n"
        "    CONSTRAINT syncd_altered_0 CHECK _version >= 0\n)\n"
        "ENGINE = ReplacingMergeTree(_version, _deleted)\nPARTITION BY intDiv(id, 1000000)\nORDER BY (`id`)\n"
        "SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
    )


def test_check_says_what_the_server_is(opened: Opened) -> None:
    assert [f.level for f in opened().check()] == ["ok", "ok", "ok"]


def test_the_server_itself_refuses_rows_older_than_a_truncate(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zombie that has looked at the table before the act, and sends its insert after it."""
    sink = opened()
    sink.prepare(target())
    writer = Writer(sink, target())
    frozen = sink._still_fits(target())
    sink.apply(target(), change(Ddl.TRUNCATE, target(), 20), ACT)
    monkeypatch.setattr(sink, "_still_fits", lambda of: frozen)
    with pytest.raises(TransientError, match="469"):
        writer.write((INSERT, 10, (1, "late", 1)), (INSERT, 21, (2, "new", 1)))
    monkeypatch.undo()
    writer.write((INSERT, 10, (1, "late", 1)), (INSERT, 21, (2, "new", 1)))
    assert live(sink, target()) == {2: ("new", 1)}


@pytest.mark.parametrize("page_rows", [1, 2, 3, 7, 100])
def test_pages_of_a_scan_leave_nothing_out(opened: Opened, page_rows: int) -> None:
    """Whatever versions and tombstones lie between them."""
    sink = opened(page_rows=page_rows)
    unmerged(sink)
    writer = Writer(sink, target())
    for seq in (10, 30, 50):
        writer.write(*((INSERT, seq + i, (i, f"v{seq}", i)) for i in range(10)))
    writer.write(*((DELETE, 70 + i, gone(ITEMS, (i, "x", i))) for i in range(0, 10, 3)))
    assert rows(sink, target()) == [(i, "v50", i) for i in range(10) if i % 3]
    assert [row[0] for row in rows(sink, target(), (1,), (7,))] == [2, 4, 5, 7]
