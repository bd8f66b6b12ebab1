"""Statements of the log, as changes of the schemas in force.

The schema after CREATE TABLE and ADD COLUMN is computed from the statement and the schema before it, because the server
may have gone on to another one by the time that the log is read. What the statement does not say (the character set of
a text column without one, collations) is taken from the server's present description of the table, but only where that
description has the same columns in the same order with the same types as the computed schema, among others that came
since; what stays open makes the change `Ddl.OTHER`. Whatever comes out, each TABLE_MAP is checked against it (`plan`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from syncd.errors import Unsupported
from syncd.model import Column, Ddl, SchemaChange, TableId, TableSchema
from syncd.sources.mysql.binlog import actions, alter
from syncd.sources.mysql.binlog.columns import Defined, settled
from syncd.sources.mysql.binlog.control import Query
from syncd.sources.mysql.binlog.tables import Tables
from syncd.sources.mysql.binlog.tokens import tokens, without_values
from syncd.sources.mysql.types import DATES, arguments, base_type, members

_CODECS = {"utf8mb4": "utf-8", "utf8mb3": "utf-8", "utf8": "utf-8", "latin1": "cp1252", "gbk": "gbk", "big5": "big5"}
_CODECS |= {"binary": "utf-8", "gb2312": "gb2312", "gb18030": "gb18030", "sjis": "shift_jis", "cp932": "cp932"}
_CODECS |= {"cp1251": "cp1251", "cp1250": "cp1250", "cp1256": "cp1256", "cp1257": "cp1257", "latin2": "iso8859-2"}
_CODECS |= {"koi8r": "koi8-r", "koi8u": "koi8-u", "greek": "iso8859-7", "hebrew": "iso8859-8", "euckr": "euc-kr"}
_CODECS |= {"ujis": "euc-jp", "tis620": "tis-620", "latin5": "iso8859-9", "latin7": "iso8859-13", "cp866": "cp866"}


@dataclass(frozen=True, slots=True)
class Asking:
    """`describe`: the server's present description of a table, twins included, None when it is not there.

    `complete`: adds the normalised twins to a schema. `version`: as in version comments (80015, 101100).
    `fold`: the server keeps the names of tables in lower case, and compares them so.
    """

    describe: Callable[[TableId], TableSchema | None]
    complete: Callable[[TableSchema], TableSchema]
    version: int
    mariadb: bool
    zero_is_null: bool
    fold: bool = False


@dataclass(frozen=True, slots=True)
class Followed:
    """`changes`: what to give out. The transaction's fate: `rollback`, `xa` (its verb); `rows_follow`: it goes on."""

    changes: tuple[SchemaChange, ...] = ()
    rollback: bool = False
    xa: str = ""
    rows_follow: bool = False


class Follower:
    """Keeps the schemas of `tables` in step with the statements."""

    def __init__(self, tables: Tables, asking: Asking) -> None:
        self._tables, self._asking = tables, asking

    def follow(self, query: Query, charset: str, seq: int, time: int, *, temporary: bool = False) -> Followed:
        """`charset` of the client, "" if unknown; `seq` of the statement; `temporary`: see `alter.read`.

        Unsupported: rows written as a statement.
        """
        text = _text(query.text, charset)
        try:
            words = tokens(text, version=self._asking.version, mariadb=self._asking.mariadb, quoting=query.quoting)
        except Unsupported as error:
            self._refuse_unread(text, error)
            return Followed()
        mariadb, fold = self._asking.mariadb, self._asking.fold
        action = alter.read(words, query.database, mariadb=mariadb, fold=fold, temporary=temporary)
        if isinstance(action, actions.Alter):
            added = (replace(one, defined=settled(one.defined, query, charset)) for one in action.added)
            action = replace(action, added=tuple(added))
        if isinstance(action, actions.Nothing):
            return Followed(rollback=action.rollback, xa=action.xa)
        if isinstance(action, actions.Rows):
            self._refuse_rows(action, without_values(text, query.quoting))
            return Followed()
        changes: list[SchemaChange] = []
        for kind, schema in self._changes(action, without_values(text, query.quoting)):
            at = seq + len(changes)
            if kind in {Ddl.CREATE, Ddl.ADD_COLUMN}:
                schema = replace(schema, version=at)
                self._tables.change(schema)
            changes.append(SchemaChange(kind, schema, at, without_values(text), time))
        rows_follow = isinstance(action, actions.Create) and action.rows_follow
        return Followed(tuple(changes), rows_follow=rows_follow)

    def refuse_load(self, query: Query) -> None:
        """LOAD DATA written as a statement. Unsupported: into a wanted table."""
        self.follow(query, "", 0, 0)

    def _refuse_unread(self, text: str, error: Unsupported) -> None:
        """A statement that cannot be cut into words: Unsupported for a wanted table whose name stands in it."""
        for table in sorted(self._tables.schemas):
            name = re.escape(table.name).replace("`", "``?")
            if self._tables.wanted(table) and re.search(rf"(?<![\w$]){name}(?![\w$])", text, re.IGNORECASE):
                raise Unsupported(f"{table}: {error.what}", table=str(table), hint="resync the table") from error

    def _refuse_rows(self, action: actions.Rows, shown: str) -> None:
        for table in sorted(self._tables.schemas if action.tables is None else action.tables):
            if self._tables.wanted(table) and table in self._tables.schemas:
                raise Unsupported(
                    f"{table}: a session switched to STATEMENT or MIXED; the log holds no rows but {shown!r}",
                    table=str(table),
                    hint="SET GLOBAL binlog_format = ROW (and in all sessions), then resync the table",
                )

    def _changes(self, action: actions.Action, shown: str) -> Iterator[tuple[Ddl, TableSchema]]:
        match action:
            case actions.Create():
                yield from self._create(action)
            case actions.Alter():
                yield from self._alter(action, shown)
            case actions.Drop():
                for table in action.tables or [t for t in self._tables.schemas if t.database == action.database]:
                    yield from self._gone(table, Ddl.DROP)
            case actions.Truncate():
                if schema := self._known(action.table):
                    yield Ddl.TRUNCATE, schema
            case actions.Rename():
                for old, new in action.pairs:
                    yield from self._gone(old, Ddl.RENAME)
                    self._arrived(new, shown)
            case actions.Other():
                for table in sorted(action.tables):
                    if schema := self._known(table):
                        yield Ddl.OTHER, schema

    def _known(self, table: TableId) -> TableSchema | None:
        return self._tables.schemas.get(table) if self._tables.wanted(table) else None

    def _gone(self, table: TableId, kind: Ddl) -> Iterator[tuple[Ddl, TableSchema]]:
        if schema := self._known(table):
            self._tables.forget(table)
            yield kind, schema

    def _arrived(self, table: TableId, shown: str) -> None:
        """Unsupported: a wanted table, whose rows are in the log under another name or not at all."""
        if self._tables.wanted(table):
            raise Unsupported(
                f"{table}: it came with its rows by {shown!r}",
                table=str(table),
                hint="resync the table",
                code="E155",
            )

    def _create(self, action: actions.Create) -> Iterator[tuple[Ddl, TableSchema]]:
        if not self._tables.wanted(action.table):
            return
        if action.lenient and action.table in self._tables.schemas:
            return
        if action.replace:
            yield from self._gone(action.table, Ddl.DROP)
        computed = self._created(action)
        present = self._asking.describe(action.table)
        unseen = action.cascades and present is None  # also refused where cascades are not logged
        schema = None if computed is None or unseen else self._settled(computed, present)
        if schema is None:
            other = "a foreign key of it cascades" if unseen else "the server now describes the table in another way"
            raise Unsupported(
                f"{action.table}: its CREATE TABLE in the log cannot be followed: {action.unclear or other}",
                table=str(action.table),
                hint="resync the table",
            )
        yield Ddl.CREATE, schema

    def _created(self, action: actions.Create) -> TableSchema | None:
        if action.unclear or not action.columns:
            return None
        columns = []
        for one in action.columns:
            column = self._in_table(one, action.charset, action.collation)
            columns.append(replace(column, nullable=column.nullable and column.name not in action.key))
        return TableSchema(action.table, 0, tuple(columns), action.key, action.key_from, action.comment)

    def _in_table(self, one: Defined, charset: str = "", collation: str = "") -> Column:
        """The column with what the table gives it."""
        column = one.column
        if self._asking.zero_is_null and base_type(column.source_type) in DATES:
            column = replace(column, nullable=True)
        text = pa.types.is_string(column.type) or pa.types.is_dictionary(column.type)
        if text and not column.charset and base_type(column.source_type) != "json" and charset:
            column = replace(column, charset=charset, collation=collation)
        return column

    def _settled(self, computed: TableSchema, present: TableSchema | None) -> TableSchema | None:
        """The computed schema with all its character sets, from the server where that describes the same; else None."""
        names = {c.name for c in computed.columns}
        # Columns that came since are left away: a capture that lags meets several statements of one table.
        real = [c for c in present.columns if c.name in names and not c.normal_of] if present else []
        if (
            present
            and [_shape(c) for c in real] == [_shape(c) for c in computed.columns]
            and present.key == computed.key
        ):
            found = zip(computed.columns, real, strict=True)
            columns = tuple(replace(there, default=mine.default) for mine, there in found if _fits(mine, there))
            if len(columns) == len(real):
                twins = tuple(c for c in present.columns if c.normal_of)
                return replace(computed, columns=columns + twins, key_from=present.key_from)
        open_ = [
            c
            for c in computed.columns
            if _is_text(c) and not (c.charset and (c.collation or c.name not in computed.key))
        ]
        return None if open_ else self._asking.complete(computed)

    def _alter(self, action: actions.Alter, shown: str) -> Iterator[tuple[Ddl, TableSchema]]:
        if schema := self._known(action.table):
            yield from self._altered(action, schema)
        for table in sorted(action.partners):
            if partner := self._known(table):
                yield Ddl.OTHER, partner
            else:
                self._arrived(table, shown)
        if action.renamed:
            yield from self._gone(action.table, Ddl.RENAME)
            self._arrived(action.renamed, shown)

    def _altered(self, action: actions.Alter, schema: TableSchema) -> Iterator[tuple[Ddl, TableSchema]]:
        # a description is refused, too, where cascades are not logged
        unseen = action.cascades and self._asking.describe(action.table) is None
        if action.other or unseen or (action.drops_index and schema.key_from == "unique"):
            yield Ddl.OTHER, schema
        elif action.added:
            changed = self._added(schema, action)
            if changed is None:
                yield Ddl.OTHER, schema
            elif changed is not schema:
                yield Ddl.ADD_COLUMN, changed

    def _added(self, schema: TableSchema, action: actions.Alter) -> TableSchema | None:
        """The schema with the new columns, the same one if they are there already; None: it cannot be told."""
        real = [c for c in schema.columns if not c.normal_of]
        new: dict[str, str | None] = {}
        for one in action.added:
            names = [c.name.lower() for c in real]
            column = self._in_table(one.defined)
            if column.name.lower() in names:
                if one.lenient:
                    continue
                return None
            if one.defined.computed or one.defined.key == "primary":
                return None
            if one.after and one.after.lower() not in names:
                return None
            at = len(real) if one.after is None else names.index(one.after.lower()) + 1 if one.after else 0
            real.insert(at, column)
            new[column.name] = column.default
        if not new:
            return schema
        computed = replace(schema, columns=tuple(real))
        settled = self._settled(computed, self._asking.describe(schema.table))
        if settled is None:
            return None
        defaults = {c.name: c.default for c in real}
        return replace(
            settled,
            columns=tuple(c if c.normal_of else replace(c, default=defaults[c.name]) for c in settled.columns),
        )


def _is_text(column: Column) -> bool:
    text = pa.types.is_string(column.type) or pa.types.is_dictionary(column.type)
    return text and base_type(column.source_type) != "json"


def _shape(column: Column) -> tuple[object, ...]:
    """What must be the same in both for them to be the same column: everything that decoding depends on."""
    base = base_type(column.source_type)
    detail: object = ()
    if base in {"enum", "set"}:
        detail = members(column.source_type)
    elif base in {"time", "datetime", "timestamp", "bit", "binary"}:
        detail = arguments(column.source_type)
    # whether a TIMESTAMP may be NULL depends on a setting of the session
    return column.name, column.type, column.nullable or base == "timestamp", base, detail


def _fits(mine: Column, there: Column) -> bool:
    """The server's description contradicts nothing that the statement says."""
    return all(not a or a == b for a, b in ((mine.charset, there.charset), (mine.collation, there.collation)))


def _text(raw: bytes, charset: str) -> str:
    """The statement in the client's character set; a statement in an unknown one is read if it is ASCII."""
    codec = _CODECS.get(charset, "utf-8")
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        # A binary literal inside of a text: the names before it are what counts.
        return raw.decode(codec, "replace")
