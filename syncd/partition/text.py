"""A key as typed on a command line, made into a one-row batch."""

from __future__ import annotations

import csv
import json
import re

import pyarrow as pa
import pyarrow.types as pat

from syncd.errors import ConfigError
from syncd.model import Column, TableSchema

_TIME = re.compile(r"(-?)(\d{1,3}):(\d\d):(\d\d)(?:\.(\d{1,6}))?")


def key_text(schema: TableSchema, text: str) -> pa.RecordBatch:
    """One row of the key columns, from `42`, `a,b` (quoted as in CSV), `[1, "b"]` or `{"id": 1}`.

    A table with one key column takes the text as it is, commas included. Bytes are written as 0x6869. FatalError says
    what is wrong with the text. A twin column (`normal_of`) is not made: only the source knows its value.
    """
    columns = [schema.column(name) for name in schema.key]
    values = _split(schema, text)
    if len(values) != len(columns):
        wanted = ", ".join(schema.key) or "none"
        raise _wrong(schema, text, f"{len(values)} values for the key columns ({wanted})")
    arrays = [_array(schema, column, value) for column, value in zip(columns, values, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, [column.name for column in columns])


def _split(schema: TableSchema, text: str) -> list[str]:
    if text[:1] in ("[", "{"):
        try:
            parsed = json.loads(text, parse_float=str, parse_int=str)
        except json.JSONDecodeError as error:
            if len(schema.key) > 1:
                raise _wrong(schema, text, f"not JSON: {error}") from error
        else:
            return _json_values(schema, text, parsed)
    if len(schema.key) == 1:
        return [text]
    return next(csv.reader([text], skipinitialspace=True), [])


def _json_values(schema: TableSchema, text: str, parsed: object) -> list[str]:
    if isinstance(parsed, dict):
        if set(parsed) != set(schema.key):
            raise _wrong(schema, text, f"names {sorted(parsed)}, the key is {list(schema.key)}")
        parsed = [parsed[name] for name in schema.key]
    assert isinstance(parsed, list)
    if not all(isinstance(value, str | bool) for value in parsed):
        raise _wrong(schema, text, "a key value is a number, a text or true/false")
    return [str(value).lower() if isinstance(value, bool) else value for value in parsed]


def _array(schema: TableSchema, column: Column, value: str) -> pa.Array:
    kind = column.type
    try:
        if pat.is_dictionary(kind):
            return pa.array([value], kind.value_type).cast(kind)
        if pat.is_binary(kind) or pat.is_large_binary(kind) or pat.is_fixed_size_binary(kind):
            return pa.array([_bytes(value)], kind)
        if pat.is_duration(kind):
            return pa.array([_microseconds(value)], pa.duration("us")).cast(kind)
        return pa.array([value], pa.string()).cast(kind)
    except (pa.ArrowException, ValueError) as error:
        raise _wrong(schema, value, f"{column.name!r} is of type {kind}: {error}") from error


def _bytes(value: str) -> bytes:
    return bytes.fromhex(value[2:]) if value[:2] in ("0x", "0X") else value.encode()


def _microseconds(value: str) -> int:
    match = _TIME.fullmatch(value)
    if match is None:
        raise ValueError("a time of day or span is written HH:MM:SS[.ffffff]")
    sign, hours, minutes, seconds, fraction = match.groups()
    whole = ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1_000_000
    total = whole + int((fraction or "0").ljust(6, "0"))
    return -total if sign else total


def _wrong(schema: TableSchema, text: str, why: str) -> ConfigError:
    return ConfigError(
        f"{schema.table}: {text!r} is no key: {why}",
        hint="write 42, or a,b, or a JSON list or object of the key columns",
        code="C109",
    )
