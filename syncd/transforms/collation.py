"""How the texts of a column compare at the server, as far as a filter can follow it exactly.

An exact rule compares code points. All other rules are certain for printable ASCII only, whose letters differ by their
case and by nothing else in every collation of the families below; what is beyond is left to `text.py`, which answers
where the answer is certain all the same, and refuses where it is not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from syncd.model import Column

_FAMILY = re.compile(
    r"^(?:utf8mb4|utf8mb3|utf8|latin1|ascii|uca1400)?_?"
    r"(?:general|unicode|unicode_520|0900|uca1400|swedish|uca1400_nopad|general_nopad|unicode_nopad|unicode_520_nopad)"
    r"_(?:ai_ci|as_ci|as_cs|ai_cs|ci|cs|nopad_ci|nopad_ai_ci|nopad_as_ci|nopad_as_cs)$"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """`exact`: by code point. `fold`: upper and lower case are equal. `pad`: trailing spaces do not count."""

    exact: bool
    fold: bool
    pad: bool


def rule_of(column: Column) -> Rule | None:
    """The column's rule, None for a collation that cannot be followed."""
    return rule_named(column.collation.lower() or ("binary" if column.charset == "binary" else ""))


def rule_named(collation: str) -> Rule | None:
    """The rule of a collation by its name."""
    if collation == "binary":
        return Rule(exact=True, fold=False, pad=False)
    nopad = "_0900_" in collation or "nopad" in collation
    if collation.endswith("_bin"):
        return Rule(exact=True, fold=False, pad=not nopad)
    if _FAMILY.match(collation):
        return Rule(exact=False, fold=not collation.endswith("_cs"), pad=not nopad)
    return None
