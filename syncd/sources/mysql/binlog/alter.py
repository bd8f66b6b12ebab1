"""What a statement of the log does to tables: its verb, its tables and, for ALTER and CREATE TABLE, its parts.

Everything that is not certainly harmless to columns, keys and rows comes out as `Other`.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from syncd.model import TableId
from syncd.sources.mysql.binlog.actions import (
    Action,
    Added,
    Alter,
    Create,
    Drop,
    Nothing,
    Other,
    Rename,
    Rows,
    Truncate,
)
from syncd.sources.mysql.binlog.columns import Defined, Unclear, define
from syncd.sources.mysql.binlog.tokens import Kind, Token


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HARMLESS_OBJECTS = _words(
    "DATABASE SCHEMA USER ROLE VIEW PROCEDURE FUNCTION TRIGGER EVENT SERVER SEQUENCE PACKAGE LOGFILE TABLESPACE UNDO "
    "RESOURCE SPATIAL INSTANCE LIBRARY"
)
_MODIFIERS = _words(
    "UNIQUE FULLTEXT ONLINE OFFLINE AGGREGATE VECTOR SQL SECURITY DEFINER INVOKER ALGORITHM MERGE TEMPTABLE UNDEFINED "
    "JSON RELATIONAL DUALITY ="
)
_HARMLESS_VERBS = _words(
    "GRANT REVOKE OPTIMIZE FLUSH CHECK USE SAVEPOINT RELEASE START COMMIT INSTALL UNINSTALL CHECKSUM KILL RESET LOCK "
    "UNLOCK"
)
_ROW_VERBS = _words("INSERT REPLACE UPDATE DELETE LOAD WITH SELECT CALL")
_HARMLESS_OPTIONS = _words(
    "ENGINE AUTO_INCREMENT COMMENT ROW_FORMAT KEY_BLOCK_SIZE DEFAULT CHARSET CHARACTER COLLATE ALGORITHM LOCK FORCE "
    "ORDER ENABLE DISABLE COMPRESSION ENCRYPTION MAX_ROWS MIN_ROWS AVG_ROW_LENGTH CHECKSUM DELAY_KEY_WRITE PACK_KEYS "
    "NOWAIT WAIT STATS_AUTO_RECALC STATS_PERSISTENT STATS_SAMPLE_PAGES WITHOUT WITH PAGE_CHECKSUM TRANSACTIONAL "
    "PAGE_COMPRESSED PAGE_COMPRESSION_LEVEL ENCRYPTED PARTITION ANALYZE CHECK OPTIMIZE REBUILD COALESCE "
    "REORGANIZE SECONDARY_ENGINE"
)
_MOVING_OPTIONS = _words("UNION SYSTEM CONNECTION")
"""Words that among harmless options may change which rows the table has."""
_ENGINES = _words("INNODB MYISAM ARIA ROCKSDB TOKUDB MEMORY HEAP ARCHIVE NDB NDBCLUSTER")
"""They hold what is written to them, value by value."""
_KEYS = _words("INDEX KEY UNIQUE FULLTEXT SPATIAL FOREIGN CHECK CONSTRAINT PRIMARY PARTITION")
_DROPPED_KEYS = _words("INDEX KEY FOREIGN CONSTRAINT CHECK")
_MAYBE_KEYS = {"PERIOD": {"FOR"}, "VECTOR": {"INDEX", "KEY"}, "SYSTEM": {"VERSIONING"}}
"""Words that begin a key's or a table's part only before certain others, and a column's definition else."""


def read(words: list[Token], database: str, *, mariadb: bool, fold: bool = False) -> Action:
    """What the statement does; names without a database are of `database`. `fold`: tables have lower-case names."""
    return _Statement(words, _Server(database, mariadb, fold)).read()


def _no_column(words: list[Token]) -> bool:
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


class _Server(NamedTuple):
    """What a statement's reading needs to know of its session and server; see `read`."""

    database: str
    mariadb: bool
    fold: bool

    def table(self, name: str, database: str | None = None) -> TableId:
        found = TableId(self.database if database is None else database, name)
        return TableId(found.database.lower(), name.lower()) if self.fold else found


class _Statement:
    def __init__(self, words: list[Token], server: _Server) -> None:
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

    def read(self) -> Action:
        verb = self._peek()
        self._at = 1
        try:
            return self._read(verb)
        except Unclear:
            return Other(self._named())

    def _read(self, verb: str) -> Action:
        match verb:
            case "":
                return Nothing() if not self._words else Other(self._named())
            case "CREATE" | "ALTER" | "DROP":
                return self._definition(verb)
            case "RENAME":
                if self._accept("TABLE") or self._accept("TABLES"):
                    return self._rename()
                return Nothing() if self._accept("USER") else Other(self._named())
            case "TRUNCATE":
                self._accept("TABLE")
                return Truncate(self._table())
            case "ROLLBACK":
                return Nothing(rollback=True)
            case "XA":
                return Nothing(xa=self._peek())
            case "SET":
                return self._set() if self._accept("STATEMENT") else Nothing()
            case "BEGIN" | "ANALYZE":
                return self._begin_or_analyze(verb)
            case _ if verb in _ROW_VERBS or verb == "(":
                return Rows(None if verb == "SELECT" and self._calls() else self._named())
            case _ if verb in _HARMLESS_VERBS:
                return Nothing()
            case _:
                return Other(self._named())

    def _calls(self) -> bool:
        """`database`.`function`(...: so the servers log a call that has changed rows."""
        kinds = [Kind.NAME if word.kind is Kind.NAME else word.word for word in self._words]
        return any(kinds[at : at + 4] == [Kind.NAME, ".", Kind.NAME, "("] for at in range(len(kinds)))

    def _begin_or_analyze(self, verb: str) -> Action:
        """Of a transaction and of a table; MariaDB has blocks and statements behind these verbs, too."""
        if verb == "BEGIN":
            return Other(self._named()) if self._accept("NOT") else Nothing()
        _ = self._accept("LOCAL") or self._accept("NO_WRITE_TO_BINLOG")
        return Nothing() if self._peek() in {"TABLE", "TABLES"} else Rows(self._named())

    def _set(self) -> Action:
        """MariaDB's SET STATEMENT variable = value, ... FOR what counts."""
        settings, depth = [], 0
        for index in range(self._at, len(self._words)):
            word = self._words[index].word
            depth += (word == "(") - (word == ")")
            if word == "FOR" and depth == 0:
                if "SQL_MODE" in settings:
                    return Other(self._named(texts=True))  # the log does not say which mode the rest was cut by
                return _Statement(self._words[index + 1 :], self._server).read()
            settings.append(word)
        return Other(self._named())

    def _named(self, *, texts: bool = False) -> frozenset[TableId]:
        """Every word that may be a table's name, with and without a database before it; `texts` in quotes, too."""
        found = set()
        for index, token in enumerate(self._words):
            if token.kind in {Kind.WORD, Kind.NAME} or (texts and token.kind is Kind.TEXT):
                before = self._words[index - 2 : index] if index >= 2 else []
                dotted = len(before) == 2 and before[1].word == "."
                found.add(self._server.table(token.text, before[0].text if dotted else None))
        return frozenset(found)

    def _definition(self, verb: str) -> Action:
        replace = self._accept("OR", "REPLACE")
        ignore = self._modifiers()
        kind = self._peek()
        self._at += 1
        if kind == "TEMPORARY":
            return Nothing() if verb == "DROP" else self._create_temporary()
        if kind in {"TABLE", "TABLES"}:
            if verb == "ALTER":
                return self._alter(ignore=ignore)
            return self._create(replace=replace) if verb == "CREATE" else self._drop()
        if kind == "INDEX" or (verb == "CREATE" and kind in {"SPATIAL", "FULLTEXT"} and self._accept("INDEX")):
            return Nothing() if verb == "CREATE" and not replace else self._index()
        if verb == "DROP" or replace:
            if kind in {"DATABASE", "SCHEMA"}:
                self._accept("IF", "EXISTS")
                return Drop(database=self._database())
            if kind == "SEQUENCE":
                return self._drop()
        return Nothing() if kind in _HARMLESS_OBJECTS else Other(self._named())

    def _create_temporary(self) -> Action:
        """Only a session in STATEMENT or MIXED logs it: statements that follow are not about the table of its name."""
        self._at += 1
        self._accept("IF", "NOT", "EXISTS")
        return Other(frozenset({self._table()}))

    def _modifiers(self) -> bool:
        """Pass over what stands before the kind of a thing; whether IGNORE is among it."""
        ignore = False
        while self._peek() in _MODIFIERS or self._peek() == "IGNORE":
            ignore = ignore or self._peek() == "IGNORE"
            if self._accept("DEFINER", "="):
                self._account()
            else:
                self._at += 1
        return ignore

    def _account(self) -> None:
        """CURRENT_USER, CURRENT_ROLE(), name@host: one word, or, in quotes, a name, an @ and a name."""
        if self._at >= len(self._words):
            raise Unclear("no account")
        self._at += 1
        _ = self._accept("(", ")")
        if self._peek().startswith("@"):
            self._at += 1
        if self._words[self._at - 1].word.endswith("@"):
            self._at += 1

    def _database(self) -> str:
        if self._at >= len(self._words):
            raise Unclear("no database name")
        return self._server.table("", self._words[self._at].text).database

    def _index(self) -> Action:
        """One goes, dropped or replaced."""
        other = ""
        while self._at < len(self._words) and not self._accept("ON"):
            other = other or _primary(self._words[self._at])
            self._at += 1
        return Alter(self._table(), drops_index=True, other=other)

    def _drop(self) -> Action:
        self._accept("IF", "EXISTS")
        parts = split(self._words[self._at :])
        return Drop(tuple(_Statement(part, self._server)._table() for part in parts))

    def _rename(self) -> Action:
        self._accept("IF", "EXISTS")
        pairs = []
        for part in split(self._words[self._at :]):
            one = _Statement(part, self._server)
            old = one._table()
            while one._at < len(part) and not one._accept("TO"):
                one._at += 1
            pairs.append((old, one._table()))
        return Rename(tuple(pairs))

    # ------------------------------------------------------------------------------------------------ CREATE TABLE

    def _create(self, *, replace: bool) -> Action:
        lenient = self._accept("IF", "NOT", "EXISTS")
        table = self._table()
        unclear = Create(
            table, (), (), "", lenient=lenient, replace=replace, unclear="its columns are not in the statement"
        )
        if self._peek() != "(":
            return unclear
        depth, first = 0, self._at + 1
        for index in range(self._at, len(self._words)):
            depth += (self._words[index].word == "(") - (self._words[index].word == ")")
            if depth == 0:
                return self._created(unclear, self._words[first:index], self._words[index + 1 :])
        return unclear

    def _created(self, made: Create, body: list[Token], options: list[Token]) -> Create:
        if _moves_rows(options):
            return dataclasses.replace(made, unclear="its options are not followed")
        if any(word.word in {"SELECT", "AS"} for word in options) or (body and body[0].word in {"LIKE", "SELECT"}):
            return made
        columns: list[Defined] = []
        keys: list[tuple[str, tuple[str, ...]]] = []
        try:
            for part in split(body):
                if _no_column(part):
                    keys += _key(part)
                else:
                    columns.append(define(part, mariadb=self._server.mariadb))
        except Unclear as error:
            return Create(made.table, (), (), "", lenient=made.lenient, replace=made.replace, unclear=str(error))
        keys += [(one.key, (one.column.name,)) for one in columns if one.key]
        kind, key = _best(keys, columns)
        charset, collation, comment = _table_options(options)
        return Create(
            made.table,
            tuple(columns),
            key,
            kind,
            charset,
            collation,
            comment,
            made.lenient,
            made.replace,
            rows_follow=[w.word for w in options[-2:]] == ["START", "TRANSACTION"],
            cascades=_cascades(body),
        )

    # ------------------------------------------------------------------------------------------------- ALTER TABLE

    def _alter(self, *, ignore: bool) -> Action:
        """`ignore`: rows that a new key refuses are deleted."""
        self._accept("IF", "EXISTS")
        table = self._table()
        added: list[Added] = []
        renamed: TableId | None = None
        drops, other = False, "IGNORE" if ignore else ""
        for part in split(self._words[self._at :]):
            one = _Statement(part, self._server)
            if one._accept("WAIT"):
                one._at += 1
            one._accept("NOWAIT")
            try:
                what = one._part()
            except Unclear as error:
                what = str(error)
            if isinstance(what, list):
                added += what
            elif isinstance(what, TableId):
                renamed = what
            elif what == "index":
                drops = True
            else:
                other = other or what
        return Alter(table, tuple(added), renamed, drops, other, self._partners(), _cascades(self._words))

    def _partners(self) -> frozenset[TableId]:
        """What follows the word TABLE in EXCHANGE PARTITION ... WITH TABLE x, CONVERT PARTITION ... TO TABLE x, ..."""
        found = set()
        while self._at < len(self._words):
            if self._accept("TABLE"):
                found.add(self._table())
            else:
                self._at += 1
        return frozenset(found)

    def _part(self) -> list[Added] | TableId | str:
        """One part of an ALTER TABLE: columns added, a new name, "index" (one goes), "" (harmless) or what it is."""
        text = " ".join(word.text for word in self._words[:6])
        verb = self._peek()
        self._at += 1
        if verb == "ADD":
            return self._add(text)
        if verb == "DROP":
            primary = any(_primary(word) for word in self._words[self._at :])
            return "index" if self._peek() in _DROPPED_KEYS and not primary else text
        if verb == "RENAME":
            if self._peek() in {"INDEX", "KEY"}:
                return ""
            if self._peek() == "COLUMN":
                return text
            _ = self._accept("TO") or self._accept("AS") or self._accept("=")
            return self._table()
        if verb == "ALTER":
            return self._alter_part(text)
        if verb == "REMOVE" and self._accept("PARTITIONING"):
            return ""
        return "" if verb in _HARMLESS_OPTIONS and not _moves_rows(self._words) else text

    def _alter_part(self, text: str) -> str:
        """ALTER INDEX or ALTER COLUMN name SET DEFAULT, DROP DEFAULT, SET VISIBLE: rows and types stay."""
        if self._peek() in {"INDEX", "CHECK", "CONSTRAINT", "KEY"}:
            return ""
        self._accept("COLUMN")
        self._at += 1
        return "" if self._peek() in {"SET", "DROP"} else text

    def _add(self, text: str) -> list[Added] | str:
        if self._at < len(self._words) and _no_column(self._words[self._at :]):
            words = [word.word for word in self._words[self._at : self._at + 4]]
            changes = words[0] in {"PERIOD", "SYSTEM"} or "PRIMARY" in words[:3]
            return text if changes else ""
        self._accept("COLUMN")
        lenient = self._accept("IF", "NOT", "EXISTS")
        if self._peek() == "(":
            inner = self._words[self._at + 1 : -1]
            parts = split(inner)
            if any(_no_column(part) for part in parts):
                raise Unclear(text)
            return [Added(define(part, mariadb=self._server.mariadb), None, lenient) for part in parts]
        rest, after = self._words[self._at :], None
        if rest and rest[-1].word == "FIRST":
            rest, after = rest[:-1], ""
        elif len(rest) > 2 and rest[-2].word == "AFTER":
            rest, after = rest[:-2], rest[-1].text
        return [Added(define(rest, mariadb=self._server.mariadb), after, lenient)]


def _primary(word: Token) -> str:
    """The primary key's name, by which it can be dropped like any index; "" for any other word."""
    named = word.kind in {Kind.WORD, Kind.NAME} and word.text.upper() == "PRIMARY"
    return word.text if named else ""


def _moves_rows(options: list[Token]) -> bool:
    """Options after which the table may have other rows, or none, without a word in the log."""
    words = [word.word for word in options]
    for at, word in enumerate(words):
        if word == "ENGINE":
            value = options[at + 1 :][words[at + 1 : at + 2] == ["="] :]
            if not value or value[0].text.upper() not in _ENGINES:
                return True
    return not _MOVING_OPTIONS.isdisjoint(words)


def _cascades(words: list[Token]) -> bool:
    """ON DELETE CASCADE, ON UPDATE SET NULL and their like."""
    found = [word.word for word in words]
    acts = zip(found, found[1:], found[2:], strict=False)
    return any(on == "ON" and what in {"DELETE", "UPDATE"} and act in {"CASCADE", "SET"} for on, what, act in acts)


def _key(part: list[Token]) -> list[tuple[str, tuple[str, ...]]]:
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


def _best(keys: list[tuple[str, tuple[str, ...]]], columns: list[Defined]) -> tuple[str, tuple[str, ...]]:
    """The primary key, else the shortest unique key without a column that may be NULL."""
    spelled = {one.column.name.lower(): one.column.name for one in columns}
    nullable = {one.column.name for one in columns if one.column.nullable}
    found = [(kind, tuple(spelled.get(name.lower(), name) for name in names)) for kind, names in keys]
    for kind, names in found:
        if kind == "primary":
            return kind, names
    usable = [(kind, names) for kind, names in found if not nullable & set(names)]
    return min(usable, key=lambda one: len(one[1]), default=("", ()))


def _table_options(options: list[Token]) -> tuple[str, str, str]:
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
