"""Parts of the ClickHouse sink that need no engine: options, literals, errors, the token of an append."""

from __future__ import annotations

import errno
import sys
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from urllib3.exceptions import MaxRetryError

from syncd.errors import FatalError, PluginError, SyncdError, TransientError
from syncd.model import Column, Lane, TableId
from syncd.sinks.clickhouse.client import Client
from syncd.sinks.clickhouse.ddl import floor, names_in, raise_floor
from syncd.sinks.clickhouse.defaults import literal
from syncd.sinks.clickhouse.errors import mapped
from syncd.sinks.clickhouse.limits import Limits
from syncd.sinks.clickhouse.options import ClickHouseOptions
from syncd.sinks.clickhouse.sink import token
from syncd.sinks.clickhouse.types import Making, held, holds
from syncd.spi import Mark, Ticket
from syncd.testing.contracts.sink_kit import target

TABLE = TableId("shop", "items")
LIMITS = Limits(dates=(-25567, 120529), times=(-25567, 120529))
"""1900-01-01 to 2299-12-31."""


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/db",
        "chdb://host/path",
        "chdb:///",
        "http:///db",
        "http://me:pw@host/db",
        "nothing",
        "http://h:abc/db",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        ClickHouseOptions(url=url)


def test_urls_that_are_taken() -> None:
    assert ClickHouseOptions(url="http://host:8123/my%20db").database == "my db"
    assert ClickHouseOptions(url="https://host").database == "default"
    assert ClickHouseOptions(url="https://me@host").username == "me"
    assert ClickHouseOptions(url="https://host").username == "default"
    embedded = ClickHouseOptions(url="chdb:///var/lib/my%20copy")
    assert (embedded.embedded, embedded.path, embedded.database) == (True, "/var/lib/my copy", "default")


def test_every_option_is_described_and_the_password_hidden() -> None:
    fields = ClickHouseOptions.model_json_schema()["properties"]
    assert all(field.get("description") for field in fields.values())
    given = ClickHouseOptions.model_validate({"url": "http://host", "password": "hush"})
    assert "hush" not in repr(given)


def test_a_comment_is_no_floor() -> None:
    check = "CONSTRAINT syncd_floor CHECK _version >= 12"
    assert floor(target(), f"CREATE TABLE t (id Int8, {check}) COMMENT 'it\\'s {check}99'") == 12
    assert floor(target(), f"CREATE TABLE t (id Int8 COMMENT '{check}') COMMENT 'it''s {check}'") == 0


def test_each_part_of_a_target_has_its_floor() -> None:
    one, two = (replace(target(), own=(("name", name),)) for name in ("it's", "b"))
    check = raise_floor(one, 12, "").partition(" ADD ")[2]
    check = check.replace("IF NOT EXISTS ", "")
    assert (floor(one, check), floor(two, check), floor(target(), check)) == (12, 0, 0)


def test_a_floor_that_comes_late_lowers_nothing() -> None:
    table = "CONSTRAINT syncd_floor CHECK _version >= 5, CONSTRAINT `syncd_floor_20` CHECK (_version >= 20)"
    assert floor(target(), table) == 20
    late = raise_floor(target(), 12, table)
    assert "DROP CONSTRAINT IF EXISTS syncd_floor," in late
    assert "syncd_floor_20" not in late


@pytest.mark.parametrize(
    ("wide", "narrow", "does"),
    [
        ("Int64", "Int32", True),
        ("Int32", "Int64", False),
        ("Int64", "UInt32", True),
        ("UInt64", "Int8", False),
        ("Nullable(Int64)", "Int64", True),
        ("Int64", "Nullable(Int32)", False),
        ("LowCardinality(String)", "String", True),
        ("Decimal(12, 2)", "Decimal(10, 2)", True),
        ("Decimal(12, 4)", "Decimal(12, 2)", False),
        ("DateTime64(6, 'UTC')", "DateTime64(3, 'UTC')", True),
        ("String", "Int8", False),
    ],
)
def test_which_type_holds_which(wide: str, narrow: str, does: bool) -> None:
    assert holds(wide, narrow) == does


@pytest.mark.parametrize(
    ("kind", "default", "want"),
    [
        (pa.int64(), "-5", "CAST('-5' AS Int64)"),
        (pa.uint64(), "18446744073709551615", "CAST('18446744073709551615' AS UInt64)"),
        (pa.uint64(), "b'101'", "CAST('5' AS UInt64)"),
        (pa.float64(), "0.5", f"reinterpretAsFloat64(toUInt64({0x3FE << 52}))"),
        (pa.float32(), "-2", f"reinterpretAsFloat32(toUInt32({0xC << 28}))"),
        (pa.decimal128(10, 2), "1.5", "CAST('1.50' AS Decimal(10, 2))"),
        (pa.string(), "it's \\", "'it\\'s \\\\'"),
        (pa.binary(), "0x00ff", "unhex('00ff')"),
        (pa.dictionary(pa.int16(), pa.string()), "b", "'b'"),
        (pa.date32(), "2024-02-29", "CAST('2024-02-29' AS Date32)"),
        (pa.timestamp("us"), "1970-01-01 00:00:01.5", "fromUnixTimestamp64Micro(toInt64(1500000), 'UTC')"),
        (pa.timestamp("us", "UTC"), "1970-01-01 00:00:01", "fromUnixTimestamp64Micro(toInt64(1000000), 'UTC')"),
        (pa.duration("us"), "-838:59:59.000001", "CAST('-3020399000001' AS Int64)"),
        (pa.uint16(), "2024", "CAST('2024' AS UInt16)"),
    ],
    ids=str,
)
def test_defaults_as_literals(kind: pa.DataType, default: str, want: str) -> None:
    assert literal(TABLE, Column("c", kind, default=default), LIMITS, empty=False) == want


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        (pa.int8(), "300"),
        (pa.int64(), "9" * 30),
        (pa.int64(), "now()"),
        (pa.decimal128(4, 2), "1.234"),
        (pa.date32(), "0000-00-00"),
        (pa.date32(), "1899-12-31"),
        (pa.timestamp("us"), "9999-12-31 23:59:59"),
        (pa.binary(), "a"),
    ],
    ids=str,
)
def test_a_default_that_is_no_value_halts(kind: pa.DataType, default: str) -> None:
    with pytest.raises(FatalError, match=r"shop\.items\.c"):
        literal(TABLE, Column("c", kind, default=default), LIMITS, empty=False)


def test_an_implicit_default_that_is_not_known_halts_where_it_would_be_seen() -> None:
    required = Column("c", pa.date32(), nullable=False)
    with pytest.raises(FatalError, match="not known"):
        literal(TABLE, required, LIMITS, empty=False)
    assert literal(TABLE, required, LIMITS, empty=True) is not None
    assert literal(TABLE, replace(required, nullable=True), LIMITS, empty=False) is None


def test_types_without_an_exact_home() -> None:
    for kind in (pa.list_(pa.int8()), pa.timestamp("us", "Asia/Tokyo"), pa.time32("s"), pa.float16(), pa.null()):
        assert held(Column("c", kind), False, Making()) is None


def test_columns_that_an_expression_names() -> None:
    assert names_in("toYYYYMM(created)") == {"created"}
    assert names_in("(`a b`, intDiv(id, 10), 'text')") == {"a b", "id"}


class DriverError(Exception):
    code: int | None


def raised(code: int | None, cause: Exception | None = None) -> SyncdError:
    error = DriverError(f"Code: {code}. DB::Exception: no")
    error.code = code
    error.__cause__ = cause
    return mapped(error, "writing", "shop.items")


def test_errors_are_named_by_the_next_move() -> None:
    for busy in (252, 241, 159, 209, 243):
        assert isinstance(raised(busy), TransientError)
    for code in (516, 497, 164, 201, 60, 53, 12345, None):
        assert isinstance(raised(code), FatalError)
    unknown = raised(60)
    assert isinstance(unknown, FatalError)
    assert unknown.table == "shop.items"
    assert isinstance(raised(None, ConnectionResetError()), TransientError)
    full = raised(None, OSError(errno.ENOSPC, "No space left on device"))
    assert (type(full), full.hint) == (TransientError, "free some space on this machine's disk")


@pytest.mark.parametrize(
    ("cause", "says"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
        (TimeoutError("timed out"), "timed out"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_a_server_that_is_not_reached_says_why(cause: Exception, says: str) -> None:
    wrapped = MaxRetryError(cast("Any", None), "/", cause)
    wrapped.__cause__ = cause
    for error in (raised(None, cause), raised(None, wrapped)):
        assert error.what.endswith(f"cannot be reached: {says}")


def test_the_token_of_an_append() -> None:
    rows = pa.table({"_version": pa.array(np.array([1, 2], np.uint64))})
    other = pa.table({"_version": pa.array(np.array([1, 3], np.uint64))})
    first = Ticket("job/sink", 1, 1, {Lane("t", 0): Mark(5, "q", {})})
    assert token(rows, first) == token(rows, replace(first, epoch=2, number=9))
    assert token(rows, first) != token(rows, replace(first, marks={Lane("t", 0): Mark(6, "q", {})}))
    assert token(rows, first) != token(other, first)
    chunk = Ticket("job/sink/chunk", 1, 1)
    assert token(rows, chunk) != token(rows, replace(chunk, number=2))


@pytest.mark.parametrize(("url", "extra"), [("http://127.0.0.1:1/a", "clickhouse"), ("chdb:///a", "chdb")])
def test_a_driver_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, url: str, extra: str) -> None:
    """What is needed, and no more: the engine is large, and a server needs none of it."""
    monkeypatch.setitem(sys.modules, "clickhouse_connect", None)
    with pytest.raises(PluginError) as caught:
        Client(ClickHouseOptions(url=url)).open()
    assert caught.value.hint == f"pip install '.[{extra}]' in the checkout of syncd"
