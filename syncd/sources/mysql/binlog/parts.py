"""The parts of CREATE TABLE and ALTER TABLE: columns, keys and options, told apart by their words."""

from __future__ import annotations

from syncd.sources.mysql.binlog.columns import Defined
from syncd.sources.mysql.binlog.tokens import Kind, Token


def words(text: str) -> frozenset[str]:
    """Keywords."""
    return frozenset(text.split())


_MOVING_OPTIONS = words("UNION SYSTEM CONNECTION")
"""Words that among harmless options may change which rows the table has."""
_ENGINES = words("INNODB MYISAM ARIA ROCKSDB TOKUDB MEMORY HEAP ARCHIVE NDB NDBCLUSTER")
"""They hold what is written to them, value by value."""
_KEYS = words("INDEX KEY UNIQUE FULLTEXT SPATIAL FOREIGN CHECK CONSTRAINT PRIMARY PARTITION")
DROPPED_KEYS = words("INDEX KEY FOREIGN CONSTRAINT CHECK")
_MAYBE_KEYS = {"PERIOD": {"FOR"}, "VECTOR": {"INDEX", "KEY"}, "SYSTEM": {"VERSIONING"}}
"""Words that begin a key's or a table's part only before certain others, and a column's definition else."""


def no_column(words: list[Token]) -> bool:
    """A part of CREATE TABLE or ADD that defines no column."""
    if words[0].kind is not Kind.WORD:
        return False
    return words[0].word in _KEYS or (len(words) > 1 and words[1].word in _MAYBE_KEYS.get(words[0].word, ()))


def split(words: list[Token]) -> list[list[Token]]:
    """At the commas that stand in no parentheses."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for word in words:
        depth += (word.word == "(") - (word.word == ")")
        if word.word == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part]


def primary(word: Token) -> str:
    """The primary key's name, by which it can be dropped like any index; "" for any other word."""
    named = word.kind in {Kind.WORD, Kind.NAME} and word.text.upper() == "PRIMARY"
    return word.text if named else ""


def moves_rows(options: list[Token]) -> bool:
    """Options after which the table may have other rows, or none, without a word in the log."""
    said = [word.word for word in options]
    for at, word in enumerate(said):
        if word == "ENGINE":
            value = options[at + 1 :][said[at + 1 : at + 2] == ["="] :]
            if not value or value[0].text.upper() not in _ENGINES:
                return True
    return not _MOVING_OPTIONS.isdisjoint(said)


def cascades(words: list[Token]) -> bool:
    """ON DELETE CASCADE, ON UPDATE SET NULL and their like."""
    found = [word.word for word in words]
    acts = zip(found, found[1:], found[2:], strict=False)
    return any(on == "ON" and what in {"DELETE", "UPDATE"} and act in {"CASCADE", "SET"} for on, what, act in acts)


def key(part: list[Token]) -> list[tuple[str, tuple[str, ...]]]:
    """A key of CREATE TABLE that tells rows apart: its kind and columns; with a prefix of a column it is none."""
    words = [word.word for word in part]
    kind = "primary" if "PRIMARY" in words[:3] else "unique" if "UNIQUE" in words[:3] else ""
    if not kind or "(" not in words:
        return []
    first = words.index("(") + 1
    depth, last = 1, first
    while last < len(words) and depth:
        depth += (words[last] == "(") - (words[last] == ")")
        last += 1
    names = []
    for item in split(part[first : last - 1]):
        if any(word.word == "(" for word in item):
            return []
        names.append(item[0].text)
    return [(kind, tuple(names))]


def best(keys: list[tuple[str, tuple[str, ...]]], columns: list[Defined]) -> tuple[str, tuple[str, ...]]:
    """The primary key, else the shortest unique key without a column that may be NULL."""
    spelled = {one.column.name.lower(): one.column.name for one in columns}
    nullable = {one.column.name for one in columns if one.column.nullable}
    found = [(kind, tuple(spelled.get(name.lower(), name) for name in names)) for kind, names in keys]
    for kind, names in found:
        if kind == "primary":
            return kind, names
    usable = [(kind, names) for kind, names in found if not nullable & set(names)]
    return min(usable, key=lambda one: len(one[1]), default=("", ()))


def table_options(options: list[Token]) -> tuple[str, str, str]:
    charset = collation = comment = ""
    for index, token in enumerate(options):
        rest = [word for word in options[index + 1 : index + 4] if word.word not in {"=", "SET"}]
        if not rest or token.kind is not Kind.WORD:
            continue
        if token.word in {"CHARSET", "CHARACTER"}:
            charset = rest[0].text.lower()
        elif token.word == "COLLATE":
            collation = rest[0].text.lower()
            charset = charset or collation.partition("_")[0]
        elif token.word == "COMMENT":
            comment = rest[0].text
    return "utf8mb3" if charset == "utf8" else charset, collation, comment
