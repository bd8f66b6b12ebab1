"""What a statement of the log does to tables: its verb, its tables and, for ALTER and CREATE TABLE, its parts.

Everything that is not certainly harmless to columns, keys and rows comes out as `Other`.
"""

from __future__ import annotations

import dataclasses

from syncd.model import TableId
from syncd.sources.mysql.binlog import parts
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
from syncd.sources.mysql.binlog.cursor import Cursor, Server
from syncd.sources.mysql.binlog.tokens import Kind, Token

_HARMLESS_OBJECTS = parts.words(
    "DATABASE SCHEMA USER ROLE VIEW PROCEDURE FUNCTION TRIGGER EVENT SERVER SEQUENCE PACKAGE LOGFILE TABLESPACE UNDO "
    "RESOURCE SPATIAL INSTANCE LIBRARY"
)
_MODIFIERS = parts.words(
    "UNIQUE FULLTEXT ONLINE OFFLINE AGGREGATE VECTOR SQL SECURITY DEFINER INVOKER ALGORITHM MERGE TEMPTABLE UNDEFINED "
    "JSON RELATIONAL DUALITY ="
)
_HARMLESS_VERBS = parts.words(
    "GRANT REVOKE OPTIMIZE FLUSH CHECK USE SAVEPOINT RELEASE START COMMIT INSTALL UNINSTALL CHECKSUM KILL RESET LOCK "
    "UNLOCK"
)
_ROW_VERBS = parts.words("INSERT REPLACE UPDATE DELETE LOAD WITH SELECT CALL")
_HARMLESS_OPTIONS = parts.words(
    "ENGINE AUTO_INCREMENT COMMENT ROW_FORMAT KEY_BLOCK_SIZE DEFAULT CHARSET CHARACTER COLLATE ALGORITHM LOCK FORCE "
    "ORDER ENABLE DISABLE COMPRESSION ENCRYPTION MAX_ROWS MIN_ROWS AVG_ROW_LENGTH CHECKSUM DELAY_KEY_WRITE PACK_KEYS "
    "NOWAIT WAIT STATS_AUTO_RECALC STATS_PERSISTENT STATS_SAMPLE_PAGES WITHOUT WITH PAGE_CHECKSUM TRANSACTIONAL "
    "PAGE_COMPRESSED PAGE_COMPRESSION_LEVEL ENCRYPTED PARTITION ANALYZE CHECK OPTIMIZE REBUILD COALESCE "
    "REORGANIZE SECONDARY_ENGINE"
)


def read(words: list[Token], database: str, *, mariadb: bool, fold: bool = False, temporary: bool = False) -> Action:
    """What the statement does; names without a database are of `database`. `fold`: tables have lower-case names.

    `temporary`: the log says that a temporary table takes part, so that a name need not be that of the real table.
    """
    statement = _Statement(words, Server(database, mariadb, fold))
    action = statement.read()
    return Other(statement._named()) if temporary and isinstance(action, Alter | Truncate) else action


class _Statement(Cursor):
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
            other = other or parts.primary(self._words[self._at])
            self._at += 1
        return Alter(self._table(), drops_index=True, other=other)

    def _drop(self) -> Action:
        self._accept("IF", "EXISTS")
        tables = parts.split(self._words[self._at :])
        return Drop(tuple(_Statement(table, self._server)._table() for table in tables))

    def _rename(self) -> Action:
        self._accept("IF", "EXISTS")
        pairs = []
        for part in parts.split(self._words[self._at :]):
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
        if parts.moves_rows(options):
            return dataclasses.replace(made, unclear="its options are not followed")
        if any(word.word in {"SELECT", "AS"} for word in options) or (body and body[0].word in {"LIKE", "SELECT"}):
            return made
        columns: list[Defined] = []
        keys: list[tuple[str, tuple[str, ...]]] = []
        try:
            for part in parts.split(body):
                if parts.no_column(part):
                    keys += parts.key(part)
                else:
                    columns.append(define(part, mariadb=self._server.mariadb))
        except Unclear as error:
            return Create(made.table, (), (), "", lenient=made.lenient, replace=made.replace, unclear=str(error))
        keys += [(one.key, (one.column.name,)) for one in columns if one.key]
        kind, key = parts.best(keys, columns)
        charset, collation, comment = parts.table_options(options)
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
            cascades=parts.cascades(body),
        )

    # ------------------------------------------------------------------------------------------------- ALTER TABLE

    def _alter(self, *, ignore: bool) -> Action:
        """`ignore`: rows that a new key refuses are deleted."""
        self._accept("IF", "EXISTS")
        table = self._table()
        added: list[Added] = []
        renamed: TableId | None = None
        drops, other = False, "IGNORE" if ignore else ""
        for part in parts.split(self._words[self._at :]):
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
        return Alter(table, tuple(added), renamed, drops, other, self._partners(), parts.cascades(self._words))

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
            primary = any(parts.primary(word) for word in self._words[self._at :])
            return "index" if self._peek() in parts.DROPPED_KEYS and not primary else text
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
        return "" if verb in _HARMLESS_OPTIONS and not parts.moves_rows(self._words) else text

    def _alter_part(self, text: str) -> str:
        """ALTER INDEX or ALTER COLUMN name SET DEFAULT, DROP DEFAULT, SET VISIBLE: rows and types stay."""
        if self._peek() in {"INDEX", "CHECK", "CONSTRAINT", "KEY"}:
            return ""
        self._accept("COLUMN")
        self._at += 1
        return "" if self._peek() in {"SET", "DROP"} else text

    def _add(self, text: str) -> list[Added] | str:
        if self._at < len(self._words) and parts.no_column(self._words[self._at :]):
            words = [word.word for word in self._words[self._at : self._at + 4]]
            changes = words[0] in {"PERIOD", "SYSTEM"} or "PRIMARY" in words[:3]
            return text if changes else ""
        self._accept("COLUMN")
        lenient = self._accept("IF", "NOT", "EXISTS")
        if self._peek() == "(":
            inner = self._words[self._at + 1 : -1]
            inside = parts.split(inner)
            if any(parts.no_column(part) for part in inside):
                raise Unclear(text)
            return [Added(define(part, mariadb=self._server.mariadb), None, lenient) for part in inside]
        rest, after = self._words[self._at :], None
        if rest and rest[-1].word == "FIRST":
            rest, after = rest[:-1], ""
        elif len(rest) > 2 and rest[-2].word == "AFTER":
            rest, after = rest[:-2], rest[-1].text
        return [Added(define(rest, mariadb=self._server.mariadb), after, lenient)]
