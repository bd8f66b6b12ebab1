from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.sources.mysql.binlog.jsonb import MalformedJson, double, opaque, quoted, text

VECTORS = {
    "": "null",
    "0400": "null",
    "0401": "true",
    "0402": "false",
    "05ffff": "-1",
    "06ffff": "65535",
    "0700000080": "-2147483648",
    "08ffffffff": "4294967295",
    "090000000000000080": "-9223372036854775808",
    "0affffffffffffffff": "18446744073709551615",
    "0b000000000000f83f": "1.5",
    "0c0161": '"a"',
    "0200000400": "[]",
    "0000000400": "{}",
    "0001000c000b0001000501006b": '{"k": 1}',
    "02020010000501000c0a000561626364" + "65": '[1, "abcde"]',
}


@pytest.mark.parametrize(("data", "shown"), VECTORS.items())
def test_vectors(data: str, shown: str) -> None:
    assert text(bytes.fromhex(data)) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (1e14, "100000000000000.0"),
        (1e15, "1e15"),
        (1e16, "1e16"),
        (123456789012345.6, "123456789012345.6"),
        (1234567890123456.0, "1.234567890123456e15"),
        (1e-14, "0.00000000000001"),
        (1e-15, "0.000000000000001"),
        (1e-16, "1e-16"),
        (-1.5e300, "-1.5e300"),
        (5e-324, "5e-324"),
        (0.1, "0.1"),
    ],
)
def test_doubles(value: float, shown: str) -> None:
    assert double(value) == shown


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_read_back(value: float) -> None:
    assert struct.pack("<d", float(double(value))) == struct.pack("<d", value)


def test_doubles_that_json_cannot_hold() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(MalformedJson):
            double(value)


def test_escapes() -> None:
    assert quoted('a"b\\c/\b\f\n\r\t\x01\x1f\x7fü') == '"a\\"b\\\\c/\\b\\f\\n\\r\\t\\u0001\\u001f\x7fü"'


def test_values_of_sql_types() -> None:
    assert opaque(246, bytes.fromhex("0402" + "8c22")) == "12.34"
    assert opaque(246, bytes.fromhex("0402" + "73dd")) == "-12.34"
    assert opaque(252, b"\x00\xff") == '"base64:type252:AP8="'


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_document_or_malformed(data: bytes) -> None:
    with suppress(MalformedJson, struct.error, IndexError, UnicodeDecodeError):
        assert isinstance(text(data), str)


def test_a_document_that_holds_itself() -> None:
    with pytest.raises(MalformedJson, match="itself"):
        text(bytes.fromhex("02" + "0100" + "0700" + "02" + "0000"))
