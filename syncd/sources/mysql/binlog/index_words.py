"""Indexes as CREATE TABLE, ALTER TABLE and CREATE INDEX define them."""

from __future__ import annotations

from syncd.model import Index, IndexPart
from syncd.sources.mysql.binlog import parts
from syncd.sources.mysql.binlog.actions import Indexed
from syncd.sources.mysql.binlog.cursor import Cursor
from syncd.sources.mysql.binlog.expressions import expression
from syncd.sources.mysql.binlog.server import Server, Unclear
from syncd.sources.mysql.binlog.tokens import Kind, Token

_KINDS = {"UNIQUE": "unique", "FULLTEXT": "fulltext", "SPATIAL": "spatial"}
_LEADING = frozenset({"INDEX", "KEY"})


def index(words: list[Token], server: Server) -> Indexed | None:
    """Of a part that begins with INDEX, UNIQUE, CONSTRAINT x FOREIGN KEY, ...; None for one that makes no index.

    Unclear: not to be read, or a primary key.
    """
    return _Index(words, server).read()


def created(words: list[Token], kind: str, server: Server) -> tuple[Indexed, list[Token]]:
    """Of CREATE INDEX, from the name on, and the words behind ON. `kind`: the word before INDEX, "" without any."""
    return _Index(words, server).created(_KINDS.get(kind, ""))


def key_parts(words: list[Token]) -> tuple[IndexPart, ...]:
    """What stands in an index's parentheses."""
    return tuple(_part(part) for part in parts.split(words))


def _part(words: list[Token]) -> IndexPart:
    down = words[-1].word == "DESC"
    if words[-1].word in {"ASC", "DESC"}:
        words = words[:-1]
    if words and words[0].word == "(":
        return IndexPart("", 0, down, f"({expression(words[1:-1])})")
    if not words or words[0].kind not in {Kind.WORD, Kind.NAME}:
        raise Unclear("no column of an index")
    length = int(words[2].text) if len(words) == 4 and words[2].text.isdigit() else 0
    return IndexPart(words[0].text, length, down)


class _Index(Cursor):
    def read(self) -> Indexed | None:
        name = ""
        if self._accept("CONSTRAINT") and self._peek() not in {"UNIQUE", "FOREIGN", "CHECK", "PRIMARY"}:
            name = self._name()
        if self._peek() == "CHECK":
            return None
        if self._accept("FOREIGN", "KEY"):
            return self._foreign(name)
        kind = _KINDS.get(self._peek(), "")
        if self._peek() not in _LEADING and not kind:
            raise Unclear("an index that is not followed")
        self._at += 1
        if kind and self._peek() in _LEADING:
            self._at += 1
        lenient = self._accept("IF", "NOT", "EXISTS")
        if self._peek() != "(" and not (self._peek() in {"USING", "TYPE"} and self._word(1) in {"BTREE", "HASH"}):
            name = self._name()
        return self._rest(name, kind, lenient=lenient)

    def created(self, kind: str) -> tuple[Indexed, list[Token]]:
        lenient = self._accept("IF", "NOT", "EXISTS")
        name = self._name()
        while self._at < len(self._words) and not self._accept("ON"):
            self._at += 1
        behind = self._words[self._at :]
        while self._at < len(self._words) and self._peek() not in {"(", "USING", "TYPE"}:
            self._at += 1
        return self._rest(name, kind, lenient=lenient), behind

    def _foreign(self, name: str) -> Indexed:
        self._accept("IF", "NOT", "EXISTS")
        if self._peek() != "(":
            own = self._name()
            name = own if self._server.mariadb else name or own
        return Indexed(Index(name, key_parts(self._parentheses())), foreign=True)

    def _rest(self, name: str, kind: str, *, lenient: bool) -> Indexed:
        """From what may stand before the columns on."""
        while self._peek() != "(":
            if self._at >= len(self._words):
                raise Unclear("no columns of an index")
            self._at += 1
        found = key_parts(self._parentheses())
        rest = self._words[self._at :]
        comment, hidden = "", False
        for at, word in enumerate(rest):
            if word.word == "COMMENT":
                behind = [other for other in rest[at + 1 : at + 3] if other.word != "="]
                comment = behind[0].text if behind else ""
            ignored = word.word == "IGNORED" and rest[at - 1].word != "NOT"
            hidden = hidden or word.word == "INVISIBLE" or ignored
        return Indexed(Index(name, found, kind, comment), lenient, hidden=hidden)

    def _name(self) -> str:
        if self._at >= len(self._words) or self._words[self._at].kind not in {Kind.WORD, Kind.NAME}:
            raise Unclear("no name of an index")
        self._at += 1
        return self._words[self._at - 1].text

    def _word(self, ahead: int) -> str:
        at = self._at + ahead
        return self._words[at].word if at < len(self._words) else ""

    def _parentheses(self) -> list[Token]:
        first, depth = self._at + 1, 0
        for at in range(self._at, len(self._words)):
            depth += (self._words[at].word == "(") - (self._words[at].word == ")")
            if depth == 0:
                self._at = at + 1
                return self._words[first:at]
        raise Unclear("no columns of an index")
