"""Masks: what a value becomes before it is written anywhere. NULL stays NULL.

hash      keyed BLAKE2b-256 of the value's UTF-8 text, 64 hex digits; equal values give equal hashes under one salt
null      NULL
partial   `****` and the last four characters of texts of eight and more, `****` for shorter ones
redact    `***`

The text of a number, a date or a time is Arrow's own; bytes are hashed as they are. `hash` runs once per distinct value
of a batch, since Arrow has no such kernel; all others are kernels.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from syncd.model import Column

MASKS: Final = ("hash", "null", "partial", "redact")
SYNONYMS: Final = {
    "md5": "hash",
    "sha1": "hash",
    "sha256": "hash",
    "blake2": "hash",
    "none": "null",
    "nullify": "null",
    "stars": "redact",
    "xxx": "redact",
    "last4": "partial",
    "truncate": "partial",
}

_LENGTHS: Final = {"hash": 64, "partial": 8, "redact": 3}
_WHOLE_FROM: Final = 8
"""From this many characters on, `partial` shows the last four: of a shorter text they would be most of it."""


def masked_column(column: Column, mask: str) -> Column:
    """The column as it is behind the mask."""
    column = replace(column, default=None, generated="", filled="")
    if mask == "null":
        return replace(column, nullable=True)
    return replace(
        column,
        type=pa.string(),
        source_type=f"char({_LENGTHS[mask]})",
        charset="utf8mb4",
        collation="utf8mb4_bin",
    )


def mask_values(values: pa.Array, mask: str, salt: bytes) -> pa.Array:
    """The masked values; a text, or for `null` the type as it was."""
    match mask:
        case "null":
            return pa.nulls(len(values), values.type)
        case "redact":
            return _where_given(values, pa.scalar("***"))
        case "partial":
            return _partial(as_text(values))
        case _:
            return hash_values(values, salt)


def as_text(values: pa.Array) -> pa.Array:
    """The values as texts; binary ones in hex."""
    if pat.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pat.is_duration(values.type):
        values = values.cast(pa.int64())
    if pat.is_binary(values.type) or pat.is_large_binary(values.type) or pat.is_fixed_size_binary(values.type):
        return pa.array([None if v is None else v.hex() for v in values.to_pylist()], pa.string())
    return values.cast(pa.string())


def hash_key(salt: str) -> bytes:
    """The salt as a BLAKE2b key, which holds 64 bytes at most."""
    data = salt.encode()
    return data if len(data) <= hashlib.blake2b.MAX_KEY_SIZE else hashlib.blake2b(data).digest()


def hash_values(values: pa.Array, salt: bytes) -> pa.Array:
    """The hash of each value, as 64 hex digits."""
    if not (pat.is_binary(values.type) or pat.is_large_binary(values.type) or pat.is_fixed_size_binary(values.type)):
        values = as_text(values).cast(pa.binary())
    coded = values.dictionary_encode()
    digests = [hashlib.blake2b(v, digest_size=32, key=salt).hexdigest() for v in coded.dictionary.to_pylist()]
    return pa.array(digests, pa.string()).take(coded.indices)


def _partial(texts: pa.Array) -> pa.Array:
    tail = pc.utf8_slice_codeunits(texts, -4)
    shown = pc.binary_join_element_wise(pa.scalar("****"), tail, pa.scalar(""))
    long_enough = pc.greater_equal(pc.utf8_length(texts), _WHOLE_FROM)
    return pc.if_else(long_enough, shown, _where_given(texts, pa.scalar("****")))


def _where_given(values: pa.Array, word: pa.Scalar) -> pa.Array:
    return pc.if_else(values.is_valid(), word, pa.scalar(None, pa.string()))
