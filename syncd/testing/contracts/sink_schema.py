"""Conformance of sinks, part two: plan and prepare, barrier acts, tables changed by hand, tombstones."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from syncd.errors import FatalError
from syncd.model import Column, Ddl, Index, IndexPart, TableId, TableSchema, Target
from syncd.spi import Sink
from syncd.testing.contracts.sink_kit import (
    ACT,
    DELETE,
    INSERT,
    ITEMS,
    KEYLESS,
    READ,
    UPDATE,
    Factory,
    Writer,
    altered,
    change,
    gone,
    live,
    rows,
    target,
    with_column,
    with_columns,
)

SMALL = replace(
    ITEMS,
    columns=(
        *ITEMS.columns[:2],
        Column("qty", pa.int32(), source_type="int"),
        Column("note", pa.string(), nullable=False, source_type="varchar(20)"),
    ),
)


class Schema:
    """See `sink.SinkContract`."""

    def test_plan_names_every_column_and_writes_nothing(self, sink: Sink) -> None:
        planned = sink.plan(target())
        assert [line[0] for line in planned.columns][:3] == ["id", "name", "qty"]
        assert not [f for f in planned.findings if f.level == "error"]
        with pytest.raises(FatalError):
            Writer(sink, target()).write((INSERT, 10, (1, "a", 1)))

    def test_plan_refuses_a_table_without_a_key(self, sink: Sink) -> None:
        refused = [f for f in sink.plan(target(KEYLESS)).findings if f.level == "error"]
        assert refused
        assert all(f.todo for f in refused)

    def test_names_of_every_kind(self, sink: Sink) -> None:
        """Of tables and columns: each finds its own, and none another one's."""
        names = self.names()
        tables = [("shop", name) for name in [*names, "x.t"]] + [("shop.x", "t")]
        columns = [Column("id", pa.int64(), nullable=False), *(Column(name, pa.string()) for name in names)]
        targets = [
            Target(TableSchema(TableId(database, name), 1, tuple(columns), ("id",), "primary"), database, name)
            for database, name in tables
        ]
        for of in targets:
            sink.prepare(of)
        for number, of in enumerate(targets):
            Writer(sink, of).write((INSERT, 10, (number, *(f"{number} {name}" for name in names))))
        sink.apply(targets[0], change(Ddl.TRUNCATE, targets[0], 20), ACT)
        for number, of in enumerate(targets):
            row = {number: tuple(f"{number} {name}" for name in names)}
            assert live(sink, of) == (row if number else {}), of.name

    def test_key_columns_with_names_of_every_kind(self, sink: Sink) -> None:
        """Found again as they were made."""
        names = tuple(self.names())
        columns = tuple(Column(name, pa.int64(), nullable=False) for name in names)
        of = Target(TableSchema(TableId("shop", "keys"), 1, columns, names, "primary"), "shop", "keys")
        for _ in range(2):
            sink.prepare(of)
        row = tuple(range(len(names)))
        writer = Writer(sink, of)
        writer.write((INSERT, 10, row), (INSERT, 11, row[::-1]))
        writer.write((DELETE, 12, row[::-1]))
        assert rows(sink, of) == [row]

    def test_prepare_twice(self, sink: Sink, items: Target) -> None:
        Writer(sink, items).write((INSERT, 10, (1, "a", 1)))
        sink.prepare(items)
        assert live(sink, items) == {1: ("a", 1)}

    def test_prepare_refuses_a_table_that_would_hide_what_is_written(self, sink: Sink, items: Target) -> None:
        """Rows, tombstones or a TRUNCATE of another log, whose seqs are larger: nothing of a load would be seen."""
        if not sink.traits().versioned:
            pytest.skip("the sink compares no versions")
        sink.prepare(items, 5)
        Writer(sink, items).write((INSERT, 30, (1, "a", 1)), (DELETE, 40, gone(ITEMS, (2, "b", 1))))
        sink.prepare(items, 40)
        with pytest.raises(FatalError) as caught:
            sink.prepare(items, 39)
        assert (caught.value.code, caught.value.table) == ("E192", "shop.items")
        sink.apply(items, change(Ddl.TRUNCATE, items, 50), ACT)
        sink.prepare(items, 50)
        with pytest.raises(FatalError) as caught:
            sink.prepare(items, 49)
        assert (caught.value.code, caught.value.table) == ("E192", "shop.items")

    def test_prepare_names_a_column_that_differs(self, sink: Sink, items: Target) -> None:
        other = replace(ITEMS, columns=(*ITEMS.columns[:2], Column("qty", pa.string())))
        with pytest.raises(FatalError, match="qty") as caught:
            sink.prepare(target(other))
        assert caught.value.table == "shop.items"

    def test_prepare_names_a_column_that_is_missing(self, sink: Sink, items: Target) -> None:
        with pytest.raises(FatalError, match="extra"):
            sink.prepare(target(with_column(ITEMS, Column("extra", pa.int64()), 1)))

    def test_a_table_created_at_a_barrier(self, sink: Sink) -> None:
        for _ in range(2):
            sink.apply(target(), change(Ddl.CREATE, target(), 9), ACT)
        Writer(sink, target()).write((INSERT, 10, (1, "a", 1)))
        assert live(sink, target()) == {1: ("a", 1)}

    @pytest.mark.parametrize(
        ("column", "seen"),
        [
            (Column("note", pa.string()), None),
            (Column("note", pa.string(), nullable=False, default="it's \\ new"), "it's \\ new"),
            (Column("note", pa.int64(), nullable=False), 0),
            (Column("note", pa.int32(), default="-7"), -7),
            (Column("note", pa.decimal128(10, 2), default="1.50"), "1.50"),
            (Column("note", pa.float64(), default="0.1"), 0.1),
        ],
        ids=["null", "text", "zero", "int", "decimal", "float"],
    )
    def test_a_new_column_shows_its_default_in_old_rows(
        self, sink: Sink, items: Target, column: Column, seen: object
    ) -> None:
        Writer(sink, items).write((INSERT, 10, (1, "a", 1)))
        after = target(with_column(ITEMS, column, 2))
        for _ in range(2):
            sink.apply(after, change(Ddl.ALTER, after, 20), ACT)
        sink.prepare(after)
        found = rows(sink, after)
        assert [(r[0], r[1], r[3]) for r in found] == [(1, "a", 1)]
        assert str(found[0][2]) == str(seen)
        given = pa.scalar("3").cast(column.type).as_py()
        Writer(sink, after, number=5).write((UPDATE, 30, (1, "b", given, 2)), (INSERT, 31, (2, "c", given, None)))
        assert rows(sink, after) == [(1, "b", given, 2), (2, "c", given, None)]

    def test_the_older_target_still_fits_after_a_new_column(self, sink: Sink, items: Target) -> None:
        """The lane died after the act and before its commit: it comes again with the target of before."""
        after = target(with_column(ITEMS, Column("note", pa.int64(), nullable=False), 3))
        sink.apply(after, change(Ddl.ALTER, after, 20), ACT)
        sink.prepare(items)
        Writer(sink, items).write((INSERT, 10, (1, "a", 1)))
        assert rows(sink, after) == [(1, "a", 1, 0)]

    def test_columns_that_go_change_and_come(self, sink: Sink) -> None:
        """Twice, since the lane may die between the act and its commit."""
        before = target(SMALL)
        sink.prepare(before)
        Writer(sink, before).write((INSERT, 10, (1, "a", 1, "x")), (INSERT, 11, (2, "b", None, "y")))
        key, name, _, _ = SMALL.columns
        size = Column("size", pa.int64(), nullable=True, source_type="bigint")
        extra = Column("extra", pa.int64(), nullable=False, source_type="bigint", default="7")
        after = target(with_columns(SMALL, key, replace(name, name="title"), extra, size))
        for _ in range(2):
            sink.apply(after, altered(before, after, 20, ("name", "title"), ("qty", "size")), ACT)
            assert rows(sink, after) == [(1, "a", 7, 1), (2, "b", 7, None)]
        sink.prepare(after)
        Writer(sink, after, number=5).write((UPDATE, 30, (1, "c", 8, 2**40)), (INSERT, 31, (3, "d", 9, None)))
        assert rows(sink, after) == [(1, "c", 8, 2**40), (2, "b", 7, None), (3, "d", 9, None)]

    def test_a_column_of_a_name_that_was_there_before(self, sink: Sink) -> None:
        """Nothing of the former column's values comes back in the new one."""
        key, name, qty, note = SMALL.columns
        first = target(SMALL)
        sink.prepare(first)
        Writer(sink, first).write((INSERT, 10, (1, "a", 1, "x")))
        second = target(with_columns(SMALL, key, name, qty))
        third = target(
            with_columns(
                second.schema, key, name, qty, replace(note, nullable=True, type=pa.int64(), source_type="bigint")
            )
        )
        sink.apply(second, altered(first, second, 20), ACT)
        Writer(sink, second, number=1).write((INSERT, 25, (2, "b", 2)))
        sink.apply(third, altered(second, third, 30), ACT)
        assert rows(sink, third) == [(1, "a", 1, None), (2, "b", 2, None)]
        if sink.traits().versioned:  # an owner that was frozen before the first act; elsewhere its epoch is over
            sink.apply(second, altered(first, second, 20), ACT)
        Writer(sink, third, number=2).write((INSERT, 35, (3, "c", 3, 4)))
        assert rows(sink, third) == [(1, "a", 1, None), (2, "b", 2, None), (3, "c", 3, 4)]

    def test_a_column_that_is_gone_and_kept(self, sink: Sink) -> None:
        """It stays where it is, and takes rows that have no value in it."""
        before = target(SMALL)
        sink.prepare(before)
        Writer(sink, before).write((INSERT, 10, (1, "a", 1, "x")))
        after = target(with_columns(SMALL, *SMALL.columns[:3]))
        for _ in range(2):
            sink.apply(after, altered(before, after, 20, kept=("note",)), ACT)
        Writer(sink, after, number=5).write((INSERT, 30, (2, "b", 2)))
        assert rows(sink, after) == [(1, "a", 1), (2, "b", 2)]
        kept = target(replace(SMALL, columns=(*SMALL.columns[:3], replace(SMALL.columns[3], nullable=True))))
        found = {row[0]: row[3] for row in rows(sink, kept)}
        assert (found[1], found[2] or None) == ("x", None)

    def test_a_table_that_was_loaded_anew_takes_the_place_of_the_one_before(
        self, sink: Sink, factory: Factory, items: Target
    ) -> None:
        """Also with other columns; twice; and rows of before never come back. The engine gives no longer name."""
        Writer(sink, items).write((INSERT, 10, (1, "old", 1)), (INSERT, 11, (2, "old", 2)), (DELETE, 12, (3, "x", 1)))
        shadow, target_now = (Target(SMALL, "shop", name) for name in (f"{'items':_<52}_syncd_7", "items"))
        sink.prepare(shadow, 20)
        load = Writer(sink, shadow, owner="job/sink/chunk/shop.items", lane=None)
        load.write((READ, 20, (2, "new", 2, "b")), (READ, 20, (3, "new", 3, "c")))
        assert live(sink, items) == {1: ("old", 1), 2: ("old", 2)}
        for _ in range(2):
            sink.swap(shadow, target_now, 20, replace(ACT, number=90))
            sink.prepare(target_now)
            assert live(sink, target_now) == {2: ("new", 2, "b"), 3: ("new", 3, "c")}
        late = Writer(sink, target_now, number=91)
        if sink.traits().versioned:
            late.write((INSERT, 15, (1, "late", 1, "a")))
        late.write((UPDATE, 30, (2, "newer", 2, "b")), (INSERT, 31, (4, "d", 4, "d")))
        sink.swap(shadow, target_now, 20, replace(ACT, number=92))
        assert live(sink, target_now) == {2: ("newer", 2, "b"), 3: ("new", 3, "c"), 4: ("d", 4, "d")}
        with pytest.raises(FatalError):
            Writer(sink, shadow, owner="job/sink/chunk/shop.items", lane=None, number=5).write(
                (READ, 20, (9, "z", 9, "z"))
            )

    def test_truncate_twice_and_late(self, sink: Sink, items: Target) -> None:
        writer = Writer(sink, items)
        writer.write((INSERT, 10, (1, "a", 1)), (INSERT, 11, (2, "b", 1)), (INSERT, 12, (3, "c", 1)))
        sink.apply(items, change(Ddl.TRUNCATE, items, 20), ACT)
        assert live(sink, items) == {}
        writer.write((INSERT, 21, (1, "new", 1)), (INSERT, 22, (4, "d", 1)), (DELETE, 23, (4, "d", 1)))
        sink.apply(items, change(Ddl.TRUNCATE, items, 20), ACT)
        assert live(sink, items) == {1: ("new", 1)}

    def test_rows_older_than_a_truncate_never_come_back(self, sink: Sink, factory: Factory, items: Target) -> None:
        """Guarantee 7: an owner that was frozen before the act, and wakes up after it."""
        if not sink.traits().versioned:
            pytest.skip("the sink refuses an epoch that is over: see the fence")
        zombie = factory()
        zombie.open()
        try:
            late = Writer(zombie, items)
            late.write((INSERT, 10, (1, "a", 1)))
            sink.apply(items, change(Ddl.TRUNCATE, items, 20), ACT)
            for writer in (late, Writer(sink, items, number=5)):
                writer.write((UPDATE, 15, (1, "late", 1)), (INSERT, 16, (2, "late", 1)), (INSERT, 21, (3, "new", 1)))
                assert live(sink, items) == {3: ("new", 1)}
        finally:
            zombie.close()

    @pytest.mark.parametrize(("deletes", "stay"), [("soft", False), ("ignore", True)])
    def test_truncate_is_what_the_policy_makes_of_a_delete(self, sink: Sink, deletes: str, stay: bool) -> None:
        of = target(deletes=deletes)
        sink.prepare(of)
        Writer(sink, of).write((INSERT, 10, (1, "a", 1)))
        sink.apply(of, change(Ddl.TRUNCATE, of, 20), ACT)
        assert bool(live(sink, of)) == stay

    @pytest.mark.parametrize(("deletes", "stay"), [("apply", 0), ("soft", 0), ("ignore", 2)])
    def test_truncate_of_an_append_target(self, sink: Sink, deletes: str, stay: int) -> None:
        of = target(KEYLESS, append=True, deletes=deletes)
        sink.prepare(of)
        Writer(sink, of).write((INSERT, 10, (1, "a", 1)), (INSERT, 11, (1, "a", 1)))
        for _ in range(2):
            sink.apply(of, change(Ddl.TRUNCATE, of, 20), ACT)
        Writer(sink, of, number=1).write((INSERT, 21, (1, "a", 1)))
        assert rows(sink, of) == [(1, "a", 1)] * (stay + 1)

    def test_drop_and_rename_lose_no_rows(self, sink: Sink, items: Target) -> None:
        Writer(sink, items).write((INSERT, 10, (1, "a", 1)))
        sink.apply(items, change(Ddl.DROP, items, 20), ACT)
        sink.apply(items, change(Ddl.RENAME, items, 21), ACT)
        assert live(sink, items) == {1: ("a", 1)}

    def test_indexes_after_the_load(self, sink: Sink) -> None:
        """Made, or not known here; rows and what is written afterwards stay as they are, also when it comes twice."""
        named = Index("by_name", (IndexPart("name", 20), IndexPart("qty")))
        only = Index("only_qty", (IndexPart("qty"),), "unique")
        of = target(replace(ITEMS, indexes=(named, only)))
        sink.prepare(of)
        writer = Writer(sink, of)
        writer.write((INSERT, 10, (1, "a", 1)), (INSERT, 11, (2, "b", 2)))
        for settled in (False, False, True, True):
            sink.apply(replace(of, settled=settled), change(Ddl.INDEX, of, 1), ACT)
            sink.prepare(of)
        writer.write((UPDATE, 12, (1, "a", None)), (UPDATE, 13, (2, "b", 1)), (UPDATE, 14, (1, "a", 2)))
        assert live(sink, of) == {1: ("a", 2), 2: ("b", 1)}

    def test_a_statement_that_is_not_understood_halts_the_table(self, sink: Sink, items: Target) -> None:
        with pytest.raises(FatalError) as caught:
            sink.apply(items, change(Ddl.OTHER, items, 20), ACT)
        assert caught.value.table == "shop.items"

    def test_expired_tombstones_bring_nothing_back(self, sink: Sink, items: Target) -> None:
        writer = Writer(sink, items)
        writer.write((INSERT, 10, (1, "a", 1)), (INSERT, 11, (2, "b", 1)), (INSERT, 12, (3, "c", 1)))
        writer.write((DELETE, 13, gone(ITEMS, (1, "a", 1))), (DELETE, 14, gone(ITEMS, (2, "b", 1))))
        writer.write((INSERT, 15, (2, "again", 1)), (DELETE, 50, gone(ITEMS, (3, "c", 1))))
        for below in (30, 40, 100):
            sink.expire(items, below)
            assert live(sink, items) == {2: ("again", 1)}

    def test_tombstones_stay_until_they_expire(self, sink: Sink, items: Target) -> None:
        if not sink.traits().versioned:
            pytest.skip("the sink compares no versions")
        Writer(sink, items).write((DELETE, 50, gone(ITEMS, (3, "c", 1))))
        sink.expire(items, 50)
        Writer(sink, items, number=1).write((INSERT, 12, (3, "c", 1)))
        assert live(sink, items) == {}

    def test_a_table_changed_by_hand_while_it_is_written(self, sink: Sink, items: Target) -> None:
        """Named by its column, and before a value is changed by it."""
        writer = Writer(sink, items)
        writer.write((INSERT, 10, (1, "a", 2**40)))
        self.change_by_hand(sink, items)
        with pytest.raises(FatalError, match="qty") as caught:
            writer.write((INSERT, 11, (2, "b", 2**40)))
        assert caught.value.table == "shop.items"
        with pytest.raises(FatalError, match="qty"):
            sink.prepare(items)

    def names(self) -> list[str]:
        """Of tables and columns that the sink takes."""
        return [
            "t",
            "T",
            '"t"',
            "`t`",
            "a.t",
            "a.b.t",
            "'t'",
            "t\\",
            "a`t",
            "a b",
            "ü€😀",
            "SELECT",
            "1",
            "%s",
            "{t:Int8}",
        ]

    def change_by_hand(self, sink: Sink, of: Target) -> None:
        """Change the type of the column `qty` behind the sink's back."""
        raise NotImplementedError
