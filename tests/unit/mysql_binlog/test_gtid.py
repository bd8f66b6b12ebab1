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
from syncd.sources.mysql.lacking import of_mariadb

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


def test_what_one_set_has_and_another_lacks() -> None:
    ours = MySQLGtids(f"{U}:1-10:20:ab:1-3,{V}:5")
    lost = ours.without(MySQLGtids(f"{U}:2-4:6:9-30:ab:1-2"))
    assert lost.text() == f"{U}:1:5:7-8,{U}:ab:3,{V}:5"
    assert lost.count() == 6
    assert ours.without(ours).text() == ""


STATE = "0-1-100,0-2-110,5-1-7"


@pytest.mark.parametrize(
    ("state", "slave_pos", "copied", "itself", "lost", "many"),
    [
        (STATE, "", "0-1-100,5-1-7", False, "", 0),
        (STATE, "", "0-2-110", False, "", 0),
        # a newer one of another server does not stand for it
        (STATE, "", "0-1-103", False, "0-1-101 to 0-1-103", 3),
        (STATE, "", "0-2-111,5-1-8", False, "0-2-111, 5-1-8", 2),
        # from a server that has never been known here
        (STATE, "", "0-3-112", False, "0-3-111 to 0-3-112", 2),
        (STATE, "", "0-3-105", False, "0-3-105", 1),
        # made from a copy, before its own log began
        ("0-2-110", "0-1-100", "0-1-100", False, "", 0),
        ("0-2-110", "0-1-100", "0-1-102", False, "0-1-101 to 0-1-102", 2),
        # a domain that is gone: from the same server, it may have been deleted by hand
        ("0-1-9", "", "0-1-9,5-1-7", True, "", 0),
        ("0-1-9", "", "0-1-9,5-1-7", False, "5-1-1 to 5-1-7", 7),
    ],
)
def test_what_a_mariadb_server_lacks(
    state: str, slave_pos: str, copied: str, itself: bool, lost: str, many: int
) -> None:
    found = of_mariadb(state, slave_pos, copied, itself=itself)
    assert (found.gtids, found.many) == (lost, many)
    assert found.kin == ("maybe" if copied.startswith("0-3-") else "yes")
    assert of_mariadb(state, slave_pos, "9-1-1", itself=False).kin == "no"


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
