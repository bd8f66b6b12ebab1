"""A place among a statement's words, and the names of tables as the server compares them."""

from __future__ import annotations

from syncd.model import TableId
from syncd.sources.mysql.binlog.server import Server, Unclear
from syncd.sources.mysql.binlog.tokens import Kind, Token


class Cursor:
    """`_words` from `_at` on."""

    def __init__(self, words: list[Token], server: Server) -> None:
        self._words, self._at, self._server = words, 0, server

    def _peek(self) -> str:
        return self._words[self._at].word if self._at < len(self._words) else ""

    def _accept(self, *wanted: str) -> bool:
        found = [word.word for word in self._words[self._at : self._at + len(wanted)]]
        if found != list(wanted):
            return False
        self._at += len(wanted)
        return True

    def _table(self) -> TableId:
        words = self._words[self._at : self._at + 3]
        if len(words) == 3 and words[1].word == ".":
            self._at += 3
            return self._server.table(words[2].text, words[0].text)
        if not words or words[0].kind not in {Kind.WORD, Kind.NAME}:
            raise Unclear("no table name")
        self._at += 1
        return self._server.table(words[0].text)

    def _named(self, *, texts: bool = False) -> frozenset[TableId]:
        """Every word that may be a table's name, with and without a database before it; `texts` in quotes, too."""
        found = set()
        for index, token in enumerate(self._words):
            if token.kind in {Kind.WORD, Kind.NAME} or (texts and token.kind is Kind.TEXT):
                before = self._words[index - 2 : index] if index >= 2 else []
                dotted = len(before) == 2 and before[1].word == "."
                found.add(self._server.table(token.text, before[0].text if dotted else None))
        return frozenset(found)
