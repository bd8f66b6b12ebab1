"""Text, bytes, ENUM and SET out of the log."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from syncd.sources.mysql.binlog.arrays import array, binary, bitmap
from syncd.sources.mysql.binlog.cells import Cells, Convert, Place, some


def _latin1_character(byte: int) -> str:
    """MySQL's latin1 is Windows-1252; the five bytes that it leaves open are the C1 controls of the same number."""
    try:
        return bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:
        return chr(byte)


_LATIN1 = [_latin1_character(byte).encode() for byte in range(256)]
_LATIN1_SIZE = np.array([len(code) for code in _LATIN1], np.int64)
_LATIN1_BYTES = np.array([list(code.ljust(3, b"\0")) for code in _LATIN1], np.uint8)


def decoded(value: bytes, charset: str) -> str:
    """One value as text; bytes that are not of the character set come out as something that no text has."""
    if charset == "latin1":
        return "".join(_LATIN1[byte].decode() for byte in value)
    return value.decode("utf-8", "surrogateescape")


def blob(cells: Cells) -> pa.Array:
    assert cells.size is not None
    return binary(cells.views.data, cells.at, cells.size, cells.null)


def text(place: Place, charset: str) -> Convert:
    """utf8mb4, utf8mb3, ascii and latin1 -> string. Bytes that are not of the character set halt the table."""

    def convert(cells: Cells) -> pa.Array:
        values = blob(cells)
        if charset == "latin1":
            values = from_latin1(values)
        try:
            return values.cast(pa.string())
        except pa.ArrowInvalid as error:
            raise place.unsupported(f"a value is not valid {charset}", hint="mend the rows at the source") from error

    return convert


def from_latin1(values: pa.Array) -> pa.Array:
    """The same text in UTF-8, as binary; `values` begins at its buffers' first byte."""
    validity, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int32)[: len(values) + 1]
    raw = np.frombuffer(data, np.uint8)[: ends[-1]] if ends[-1] else np.zeros(0, np.uint8)
    if not (raw & 0x80).any():
        return values
    size = _LATIN1_SIZE[raw]
    after = np.concatenate(([0], np.cumsum(size)))
    out = np.empty(after[-1], np.uint8)
    for place in range(3):
        wide = np.flatnonzero(size > place)
        out[after[wide] + place] = _LATIN1_BYTES[raw[wide], place]
    moved = after[ends].astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(values), [validity, pa.py_buffer(moved), pa.py_buffer(out)])


def padded(width: int) -> Convert:
    """BINARY(width): the log leaves out the zero bytes at the end -> binary of exactly `width` bytes."""

    def convert(cells: Cells) -> pa.Array:
        assert cells.size is not None
        short = cells.size < width
        if not some(short, cells.null):
            return blob(cells)
        count = len(cells)
        size = cells.size
        ends = np.cumsum(size)
        source = np.repeat(cells.at - (ends - size), size) + np.arange(ends[-1])
        target = np.repeat(np.arange(count) * width - (ends - size), size) + np.arange(ends[-1])
        out = np.zeros(count * width, np.uint8)
        out[target] = cells.views.data[source]
        offsets = (np.arange(count + 1) * width).astype(np.int32)
        values = pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(out)])
        if cells.null is None:
            return values
        return pa.Array.from_buffers(pa.binary(), count, [bitmap(cells.null), *values.buffers()[1:]])

    return convert


def enum(place: Place, size: int, members: list[str]) -> Convert:
    """The number of the member, 0 for the server's error value -> dictionary(int16, string)."""
    kind = pa.dictionary(pa.int16(), pa.string())
    names = pa.array(["", *members], pa.string())

    def convert(cells: Cells) -> pa.Array:
        raw = cells.views.little(size, cells.at)
        if some(raw > len(members), cells.null):
            raise place.malformed(f"a member beyond the {len(members)} of the ENUM")
        codes = array(pa.int16(), raw.astype(np.int16), cells.null)
        return pa.DictionaryArray.from_arrays(codes, names).cast(kind)

    return convert


def set_(place: Place, size: int, members: list[str]) -> Convert:
    """One bit a member, little endian -> the members' names, joined by commas."""

    def convert(cells: Cells) -> pa.Array:
        raw = cells.views.little(size, cells.at).view(np.uint64)
        if len(members) < 64 and some(raw >> np.uint64(len(members)) != 0, cells.null):
            raise place.malformed(f"a member beyond the {len(members)} of the SET")
        if cells.null is not None:
            raw[cells.null] = 0
        found, codes = np.unique(raw, return_inverse=True)
        names = [",".join(name for bit, name in enumerate(members) if int(value) >> bit & 1) for value in found]
        return pa.array(names, pa.string()).take(array(pa.int64(), codes.astype(np.int64), cells.null))

    return convert
