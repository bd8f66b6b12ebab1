"""Guarantee 7 at ClickHouse tables that several tables share: who was frozen anywhere in an act, and wakes up when its
successor has done that one and later ones, changes nothing any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from syncd.errors import FatalError, TransientError
from syncd.model import Column, Ddl, Target
from syncd.sinks.clickhouse import ClickHouseSink
from syncd.sinks.clickhouse.ddl import FILLING, floor
from syncd.sinks.clickhouse.present import describe, fingerprint
from syncd.testing.contracts.sink_kit import ACT, INSERT, READ, Writer, altered, change, made, rows
from syncd.testing.contracts.sink_shards import KEY, NAME, QTY, row, shard, writer

pytestmark = pytest.mark.chdb

NOTE = Column("note", pa.string(), nullable=False, source_type="varchar(20)", default="it's")
Act = Callable[[ClickHouseSink], None]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[ClickHouseSink, ClickHouseSink]]:
    options = ClickHouseSink.Options(url=f"chdb://{tmp_path}/engine", fsync=False)
    sinks = [made(ClickHouseSink, options, tmp_path) for _ in range(2)]
    for sink in sinks:
        sink.open()
    one, two = sinks
    assert isinstance(one, ClickHouseSink)
    assert isinstance(two, ClickHouseSink)
    yield one, two
    for sink in sinks:
        sink.close()


def frozen_at(sink: ClickHouseSink, calls: int, act: Act, meanwhile: Callable[[], None]) -> bool:
    """`act`, frozen at its `calls`-th look at the table's own statement or change of anything, which comes after
    `meanwhile`. False: it has not so many."""
    driver = sink._client._driver
    send, left = driver.raw_query, calls

    def raw_query(*given: Any, **more: Any) -> bytes:
        nonlocal left
        counts = not given[0].startswith("SELECT")
        left -= counts
        if left == 0 and counts:
            meanwhile()
        answer: bytes = send(*given, **more)
        return answer

    driver.raw_query = raw_query
    try:
        act(sink)
    except (FatalError, TransientError):
        assert left <= 0
    finally:
        driver.raw_query = send
    return left <= 0


def told(sink: ClickHouseSink, *of: Target) -> list[object]:
    """All that matters of the table."""
    there = describe(sink._client, of[0])
    return [there, floor(of[0], fingerprint(sink._client, of[0])), *(sorted(rows(sink, one)) for one in of)]


def placed(database: str, name: str, *columns: Column) -> Target:
    return replace(shard(name, *columns), database=database)


def test_values_of_a_new_column(pair: tuple[ClickHouseSink, ClickHouseSink]) -> None:
    """Its successor has dropped the column and given another one of its name other values."""
    frozen, heir = pair
    for calls in range(1, 100):
        of = partial(placed, f"alter_{calls}")
        plain, other = of("1", KEY, NAME, QTY), of("2", KEY, NAME, QTY, replace(NOTE, default="other"))
        noted, again = of("1", KEY, NAME, QTY, NOTE), of("1", KEY, NAME, QTY, replace(NOTE, default="again"))
        heir.prepare(other)
        heir.apply(plain, change(Ddl.CREATE, plain, 1), ACT)
        writer(heir, plain).write((INSERT, 10, row(plain, 1, "a", 1)))
        late = partial(ClickHouseSink.apply, target=noted, change=altered(plain, noted, 50), ticket=ACT)
        seen: list[list[object]] = []

        def act(
            late: Act = late, seen: list[list[object]] = seen, kinds: tuple[Target, ...] = (plain, noted, again)
        ) -> None:
            plain, noted, again = kinds
            late(heir)
            heir.apply(plain, altered(noted, plain, 60, kept=("note",)), ACT)
            heir.apply(again, altered(plain, again, 70), ACT)
            assert sorted(rows(heir, again)) == [(1, "a", 1, "again", "1")]
            seen.append(told(heir, again))

        if not frozen_at(frozen, calls, late, act):
            break
        assert [told(heir, again)] == seen
    assert calls > 5


def test_a_table_that_was_loaded_anew(pair: tuple[ClickHouseSink, ClickHouseSink]) -> None:
    """Its successor has taken the load over, dropped a column and emptied the table."""
    frozen, heir = pair
    for calls in range(1, 100):
        of = partial(placed, f"swap_{calls}")
        plain, other, noted = of("1"), of("2"), of("1", KEY, NAME, QTY, NOTE)
        shadow = replace(noted, name="orders_syncd_7")
        heir.prepare(plain)
        for one in (plain, other):
            writer(heir, one).write((INSERT, 10, row(one, 1, "a", 1)))
        heir.prepare(shadow, 20)
        Writer(heir, shadow, lane=None).write((READ, 20, row(plain, 2, "new", 2, "n")))
        late = partial(ClickHouseSink.swap, shadow=shadow, target=noted, seq=20, ticket=ACT)
        seen: list[list[object]] = []

        def act(
            late: Act = late, seen: list[list[object]] = seen, kinds: tuple[Target, ...] = (noted, plain, other)
        ) -> None:
            noted, plain, other = kinds
            late(heir)
            assert sorted(rows(heir, noted)) == [(2, "new", 2, "n", "1")]
            heir.apply(plain, altered(noted, plain, 30), ACT)
            heir.apply(plain, change(Ddl.TRUNCATE, plain, 40), ACT)
            writer(heir, plain, 1).write((INSERT, 50, row(plain, 3, "newer", 3)))
            seen.append(told(heir, plain, other))

        if not frozen_at(frozen, calls, late, act):
            break
        assert [told(heir, plain, other)] == seen
    assert calls > 5


def test_a_change_that_never_came_to_its_end(pair: tuple[ClickHouseSink, ClickHouseSink]) -> None:
    """Its writer dies anywhere in it, and the table is loaded anew as it was before: nothing of syncd's own stays."""
    dying, heir = pair
    for calls in range(1, 100):
        of = partial(placed, f"died_{calls}")
        plain, noted = of("1"), of("1", KEY, NAME, QTY, NOTE)
        shadow = replace(plain, name="orders_syncd_7")
        heir.prepare(of("2", KEY, NAME, QTY, replace(NOTE, default="other")))
        heir.apply(plain, change(Ddl.CREATE, plain, 1), ACT)
        writer(heir, plain).write((INSERT, 10, row(plain, 1, "a", 1)))
        late = partial(ClickHouseSink.apply, target=noted, change=altered(plain, noted, 50), ticket=ACT)
        if not frozen_at(dying, calls, late, dies):
            break
        heir.prepare(shadow, 60)
        Writer(heir, shadow, lane=None).write((READ, 60, row(plain, 2, "new", 2)))
        heir.swap(shadow, plain, 60, ACT)
        there = describe(heir._client, plain)
        assert there is not None
        assert not [column.name for column in there.columns if column.name.startswith(FILLING)]
        assert sorted(rows(heir, plain)) == [(2, "new", 2, "1")]
    assert calls > 4


def dies() -> None:
    raise TransientError("killed")
