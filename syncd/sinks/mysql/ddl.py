"""The statements that make tables, columns and indexes."""

from __future__ import annotations

import re

import pyarrow.types as pat

from syncd.drivers.mysql.connection import quoted
from syncd.drivers.mysql.types import base_type
from syncd.model import Column, Finding, Index
from syncd.sinks.mysql.layout import Layout
from syncd.sinks.mysql.types import FAMILY, LONG
from syncd.sinks.mysql.words import DELETED, full_name, text

_NOW = re.compile(r"CURRENT_TIMESTAMP(\(\d\))?")
_INTRODUCED = re.compile(r"'(?:[^'\\]|\\.|'')*'|`(?:[^`]|``)*`|\b_utf8mb4(?=')", re.DOTALL)
_BITS = re.compile(r"b'[01]*'")


def create_database(name: str) -> str:
    return f"CREATE DATABASE IF NOT EXISTS {quoted(name)} DEFAULT CHARACTER SET utf8mb4"


def create_table(of: Layout) -> str:
    """Without secondary indexes: those are made once the rows are there."""
    schema = of.target.schema
    lines = [column_line(of, column) for column in of.columns]
    if of.soft:
        lines.append(f"{quoted(DELETED)} tinyint(1) NOT NULL DEFAULT 0")
    if of.key:
        lines.append(f"PRIMARY KEY ({', '.join(quoted(name) for name in of.key)})")
    engine = "" if of.limits.oceanbase else "ENGINE=InnoDB "
    collation = schema.collation if schema.collation in of.limits.collations else "utf8mb4_general_ci"
    options = f"{engine}DEFAULT CHARACTER SET {collation.partition('_')[0]} COLLATE {collation}"
    comment = f" COMMENT {text(schema.comment)}" if schema.comment else ""
    partitions = f" {_words(of, schema.partitions)}" if of.options.partitions and of.of_family else ""
    body = ",\n  ".join(lines)
    return f"CREATE TABLE IF NOT EXISTS {full_name(of.target)} (\n  {body}\n) {options}{comment}{partitions}"


def column_line(of: Layout, column: Column, *, added: bool = False) -> str:
    """The column as CREATE TABLE and ALTER TABLE have it. `added`: there are rows that are written without it."""
    kind = of.kinds[column.name]
    assert kind is not None, "refused before"
    words = [quoted(column.name), kind.name]
    if column.name in of.generated:
        words.append(f"GENERATED ALWAYS AS {_words(of, column.generated)}")
    else:
        words.append("NULL" if column.nullable else "NOT NULL")
        words += _default(of, column) or (_zero(column) if added and not column.nullable else [])
    if column.comment:
        words.append(f"COMMENT {text(column.comment)}")
    return " ".join(words)


def _default(of: Layout, column: Column) -> list[str]:
    """What a row gets in whose statement the column is not named; the sink itself names all of them."""
    words = []
    if column.filled == "AUTO_INCREMENT":
        return ["AUTO_INCREMENT"] if of.key[:1] == (column.name,) else []
    base = base_type(column.source_type)
    if column.default is not None and not filled_later(column) and base not in LONG:
        words.append(f"DEFAULT {literal(column, column.default)}")
    elif column.nullable and base == "timestamp":
        words.append("DEFAULT NULL")
    if column.filled and of.of_family and _fillable(of, column.filled):
        words.append(_words(of, column.filled))
    return words


def _words(of: Layout, words: str) -> str:
    """The source's own. The session has utf8mb4; where a text says so, MariaDB keeps it so that it cannot be read."""
    if not of.limits.server.mariadb:
        return words
    return _INTRODUCED.sub(lambda found: "" if found[0] == "_utf8mb4" else found[0], words)


def _zero(column: Column) -> list[str]:
    """What the servers give such a column by themselves, as a default: a strict session wants one."""
    kind = column.type
    if base_type(column.source_type) in LONG or pat.is_temporal(kind) or pat.is_dictionary(kind):
        return []
    if pat.is_integer(kind) or pat.is_floating(kind) or pat.is_decimal(kind) or pat.is_boolean(kind):
        return ["DEFAULT 0"]
    return ["DEFAULT ''"] if base_type(column.source_type) in FAMILY else []


def has_default(of: Layout, column: Column) -> bool:
    """Whether a row may be written without the column, once it is added."""
    return column.name in of.generated or column.nullable or bool(_default(of, column) or _zero(column))


def remarks(of: Layout) -> list[Finding]:
    """What a person should know of who else writes to the table, as after the cut-over."""
    names = [column.name for column in of.columns if column.name not in of.generated and _is_left_out(of, column)]
    if not names:
        return []
    text = "the source fills these by itself (a default, an expression, AUTO_INCREMENT), and the table here does not"
    todo = "see at the cut-over that whoever writes to it gives them a value"
    return [Finding("warning", full_name(of.target), f"{text}: {', '.join(names)}", todo)]


def _is_left_out(of: Layout, column: Column) -> bool:
    words = _default(of, column)
    default = column.default is not None and not any(word.startswith("DEFAULT") for word in words)
    filled = bool(column.filled) and words[-1:] not in (["AUTO_INCREMENT"], [_words(of, column.filled)])
    return bool(column.generated) or default or filled


def old_value(column: Column) -> str | None:
    """What rows hold that are older than the column, as a literal; None: the source does not tell."""
    if column.default is not None:
        return literal(column, column.default)
    if column.nullable:
        return "NULL"
    zero = _zero(column)
    if not zero and base_type(column.source_type) in LONG - {"json"}:
        return "''"
    return zero[0].removeprefix("DEFAULT ") if zero else None


def filled_later(column: Column) -> bool:
    """Whether the column's default, which rows that are there have at the source, cannot be the table's own."""
    long = base_type(column.source_type) in LONG or base_type(column.source_type) not in FAMILY
    return bool(column.default) and long and not column.generated


def _fillable(of: Layout, filled: str) -> bool:
    """Whether the source's words are kept: the moment of a change is the same everywhere, expressions are not."""
    if _NOW.sub("", filled).replace("DEFAULT", "").replace("ON UPDATE", "").strip() == "":
        return True
    return of.options.expressions == "keep" and not of.limits.oceanbase


def literal(column: Column, default: str) -> str:
    """A constant default, as the source says it, as a literal."""
    if _BITS.fullmatch(default) or (pat.is_binary(column.type) and default.startswith("0x")):
        return default
    if pat.is_binary(column.type):
        return f"x'{default.encode('latin-1', 'replace').hex()}'"
    numeric = pat.is_integer(column.type) and not pat.is_boolean(column.type)
    return default if numeric and re.fullmatch(r"-?\d+", default) else text(default)


def create_index(of: Layout, index: Index) -> str:
    """As part of ALTER TABLE."""
    parts = []
    for part in index.parts:
        length = f"({part.length})" if part.length else ""
        down = " DESC" if part.descending else ""
        parts.append(f"{_words(of, part.expression) or quoted(part.column) + length}{down}")
    kind = f"{index.kind.upper()} " if index.kind else ""
    comment = f" COMMENT {text(index.comment)}" if index.comment else ""
    return f"ADD {kind}INDEX {quoted(index.name)} ({', '.join(parts)}){comment}"


def unique_later(of: Layout) -> tuple[str, ...]:
    """The statements that make relaxed indexes unique. OceanBase takes no two acts on one name in one of them."""
    if not of.relaxed:
        return ()
    unique = [index for index in of.target.schema.indexes if index.kind == "unique" and of.takes(index)]
    table = f"ALTER TABLE {full_name(of.target)}"
    pairs = [(f"DROP INDEX {quoted(index.name)}", create_index(of, index)) for index in unique]
    if of.limits.oceanbase:
        return tuple(f"{table} {act}" for pair in pairs for act in pair)
    return tuple(f"{table} {drop}, {make}" for drop, make in pairs)
