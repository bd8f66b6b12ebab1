"""The words of a statement as MySQL and MariaDB read them: comments gone, comments for one server unwrapped.

sqlglot's own lexer drops `/*! ... */` comments, which the servers execute, and does not know ANSI_QUOTES; so the log's
statements are cut here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from syncd.errors import Unsupported

_PARTS = r"""
      (?P<space>\s+|--(?=\s|$)[^\n]*|\#[^\n]*)
    | (?P<only>/\*M?!\d*)
    | (?P<comment>/\*.*?\*/)
    | (?P<close>\*/)
    | (?P<back>`(?:[^`]|``)*`)
    | (?P<double>"@double")
    | (?P<single>[nN]?'@single')
    | (?P<bits>[bBxX]'[0-9a-fA-F]*')
    | (?P<dot>(?<=[\w$`\u0080-\uffff])\.(?=[\w$\u0080-\uffff]))
    | (?P<number>(?<![\w$`\u0080-\uffff]\.)\d+(?:\.\d*)?(?:[eE][-+]?\d+)?(?![\w$\u0080-\uffff])|\.\d+(?:[eE][-+]?\d+)?)
    | (?P<word>[\w$@\u0080-\uffff]+)
    | (?P<sign>.)
"""
_WITH_ESCAPES, _WITHOUT = r"""(?:[^{0}\\]|{0}{0}|\\.)*""", "(?:[^{0}]|{0}{0})*"
_SKIPPED = re.compile(r"(?:/\*.*?\*/|(?!\*/).)*(?:\*/)?", re.DOTALL)
"""The rest of a comment for other servers: comments may stand in it."""
_ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a", "%": "\\%", "_": "\\_"}
"""By the letter behind the backslash; any other letter is itself. `\\%` and `\\_` keep theirs, for LIKE."""


class Kind(Enum):
    WORD = "word"
    NAME = "name"
    TEXT = "text"
    NUMBER = "number"
    SIGN = "sign"


class Token(NamedTuple):
    """`text`: a quoted thing without its quotes and escapes. WORDs compare in capitals through `word`."""

    kind: Kind
    text: str

    @property
    def word(self) -> str:
        """The keyword that this may be, "" for anything quoted."""
        return self.text.upper() if self.kind in {Kind.WORD, Kind.SIGN} else ""


class Quoting(NamedTuple):
    """What the session's sql_mode makes of quotes. `ansi`: "x" is a name; `backslash`: it escapes in texts."""

    ansi: bool = False
    backslash: bool = True


PLAIN = Quoting()


@lru_cache
def _token(quoting: Quoting) -> re.Pattern[str]:
    single = _WITH_ESCAPES if quoting.backslash else _WITHOUT
    double = _WITHOUT if quoting.ansi else single
    text = _PARTS.replace("@single", single.format("'")).replace("@double", double.format('"'))
    return re.compile(text, re.VERBOSE | re.DOTALL)


def tokens(statement: str, *, version: int, mariadb: bool, quoting: Quoting = PLAIN) -> list[Token]:
    """All tokens. `version` as in version comments: 80015, 101100. Unsupported: it cannot be cut."""
    return list(_tokens(statement, version, mariadb, quoting))


def _tokens(statement: str, version: int, mariadb: bool, quoting: Quoting) -> Iterator[Token]:
    token, at = _token(quoting), 0
    while at < len(statement):
        match = token.match(statement, at)
        assert match is not None
        at, kind, text = match.end(), match.lastgroup, match.group()
        if kind == "only":
            if not _executed(text, version, mariadb):
                skipped = _SKIPPED.match(statement, at)
                at = skipped.end() if skipped else at
        elif kind == "back":
            yield Token(Kind.NAME, text[1:-1].replace("``", "`"))
        elif kind == "double" and quoting.ansi:
            yield Token(Kind.NAME, text[1:-1].replace('""', '"'))
        elif kind in {"double", "single"}:
            quoted = text.lstrip("nN")
            plain = quoted[1:-1].replace(quoted[0] * 2, quoted[0])
            yield Token(Kind.TEXT, _unescaped(quoted) if quoting.backslash else plain)
        elif kind == "bits":
            yield Token(Kind.NUMBER, text.lower())
        elif kind == "number":
            yield Token(Kind.NUMBER, text)
        elif kind == "word":
            yield Token(Kind.WORD, text)
        elif kind in {"sign", "dot"}:
            if text in "'\"`":
                raise Unsupported(f"a statement in the log has an open quote: {without_values(statement, quoting)!r}")
            yield Token(Kind.SIGN, text)


def without_values(statement: str, quoting: Quoting = PLAIN, length: int = 200) -> str:
    """Its beginning for a message: without comments, every value as `?`, since a value may be one that a mask hides."""
    shown = ""
    token, at = _token(quoting), 0
    while at < len(statement) and len(shown) < length:
        match = token.match(statement, at)
        assert match is not None
        at, kind, text = match.end(), match.lastgroup, match.group()
        if kind == "sign" and text in "'\"`":
            return shown + "..."  # an open quote: from here on everything may be a value
        if kind in {"double", "single", "bits", "number"}:
            shown += "?"
        elif kind in {"back", "word", "sign", "dot"}:
            shown += text
        else:
            shown += " " if kind == "space" else ""
    return shown[:length]


def _executed(opening: str, version: int, mariadb: bool) -> bool:
    """Whether this server executes what stands in the comment."""
    if opening.startswith("/*M!") and not mariadb:
        return False
    digits = opening.partition("!")[2]
    if not digits:
        return True
    if mariadb and 50700 <= int(digits) <= 99999 and not opening.startswith("/*M!"):
        return False  # MariaDB leaves out what is for MySQL 5.7 and later
    return int(digits) <= version


def _unescaped(quoted: str) -> str:
    quote, inner = quoted[0], quoted[1:-1]
    return re.sub(
        rf"\\(.)|{quote}{quote}", lambda m: _ESCAPES.get(m[1], m[1]) if m[1] else quote, inner, flags=re.DOTALL
    )
