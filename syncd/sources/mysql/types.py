"""From a MySQL or MariaDB column to its Arrow type: one table for snapshot and log alike (docs/types/mysql.md)."""

from __future__ import annotations

import pyarrow as pa

from syncd.drivers.mysql.types import BINARIES, INTEGERS, TEXTS, arguments, base_type, is_unsigned, listed, members

__all__ = ["BINARIES", "INTEGERS", "TEXTS", "arguments", "arrow_type", "base_type", "is_unsigned", "listed", "members"]

CHARSETS = {"utf8mb4", "utf8mb3", "utf8", "latin1", "ascii", "binary"}
DATES = {"date", "datetime", "timestamp"}


def arrow_type(column_type: str, charset: str = "") -> pa.DataType | None:
    """The Arrow type, or None for a type or character set that syncd does not take yet.

    ENUM is dictionary(int16, string) whose entry 0 is "" (the server's error value) and entry n the n-th member.
    SET is the members' names joined by commas, JSON the server's text, BIT and YEAR unsigned integers, TIME a duration.
    """
    base, args = base_type(column_type), arguments(column_type)
    if base in INTEGERS:
        sign = "u" if is_unsigned(column_type) else ""
        return getattr(pa, f"{sign}int{INTEGERS[base]}")()
    if base in {"decimal", "numeric"}:
        precision, scale = (int(part) for part in (args or "10,0").split(","))
        return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    if base in TEXTS or base in {"enum", "set"}:
        if charset and charset not in CHARSETS:
            return None
        return pa.dictionary(pa.int16(), pa.string()) if base == "enum" else pa.string()
    return {
        "float": pa.float32(),
        "double": pa.float64(),
        "bit": pa.uint64(),
        "date": pa.date32(),
        "datetime": pa.timestamp("us"),
        "timestamp": pa.timestamp("us", "UTC"),
        "time": pa.duration("us"),
        "year": pa.uint16(),
        "json": pa.string(),
        **dict.fromkeys(BINARIES, pa.binary()),
    }.get(base)
