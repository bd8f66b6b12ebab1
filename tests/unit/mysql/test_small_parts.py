"""Literals, ranges, options, errors, throttles, version texts and calendar arithmetic."""

from __future__ import annotations

import pickle
import ssl
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from syncd.drivers.mysql.address import Tls
from syncd.drivers.mysql.faults import translate
from syncd.drivers.mysql.types import listed, members
from syncd.errors import FatalError, PluginError, SyncdError, TransientError
from syncd.sinks.mysql.checks import too_old
from syncd.sinks.mysql.present import PresentColumn, has_room, is_wider
from syncd.sinks.mysql.types import holds
from syncd.sources.mysql.binlog.arrays import Views
from syncd.sources.mysql.connect import connect, quoted, server_of
from syncd.sources.mysql.head import owned
from syncd.sources.mysql.options import Options
from syncd.sources.mysql.snapshot.literal import between, beyond, literal
from syncd.sources.mysql.snapshot.throttle import Throttle
from syncd.sources.mysql.snapshot.values import day_numbers, decimals
from syncd.spi import Context


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (Decimal("-1.50"), "-1.50"),
        (b"\0'", "x'0027'"),
        ("ä'", "_utf8mb4 x'c3a427'"),
        (date(2024, 1, 2), "'2024-01-02'"),
        (datetime.fromisoformat("2024-01-02T03:04:05.000006"), "'2024-01-02 03:04:05.000006'"),
        (datetime(2024, 1, 2, tzinfo=UTC), "'2024-01-02 00:00:00.000000'"),
        (timedelta(hours=-838, minutes=-59, microseconds=-1), "'-838:59:00.000001'"),
        (timedelta(0), "'0:00:00.000000'"),
    ],
)
def test_literals(value: Any, text: str) -> None:
    assert literal(value) == text


def test_a_float_is_no_literal() -> None:
    with pytest.raises(FatalError):
        literal(1.5)


def test_ranges_as_the_server_reads_them() -> None:
    """The conditions, evaluated, are the comparison of tuples."""
    keys = list(product(range(3), repeat=3))
    for bound in keys:
        for sign in (">", "<="):
            condition = (
                beyond(["a", "b", "c"], bound, sign)
                .replace("`", "")
                .replace(" = ", " == ")
                .replace("AND", "and")
                .replace("OR", "or")
            )
            for key in keys:
                values = dict(zip("abc", key, strict=True))
                assert eval(condition, {}, values) == (key > bound if sign == ">" else key <= bound)
    assert between(["a"], None, None) == ""
    assert between(["a"], (1,), (2,)) == "(`a` > 1) AND (`a` <= 2)"


def test_names_are_quoted() -> None:
    assert quoted("a`b", "c") == "`a``b`.`c`"


@pytest.mark.parametrize(
    "url",
    ["http://x/", "mysql://u:secret@h/", "mysql://h/db", "mysql://h/?a=1", "mysql://h:abc"],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        Options(url=url)


def test_addresses_and_ids() -> None:
    options = Options(url="mysql://a%40b@db.example:3307/")
    assert (options.address.user, options.address.host, options.address.port) == ("a@b", "db.example", 3307)
    assert Options().address.loopback
    assert not options.address.loopback
    assert options.replica_id("job") == options.replica_id("job") != options.replica_id("other")
    assert all(1 << 31 <= options.replica_id(f"job{n}") < 1 << 32 for n in range(200))
    assert Options(server_id=5).replica_id("job") == 5
    assert "hush" not in repr(Options(password=SecretStr("hush")))


@pytest.mark.parametrize(
    ("text", "flavour", "version"),
    [
        ("8.0.15", "mysql", (8, 0, 15)),
        ("9.7.4-2", "mysql", (9, 7, 4)),
        ("5.5.5-10.11.18-MariaDB-log", "mariadb", (10, 11, 18)),
        ("11.4.2-MariaDB", "mariadb", (11, 4, 2)),
    ],
)
def test_versions(text: str, flavour: str, version: tuple[int, ...]) -> None:
    assert (server_of(text).flavour, server_of(text).version) == (flavour, version)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (pymysql.err.OperationalError(2003, "no route"), TransientError, "cannot be reached"),
        (pymysql.err.OperationalError(2013, "lost"), TransientError, "cannot be reached"),
        (ConnectionResetError("reset"), TransientError, "cannot be reached"),
        (pymysql.err.InterfaceError(0, ""), TransientError, "cannot be reached"),
        (pymysql.err.OperationalError(1040, "too many"), TransientError, "1040"),
        (pymysql.err.OperationalError(1045, "denied"), FatalError, "log-in"),
        (pymysql.err.OperationalError(1130, "host"), FatalError, "host in"),
        (pymysql.err.OperationalError(1227, "privilege"), FatalError, "grant is missing"),
        (pymysql.err.ProgrammingError(1146, "no table"), FatalError, "dropped, renamed or altered"),
        (pymysql.err.OperationalError(1412, "changed"), FatalError, "dropped, renamed or altered"),
        (pymysql.err.OperationalError(1153, "large"), FatalError, "max_allowed_packet"),
        (pymysql.err.OperationalError(2026, "ssl"), FatalError, "TLS was refused"),
        (ssl.SSLCertVerificationError("bad"), FatalError, "TLS was refused"),
        (RuntimeError("'cryptography' package is required"), PluginError, "cryptography"),
        (pymysql.err.OperationalError(1799, "odd"), FatalError, "1799"),
    ],
)
def test_errors_are_named(error: Exception, kind: type[SyncdError], said: str) -> None:
    made = translate(error, "here", "d.t")
    assert type(made) is kind
    assert said in str(made)
    assert str(pickle.loads(pickle.dumps(made))) == str(made)
    if isinstance(made, FatalError) and said in {"grant is missing", "dropped, renamed or altered"}:
        assert made.table == "d.t"


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_tls_files_that_cannot_be_used(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    with pytest.raises(FatalError, match=r"ca\.pem cannot be used"):
        connect(Options(tls=Tls(ca=file)))


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def throttle_of(limits: dict[str, float], clock: Clock, said: list[str], **more: Any) -> Throttle:
    def log(event: str, **fields: Any) -> None:
        said.append(event)

    options, ask = more.pop("options", Options()), more.pop("ask", never)
    context = Context("job", Path(), throttle=limits, log=log, **more)
    return Throttle(context, ask, options, now=clock.now, sleep=clock.sleep)


def test_rows_a_second() -> None:
    clock, said = Clock(), list[str]()
    throttle = throttle_of({"rows_per_s": 1000.0}, clock, said)
    for _ in range(10):
        throttle(500)
    assert clock.time == pytest.approx(5.0)
    assert said == []
    throttle(2_000)
    assert clock.time == pytest.approx(7.0)
    assert said == ["throttled"]
    clock.time += 100
    throttle(1_000)
    assert clock.time == pytest.approx(108.0)


def test_readers_share_the_rate_also_when_their_number_changes_meanwhile() -> None:
    clock = Clock()
    throttle = throttle_of({"rows_per_s": 1000.0}, clock, [], share=lambda: 0.25 if clock.time < 10 else 1.0)
    throttle(1_000)
    assert clock.time == pytest.approx(4.0)
    throttle(2_500)  # 6 s at a quarter of the rate, then the last 1,000 at all of it
    assert clock.time == pytest.approx(11.0)


def test_busy_source(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said, waits, answers = Clock(), list[str](), list[str](), iter([50, 50, 3, 3])
    monkeypatch.setattr(
        "syncd.sources.mysql.snapshot.throttle.rows", lambda *args: [("Threads_running", str(next(answers)))]
    )
    throttle = throttle_of({"source_threads_running": 10.0}, clock, said, ask=object, waits=waits.append)
    throttle(10)
    assert clock.time == pytest.approx(1.0)
    throttle(10)
    assert said == ["throttled", "throttle_over"]
    assert waits == [*["throttled: 50 threads run at the source, source_threads_running is 10"] * 2, ""]


def never() -> Any:
    raise AssertionError("the source was asked")


@given(st.dates(min_value=date(1, 1, 1)))
def test_day_numbers(day: date) -> None:
    numbers, wrong = day_numbers(*(np.array([part], np.int64) for part in (day.year, day.month, day.day)))
    assert numbers[0] == day.toordinal() - date(1970, 1, 1).toordinal()
    assert not wrong[0]


@pytest.mark.parametrize("parts", [(0, 0, 0), (2024, 0, 1), (2024, 1, 0), (2023, 2, 29), (2024, 4, 31)])
def test_no_dates(parts: Sequence[int]) -> None:
    assert day_numbers(*(np.array([part], np.int64) for part in parts))[1][0]


@given(
    st.integers(1, 18).flatmap(
        lambda p: st.tuples(st.just(p), st.integers(0, p), st.lists(st.integers(0, 10**p - 1), min_size=1, max_size=9))
    )
)
def test_decimals(case: tuple[int, int, list[int]]) -> None:
    precision, scale, numbers = case
    values = [Decimal(n if i % 2 else -n).scaleb(-scale) for i, n in enumerate(numbers)]
    texts = [f"{value:.{scale}f}".encode() for value in values]
    data = b"x" * 9 + b"".join(texts) + bytes(16)
    size = np.array([len(t) for t in texts], np.int64)
    begin = 9 + np.cumsum(size) - size
    made = decimals(Views(np.frombuffer(data, np.uint8)), begin, size, None, pa.decimal128(precision, scale))
    assert made.to_pylist() == values


def test_owned_gtids(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "3e11fa47-71ca-11e1-9e33-c80aa9429562:23#12:24#13,\n3e11fa47-71ca-11e1-9e33-c80aa9429563:tag:5#1"
    monkeypatch.setattr("syncd.sources.mysql.head.rows", lambda *args: [(text,)])
    one, two = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "3e11fa47-71ca-11e1-9e33-c80aa9429563"
    assert owned(None) == {f"{one}:23", f"{one}:24", f"{two}:tag:5"}
    monkeypatch.setattr("syncd.sources.mysql.head.rows", lambda *args: [("",)])
    assert owned(None) == set()


@pytest.mark.parametrize("number", [4012, 4013, 4030, 4038, 4184, 4264, 5066, 6002, 6005, 6330])
def test_what_oceanbase_lacks_for_a_moment_is_tried_again(number: int) -> None:
    error = translate(pymysql.err.OperationalError(number, "no"), "sink at x", "shop.items")
    assert isinstance(error, TransientError)


@pytest.mark.parametrize(
    ("wide", "narrow", "does"),
    [
        ("bigint(20)", "int(11)", True),
        ("int", "int unsigned", False),
        ("bigint", "int unsigned", True),
        ("bigint unsigned", "int", False),
        ("decimal(12,2)", "decimal(10,2)", True),
        ("decimal(12,4)", "decimal(12,2)", False),
        ("varchar(20)", "char(10)", True),
        ("char(20)", "varchar(10)", False),
        ("text", "varchar(100)", True),
        ("tinytext", "varchar(100)", False),
        ("longtext", "json", True),
        ("mediumblob", "blob", True),
        ("blob", "text", False),
        ("enum('a','b')", "enum('b')", True),
        ("enum('a')", "enum('a','b')", False),
        ("datetime(6)", "datetime", True),
        ("datetime(6)", "timestamp(6)", False),
        ("double", "float", True),
    ],
)
def test_which_column_of_a_shared_target_takes_which_values(wide: str, narrow: str, does: bool) -> None:
    assert holds(wide, narrow) == does


@pytest.mark.parametrize(
    ("collation", "wanted", "room", "wider"),
    [
        ("utf8mb4_bin", "varchar(9) CHARACTER SET latin1 COLLATE latin1_bin", True, False),
        ("latin1_bin", "varchar(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", False, True),
        ("utf8mb3_bin", "varchar(9) CHARACTER SET latin1 COLLATE latin1_bin", True, False),
        ("gbk_bin", "varchar(9) CHARACTER SET latin1 COLLATE latin1_bin", False, False),
        ("latin1_bin", "varchar(9) CHARACTER SET latin1 COLLATE latin1_bin", True, True),
    ],
)
def test_texts_of_a_shared_target_by_their_characters(collation: str, wanted: str, room: bool, wider: bool) -> None:
    there = PresentColumn("t", "varchar(9)", True, None, "", collation)
    assert (has_room(there, wanted, key=False), is_wider(wanted, there, key=False)) == (room, wider)


@pytest.mark.parametrize(
    ("there", "wanted", "room", "wider"),
    [
        ("enum('a','b')", "enum('a','b')", True, True),
        ("enum('a','b')", "enum('a')", True, False),
        ("enum('a')", "enum('a','b')", False, True),
        ("enum('b','a')", "enum('a')", False, False),
        ("enum('a')", "enum('b','a')", False, False),
        ("set('a','b','c')", "set('a','c')", False, False),
        ("set('a','b','c')", "set('a','b')", True, False),
    ],
)
def test_members_in_a_key_keep_their_numbers(there: str, wanted: str, *, room: bool, wider: bool) -> None:
    """They are sorted by these, and told by them."""
    column = PresentColumn("c", there, False, None, "", "utf8mb4_bin")
    assert (has_room(column, wanted, key=True), is_wider(wanted, column, key=True)) == (room, wider)


@given(st.lists(st.text("a,')\\\n\t\0%"), min_size=1))
def test_members_as_the_servers_write_them(names: list[str]) -> None:
    assert members(f"enum({listed(names)})") == names


def test_members_that_are_escaped() -> None:
    """As MySQL and MariaDB answer for ENUM('c\\\\d', 'e\\nf', 'q\\'r')."""
    text = r"'c\\d','e\nf','q''r'"
    assert members(f"enum({text})") == ["c\\d", "e\nf", "q'r"]
    assert listed(["c\\d", "e\nf", "q'r"]) == text


@pytest.mark.parametrize(
    ("text", "oldest"),
    [
        ("5.7.25-OceanBase_CE-v4.3.5.1", ""),
        ("5.7.25-OceanBase-v3.1.4", "4.0"),
        ("5.7.25-OceanBase seekdb-v1.4.0.0", ""),
        ("5.7.44", "8.0"),
        ("8.0.36", ""),
        ("10.4.34-MariaDB", "10.5"),
    ],
)
def test_servers_that_are_too_old_to_be_written_to(text: str, oldest: str) -> None:
    """OceanBase by its own version, not by that of the MySQL that it stands in for."""
    assert too_old(server_of(text)) == oldest
