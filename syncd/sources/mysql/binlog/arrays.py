"""Loads of many values from one buffer at once.

A view of a buffer with a stride of one byte has, at index i, the number whose first byte is byte i; so a whole column
is one `view[at]`, whatever its alignment. Variable lengths: an Arrow array laid over the buffer, whose elements are by
turns a value and the gap to the next value, is filtered to the values, which is one memcpy a value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_POWERS = np.array([10**n for n in range(19)], np.int64)


class Views:
    """Numbers of any type at any byte of `data`, whose last 8 bytes or more are padding."""

    def __init__(self, data: Bytes) -> None:
        self.data = data
        self._views: dict[str, NDArray[Any]] = {}

    def at(self, dtype: str, at: Ints) -> NDArray[Any]:
        """The numbers of `dtype` ("<u4", ">u8", ...) whose first bytes are at `at`. IndexError: outside of the data."""
        view = self._views.get(dtype)
        if view is None:
            size = np.dtype(dtype).itemsize
            view = np.ndarray((max(self.data.size - size + 1, 0),), dtype, self.data, 0, (1,))
            self._views[dtype] = view
        found: NDArray[Any] = view[at]
        return found

    def blocks(self, size: int, at: Ints) -> Bytes:
        """`size` bytes from each of `at`, a line each. IndexError: outside of the data."""
        return self.at(f"V{size}", at).view(np.uint8).reshape(len(at), size)

    def packed(self, size: int, at: Ints) -> tuple[Views, Ints]:
        """`size` bytes from each of `at`, laid side by side: views of them, and where each begins there.

        One look into the buffer instead of one for each number: it is far larger than the nearest cache.
        """
        line = size + 8
        packed = self.at(f"V{line}", at).view(np.uint8)
        return Views(packed), np.arange(len(at)) * line

    def little(self, size: int, at: Ints) -> Ints:
        """Unsigned little endian integers of 1 to 7 bytes, or the bits of 8, as int64."""
        if size == 1:
            return self.data[at].astype(np.int64)
        if size == 2:
            return self.at("<u2", at).astype(np.int64)
        if size <= 4:
            return self.at("<u4", at).astype(np.int64) & ((1 << 8 * size) - 1)
        wide: Ints = self.at("<i8", at).astype(np.int64)
        return wide if size == 8 else wide & ((1 << 8 * size) - 1)

    def big(self, size: int, at: Ints) -> Ints:
        """Unsigned big endian integers of 1 to 7 bytes, or the bits of 8, as int64."""
        if size == 1:
            return self.data[at].astype(np.int64)
        if size == 2:
            return self.at(">u2", at).astype(np.int64)
        if size <= 4:
            return self.at(">u4", at).astype(np.int64) >> (32 - 8 * size)
        if size == 8:
            return self.at(">i8", at).astype(np.int64)
        bits: Ints = (self.at(">u8", at) >> np.uint64(64 - 8 * size)).astype(np.int64)
        return bits


def bitmap(null: Bools | None) -> pa.Buffer | None:
    """Arrow's validity bits."""
    return None if null is None else pa.py_buffer(np.packbits(~null, bitorder="little"))


def array(kind: pa.DataType, values: NDArray[Any], null: Bools | None) -> pa.Array:
    """An Arrow array over `values` (one item each, or the words of one item in a row)."""
    if null is not None:
        values[null] = 0  # what a null slot holds is seen on the wire: never a neighbour's bytes
    count = len(values)
    return pa.Array.from_buffers(kind, count, [bitmap(null), pa.py_buffer(np.ascontiguousarray(values))])


def binary(data: Bytes, at: Ints, size: Ints, null: Bools | None) -> pa.Array:
    """pa.binary() of `size` bytes at each `at`; the values lie in ascending order without overlap."""
    count = len(at)
    offsets = np.empty(2 * count + 1, np.int32)
    offsets[:-1:2] = at
    offsets[1::2] = at + size
    offsets[-1] = offsets[-2]
    turns = pa.Array.from_buffers(pa.binary(), 2 * count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    first = pa.Array.from_buffers(pa.bool_(), 2 * count, [None, pa.py_buffer(b"\x55" * (count // 4 + 1))])
    values = turns.filter(first)
    if null is None:
        return values
    return pa.Array.from_buffers(pa.binary(), count, [bitmap(null), *values.buffers()[1:]])


def power(exponent: int) -> int:
    return int(_POWERS[exponent])
