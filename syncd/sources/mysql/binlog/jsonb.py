"""MySQL's binary JSON -> the text that the server itself gives in a SELECT.

Source of the format: MySQL `sql-common/json_binary.h`; of the text: `sql-common/json_dom.cc`, wrapper_to_string, and
`strings/dtoa.cc`, my_gcvt. This is the one type that is converted value by value, since a document is a tree.
"""

from __future__ import annotations

import base64
import struct
from decimal import Decimal

import pyarrow as pa

from syncd.sources.mysql.binlog.cells import Cells, Convert, Place
from syncd.sources.mysql.binlog.tablemap import DATE, DATETIME, DIGIT_BYTES, NEWDECIMAL, TIME, TIMESTAMP
from syncd.sources.mysql.binlog.texts import blob

_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY, _LITERAL = range(5)
_INT16, _UINT16, _INT32, _UINT32, _INT64, _UINT64, _DOUBLE, _STRING = range(5, 13)
_OPAQUE = 15
_LITERALS = ("null", "true", "false")
_NUMBERS = {_INT16: "<h", _UINT16: "<H", _INT32: "<i", _UINT32: "<I", _INT64: "<q", _UINT64: "<Q"}
_INLINED = {2: {_LITERAL, _INT16, _UINT16}, 4: {_LITERAL, _INT16, _UINT16, _INT32, _UINT32}}
_DEEPEST = 101
_LONGEST_PLAIN = 15
"""Digits before the point, and zeros behind it, up to which my_gcvt writes a double without an exponent."""
_ESCAPES = {code: f"\\u{code:04x}" for code in range(32)}
_ESCAPES |= {ord(c): "\\" + e for c, e in (('"', '"'), ("\\", "\\"), ("\b", "b"), ("\f", "f"), ("\n", "n"))}
_ESCAPES |= {ord("\r"): "\\r", ord("\t"): "\\t"}


class MalformedJson(ValueError):
    """The bytes are no binary JSON document."""


def json_text(place: Place) -> Convert:
    """JSON columns -> string. Equal documents of a batch are converted once."""

    def convert(cells: Cells) -> pa.Array:
        found = blob(cells).dictionary_encode()
        try:
            texts = pa.array([text(value) for value in found.dictionary.to_pylist()], pa.string())
        except (MalformedJson, struct.error, IndexError, UnicodeDecodeError) as error:
            raise place.malformed(f"malformed JSON ({error})") from error
        return texts.take(found.indices)

    return convert


def text(data: bytes) -> str:
    """One document. MalformedJson, struct.error, IndexError, UnicodeDecodeError: the bytes are none."""
    if not data:
        return "null"
    out: list[str] = []
    _Document(data, out).value(data[0], 1, 0)
    return "".join(out)


class _Document:
    def __init__(self, data: bytes, out: list[str]) -> None:
        self._data, self._add = data, out.append
        self._left = len(data) + 1

    def value(self, kind: int, at: int, depth: int) -> None:
        """Append the value of type `kind` whose bytes begin at `at`."""
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            raise MalformedJson("it refers to itself")
        if kind <= _LARGE_ARRAY:
            self._container(kind, at, depth)
        elif kind == _LITERAL:
            self._add(_LITERALS[self._data[at]])
        elif kind in _NUMBERS:
            self._add(str(struct.unpack_from(_NUMBERS[kind], self._data, at)[0]))
        elif kind == _DOUBLE:
            self._add(double(struct.unpack_from("<d", self._data, at)[0]))
        elif kind == _STRING:
            size, at = self._size(at)
            self._add(quoted(self._slice(at, size).decode()))
        elif kind == _OPAQUE:
            size, first = self._size(at + 1)
            self._add(opaque(self._data[at], self._slice(first, size)))
        else:
            raise MalformedJson(f"type {kind}")

    def _container(self, kind: int, base: int, depth: int) -> None:
        width = 2 if kind in {_SMALL_OBJECT, _SMALL_ARRAY} else 4
        is_object = kind in {_SMALL_OBJECT, _LARGE_OBJECT}
        count = self._number(base, width)
        at = base + 2 * width
        values = at + count * (width + 2) * is_object
        if values + count * (width + 1) > len(self._data):
            raise MalformedJson("it ends too early")
        self._add("{" if is_object else "[")
        for index in range(count):
            if index:
                self._add(", ")
            if is_object:
                key = at + index * (width + 2)
                name = self._slice(base + self._number(key, width), self._number(key + width, 2))
                self._add(quoted(name.decode()) + ": ")
            entry = values + index * (width + 1)
            kind = self._data[entry]
            inlined = kind in _INLINED[width]
            self.value(kind, entry + 1 if inlined else base + self._number(entry + 1, width), depth + 1)
        self._add("}" if is_object else "]")

    def _number(self, at: int, width: int) -> int:
        return int.from_bytes(self._slice(at, width), "little")

    def _slice(self, at: int, size: int) -> bytes:
        if at + size > len(self._data):
            raise MalformedJson("it ends too early")
        return self._data[at : at + size]

    def _size(self, at: int) -> tuple[int, int]:
        """A length of seven bits a byte, and where it ends."""
        size = 0
        for place in range(5):
            byte = self._data[at + place]
            size |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return size, at + place + 1
        raise MalformedJson("a length of more than five bytes")


def quoted(value: str) -> str:
    return f'"{value.translate(_ESCAPES)}"'


def double(value: float) -> str:
    """The shortest digits that give the same double, with an exponent only far from 1."""
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    if not isinstance(exponent, int):
        raise MalformedJson(f"the number {value}")
    shown = "".join(map(str, digits)).rstrip("0")
    if not shown:
        return "-0.0" if sign else "0.0"
    point = len(digits) + exponent
    if not -_LONGEST_PLAIN < point <= _LONGEST_PLAIN:
        mantissa = shown[0] + ("." + shown[1:] if len(shown) > 1 else "")
        body = f"{mantissa}e{point - 1}"
    elif point <= 0:
        body = "0." + "0" * -point + shown
    else:
        body = f"{shown[:point].ljust(point, '0')}.{shown[point:] or '0'}"
    return "-" * sign + body


def opaque(kind: int, data: bytes) -> str:
    """A value of an SQL type: numbers bare, times quoted, everything else in Base64."""
    if kind == NEWDECIMAL and len(data) > 2:
        return decimal(data[0], data[1], data[2:])
    if kind in {DATE, DATETIME, TIMESTAMP, TIME} and len(data) == 8:
        return f'"{moment(kind, int.from_bytes(data, "little", signed=True))}"'
    coded = base64.b64encode(data).decode()
    lines = "\\n".join(coded[at : at + 76] for at in range(0, len(coded), 76))
    return f'"base64:type{kind}:{lines}"'


def decimal(precision: int, scale: int, data: bytes) -> str:
    """The server's binary DECIMAL (see `numbers`) as text."""
    whole = precision - scale
    sizes = [whole % 9] * bool(whole % 9) + [9] * (whole // 9 + scale // 9) + [scale % 9] * bool(scale % 9)
    if len(data) < sum(DIGIT_BYTES[size] for size in sizes) or scale > precision:
        raise MalformedJson("a DECIMAL that ends too early")
    negative = data[0] < 0x80
    raw = bytearray(data)
    raw[0] ^= 0x80
    if negative:
        raw = bytearray(byte ^ 0xFF for byte in raw)
    digits, at = "", 0
    for size in sizes:
        width = DIGIT_BYTES[size]
        digits += str(int.from_bytes(raw[at : at + width], "big")).rjust(size, "0")
        at += width
    front = digits[:whole].lstrip("0") or "0"
    return "-" * negative + front + ("." + digits[whole:] if scale else "")


def moment(kind: int, packed: int) -> str:
    """The server's packed time (24 bits of microseconds below) as text."""
    sign, packed = ("-", -packed) if packed < 0 else ("", packed)
    micros, rest = packed & 0xFFFFFF, packed >> 24
    clock = f"{rest >> 6 & 63:02}:{rest & 63:02}.{micros:06}"
    if kind == TIME:
        return f"{sign}{rest >> 12 & 0x3FF:02}:{clock}"
    year, month = divmod(rest >> 22, 13)
    calendar = f"{year:04}-{month:02}-{rest >> 17 & 31:02}"
    return calendar if kind == DATE else f"{calendar} {rest >> 12 & 31:02}:{clock}"
