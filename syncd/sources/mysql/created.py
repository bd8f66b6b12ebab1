"""What only the text of SHOW CREATE TABLE says exactly: expressions, foreign keys, CHECKs, the PARTITION BY clause.

information_schema has expressions too, but MySQL escapes quotes in them, and not so that it could be undone; and to a
user who may only read, MariaDB shows no foreign keys there, and does not say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from syncd.model import TableId
from syncd.sources.mysql.connect import Connection, quoted, rows

_NAME = r"(?:`(?:[^`]|``)*`|[^\s`(),.]+)"
_NAMES = rf"\({_NAME}(?:, {_NAME})*\)"
_FOREIGN = re.compile(
    rf"CONSTRAINT ({_NAME}) FOREIGN KEY ({_NAMES}) REFERENCES (?:({_NAME})\.)?({_NAME}) ({_NAMES})((?: ON [A-Z ]+)?)"
)
_PIECE = re.compile(r"'(?:[^'\\]|\\.|'')*'|`(?:[^`]|``)*`|\(|\)|[^'`()]+", re.DOTALL)
_COLUMN = re.compile(r"^ {2}(`(?:[^`]|``)+`) (.*?),?$", re.DOTALL)
_CHECK = re.compile(rf"^ {{2}}CONSTRAINT ({_NAME}) (CHECK .*?),?$", re.DOTALL)
_OFF = "NOT ENFORCED"
_STORED = re.compile(r"\s*(STORED|PERSISTENT)\b")
_COMMENTED = re.compile(r"/\*!\d+ (.*)\*/$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """`database`: of the table that it refers to, "" for its own one. `rules`: what follows the names, as it is."""

    name: str
    columns: tuple[str, ...]
    database: str
    table: str
    to: tuple[str, ...]
    rules: str

    def rule(self, event: str) -> str:
        """What happens ON DELETE or ON UPDATE."""
        found = re.search(rf" ON {event} (RESTRICT|CASCADE|SET NULL|NO ACTION|SET DEFAULT)", self.rules)
        return found[1] if found else "RESTRICT"


@dataclass(frozen=True, slots=True)
class Check:
    """`name`: "" for that of a column. `condition`: in parentheses. `off`: it is not enforced."""

    name: str
    condition: str
    off: bool = False

    def parts(self) -> Iterator[tuple[str, bool]]:
        """Of the condition, in order: (text, whether it is a column's name)."""
        for piece in _PIECE.findall(self.condition):
            is_name = piece.startswith("`")
            yield (plain(piece) if is_name else piece), is_name


@dataclass(frozen=True, slots=True)
class Created:
    """By column name: `generated` and `defaults` (expressions, in parentheses). `partitions`: see `TableSchema`."""

    generated: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)
    foreign: tuple[ForeignKey, ...] = ()
    checks: tuple[Check, ...] = ()
    partitions: str = ""


def created(connection: Connection, table: TableId) -> Created:
    """As the server prints the table now."""
    return read(str(rows(connection, f"SHOW CREATE TABLE {quoted(*table)}", table=str(table))[0][1]))


def read(text: str) -> Created:
    """`text` of SHOW CREATE TABLE, under an empty sql_mode: one line for each column, one for each key."""
    foreign = tuple(map(_foreign, _FOREIGN.finditer(text)))
    lines = text.split("\n")
    checks = tuple(check for line in lines if (check := _check(line)) is not None)
    found = Created(foreign=foreign, checks=checks, partitions=_partitions(text))
    for line in lines:
        match = _COLUMN.match(line)
        if match is None:
            continue
        name, rest = match[1][1:-1].replace("``", "`"), match[2]
        for clause, into in (("GENERATED ALWAYS AS ", found.generated), ("DEFAULT ", found.defaults)):
            expression, behind = _parenthesised(rest, clause)
            if expression and into is found.generated:
                into[name] = f"{expression} {'STORED' if _STORED.match(behind) else 'VIRTUAL'}"
            elif expression:
                into[name] = expression
    return found


def _foreign(match: re.Match[str]) -> ForeignKey:
    name, columns, database, table, to, rules = match.groups()
    listed = [tuple(plain(one) for one in re.findall(_NAME, names)) for names in (columns, to)]
    return ForeignKey(plain(name), listed[0], plain(database or ""), plain(table), listed[1], rules)


def _check(line: str) -> Check | None:
    """MariaDB has one of a column in the column's line."""
    named = _CHECK.match(line)
    found = named or _COLUMN.match(line)
    condition, behind = _parenthesised(found[2], "CHECK ") if found is not None else ("", "")
    return Check(plain(named[1]) if named is not None else "", condition, _OFF in behind) if condition else None


def plain(name: str) -> str:
    """A name without its quotes."""
    return name[1:-1].replace("``", "`") if name.startswith("`") else name


def _parenthesised(text: str, clause: str) -> tuple[str, str]:
    """The parentheses that follow the clause, where it stands outside of quotes, and what is behind; "" for none."""
    at, depth, start = 0, 0, -1
    while at < len(text):
        piece = _PIECE.match(text, at)
        if piece is None:  # an odd quote: nothing that could be told
            return "", ""
        word, before = piece.group(), at
        at = piece.end()
        if word == "(":
            if depth == 0 and text[:before].endswith(clause):
                start = before
            depth += 1
        elif word == ")":
            depth -= 1
            if depth == 0 and start >= 0:
                return text[start:at], text[at:]
    return "", ""


def _partitions(text: str) -> str:
    """Behind the line that closes the columns; MySQL puts it into a comment for its own versions."""
    _, closed, options = text.rpartition("\n) ")
    at = re.search(r"(?:/\*!\d+ )?\s?PARTITION BY ", options)
    if not closed or at is None:
        return ""
    clause = options[at.start() :].strip()
    commented = _COMMENTED.match(clause)
    return (commented[1] if commented else clause).strip()
