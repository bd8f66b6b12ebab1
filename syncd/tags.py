"""Tags: what class a change belongs to, and which classes a sink subscribes to.

A table's tag is its name at the source, `database.name`; a character that would make two tables alike or that no
subscription can hold (`%`, `.`, `|`, a space) is written as `%` and its hexadecimal code in UTF-8, as in an address. A
subscription is `*` (all) or names joined by `||`: `shop.orders || items`. A name means the tag that equals it, and
every tag whose part behind the last dot equals it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_SPACE = re.compile(r"\s")
_SPECIAL = re.compile(r"[%.|\s]")


def tag_of(database: str, name: str) -> str:
    """The default tag of a table."""
    return f"{_plain(database)}.{_plain(name)}"


def _plain(name: str) -> str:
    return _SPECIAL.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), name)


@dataclass(frozen=True, slots=True)
class Subscription:
    """`names` is None for `*`. `str()` gives the expression back in its normal form."""

    names: tuple[str, ...] | None

    def __str__(self) -> str:
        return "*" if self.names is None else " || ".join(self.names)

    def matches(self, tag: str) -> bool:
        return self.names is None or tag in self.names or tag.rpartition(".")[2] in self.names

    def select(self, tags: Iterable[str]) -> frozenset[str] | None:
        """Those of `tags` that match, as `Queue.subscribe` takes them: None for `*`."""
        return None if self.names is None else frozenset(tag for tag in tags if self.matches(tag))

    def unmatched(self, tags: Iterable[str]) -> tuple[str, ...]:
        """The names that match none of `tags`: most likely misspelt."""
        known = set(tags) | {tag.rpartition(".")[2] for tag in tags}
        return tuple(name for name in self.names or () if name not in known)


def parse(expression: str) -> Subscription:
    """`*` or `a || b`. ValueError says what is wrong and where."""
    if expression.strip() == "*":
        return Subscription(None)
    names = [part.strip() for part in expression.split("||")]
    for place, name in enumerate(names, 1):
        _check(expression, place, name)
    return Subscription(tuple(dict.fromkeys(names)))


def _check(expression: str, place: int, name: str) -> None:
    where = f"subscription {expression!r}, name {place}"
    if not name:
        raise ValueError(f"{where}: empty; write `*`, or names joined by `||`")
    if name == "*":
        raise ValueError(f"{where}: `*` means all tags and stands alone")
    if "|" in name:
        raise ValueError(f"{where}: a single `|`; names are joined by `||`")
    if _SPACE.search(name):
        raise ValueError(f"{where}: {name!r} holds a space; names are joined by `||`")
