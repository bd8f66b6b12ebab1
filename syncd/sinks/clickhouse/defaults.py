"""A column's constant default (`Column.default`) as a ClickHouse literal: what old rows of a new column hold."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation

import numpy as np
import pyarrow as pa

from syncd.errors import FatalError
from syncd.model import Column, TableId
from syncd.sinks.clickhouse.ddl import value
from syncd.sinks.clickhouse.limits import Limits, outside, shown
from syncd.sinks.clickhouse.syntax import text

_BITS = re.compile(r"^b'([01]*)'$", re.IGNORECASE)
_HEX = re.compile(r"^0x((?:[0-9a-f]{2})*)$")
_TIME = re.compile(r"^(-?)(\d+):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?$")


def literal(table: TableId, column: Column, limits: Limits, *, empty: bool) -> str | None:
    """The DEFAULT of the target's column; None for NULL. `empty`: there are no rows that the default would fill.

    FatalError: the default cannot be read or is not held exactly, or the source's implicit default is not known here.
    """
    if column.default is None:
        if column.nullable:
            return None
        if _zero_differs(column.type) and not empty:
            raise FatalError(
                f"{table}.{column.name}: the value of the new column in the rows that are there is not known",
                table=str(table),
                hint="give the column a constant DEFAULT at the source, or resync the table",
            )
        return _zero(column.type)
    try:
        return _literal(column.default, column.type, limits)
    except (ValueError, OverflowError, InvalidOperation, pa.ArrowInvalid) as error:
        raise FatalError(
            f"{table}.{column.name}: the default {column.default!r} is no value of {column.type}",
            table=str(table),
            hint="resync the table",
        ) from error


def _zero(kind: pa.DataType) -> str:
    if pa.types.is_date32(kind) or pa.types.is_timestamp(kind):
        return _literal("1970-01-01", kind)
    if pa.types.is_duration(kind):
        return _literal("0:00", kind)
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)
    return "''" if texts or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else _literal("0", kind)


def _zero_differs(kind: pa.DataType) -> bool:
    """Sources fill a new NOT NULL column with 0 or "", except for these."""
    return bool(pa.types.is_dictionary(kind) or pa.types.is_date32(kind) or pa.types.is_timestamp(kind))


def _literal(given: str, kind: pa.DataType, limits: Limits | None = None) -> str:
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return text(given)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        found = _HEX.match(given)
        if found is None:
            raise ValueError(given)
        return value(bytes.fromhex(found[1]), kind)
    if pa.types.is_integer(kind):
        bits = _BITS.match(given)
        number = int(bits[1] or "0", 2) if bits else int(given)
        return value(pa.scalar(number, kind).as_py(), kind)
    if pa.types.is_floating(kind):
        return _floating(float(given), kind.bit_width)
    if pa.types.is_decimal(kind):
        return value(pa.scalar(Decimal(given), kind).as_py(), kind)
    if pa.types.is_duration(kind):
        return value(_duration(given), kind)
    naive = kind if pa.types.is_date32(kind) else pa.timestamp(kind.unit)
    moment = pa.scalar(given).cast(naive)
    if limits is not None and outside(pa.array([moment.as_py()], naive), limits) is not None:
        raise ValueError(f"{given} is outside of {shown(naive, limits.of(naive) or (0, 0))}")
    return value(moment.as_py(), naive)


def _floating(of: float, width: int) -> str:
    """By its bits: the server's way of reading a decimal number is not exact by default."""
    bits = np.array(of, f"<f{width // 8}").view(f"<u{width // 8}").item()
    return f"reinterpretAsFloat{width}(toUInt{width}({bits}))"


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
