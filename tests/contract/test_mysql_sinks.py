"""The sinks of the MySQL family against real servers: the suite, and what only they do."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pytest

from syncd.drivers.mysql.connection import rows
from syncd.errors import BatchError
from syncd.model import ChangeBatch, Column, Ddl, Index, IndexPart, Target
from syncd.sinks.mysql import MySQLSink, OceanBaseSink
from syncd.sinks.mysql import sink as sink_module
from syncd.sinks.mysql.words import full_name
from syncd.spi import Foreign, Sink, Ticket
from syncd.testing.contracts.sink import Factory, SinkContract, made
from syncd.testing.contracts.sink_kit import (
    ACT,
    DELETE,
    INSERT,
    ITEMS,
    LANE,
    READ,
    UPDATE,
    Change,
    Writer,
    batch,
    change,
    gone,
    live,
    target,
    with_column,
)
from syncd.testing.contracts.sink_kit import rows as scanned
from syncd.testing.servers import Server
from tests.contract.slow_wire import SlowWire
from tests.services.database import connect


def ask(server: Server, *statements: str) -> list[tuple[Any, ...]]:
    """The rows that the last statement gives."""
    with closing(connect(server)) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


def factory_of(plugin: type[MySQLSink], port: int, folder: Path, **more: object) -> Factory:
    url = f"{plugin.name}://root@127.0.0.1:{port}/"
    return partial(made, plugin, plugin.Options.model_validate({"url": url, **more}), folder)


class _Family(SinkContract):
    plugin: ClassVar[type[MySQLSink]] = MySQLSink
    _last: tuple[Ticket, ChangeBatch]

    @pytest.fixture
    def server(self) -> Server:
        raise NotImplementedError

    @pytest.fixture
    def factory(self, server: Server, tmp_path: Path) -> Factory:
        self._server = server
        ask(server, "DROP DATABASE IF EXISTS shop", "DROP DATABASE IF EXISTS `shop.x`")
        return factory_of(self.plugin, server.port, tmp_path)

    @pytest.fixture
    def slow_factory(self, server: Server, factory: Factory, tmp_path: Path) -> Iterator[Factory]:
        wire = SlowWire(server.port)
        yield factory_of(self.plugin, wire.port, tmp_path)
        wire.close()

    def refused(self, sink: Sink) -> tuple[ChangeBatch, set[int]]:
        names = ["good", None, "good", "x" * 2001]
        return batch(ITEMS, [(INSERT, 10 + i, (i, name, 1)) for i, name in enumerate(names)]), {1, 3}

    def change_by_hand(self, sink: Sink, of: Target) -> None:
        ask(self._server, f"ALTER TABLE {of.database}.{of.name} MODIFY qty DOUBLE")

    def names(self) -> list[str]:
        """Those of columns are not told apart by their case, and none has a character beyond 16 bits."""
        return [name for name in super().names() if name not in {"T", "ü€😀"}]

    def test_which_indexes_are_made_when(self, sink: Sink) -> None:
        plain = Index("by_name", (IndexPart("name", 20), IndexPart("qty", descending=True)), comment="it's")
        unique, words = Index("u", (IndexPart("qty"),), "unique"), Index("w", (IndexPart("name"),), "fulltext")
        of = target(replace(ITEMS, indexes=(plain, unique, words)))
        sink.prepare(of)

        def there() -> dict[str, bool]:
            sql = "SELECT index_name, non_unique FROM information_schema.statistics WHERE table_schema = 'shop'"
            found = ask(self._server, f"{sql} AND table_name = 'items' AND index_name <> 'PRIMARY'")
            return {name: not int(plain) for name, plain in found}

        assert there() == {}
        sink.apply(of, change(Ddl.INDEX, of, 1), ACT)
        assert there() == {"by_name": False, "w": False}
        sink.apply(replace(of, settled=True), change(Ddl.INDEX, of, 1), ACT)
        assert there() == {"by_name": False, "w": False, "u": True}
        # An index that goes, one that changes and one that comes, with a column of its own.
        wider = replace(plain, parts=(IndexPart("name", 30),))
        late = Index("late", (IndexPart("more"),))
        schema = replace(with_column(ITEMS, Column("more", pa.int64()), 3), indexes=(wider, unique, late))
        after = target(schema, settled=True)
        for _ in range(2):
            altered = replace(change(Ddl.ALTER, after, 20), before=of.schema)
            sink.apply(after, altered, ACT)
        assert there() == {"by_name": False, "u": True, "late": False}

    def test_relaxed_indexes_are_plain_ones(self, sink: Sink) -> None:
        of = target(replace(ITEMS, indexes=(Index("u", (IndexPart("qty"),), "unique"),)), relaxed=True)
        sink.prepare(of)
        sink.apply(of, change(Ddl.INDEX, of, 1), ACT)
        Writer(sink, of).write((INSERT, 10, (1, "a", 1)), (INSERT, 11, (2, "b", 1)))
        assert live(sink, of) == {1: ("a", 1), 2: ("b", 1)}
        assert "UNIQUE" not in ask(self._server, "SHOW CREATE TABLE shop.items")[0][1]
        Writer(sink, of, number=1).write((UPDATE, 12, (2, "b", 2)))
        # As at the cut-over.
        ask(self._server, *sink.plan(of).later)
        assert "UNIQUE KEY `u`" in ask(self._server, "SHOW CREATE TABLE shop.items")[0][1]

    @pytest.mark.parametrize("deletes", ["soft", "ignore"])
    def test_values_of_rows_that_stay_come_again(self, sink: Sink, deletes: Literal["soft", "ignore"]) -> None:
        """The source's unique index knows nothing of them."""
        schema = replace(ITEMS, indexes=(Index("u", (IndexPart("qty"),), "unique"),))
        of = target(schema, deletes=deletes, settled=True)
        sink.prepare(of)
        sink.apply(of, change(Ddl.INDEX, of, 1), ACT)
        writer = Writer(sink, of)
        writer.write((INSERT, 10, (1, "a", 7)))
        writer.write((DELETE, 20, gone(schema, (1, "a", 7))), (INSERT, 21, (2, "b", 7)))
        stays = {1: ("a", 7)} if deletes == "ignore" else {}
        assert live(sink, of) == {**stays, 2: ("b", 7)}
        (told,) = [f.text for f in sink.plan(of).findings if "unique index u is made as a plain one" in f.text]
        assert f"deletes: {deletes}" in told

    def test_a_table_that_is_made_anew_had_nothing_done_to_it(self, sink: Sink, items: Target) -> None:
        """What is remembered of the one before, maybe of another data directory, would let an act be left out."""
        assert isinstance(sink, MySQLSink)
        sink.apply(items, change(Ddl.TRUNCATE, items, 50), ACT)
        rows(sink._linked()[0], f"DROP TABLE {full_name(items)}")
        sink.prepare(items)
        Writer(sink, items).write((INSERT, 10, (1, "a", 1)))
        sink.apply(items, change(Ddl.TRUNCATE, items, 20), ACT)
        assert live(sink, items) == {}

    def test_a_database_that_many_make_at_once(self, factory: Factory) -> None:
        """The first tables of a job: one of them makes the database and the sink's own table, and all find them."""
        sinks = [factory() for _ in range(6)]
        with ThreadPoolExecutor(len(sinks)) as pool:
            for n in range(4):
                ask(self._server, "DROP DATABASE IF EXISTS shop")
                tables = [replace(target(), name=f"items{n}_{k}") for k in range(len(sinks))]
                list(pool.map(lambda pair: pair[0].prepare(pair[1]), zip(sinks, tables, strict=True)))
        for sink in sinks:
            sink.close()

    def test_values_of_a_unique_index_that_change_hands(self, sink: Sink) -> None:
        """In one batch, chains and a row that is deleted and comes again with another key: no row stands in the way."""
        of = target(replace(ITEMS, indexes=(Index("u", (IndexPart("qty"),), "unique"),)), settled=True)
        sink.prepare(of)
        sink.apply(of, change(Ddl.INDEX, of, 1), ACT)
        writer = Writer(sink, of)
        writer.write(*((INSERT, 10 + n, (n, "x", n)) for n in range(1, 6)))
        swap: list[Change] = [(UPDATE, 20, (1, "x", None)), (UPDATE, 21, (2, "x", 1)), (UPDATE, 22, (1, "x", 2))]
        chain: list[Change] = [(UPDATE, 23, (3, "x", 33)), (UPDATE, 24, (4, "x", 3)), (UPDATE, 25, (5, "x", 4))]
        again: list[Change] = [(DELETE, 26, gone(ITEMS, (3, "x", 33))), (INSERT, 27, (9, "x", 33))]
        writer.write(*swap, *chain, *again)
        assert live(sink, of) == {n: ("x", qty) for n, qty in {1: 2, 2: 1, 4: 3, 5: 4, 9: 33}.items()}
        with pytest.raises(BatchError) as caught:
            writer.write((INSERT, 30, (10, "x", 1)), (INSERT, 31, (11, "x", 11)))
        assert [*caught.value.rows] == [0]
        assert live(sink, of)[11] == ("x", 11)
        assert live(sink, of)[2] == ("x", 1)
        # As REFRESH writes: a row that was read ahead of its neighbour is refused, both of them are not.
        ahead: list[Change] = [(READ, 40, (1, "y", 4)), (READ, 40, (5, "y", 2))]
        with pytest.raises(BatchError, match="1 of 1 rows refused"):
            writer.write(ahead[0])
        writer.write(*ahead)
        assert live(sink, of) == {1: ("y", 4), 2: ("x", 1), 4: ("x", 3), 5: ("y", 2), 9: ("x", 33), 11: ("x", 11)}

    def test_a_refused_row_among_many(self, sink: Sink, items: Target) -> None:
        """They come in another order than that of their keys, in which they are written, in several statements."""
        keys = [n * 7919 % 2600 for n in range(2600)]
        changes = [(INSERT, 10 + n, (key, None if key == 777 else f"n{key}", 1)) for n, key in enumerate(keys)]
        with pytest.raises(BatchError) as caught:
            Writer(sink, items).write(*changes)
        assert [*caught.value.rows] == [keys.index(777)]
        assert live(sink, items) == {key: (f"n{key}", 1) for key in keys if key != 777}

    def test_keys_of_members(self, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
        """An ENUM and a SET are told and sorted by their numbers, not by their letters."""
        monkeypatch.setattr(sink_module, "_PAGE_ROWS", 2)
        text = {"charset": "utf8mb4", "collation": "utf8mb4_general_ci"}
        one = Column("one", pa.dictionary(pa.int16(), pa.string()), False, "enum('z','it''s','a')", **text)
        some = Column("some", pa.string(), False, "set('b','a')", **text)
        columns = (one, some, Column("qty", pa.int64(), source_type="bigint"))
        of = target(replace(ITEMS, columns=columns, key=("one", "some")))
        sink.prepare(of)
        keys = [(member, named) for member in ("z", "it's", "a") for named in ("", "b", "a", "b,a")]
        writer = Writer(sink, of)
        writer.write(*((INSERT, 10 + n, (*key, n)) for n, key in enumerate(keys)))
        assert scanned(sink, of) == [(*key, n) for n, key in enumerate(keys)]
        writer.write((DELETE, 30, (*keys[3], None)), (DELETE, 31, (*keys[4], None)), (UPDATE, 32, (*keys[8], 99)))
        assert scanned(sink, of) == [(*key, 99 if n == 8 else n) for n, key in enumerate(keys) if n not in {3, 4}]
        assert len(scanned(sink, of, keys[1], keys[9])) == 6

    @pytest.mark.parametrize("unique", [False, True])
    def test_rows_that_somebody_else_has_written(self, sink: Sink, *, unique: bool) -> None:
        """Told by what the server counts: those that a change finds gone, and those that an INSERT finds there."""
        of = target(replace(ITEMS, indexes=(Index("u", (IndexPart("name", 20),), "unique"),) * unique), settled=True)
        sink.prepare(of)
        sink.apply(of, change(Ddl.INDEX, of, 1), ACT)
        writer = Writer(sink, of)

        def found(*changes: Change) -> Foreign | None:
            there = np.array([op != INSERT for op, _, _ in changes])
            before = writer.number or None
            self._last = replace(writer.ticket(changes), behind={LANE: before}, there=there), batch(ITEMS, changes)
            return sink.write(of, self._last[1], self._last[0])

        many = [(n, f"n{n}", 1) for n in range(1, 1201)]
        assert found(*((INSERT, n[0], n) for n in many)) == (0, 0)
        assert found(*((UPDATE, 2000 + n, (n, name, n % 2)) for n, name, _ in many)) == (0, 0)  # half say nothing new
        mixed = ((INSERT if n > 1200 else UPDATE, 3500, (n, f"m{n}", 5)) for n in range(2400, 0, -1))
        assert found(*mixed) == (0, 0)  # in another order than that of their keys
        assert found((INSERT, 4000, (5000, "x", 1)), (UPDATE, 4001, many[1]), (DELETE, 4002, many[2])) == (0, 0)
        assert sink.write(of, self._last[1], self._last[0]) is None  # again, as when no answer came
        assert found((DELETE, 4010, many[0]), (INSERT, 4011, (5001, "new", 1)), (UPDATE, 4012, many[5])) == (0, 0)
        ask(self._server, "DELETE FROM shop.items WHERE id IN (10, 11, 12)")
        ask(self._server, "INSERT INTO shop.items VALUES (6000, 'same', 1), (6001, 'other', 1)")
        assert found(*((DELETE, 5000 + n, many[n - 1]) for n in range(8, 12))) == (2, 0)
        assert found((UPDATE, 5100, many[11])) == (1, 0)
        assert found((INSERT, 5101, (6000, "same", 1)), (INSERT, 5102, (6002, "late", 2))) == (0, 1)
        assert found((INSERT, 5103, (6001, "mine", 1))) == (0, 1)
        last = [*many[11:], *((n, f"m{n}", 5) for n in range(1201, 2401))]
        assert found(*((DELETE, 6000 + row[0], row) for row in last)) == (0, 0)
        assert live(sink, of).keys() == {2, *range(4, 8), *range(5000, 5002), 6000, 6001, 6002}


class TestMariaDBSink(_Family):
    negative_zero = False
    pytestmark = pytest.mark.mariadb

    @pytest.fixture
    def server(self, mariadb: Server) -> Server:
        return mariadb


class TestMySQL9Sink(_Family):
    longest_time = timedelta(hours=838, minutes=59, seconds=59)
    pytestmark = pytest.mark.mysql9

    @pytest.fixture
    def server(self, mysql9: Server) -> Server:
        return mysql9


class TestMySQL80Sink(_Family):
    """Each time test_mysql_tables.py runs there."""

    longest_time = timedelta(hours=838, minutes=59, seconds=59)
    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.mysql80, pytest.mark.nightly]

    @pytest.fixture
    def server(self, mysql80: Server) -> Server:
        return mysql80


class TestOceanBaseSink(_Family):
    longest_time = timedelta(hours=838, minutes=59, seconds=59)
    pytestmark = pytest.mark.oceanbase
    plugin = OceanBaseSink

    @pytest.fixture
    def server(self, oceanbase: Server) -> Server:
        return oceanbase
