"""Arrow columns as SQL literals, by kernels: one binary value for each row, NULL among them.

Everything is bytes: texts go as UTF-8, the connection's character set, and binary columns as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from syncd.drivers.mysql.types import base_type, members

_NULL = pa.scalar(b"NULL")
_QUOTE, _BYTES_QUOTE = pa.scalar(b"'"), pa.scalar(b"_binary'")
_NOTHING = pa.scalar(b"")
_SPECIAL = b"'", b"\\"
_PLAIN_SCALE = 6
"""Up to this scale Arrow writes a decimal without an exponent."""
_SECOND, _MINUTE, _HOUR = 1_000_000, 60_000_000, 3_600_000_000


def literals(values: pa.Array) -> pa.Array:
    """What stands for each value in VALUES: binary, never null."""
    if pat.is_dictionary(values.type):
        return pc.fill_null(literals(values.dictionary).take(values.indices), _NULL)
    return pc.fill_null(_written(values), _NULL)


def key_literals(values: pa.Array, column_type: str) -> pa.Array:
    """The same for a comparison with the column, so that its index is used and nothing is rounded.

    ENUM and SET by their numbers: a text is compared by its letters, other than the column is sorted, and OceanBase
    refuses it (1210) where the column is in a primary key.
    """
    base = base_type(column_type)
    if base in {"enum", "set"}:
        return _numbers(values, members(column_type), several=base == "set")
    if pat.is_decimal(values.type) and values.type.scale > _PLAIN_SCALE:
        ends = pa.scalar(f" AS DECIMAL({values.type.precision},{values.type.scale}))".encode())
        return pc.binary_join_element_wise(pa.scalar(b"CAST("), literals(values), ends, _NOTHING)
    return literals(values)


def _numbers(values: pa.Array, names: list[str], *, several: bool) -> pa.Array:
    """`several`: of a SET. "" is no member: the error value of an ENUM, a SET without any."""
    place = {name: 1 << at if several else at + 1 for at, name in enumerate(names)}
    coded = values.cast(pa.string()).dictionary_encode()
    parts = [(text.split(",") if several else [text]) if text else [] for text in coded.dictionary.to_pylist()]
    numbers = pa.array([str(sum(place[name] for name in named)).encode() for named in parts], pa.binary())
    return pc.fill_null(numbers.take(coded.indices), _NULL)


def _written(values: pa.Array) -> pa.Array:
    kind = values.type
    if pat.is_boolean(kind):
        return _bytes(values.cast(pa.int8()))
    if pat.is_integer(kind):
        return _bytes(values)
    if pat.is_floating(kind):
        # A float's own shortest text may round to a larger one than there is.
        return _quoted(_bytes(values.cast(pa.float64())))
    if pat.is_decimal(kind):
        text = _bytes(values)
        return text if kind.scale <= _PLAIN_SCALE else _quoted(text)
    if pat.is_binary(kind) or pat.is_large_binary(kind):
        return _quoted(_doubled(values.cast(pa.binary())), _BYTES_QUOTE)
    if pat.is_string(kind) or pat.is_large_string(kind):
        return _quoted(_doubled(values.cast(pa.string()).cast(pa.binary())))
    if pat.is_timestamp(kind):
        return _quoted(_bytes(values.cast(pa.timestamp("us"))))
    if pat.is_duration(kind):
        return _quoted(_time(values))
    return _quoted(_bytes(values))


def _bytes(values: pa.Array) -> pa.Array:
    return values.cast(pa.string()).cast(pa.binary())


def _quoted(texts: pa.Array, opening: pa.Scalar = _QUOTE) -> pa.Array:
    return pc.binary_join_element_wise(opening, texts, _QUOTE, _NOTHING)


def _doubled(texts: pa.Array) -> pa.Array:
    """With each quote and backslash twice."""
    for byte in _SPECIAL:
        texts = pc.replace_substring(texts, byte, byte * 2) if _has(texts, byte[0]) else texts
    return texts


def _has(texts: pa.Array, byte: int) -> bool:
    """One look at all bytes costs a twentieth of a replacement."""
    _, borders, data = texts.buffers()
    if data is None or not len(texts):
        return False
    ends = np.frombuffer(borders, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return bool((np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] == byte).any())


def _time(values: pa.Array) -> pa.Array:
    """[-]hours:minutes:seconds.microseconds, hours of up to three digits."""
    total = values.cast(pa.int64())
    size = np.abs(total.fill_null(0).to_numpy(zero_copy_only=False))
    parts = [size // _HOUR, size // _MINUTE % 60, size // _SECOND % 60, size % _SECOND]
    texts = [_padded(part, width) for part, width in zip(parts, (2, 2, 2, 6), strict=True)]
    sign = pc.if_else(pc.less(total, 0), "-", "")
    clock = pc.binary_join_element_wise(*texts[:3], ":")
    return pc.binary_join_element_wise(sign, clock, ".", texts[3], "").cast(pa.binary())


def _padded(numbers: Any, width: int) -> pa.Array:
    return pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width=width, padding="0")


def joined(columns: list[pa.Array], separator: bytes = b",") -> pa.Array:
    """Row by row: the columns' literals with commas between them."""
    return columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, pa.scalar(separator))
