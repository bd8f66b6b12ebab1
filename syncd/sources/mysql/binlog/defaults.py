"""Defaults that a column's definition does not settle by itself: ALTER COLUMN, and what the session says."""

from __future__ import annotations

from dataclasses import replace

from syncd.model import Column
from syncd.sources.mysql.binlog import literals
from syncd.sources.mysql.binlog.columns import Defined, define
from syncd.sources.mysql.binlog.control import Query
from syncd.sources.mysql.binlog.server import Server
from syncd.sources.mysql.binlog.tokens import Kind, Token
from syncd.sources.mysql.types import base_type

_UNICODE = {"utf8mb4", "utf8mb3", "utf8"}
_TINYINT = [Token(Kind.WORD, "TINYINT")]


def valued(column: Column, words: list[Token], server: Server) -> Defined:
    """The column with the default that ALTER COLUMN ... SET DEFAULT gives it. Unclear: see there."""
    said = define([Token(Kind.NAME, column.name), *_TINYINT, Token(Kind.WORD, "DEFAULT"), *words], server)
    update = column.filled[column.filled.find("ON UPDATE") :] if "ON UPDATE" in column.filled else ""
    filled = " ".join(filter(None, (said.column.filled, update)))
    literal = literals.literal([word for word in words if word.word not in {"(", ")"}] if server.mariadb else words)
    default = literals.constant(column.source_type, *literal) if literal and not said.column.filled else None
    unclear = f"the default of {column.name}" if literal and not said.column.filled and default is None else ""
    return Defined(replace(column, default=default, filled=filled), unclear=unclear)


def settled(defined: Defined, query: Query, charset: str) -> Defined:
    """With what the session says of the default: its time zone, its mode, the character set of the statement."""
    column, unclear = defined.column, f"the default of {defined.column.name}"
    if column.default is None:
        return defined
    if column.default == "" and query.empty_is_null:
        return replace(defined, unclear=unclear)
    if not column.default.isascii() and charset not in _UNICODE:
        return replace(defined, unclear=unclear)  # other character sets are read here in nearly the server's way only
    if base_type(column.source_type) != "timestamp":
        return defined
    default = literals.in_zone(column.default, query.zone)
    return replace(defined, column=replace(column, default=default), unclear=defined.unclear if default else unclear)
