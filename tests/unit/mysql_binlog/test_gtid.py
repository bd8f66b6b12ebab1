from __future__ import annotations

import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import FatalError, StateError
from syncd.model import Position
from syncd.sources.mysql.binlog.gtid import MariaGtids, MySQLGtids
from syncd.sources.mysql.binlog.position import Order, Place, compare, describe, load
from syncd.sources.mysql.binlog.tagged import parse_tagged

U, V = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562"


def test_mysql_sets_are_sorted_and_joined() -> None:
    assert MySQLGtids(f"{V}:3, {U}:1-5:6-7:9\n,{U}:8").text() == f"{U}:1-9,{V}:3"
    assert MySQLGtids(f"{U}:1:blue:1-3:red:2,{U}:blue:4").text() == f"{U}:1,{U}:blue:1-4,{U}:red:2"
    assert MySQLGtids("").text() == ""


@pytest.mark.parametrize("text", ["x:1", f"{U}:5-1", f"{U}:0", f"{U}:a-b", f"{U}:1-x"])
def test_what_is_no_mysql_set(text: str) -> None:
    with pytest.raises(FatalError):
        MySQLGtids(text)


@given(
    st.dictionaries(st.sampled_from([(U, ""), (U, "a"), (V, ""), (V, "zz_9")]), st.sets(st.integers(1, 40), min_size=1))
)
def test_mysql_sets_as_sets(sources: dict[tuple[str, str], set[int]]) -> None:
    made = MySQLGtids()
    for (source, tag), numbers in sources.items():
        for number in numbers:
            made.add((uuid.UUID(source).bytes, tag), number, number + 1)
    assert MySQLGtids(made.text()).text() == made.text()
    assert MySQLGtids.decode(made.encode()).text() == made.text()
    assert made.covers(MySQLGtids(made.text()))
    bigger = MySQLGtids(made.text())
    bigger.add((uuid.UUID(U).bytes, ""), 100, 101)
    assert bigger.covers(made)
    assert not made.covers(bigger)


def test_the_encoding_without_and_with_tags() -> None:
    plain = MySQLGtids(f"{U}:1-5").encode()
    assert (
        plain.hex()
        == "0100000000000000" + U.replace("-", "") + "0100000000000000" + "0100000000000000" + "0600000000000000"
    )
    assert MySQLGtids(f"{U}:ab:1").encode().hex().startswith("0101000000000001" + U.replace("-", "") + "04" + "6162")


def test_mariadb_sets() -> None:
    made = MariaGtids("1-2-3,0-1-100")
    assert made.text() == "0-1-100,1-2-3"
    assert made.covers(MariaGtids("0-9-99"))
    assert not made.covers(MariaGtids("2-1-1"))
    made.merge(MariaGtids("0-5-50,2-1-1"))
    assert made.text() == "0-1-100,1-2-3,2-1-1"
    for text in ("1-2", "a-b-c", "1-2-3-4"):
        with pytest.raises(FatalError):
            MariaGtids(text)


def test_tagged_gtids_are_cut_off_by_name() -> None:
    for body in (b"", b"\x02\x10", bytes(40)):
        with pytest.raises(FatalError):
            parse_tagged(body)


def test_positions() -> None:
    one = Place("b.000001", 99, "0-1-5", "mariadb:1").dump()
    assert load(one) == Place("b.000001", 99, "0-1-5", "mariadb:1")
    later, next_file = (
        Place("b.000001", 100, "0-1-6", "mariadb:1").dump(),
        Place("b.000010", 4, None, "mariadb:1").dump(),
    )
    assert compare(one, later) is Order.BEFORE
    assert compare(next_file, later) is Order.AFTER
    assert compare(one, one) is Order.SAME
    elsewhere = Place("", 0, "0-1-6,1-1-1", "mariadb:2").dump()
    assert compare(one, elsewhere) is Order.BEFORE
    assert compare(Place("", 0, "2-1-1", "mariadb:3").dump(), one) is Order.APART
    assert describe(one) == "b.000001:99 (GTID 0-1-5)"
    assert load(Position(json.dumps({"gtid": ""}))).gtid == ""
    for text in ("", "{}", "[]", '{"file": 3}', '{"nothing": 1}', '{"file": "x", "pos": "y"}'):
        with pytest.raises(StateError):
            load(Position(text))
