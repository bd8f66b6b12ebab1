"""Conformance of sinks, part five: several tables in one target, told apart by a constant column of the key (`own`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from syncd.errors import FatalError
from syncd.model import Column, Ddl, TableId, TableSchema, Target
from syncd.spi import Sink
from syncd.testing.contracts.sink_kit import (
    ACT,
    DELETE,
    INSERT,
    READ,
    UPDATE,
    Writer,
    altered,
    change,
    gone,
    rows,
    with_column,
    with_columns,
)

SHARD = Column("shard", pa.string(), False, "varchar(255)", "utf8mb4", "utf8mb4_bin")
ORDERS = TableSchema(
    TableId("shop_1", "orders"),
    1,
    (
        Column("id", pa.int64(), nullable=False, source_type="bigint"),
        Column("name", pa.string(), nullable=False, source_type="varchar(200)"),
        Column("qty", pa.int32(), source_type="int"),
        SHARD,
    ),
    ("shard", "id"),
    "job",
)
KEY, NAME, QTY, _ = ORDERS.columns
BIG = replace(QTY, type=pa.int64(), source_type="bigint")


def shard(name: str, *columns: Column, **policies: Any) -> Target:
    """The table of one shard, all in `shop.orders`."""
    schema = replace(ORDERS, table=TableId(f"shop_{name}", "orders"))
    schema = with_columns(schema, *columns, SHARD) if columns else schema
    return Target(schema, "shop", "orders", own=(("shard", name),), **policies)


def writer(sink: Sink, of: Target, number: int = 0, **more: Any) -> Writer:
    return Writer(sink, of, owner=f"job/sink/{of.own[0][1]}", number=number, **more)


def row(of: Target, *values: Any) -> tuple[Any, ...]:
    """With the shard behind."""
    return (*values, of.own[0][1])


def there(sink: Sink, of: Target) -> list[tuple[Any, ...]]:
    """Without the shard, by key."""
    return [found[:-1] for found in sorted(rows(sink, of))]


class Shards:
    """See `sink.SinkContract`."""

    @pytest.fixture
    def sharing(self, sink: Sink) -> Sink:
        if not sink.traits().shares:
            pytest.skip("the sink takes one table only in a target")
        return sink

    def test_shards_do_not_touch_each_others_rows(self, sharing: Sink) -> None:
        """The load's check, writes, TRUNCATE twice and late, and the purge; a neighbour's changes may be older."""
        one, two = shard("1"), shard("2")
        sharing.prepare(one, 5)
        writer(sharing, one).write((INSERT, 30, row(one, 1, "a", 1)), (INSERT, 31, row(one, 2, "b", None)))
        sharing.prepare(two, 5)
        assert there(sharing, two) == []
        writer(sharing, two).write((INSERT, 10, row(two, 1, "x", 7)), (INSERT, 11, row(two, 3, "y", 8)))
        assert there(sharing, one) == [(1, "a", 1), (2, "b", None)]
        sharing.apply(one, change(Ddl.TRUNCATE, one, 40), ACT)
        writer(sharing, one, 1).write((INSERT, 41, row(one, 5, "new", 5)))
        writer(sharing, two, 1).write(
            (UPDATE, 12, row(two, 1, "z", 7)), (DELETE, 13, gone(two.schema, row(two, 3, "", 0)))
        )
        sharing.apply(one, change(Ddl.TRUNCATE, one, 40), ACT)
        sharing.expire(one, 41)
        assert (there(sharing, one), there(sharing, two)) == ([(5, "new", 5)], [(1, "z", 7)])
        sharing.apply(two, change(Ddl.TRUNCATE, two, 20), ACT)
        if sharing.traits().versioned:
            late = writer(sharing, one, 2)
            late.write((INSERT, 39, row(one, 6, "late", 6)))
            with pytest.raises(FatalError, match="E192"):
                sharing.prepare(one, 39)
        assert (there(sharing, one), there(sharing, two)) == ([(5, "new", 5)], [])
        sharing.prepare(two, 20)

    @pytest.mark.parametrize(("deletes", "stay"), [("soft", 0), ("ignore", 1)])
    def test_truncate_of_a_shard_by_policy(self, sharing: Sink, deletes: str, stay: int) -> None:
        one, two = (shard(name, deletes=deletes) for name in "12")
        for of in (one, two):
            sharing.prepare(of)
            writer(sharing, of).write((INSERT, 10, row(of, 1, "a", 1)))
        sharing.apply(one, change(Ddl.TRUNCATE, one, 20), ACT)
        assert (len(there(sharing, one)), len(there(sharing, two))) == (stay, 1)

    def test_a_shard_that_was_loaded_anew(self, sharing: Sink) -> None:
        """Its rows go into the common table, twice and late; lost rows come, extra ones go; others stay."""
        one, two = shard("1"), shard("2")
        for of in (one, two):
            sharing.prepare(of)
            writer(sharing, of).write((INSERT, 10, row(of, 1, "old", 1)), (INSERT, 11, row(of, 2, "old", 2)))
        writer(sharing, two, 1).write((INSERT, 50, row(two, 9, "newer", 9)))
        more = shard("1", KEY, NAME, BIG, Column("note", pa.string(), source_type="text"))
        shadow = replace(more, name="orders_syncd_7")
        sharing.prepare(shadow, 20)
        load = Writer(sharing, shadow, owner="job/sharing/chunk/shop_1.orders", lane=None)
        load.write((READ, 20, row(one, 2, "new", 2**40, "n")), (READ, 20, row(one, 3, "new", 3, None)))
        assert there(sharing, one) == [(1, "old", 1), (2, "old", 2)]
        for number in range(2):
            sharing.swap(shadow, more, 20, replace(ACT, number=90 + number))
            sharing.prepare(more)
            assert there(sharing, more) == [(2, "new", 2**40, "n"), (3, "new", 3, None)]
        late = writer(sharing, more, 91)
        if sharing.traits().versioned:
            late.write((INSERT, 15, row(one, 1, "late", 1, None)))
        late.write((UPDATE, 30, row(one, 2, "newer", 2, "n")), (DELETE, 31, gone(more.schema, row(one, 3, "", 0, ""))))
        writer(sharing, two, 2).write((UPDATE, 12, row(two, 1, "behind", 1)))
        sharing.swap(shadow, more, 20, replace(ACT, number=93))
        assert there(sharing, more) == [(2, "newer", 2, "n")]
        assert there(sharing, two) == [(1, "behind", 1), (2, "old", 2), (9, "newer", 9)]
        with pytest.raises(FatalError):
            load.write((READ, 20, row(one, 9, "z", 9, None)))

    def test_a_shard_that_was_loaded_anew_makes_the_target(self, sharing: Sink) -> None:
        """Somebody has dropped it; the others come one by one."""
        for name in "12":
            of = shard(name)
            shadow = replace(of, name=f"orders_syncd_{of.part}_3")
            sharing.prepare(shadow, 20)
            Writer(sharing, shadow, lane=None).write((READ, 20, row(of, 1, "a", 1)))
            for number in range(2):
                sharing.swap(shadow, of, 20, replace(ACT, number=90 + number))
            writer(sharing, of, 1).write((INSERT, 30, row(of, 2, "b", 2)))
        assert [there(sharing, shard(name)) for name in "12"] == [[(1, "a", 1), (2, "b", 2)]] * 2

    def test_a_column_that_shards_get_one_after_the_other(self, sharing: Sink) -> None:
        """Each gives its own rows its default, once; seqs of shards come in any order."""
        one, two, three = (shard(name) for name in "123")
        for of in (one, two, three):
            sharing.prepare(of)
            writer(sharing, of).write((INSERT, 10, row(of, 1, "a", 1)))
        note = Column("note", pa.string(), nullable=False, source_type="varchar(20)", default="it's")
        for of, at, default in ((one, 50, "it's"), (two, 40, "it's"), (three, 45, "other")):
            writer(sharing, of, 1).write((INSERT, 11, row(of, 2, "b", 2)))
            schema = with_column(of.schema, replace(note, default=default), 3)
            after = replace(of, schema=schema)
            for _ in range(2):
                sharing.apply(after, altered(of, after, at), ACT)
            writer(sharing, after, 2).write((UPDATE, 60, row(of, 2, "c", 3, "own")))
            sharing.apply(after, altered(of, after, at), ACT)
            sharing.prepare(after)
            assert there(sharing, after) == [(1, "a", 1, default), (2, "c", 3, "own")]
        again = replace(one, schema=with_column(one.schema, note, 3))
        assert there(sharing, again) == [(1, "a", 1, "it's"), (2, "c", 3, "own")]

    def test_a_column_whose_default_is_null_in_one_shard(self, sharing: Sink) -> None:
        one, two = shard("1"), shard("2")
        for of in (one, two):
            sharing.prepare(of)
            writer(sharing, of).write((INSERT, 10, row(of, 1, "a", 1)))
        for of, default in ((one, None), (two, "7")):
            number = Column("more", pa.int32(), source_type="int", default=default)
            after = replace(of, schema=with_column(of.schema, number, 3))
            for _ in range(2):
                sharing.apply(after, altered(of, after, 20), ACT)
            assert there(sharing, after) == [(1, "a", 1, None if default is None else 7)]

    def test_a_column_without_a_default_in_the_way_of_others(self, sharing: Sink) -> None:
        """Those that do not have it yet write as before."""
        one, two = shard("1"), shard("2")
        for of in (one, two):
            sharing.prepare(of)
        after = shard("1", KEY, NAME, QTY, Column("on", pa.date32(), nullable=False, source_type="date"))
        sharing.apply(after, altered(one, after, 50), ACT)
        writer(sharing, after).write((INSERT, 51, row(one, 1, "a", 1, 7305)))
        writer(sharing, two).write((INSERT, 11, row(two, 1, "b", 2)))
        sharing.prepare(two)
        assert there(sharing, two) == [(1, "b", 2)]
        assert len(there(sharing, after)) == 1

    @pytest.mark.parametrize("how", ["renamed", "wider"])
    def test_a_column_that_one_shard_has_changed_and_others_lack(self, sharing: Sink, how: str) -> None:
        """It has no default at the source, and stands in nobody's way."""
        one, two = shard("1"), shard("2")
        for of in (one, two):
            sharing.prepare(of)
        size = Column("size", pa.int32(), nullable=False, source_type="int")
        wide = replace(size, type=pa.int64(), source_type="bigint")
        first = replace(one, schema=with_column(one.schema, size, 3))
        changed = with_column(one.schema, replace(size, name="n") if how == "renamed" else wide, 3)
        later = replace(one, schema=replace(changed, version=first.schema.version + 1))
        sharing.apply(first, altered(one, first, 20), ACT)
        writer(sharing, first).write((INSERT, 21, row(one, 1, "a", 1, 7)))
        sharing.apply(later, altered(first, later, 30, *[("size", "n")] * (how == "renamed")), ACT)
        writer(sharing, two).write((INSERT, 10, row(two, 1, "b", 1)))
        writer(sharing, later, 1).write((INSERT, 31, row(one, 2, "c", 2, 8)))
        assert there(sharing, later) == [(1, "a", 1, 7), (2, "c", 2, 8)]
        assert there(sharing, two) == [(1, "b", 1)]

    def test_a_column_that_shards_drop_one_after_the_other(self, sharing: Sink) -> None:
        """It is kept until the last one has dropped it, and rows are written without it."""
        one, two = shard("1"), shard("2")
        for of in (one, two):
            sharing.prepare(of)
            writer(sharing, of).write((INSERT, 10, row(of, 1, "a", 1)))
        after = {of.own: shard(str(of.own[0][1]), KEY, QTY) for of in (one, two)}
        for _ in range(2):
            sharing.apply(after[one.own], altered(one, after[one.own], 50, kept=("name",)), ACT)
        writer(sharing, after[one.own], 1).write((INSERT, 51, row(one, 2, 2)))
        writer(sharing, two, 1).write((INSERT, 11, row(two, 2, "b", 2)))
        sharing.prepare(two)
        assert there(sharing, two) == [(1, "a", 1), (2, "b", 2)]
        for _ in range(2):
            sharing.apply(after[two.own], altered(two, after[two.own], 40), ACT)
        for of in (one, two):
            writer(sharing, after[of.own], 2).write((UPDATE, 60, row(of, 1, 9)))
            assert there(sharing, after[of.own]) == [(1, 9), (2, 2)]
        with pytest.raises(FatalError, match="name"):
            sharing.prepare(two)

    def test_a_column_that_becomes_wider_in_one_shard_first(self, sharing: Sink) -> None:
        """The other one goes on as it was, and its own change finds it done; nothing ever becomes narrower."""
        one, two = shard("1"), shard("2")
        for of in (one, two):
            sharing.prepare(of)
            writer(sharing, of).write((INSERT, 10, row(of, 1, "a", 1)))
        wide = shard("1", KEY, NAME, BIG)
        for _ in range(2):
            sharing.apply(wide, altered(one, wide, 50), ACT)
        writer(sharing, wide, 1).write((INSERT, 51, row(one, 2, "b", 2**40)))
        writer(sharing, two, 1).write((INSERT, 11, row(two, 2, "b", -5)))
        assert there(sharing, two) == [(1, "a", 1), (2, "b", -5)]
        renamed = shard("2", KEY, NAME, replace(QTY, nullable=True, comment="pieces"))
        sharing.apply(renamed, altered(two, renamed, 40), ACT)
        sharing.apply(shard("3"), change(Ddl.CREATE, shard("3"), 45), ACT)
        assert there(sharing, wide) == [(1, "a", 1), (2, "b", 2**40)]
        other = shard("2", KEY, NAME, Column("qty", pa.date32(), source_type="date"))
        other = replace(other, schema=replace(other.schema, version=3))
        with pytest.raises(FatalError, match="qty"):
            sharing.apply(other, altered(two, other, 60), ACT)

    def test_a_column_that_all_shards_rename(self, sharing: Sink) -> None:
        """All stand in front of it: the first one does it, the others find it done."""
        shards = [shard(name) for name in "12"]
        for of in shards:
            sharing.prepare(of)
            writer(sharing, of).write((INSERT, 10, row(of, 1, "a", 1)))
        for of, at in zip(shards, (50, 40), strict=True):
            after = shard(str(of.own[0][1]), KEY, NAME, replace(QTY, name="pieces"))
            for _ in range(2):
                sharing.apply(after, altered(of, after, at, ("qty", "pieces")), ACT)
            writer(sharing, after, 1).write((INSERT, 60, row(of, 2, "b", 2)))
            assert there(sharing, after) == [(1, "a", 1), (2, "b", 2)]

    def test_a_column_that_one_has_under_its_new_name_already(self, sharing: Sink) -> None:
        """A table that came later, or was loaded anew: the others' values go over, and the old column with the last."""
        shards = [shard(name) for name in "12"]
        for of in shards:
            sharing.prepare(of)
            writer(sharing, of).write((INSERT, 10, row(of, 1, "a", 1)), (INSERT, 11, row(of, 2, "b", None)))
        pieces = replace(QTY, name="pieces")
        new = shard("3", KEY, NAME, pieces)
        sharing.apply(new, change(Ddl.CREATE, new, 30), ACT)
        writer(sharing, new).write((INSERT, 31, row(new, 1, "n", 7)))
        for of, at, kept in zip(shards, (50, 40), (("qty",), ()), strict=True):
            after = shard(str(of.own[0][1]), KEY, NAME, pieces)
            for _ in range(2):
                sharing.apply(after, altered(of, after, at, ("qty", "pieces"), kept=kept), ACT)
            writer(sharing, after, 1).write((INSERT, 60, row(of, 3, "c", 3)), (UPDATE, 61, row(of, 2, "b", 2)))
            sharing.apply(after, altered(of, after, at, ("qty", "pieces"), kept=kept), ACT)
            assert there(sharing, after) == [(1, "a", 1), (2, "b", 2), (3, "c", 3)]
        assert there(sharing, new) == [(1, "n", 7)]
        with pytest.raises(FatalError, match="qty"):
            sharing.prepare(shards[0])

    def test_a_shard_that_comes_later(self, sharing: Sink) -> None:
        """With a column that the table has not got yet, and without one that it still has."""
        one = shard("1")
        sharing.prepare(one)
        writer(sharing, one).write((INSERT, 10, row(one, 1, "a", 1)))
        new = shard("2", KEY, QTY, Column("note", pa.string(), nullable=False, source_type="varchar(9)"))
        for _ in range(2):
            sharing.apply(new, change(Ddl.CREATE, new, 30), ACT)
        sharing.prepare(new, 30)
        writer(sharing, new).write((INSERT, 31, row(new, 1, 2, "n")))
        writer(sharing, one, 1).write((INSERT, 11, row(one, 2, "b", 2)))
        assert (there(sharing, one), there(sharing, new)) == ([(1, "a", 1), (2, "b", 2)], [(1, 2, "n")])
