"""A column's constant default (`Column.default`) as a value: what the rows of files hold that lack the column."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation

import pyarrow as pa

from syncd.errors import FatalError
from syncd.model import Column, TableId
from syncd.sinks.parquet.types import stored

_BITS = re.compile(r"^b'([01]*)'$", re.IGNORECASE)
_HEX = re.compile(r"^0x((?:[0-9a-f]{2})*)$")
_TIME = re.compile(r"^(-?)(\d+):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?$")


def is_known(column: Column) -> bool:
    """Sources fill a new column with its default, NULL, 0 or "", but not a NOT NULL date or ENUM without a default."""
    kind = column.type
    odd = pa.types.is_dictionary(kind) or pa.types.is_date32(kind) or pa.types.is_timestamp(kind)
    return column.default is not None or column.nullable or not odd


def fill(table: TableId, column: Column) -> pa.Scalar:
    """The value, of the type in the files. FatalError: the default cannot be read, or is not held exactly."""
    if column.default is None and (column.nullable or not is_known(column)):
        return pa.scalar(None, stored(column.type))
    try:
        if column.default is None:
            return _zero(stored(column.type))
        return _value(column.default, stored(column.type))
    except (ValueError, OverflowError, InvalidOperation, pa.ArrowInvalid) as error:
        raise FatalError(
            f"{table}.{column.name}: the default {column.default!r} is no value of {column.type}",
            table=str(table),
            hint="resync the table",
        ) from error


def _zero(kind: pa.DataType) -> pa.Scalar:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.scalar("", kind)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pa.scalar(b"", kind)
    return _value("0:00" if pa.types.is_duration(kind) else "0", kind)


def _value(given: str, kind: pa.DataType) -> pa.Scalar:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.scalar(given, kind)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        found = _HEX.match(given)
        if found is None:
            raise ValueError(given)
        return pa.scalar(bytes.fromhex(found[1]), kind)
    if pa.types.is_boolean(kind):
        return pa.scalar(bool(int(given)), kind)
    if pa.types.is_integer(kind):
        bits = _BITS.match(given)
        return pa.scalar(int(bits[1] or "0", 2) if bits else int(given), kind)
    if pa.types.is_floating(kind):
        return pa.scalar(float(given), kind)
    if pa.types.is_decimal(kind):
        return pa.scalar(Decimal(given), kind)
    if pa.types.is_duration(kind):
        return pa.scalar(_duration(given), kind)
    naive = kind if pa.types.is_date32(kind) else pa.timestamp(kind.unit)
    return pa.scalar(pa.scalar(given).cast(naive).as_py(), kind)  # a zone, if there is one, is UTC's


def _duration(given: str) -> timedelta:
    found = _TIME.match(given)
    if found is None:
        raise ValueError(given)
    sign, hours, minutes, seconds, fraction = found.groups()
    size = timedelta(
        hours=int(hours),
        minutes=int(minutes),
        seconds=int(seconds or 0),
        microseconds=int((fraction or "").ljust(6, "0")),
    )
    return -size if sign else size
