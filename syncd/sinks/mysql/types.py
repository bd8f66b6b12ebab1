"""How a column is held: by the source's own type where it is one of the family, else by one that holds its values.

docs/types/mysql.md has the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as pat

from syncd.drivers.mysql import wider
from syncd.drivers.mysql.types import BINARIES, INTEGERS, TEXTS, arguments, base_type
from syncd.model import Column
from syncd.sinks.mysql.session import Limits

_TEXTS = TEXTS | {"enum", "set"}
_OTHERS = {"decimal", "numeric", "float", "double", "bit", "date", "datetime", "timestamp", "time", "year", "json"}
FAMILY = INTEGERS.keys() | _TEXTS | BINARIES | _OTHERS
LONG = {"tinytext", "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob", "json"}
"""Types that no index takes whole, and that have no constant default in MySQL."""

_NO_PAD = ("utf8mb4_0900_bin", "utf8mb4_nopad_bin")
_KEY_BYTES = 3072
_MOST_DIGITS, _MOST_SCALE = 65, 30
_KEY_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class Kind:
    """`name`: the type as DDL has it, character set and all. `note`: for people; `collation`: of a text, "" else."""

    name: str
    note: str = ""
    collation: str = ""


def held(column: Column, limits: Limits, *, key: bool) -> Kind | None:
    """None: no type holds it exactly."""
    base = base_type(column.source_type)
    if column.normal_of:
        return Kind(f"varbinary({_KEY_BYTES // 4})", "tells and orders keys as the source does")
    if base not in FAMILY:
        name = _of_arrow(column.type, key=key)
        if name is None or not _is_text(name):
            return Kind(name) if name else None
        return _exact(name, limits) if key else Kind(f"{name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    if base == "json":
        note = "the server writes the text in its own way" if not limits.server.mariadb else ""
        return Kind(column.source_type, note)
    if base not in _TEXTS:
        return Kind(column.source_type)
    if key and column.collation in _NO_PAD and _there(column.collation, limits) is None:
        return _exact(column.source_type, limits)
    return _text(column, column.source_type, limits)


def _exact(name: str, limits: Limits) -> Kind:
    """A text of a key in which only the same characters are equal: spaces at its end count."""
    there = next((collation for collation in _NO_PAD if collation in limits.collations), None)
    if there is not None and base_type(name) == "varchar":
        return Kind(f"{name} CHARACTER SET utf8mb4 COLLATE {there}", "", there)
    length = 4 * int(arguments(name) or 1)
    return Kind(f"varbinary({length})", "as bytes: the server would take texts for equal that differ in spaces")


def same_collation(column: Column, limits: Limits) -> bool:
    """Whether the server is known to compare the column's texts as the source does."""
    return bool(column.collation) and _there(column.collation, limits) is not None


def _is_text(name: str) -> bool:
    return base_type(name) in _TEXTS


def _text(column: Column, name: str, limits: Limits) -> Kind:
    found = _there(column.collation, limits)
    if found is not None:
        return Kind(f"{name} CHARACTER SET {_charset(found, limits)} COLLATE {found}", "", found)
    exact = column.collation.endswith(("_bin", "_cs")) or not column.collation
    other = "utf8mb4_bin" if exact else "utf8mb4_general_ci"
    note = f"the server has no {column.collation}: compared and sorted by {other}" if column.collation else ""
    return Kind(f"{name} CHARACTER SET utf8mb4 COLLATE {other}", note, other)


def _there(collation: str, limits: Limits) -> str | None:
    """The server's name of the collation: utf8mb3 is utf8 to older ones."""
    names = [collation]
    if collation.startswith(("utf8_", "utf8mb3_")):
        rest = collation.partition("_")[2]
        names = [f"utf8mb3_{rest}", f"utf8_{rest}"]
    return next((name for name in names if name in limits.collations), None)


def _charset(collation: str, limits: Limits) -> str:
    # A MariaDB collation of UCA 14 is named without its character set, too, but SHOW COLLATION says both.
    name = "binary" if collation == "binary" else collation.partition("_")[0]
    return name if name in limits.charsets else "utf8mb4"


def _of_arrow(kind: pa.DataType, *, key: bool) -> str | None:
    if pat.is_dictionary(kind):
        return _of_arrow(kind.value_type, key=key)
    if pat.is_boolean(kind):
        return "tinyint(1)"
    if pat.is_integer(kind):
        name = {8: "tinyint", 16: "smallint", 32: "int", 64: "bigint"}[kind.bit_width]
        return f"{name} unsigned" if pat.is_unsigned_integer(kind) else name
    if pat.is_decimal(kind):
        fits = kind.precision <= _MOST_DIGITS and 0 <= kind.scale <= _MOST_SCALE
        return f"decimal({kind.precision},{kind.scale})" if fits else None
    if pat.is_string(kind) or pat.is_large_string(kind):
        return f"varchar({_KEY_CHARACTERS})" if key else "longtext"
    if pat.is_binary(kind) or pat.is_large_binary(kind):
        return f"varbinary({_KEY_CHARACTERS})" if key else "longblob"
    if pat.is_timestamp(kind):
        return "datetime(6)" if kind.unit in {"s", "ms", "us"} else None
    if pat.is_duration(kind):
        return "time(6)" if kind.unit == "us" else None
    return {pa.float32(): "float", pa.float64(): "double", pa.date32(): "date"}.get(kind)


def canonical(name: str) -> str:
    """A COLUMN_TYPE as all servers of the family would write it: without display widths, in small letters."""
    base = base_type(name)
    if base in INTEGERS or base == "year":
        rest = name[len(base) :].partition(")")[2] if "(" in name else name[len(base) :]
        return f"{'int' if base == 'integer' else base}{rest.lower()}".strip()
    if base in {"enum", "set"}:
        return base + name[len(base) :]
    if base == "numeric":
        return f"decimal({arguments(name)})"
    return name.lower()


def holds(wide: str, narrow: str, wide_charset: str = "", narrow_charset: str = "") -> bool:
    """Whether a column of the one COLUMN_TYPE takes each value of the other as it is; "": not known, the same."""
    one, other = canonical(wide), canonical(narrow)
    bases = base_type(one), base_type(other)
    if bases == ("longtext", "json"):  # a JSON column of MariaDB is a text
        return True
    if bases == ("bit", "bit"):
        return int(arguments(one) or 1) >= int(arguments(other) or 1)
    charsets = (wide_charset, narrow_charset) if wide_charset and narrow_charset else ("", "")
    return wider.holds(one, other, *charsets)
