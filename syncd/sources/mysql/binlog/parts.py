"""The parts of CREATE TABLE and ALTER TABLE: columns, keys and options, told apart by their words."""

from __future__ import annotations

from syncd.sources.mysql.binlog.actions import Options
from syncd.sources.mysql.binlog.server import Server, Unclear
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


def primary_key(part: list[Token]) -> tuple[str, ...]:
    """The columns of a PRIMARY KEY. Unclear: a prefix of one is in it."""
    words = [word.word for word in part]
    first = words.index("(") + 1 if "(" in words else len(words)
    last = next((at for at in range(first, len(words)) if words[at] == ")"), len(words))
    if "(" in words[first:last]:
        raise Unclear("a primary key over a part of a column")
    return tuple(item[0].text for item in split(part[first:last]))


def table_options(options: list[Token], server: Server) -> Options:
    """COMMENT, CHARACTER SET and COLLATE; behind CONVERT, of all columns."""
    charset = collation = ""
    comment: str | None = None
    for index, token in enumerate(options):
        rest = [word for word in options[index + 1 : index + 4] if word.word not in {"=", "SET"}]
        if not rest or token.kind is not Kind.WORD:
            continue
        if token.word in {"CHARSET", "CHARACTER"}:
            charset = server.charset(rest[0].text)
        elif token.word == "COLLATE":
            collation = server.collation(rest[0].text)
        elif token.word == "COMMENT":
            comment = rest[0].text
    converts = bool(options) and options[0].word == "CONVERT"
    if "default" in {charset, collation} or (converts and not (charset or collation)):
        raise Unclear("the character set of the database")
    return Options(charset, collation, comment, converts)
