"""Expressions of defaults, generated columns and indexes, out of a statement's words.

The servers keep them in a form of their own, with names and operators spelled anew. What the statement says means the
same; the server's form is taken where it can be had, so that both descriptions of a table agree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from syncd.sources.mysql.binlog.tokens import Kind, Token

_OPERATORS = frozenset("<>=!|&:-")
_NOISE = re.compile(r"[\s`()\\]|_(?:utf8mb[34]|utf8|latin1|ascii|binary)(?=\\?')|charset(?:utf8mb[34]|latin1)")


def expression(words: Sequence[Token]) -> str:
    """The words as one text, which any session of that server reads in the same way."""
    text, before = "", ""
    for word in words:
        sign = word.text if word.kind is Kind.SIGN else ""
        close = before in {"(", "."} or sign in {"(", ")", ",", "."}
        close = close or (bool(before) and before in _OPERATORS and sign in _OPERATORS and before + sign != "--")
        text += ("" if close or not text else " ") + _shown(word)
        before = sign
    return text


def _shown(word: Token) -> str:
    if word.kind is Kind.NAME:
        return "`" + word.text.replace("`", "``") + "`"
    if word.kind is Kind.TEXT:
        return "'" + word.text.replace("\\", "\\\\").replace("'", "''") + "'"
    return word.text


def alike(one: str, other: str) -> bool:
    """Whether both are forms of one expression, as far as that can be told: no more than brackets, quotes of names,
    spaces and the case of words differ."""
    return _plain(one) == _plain(other)


def _plain(text: str) -> str:
    return _NOISE.sub("", text.lower())
