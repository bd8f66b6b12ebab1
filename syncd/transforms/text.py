"""Comparing texts as the server's collation does, or refusing.

Equality and LIKE with a constant work under every known rule; order, and text against text, only where the rule is
exact. Under a rule that is not, a value beyond printable ASCII is answered when the answer is certain: a text in which
the constant's letters cannot be found in order is not equal to it. Otherwise `Unsupported` halts the table by name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from syncd.errors import Unsupported
from syncd.transforms.collation import Rule, rule_named
from syncd.transforms.operand import KERNELS, Operand, Rows, refused

_ASCII = re.compile(r"[ -~]*")
_ALL_ASCII: Final = r"^[ -~]*$"
_EXACTLY: Final = "COLLATE utf8mb4_0900_bin"


def collated(operand: Operand, collation: str) -> Operand:
    """`x COLLATE name`, `BINARY x`."""
    rule = rule_named(collation)
    if operand.kind != "text":
        raise refused(f"COLLATE {collation} on {operand.shown()}, which is no text")
    if rule is None:
        raise refused(f"the collation {collation} cannot be followed exactly", code="C126", hint="use utf8mb4_0900_bin")
    return replace(operand, rule=rule)


def compared(sign: str, left: Operand, right: Operand) -> Operand:
    """Two texts; at least one of them is a column."""
    if left.literal is not None and right.literal is None:
        flipped = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}.get(sign, sign)
        return compared(flipped, right, left)
    rule = _rule(left, right)
    if rule.exact:
        return _exact(sign, left, right, rule)
    if right.literal is None or sign not in {"=", "<>"}:
        raise _inexact(left, "its collation has an order of its own")
    equal = equals_any(left, [str(right.literal)], rule)
    return equal if sign == "=" else Operand.of_truth(lambda rows: pc.invert(equal.run(rows)))


def _exact(sign: str, left: Operand, right: Operand, rule: Rule) -> Operand:
    if rule.pad and sign not in {"=", "<>"}:
        raise _inexact(left, "its collation pads with spaces when it orders")
    kernel = KERNELS[sign]

    def run(rows: Rows) -> Any:
        a, b = left.run(rows), right.run(rows)
        return kernel(_trim(a), _trim(b)) if rule.pad else kernel(a, b)

    return Operand.of_truth(run)


def equals_any(column: Operand, words: Sequence[str], rule: Rule) -> Operand:
    """`column IN (words)`; null where the column is."""
    if not rule.exact and not all(_ASCII.fullmatch(word) for word in words):
        raise _inexact(column, "a constant with letters beyond ASCII compares as its collation says")
    plain = [word.rstrip(" ") if rule.pad else word for word in words]
    wanted = [word.lower() if rule.fold else word for word in plain]
    value_set = pa.array(wanted, pa.string())

    def run(rows: Rows) -> Any:
        values = column.run(rows)
        if isinstance(values, pa.Scalar):
            values = pa.array([values.as_py()] * rows.num_rows, pa.string())
        seen = _trim(values) if rule.pad else values
        found = pc.is_in(pc.ascii_lower(seen) if rule.fold else seen, value_set=value_set)
        if not rule.exact:
            _certain(column, seen, wanted, rule)
        return pc.if_else(values.is_valid(), found, pa.scalar(None, pa.bool_()))

    return Operand.of_truth(run)


def like(column: Operand, pattern: str, escape: str) -> Operand:
    """`column LIKE pattern`: `%` any run, `_` one character; trailing spaces count under every collation."""
    if column.kind != "text" or column.literal is not None:
        raise refused(f"LIKE on {column.shown()}")
    rule = _rule(column, column)
    if not rule.exact and not _ASCII.fullmatch(pattern):
        raise _inexact(column, "a pattern with letters beyond ASCII compares as its collation says")
    parts = list(_parts(pattern, escape))
    certain = _regex(parts, rule, loose=False)
    if rule.exact:
        return Operand.of_truth(lambda rows: pc.match_substring_regex(column.run(rows), certain))
    possible = _regex(parts, rule, loose=True)

    def run(rows: Rows) -> Any:
        values = column.run(rows)
        yes = pc.match_substring_regex(values, certain)
        if pc.any(pc.and_not(pc.match_substring_regex(values, possible), yes)).as_py():
            raise _undecided(column)
        return yes

    return Operand.of_truth(run)


def _parts(pattern: str, escape: str) -> Any:
    """Characters that stand for themselves, or ("%",) and ("_",)."""
    letters = iter(pattern)
    for letter in letters:
        if letter == escape:
            yield next(letters, escape)
        else:
            yield (letter,) if letter in "%_" else letter


def _regex(parts: Sequence[str | tuple[str]], rule: Rule, *, loose: bool) -> str:
    def one(part: str | tuple[str]) -> str:
        if isinstance(part, tuple):
            return ".*" if part[0] == "%" else "."
        cases = sorted({part.lower(), part.upper()}) if rule.fold else [part]
        letters = "|".join(re.escape(case) for case in cases)
        # Loosely, a letter beyond ASCII may be equal to any letter.
        return f"(?:{letters}|[^ -~])" if loose else f"(?:{letters})"

    return r"(?s)\A" + "".join(one(part) for part in parts) + r"\z"


def _rule(left: Operand, right: Operand) -> Rule:
    for side in (left, right):
        if side.literal is None and side.rule is None:
            raise _inexact(side, "its collation cannot be followed exactly")
    rules = {side.rule for side in (left, right) if side.rule is not None}
    if len(rules) != 1:
        raise refused("the two texts have different collations", code="C126", hint=f"say which one: x {_EXACTLY} = y")
    return rules.pop()


def _trim(values: Any) -> Any:
    return pc.ascii_rtrim(values, characters=" ")


def _certain(column: Operand, values: pa.Array, words: Sequence[str], rule: Rule) -> None:
    """Unsupported when a value beyond printable ASCII may be equal to one of the words."""
    odd = values.filter(pc.invert(pc.fill_null(pc.match_substring_regex(values, _ALL_ASCII), fill_value=True)))
    # Per value, not per batch: such values are few, and each distinct one is looked at once.
    for value in odd.unique().to_pylist():
        if any(_may_equal(value.lower() if rule.fold else value, word) for word in words):
            raise _undecided(column)


def _may_equal(value: str, word: str) -> bool:
    """False only when it is certain: a letter that no Latin one equals, or ASCII letters that the word lacks."""
    if any(_foreign(letter) for letter in value):
        return False
    rest = iter(word)
    return all(letter in rest for letter in value if " " <= letter <= "~")


def _foreign(letter: str) -> bool:
    """A letter of a script in which no letter compares equal to an ASCII one."""
    if letter <= "\u024f" or unicodedata.normalize("NFKD", letter) != letter:
        return False
    name = unicodedata.name(letter, "")
    return unicodedata.category(letter) == "Lo" or name.startswith(("CYRILLIC CAPITAL", "CYRILLIC SMALL"))


def _inexact(operand: Operand, why: str) -> Exception:
    hint = f"write {operand.name or 'x'} {_EXACTLY} for an exact comparison"
    return refused(f"{operand.shown()} cannot be compared exactly: {why}", code="C126", hint=hint)


def _undecided(column: Operand) -> Unsupported:
    # The value itself may be one that a mask hides: it is not shown.
    return Unsupported(
        f"{column.table}: a value of {column.shown()} has letters beyond ASCII, and whether it equals the "
        "constant is up to the server's collation",
        table=column.table,
        hint=f"write {column.name} {_EXACTLY} in the condition",
        code="E170",
    )
