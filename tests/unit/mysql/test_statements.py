"""Multi-row statements of the sinks of MySQL's family."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from syncd.drivers.mysql.connection import Server
from syncd.errors import FatalError
from syncd.model import Column, Index, IndexPart
from syncd.sinks.mysql import ddl
from syncd.sinks.mysql.layout import layout, remarks
from syncd.sinks.mysql.scan import read
from syncd.sinks.mysql.session import Limits
from syncd.sinks.mysql.statements import Writing
from syncd.sinks.mysql.values import literals
from syncd.testing.contracts.sink_kit import INSERT, ITEMS, batch, target


def limits(flavour: str) -> Limits:
    return Limits(Server(flavour, (8, 0, 0), "8.0.0"), frozenset({"utf8mb4"}), frozenset({"utf8mb4_bin"}), 1 << 24, 0)


def sizes(flavour: str, rows: int, *, over: bool, most: int = 2000) -> list[int]:
    """Rows of each statement; together they are all rows, in order."""
    there = batch(ITEMS, [(INSERT, i, (i, "it's", None)) for i in range(rows)]).rows
    writing = Writing(layout(target(), limits(flavour)), there, most, 1 << 20)
    found = list(writing.insert(np.arange(rows), over=over))
    assert np.concatenate([s.index for s in found]).tolist() == list(range(rows))
    assert all(s.sql.count(b"'it''s'") == len(s.index) for s in found)
    return [len(s.index) for s in found]


@pytest.mark.parametrize(
    ("flavour", "rows", "over", "most", "want"),
    [
        ("oceanbase", 1437, True, 2000, [500, 500, 250, 125, 62]),
        ("oceanbase", 4, True, 2000, [3, 1]),
        ("oceanbase", 11, True, 8, [8, 2, 1]),
        ("oceanbase", 4437, False, 2000, [2000, 2000, 437]),
        ("mariadb", 4437, True, 2000, [2000, 2000, 437]),
    ],
)
def test_few_sizes_of_upserts_at_oceanbase(flavour: str, rows: int, over: bool, most: int, want: list[int]) -> None:
    """It makes a plan for each."""
    assert sizes(flavour, rows, over=over, most=most) == want


def test_quotes_and_backslashes_are_doubled_wherever_they_are() -> None:
    """Also in a slice, whose bytes lie among those of others."""
    texts = pa.array(["it's", "pla\\in", None, "", "'"])
    want = [b"'it''s'", b"'pla\\\\in'", b"NULL", b"''", b"''''"]
    assert literals(texts).to_pylist() == want
    for first in range(5):
        for count in range(6 - first):
            assert literals(texts.slice(first, count)).to_pylist() == want[first : first + count]
    assert literals(pa.array([], pa.string())).to_pylist() == []
    assert literals(pa.array([b"'\x00"], pa.binary())).to_pylist() == [b"_binary'''\x00'"]


@pytest.mark.parametrize(
    ("flavour", "options", "want"),
    [
        ("mysql", {}, "body, turn"),
        ("oceanbase", {}, "body, word, turn"),
        ("mysql", {"expressions": "drop"}, "body, word, half, turn"),
    ],
)
def test_what_a_table_does_not_fill_by_itself_is_told(flavour: str, options: dict[str, str], want: str) -> None:
    columns = (
        *ITEMS.columns,
        Column("body", pa.string(), True, "text", "utf8mb4", "utf8mb4_bin", "it's"),
        Column("word", pa.int64(), True, "bigint", filled="DEFAULT (1 + 1)"),
        Column("half", pa.int64(), True, "bigint", generated="(`qty` / 2) STORED"),
        Column("turn", pa.int64(), False, "bigint", filled="AUTO_INCREMENT"),
        Column("made", pa.timestamp("us"), True, "datetime(6)", filled="DEFAULT CURRENT_TIMESTAMP(6)"),
        Column("plain", pa.int64(), False, "bigint", default="7"),
    )
    of = target(replace(ITEMS, columns=columns, dialect="mysql"), options=options)
    (told,) = ddl.remarks(layout(of, limits(flavour)))
    assert told.text.rpartition(": ")[2] == want
    assert ddl.remarks(layout(target(), limits(flavour))) == []


def test_a_unique_index_over_texts_that_the_server_compares_otherwise_is_warned_of() -> None:
    """Two values may be one to it."""
    text = Column("mail", pa.string(), False, "varchar(40)", "utf8mb4", "utf8mb4_0900_ai_ci")
    indexes = (Index("m", (IndexPart("qty"), IndexPart("mail")), "unique"), Index("q", (IndexPart("qty"),), "unique"))
    schema = replace(ITEMS, columns=(*ITEMS.columns, text), indexes=indexes, dialect="mysql")
    told = {f.text.split()[2]: f.level for f in remarks(layout(target(schema), limits("oceanbase")))}
    assert told == {"m": "warning", "q": "ok"}


def test_indexes_whose_names_oceanbase_misreads_are_left_out_and_named() -> None:
    indexes = (Index("good", (IndexPart("qty"),)), Index("odd", (IndexPart("a`b"),)))
    schema = replace(ITEMS, columns=(*ITEMS.columns, Column("a`b", pa.int64(), True, "bigint")), indexes=indexes)

    def made(flavour: str, name: str = "items") -> tuple[list[str], list[str]]:
        of = layout(replace(target(schema), name=name), limits(flavour))
        left_out = [f.text.rpartition(": ")[2] for f in remarks(of) if f.text.startswith("indexes that")]
        return [index.name for index in of.indexes], left_out

    assert made("mysql", "it`s") == (["good", "odd"], [])
    assert made("oceanbase") == (["good"], ["odd"])
    assert made("oceanbase", "it`s") == ([], ["good, odd"])


def test_a_value_of_the_target_that_no_source_has_is_named() -> None:
    column = Column("day", pa.date32(), True, "date")
    with pytest.raises(FatalError, match=r"`items`, column day: .*'0000-00-00'.*; mend or remove the row") as caught:
        read(layout(target(), limits("mysql")), column, ["2024-01-01", "0000-00-00"])
    assert caught.value.table == "shop.items"
