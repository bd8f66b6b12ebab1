"""What a statement of the log does to tables: its verb, its tables and, for ALTER and CREATE TABLE, its parts.

Everything that is not certainly harmless to columns, keys and rows comes out as `Other`.
"""

from __future__ import annotations

import dataclasses

from syncd.model import TableId
from syncd.sources.mysql.binlog import index_words, parts, steps
from syncd.sources.mysql.binlog.actions import (
    Action,
    Alter,
    Create,
    Drop,
    Indexed,
    Nothing,
    Other,
    Rename,
    Rows,
    Step,
    Trigger,
    Truncate,
    Unindexed,
)
from syncd.sources.mysql.binlog.columns import Defined, define
from syncd.sources.mysql.binlog.cursor import Cursor
from syncd.sources.mysql.binlog.server import Server, Unclear
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


def read(words: list[Token], server: Server, *, temporary: bool = False) -> Action:
    """What the statement does.

    `temporary`: the log says that a temporary table takes part, so that a name need not be that of the real table.
    """
    statement = _Statement(words, server)
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
        if kind == "INDEX" or (verb == "CREATE" and kind == "SPATIAL" and self._accept("INDEX")):
            return self._index(replace=replace) if verb == "CREATE" else self._drop_index()
        if kind == "TRIGGER" and verb == "CREATE":
            return self._trigger()
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

    def _index(self, *, replace: bool) -> Action:
        """One comes, or takes the place of another."""
        behind = [word.word for word in self._words[: self._at - 1]]
        kind = next((word for word in behind if word in {"UNIQUE", "FULLTEXT", "SPATIAL"}), "")
        indexed, on = index_words.created(self._words[self._at :], kind, self._server)
        gone = (Unindexed(indexed.index.name, lenient=True),) if replace else ()
        return Alter(_Statement(on, self._server)._table(), (*gone, indexed))

    def _drop_index(self) -> Action:
        lenient = self._accept("IF", "EXISTS")
        if self._at >= len(self._words):
            raise Unclear("no name of an index")
        name = self._words[self._at]
        while self._at < len(self._words) and not self._accept("ON"):
            self._at += 1
        return Alter(self._table(), (Unindexed(name.text, lenient),), other=parts.primary(name))

    def _trigger(self) -> Action:
        self._accept("IF", "NOT", "EXISTS")
        self._table()
        self._at += 1
        event = self._peek()
        while self._at < len(self._words) and not self._accept("ON"):
            self._at += 1
        on = self._table()
        return Trigger(
            event, on, _Statement(self._words[self._at :], self._server._replace(database=on.database))._named()
        )

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
        made = Create(self._table(), lenient=lenient, replace=replace)
        if self._accept("LIKE") or self._accept("(", "LIKE"):
            return dataclasses.replace(made, like=self._table())
        if self._peek() == "(":
            depth, first = 0, self._at + 1
            for index in range(self._at, len(self._words)):
                depth += (self._words[index].word == "(") - (self._words[index].word == ")")
                if depth == 0:
                    return self._created(made, self._words[first:index], self._words[index + 1 :])
        return dataclasses.replace(made, unclear="its columns are not in the statement")

    def _created(self, made: Create, body: list[Token], options: list[Token]) -> Create:
        if parts.moves_rows(options):
            return dataclasses.replace(made, unclear="its options are not followed")
        if any(word.word in {"SELECT", "AS"} for word in options) or (body and body[0].word == "SELECT"):
            return dataclasses.replace(made, unclear="its columns are not in the statement")
        columns: list[Defined] = []
        indexes: list[Step] = []
        key: tuple[str, ...] = ()
        by = next((at for at, word in enumerate(options) if word.word == "PARTITION"), len(options))
        try:
            for part in parts.split(body):
                if not parts.no_column(part):
                    columns.append(define(part, self._server))
                    indexes += steps.of_index(columns[-1])
                    key = (columns[-1].column.name,) if columns[-1].key == "primary" else key
                elif "PRIMARY" in [word.word for word in part[:3]]:
                    key = parts.primary_key(part)
                elif part[0].word not in {"PERIOD", "SYSTEM"}:
                    found = index_words.index(part, self._server)
                    indexes += [] if found is None else [found]
            told = parts.table_options(options[:by], self._server)
        except Unclear as error:
            return dataclasses.replace(made, unclear=str(error))
        spelled = {one.column.name.lower(): one.column.name for one in columns}
        return dataclasses.replace(
            made,
            columns=tuple(columns),
            key=tuple(spelled.get(name.lower(), name) for name in key),
            indexes=tuple(one for one in indexes if isinstance(one, Indexed)),
            options=told,
            partitioned=by < len(options),
            rows_follow=[w.word for w in options[-2:]] == ["START", "TRANSACTION"],
            cascades=parts.cascades(body),
        )

    # ------------------------------------------------------------------------------------------------- ALTER TABLE

    def _alter(self, *, ignore: bool) -> Action:
        """`ignore`: rows that a new key refuses are deleted."""
        self._accept("IF", "EXISTS")
        table = self._table()
        found: list[Step] = []
        renamed: TableId | None = None
        other = "IGNORE" if ignore else ""
        rest = self._words[self._at :]
        # REORGANIZE PARTITION a, b INTO ...: nothing can stand beside such a part
        whole = [word.word for word in rest[1:2]] == ["PARTITION"]
        for part in [rest] if whole else parts.split(rest):
            while part and (part[0].word == "NOWAIT" or (part[0].word == "WAIT" and len(part) > 1)):
                part = part[1 + (part[0].word == "WAIT") :]
            try:
                what = steps.Part(part, self._server).read() if part else []
            except Unclear as error:
                other = other or str(error)
                continue
            if isinstance(what, TableId):
                renamed = what
            else:
                found += what
        return Alter(table, tuple(found), renamed, other, self._partners(), parts.cascades(self._words))

    def _partners(self) -> frozenset[TableId]:
        """What follows the word TABLE in EXCHANGE PARTITION ... WITH TABLE x, CONVERT PARTITION ... TO TABLE x, ..."""
        found = set()
        while self._at < len(self._words):
            if self._accept("TABLE"):
                found.add(self._table())
            else:
                self._at += 1
        return frozenset(found)
