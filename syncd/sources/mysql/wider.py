"""Which columns hold all values of which others, and whether MODIFY leaves values as they are."""

from __future__ import annotations

from syncd.drivers.mysql import wider
from syncd.drivers.mysql.types import BINARIES, INTEGERS, base_type
from syncd.drivers.mysql.wider import DECIMALS, digits
from syncd.model import Column


def holds_all(wide: Column, narrow: Column) -> bool:
    """Whether each value of `narrow` but NULL is one of `wide`, the same one; NULL is a question of its own."""
    one, other = wide.source_type, narrow.source_type
    if not one or not other:
        return wide.type == narrow.type and one == other
    return wider.holds(one, other, wide.charset, narrow.charset)


def may_change(old: Column, new: Column, *, strict: bool) -> bool:
    """Whether values that are there may be others after MODIFY, without an error.

    A strict session refuses what does not fit; but it rounds, cuts spaces off texts, and gives a TIMESTAMP the time.
    """
    if old.nullable and not new.nullable and (not strict or base_type(new.source_type) == "timestamp"):
        return True
    if holds_all(new, old):
        return False
    exact = base_type(new.source_type)
    same_points = exact in DECIMALS and digits(old.source_type)[1] <= digits(new.source_type)[1]
    refuses = exact in INTEGERS or same_points or exact in {"enum", "set", "varbinary"} | (BINARIES - {"binary"})
    return not (strict and refuses and holds_all(old, new))
