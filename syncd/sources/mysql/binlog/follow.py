"""Statements of the log, as changes of the schemas in force.

The schema after CREATE TABLE and ALTER TABLE is computed from the statement and the schema before it (`made`,
`altered`), because the server may have gone on to another one by the time that the log is read. What the statement does
not say is taken from the server's present description only where that cannot be wrong (`settle`); what stays open makes
the change `Ddl.OTHER`. Whatever comes out, each TABLE_MAP is checked against it (`plan`). What becomes of names is in
`renames`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from syncd.errors import Unsupported
from syncd.model import Ddl, SchemaChange, TableId, TableSchema
from syncd.sources.mysql.binlog import actions, alter, plan, settle, tablemap
from syncd.sources.mysql.binlog.altered import Altered, altered
from syncd.sources.mysql.binlog.client_text import text_of
from syncd.sources.mysql.binlog.columns import Defined
from syncd.sources.mysql.binlog.control import Query
from syncd.sources.mysql.binlog.defaults import settled
from syncd.sources.mysql.binlog.made import made
from syncd.sources.mysql.binlog.renames import Change, Renames
from syncd.sources.mysql.binlog.server import Server, Unclear
from syncd.sources.mysql.binlog.shadows import Shadow, Shadows
from syncd.sources.mysql.binlog.tables import Tables
from syncd.sources.mysql.binlog.tokens import tokens, without_values

_UTF8MB4 = {45: "utf8mb4_general_ci", 255: "utf8mb4_0900_ai_ci"}
"""The two that MySQL lets a session give to utf8mb4."""


@dataclass(frozen=True, slots=True)
class Asking:
    """`describe`: the server's present description of a table, twins included, None when it is not there.

    `complete`: adds the normalised twins to a schema. `version`: as in version comments (80015, 101100).
    `fold`: the server keeps the names of tables in lower case, and compares them so. `collations`: each character set's
    default. `triggers`: the statements that make a table's triggers.
    """

    describe: Callable[[TableId], TableSchema | None]
    complete: Callable[[TableSchema], TableSchema]
    version: int
    mariadb: bool
    zero_is_null: bool
    fold: bool = False
    collations: Mapping[str, str] = field(default_factory=dict)
    triggers: Callable[[TableId], Sequence[str]] = lambda table: ()


@dataclass(frozen=True, slots=True)
class Followed:
    """`changes`: what to give out. The transaction's fate: `rollback`, `xa` (its verb); `rows_follow`: it goes on."""

    changes: tuple[SchemaChange, ...] = ()
    rollback: bool = False
    xa: str = ""
    rows_follow: bool = False


class _Said(NamedTuple):
    """A statement: its session, its text as it is and without values."""

    server: Server
    query: Query
    charset: str
    text: str
    shown: str

    def settle(self, one: Defined) -> Defined:
        return settled(one, self.query, self.charset)


class Follower:
    """Keeps the schemas of `tables` in step with the statements, and those of `shadows`."""

    def __init__(self, tables: Tables, asking: Asking, shadows: Shadows | None = None) -> None:
        self._tables, self._asking = tables, asking
        self._shadows = shadows or Shadows(tables.wanted)
        self._renames = Renames(tables, self._shadows)
        tables.noticed = self._noticed

    def follow(self, query: Query, charset: str, seq: int, time: int, *, temporary: bool = False) -> Followed:
        """`charset` of the client, "" if unknown; `seq` of the statement; `temporary`: see `alter.read`.

        Unsupported: rows written as a statement, or a table that comes with its rows.
        """
        text = text_of(query.text, charset)
        server = self._server(query)
        try:
            words = tokens(text, version=server.version, mariadb=server.mariadb, quoting=query.quoting)
        except Unsupported as error:
            self._refuse_unread(text, error)
            return Followed()
        action = _settled(alter.read(words, server, temporary=temporary), query, charset)
        if isinstance(action, actions.Nothing):
            return Followed(rollback=action.rollback, xa=action.xa)
        shown = without_values(text, query.quoting)
        if isinstance(action, actions.Rows):
            self._refuse_rows(action, shown)
            return Followed()
        changes: list[SchemaChange] = []
        for change in self._changes(action, _Said(server, query, charset, text, shown)):
            given = self._given(change, seq + len(changes), shown, time)
            changes += [] if given is None else [given]
        rows_follow = isinstance(action, actions.Create) and action.rows_follow
        return Followed(tuple(changes), rows_follow=rows_follow)

    def refuse_load(self, query: Query) -> None:
        """LOAD DATA written as a statement. Unsupported: into a wanted table."""
        self.follow(query, "", 0, 0)

    def _server(self, query: Query) -> Server:
        asking = self._asking
        collations = dict(asking.collations)
        if query.utf8mb4 in _UTF8MB4:
            collations["utf8mb4"] = _UTF8MB4[query.utf8mb4]
        return Server(query.database, asking.mariadb, asking.fold, asking.version, collations, query.strict)

    def _given(self, change: Change, seq: int, shown: str, time: int) -> SchemaChange | None:
        """What comes out of the stream; None for a shadow, of which only the schema is kept."""
        schema, table = change.schema, change.schema.table
        before = self._tables.schemas.get(table) if change.kind is Ddl.ALTER else None
        if not self._tables.wanted(table):
            self._shadowed(change)
            return None
        if change.kind in {Ddl.CREATE, Ddl.ALTER}:
            schema = replace(schema, version=seq)
            self._tables.change(schema)
        elif change.kind in {Ddl.DROP, Ddl.RENAME} and self._tables.schemas.get(table) is schema:
            self._tables.forget(table)  # unless another table has come under its name by the same statement
        for came in change.arrived:
            self._tables.change(replace(came, version=seq))
        return SchemaChange(change.kind, schema, seq, shown, time, before, change.renamed, change.unsure, change.to)

    def _shadowed(self, change: Change) -> None:
        table = change.schema.table
        if change.kind is Ddl.DROP:
            self._shadows.forget(table)
        elif change.kind is Ddl.CREATE:
            self._shadows.put(table, Shadow(change.schema))
        elif change.kind is Ddl.OTHER:
            self._shadows.put(table, Shadow(None))
        elif change.kind is Ddl.ALTER:
            known = self._shadows.get(table)
            assert known is not None
            moved = [
                f"{old} has another name, under which its values may not have been copied" for old, _ in change.renamed
            ]
            unsure = [*known.unsure, *([change.unsure] if change.unsure else []), *moved]
            self._shadows.put(table, Shadow(change.schema, known.asked, unsure))

    def _noticed(self, table: TableId, body: bytes) -> None:
        """Rows of a table that is not wanted. A shadow that was made before the stream began is asked for, while it is
        there; its TABLE_MAP tells whether what is known of it is right, as for any table."""
        real = self._shadows.real(table)
        if real is None:
            return
        known = self._shadows.get(table)
        if known is None:
            known = Shadow(self._asking.describe(table), asked=True)
            for text in self._asking.triggers(real):
                words = tokens(text, version=self._asking.version, mariadb=self._asking.mariadb)
                action = alter.read(words, Server(real.database, self._asking.mariadb, self._asking.fold))
                if isinstance(action, actions.Trigger):
                    self._shadows.fed(real, action.event, action.names)
        fits = known.schema is not None and plan.fits(known.schema, tablemap.parse(body), self._tables.charsets)
        self._shadows.put(table, known if fits else Shadow(None))

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

    def _changes(self, action: actions.Action, said: _Said) -> Iterator[Change]:
        match action:
            case actions.Create():
                yield from self._create(action, said.server)
            case actions.Alter():
                yield from self._alter(action, said)
            case actions.Drop():
                for table in action.tables or self._of_database(action.database):
                    yield from self._gone(table, Ddl.DROP)
            case actions.Truncate():
                if schema := self._known(action.table):
                    yield Change(Ddl.TRUNCATE, schema)
            case actions.Rename():
                yield from self._renames.follow(action.pairs, said.text, said.shown)
            case actions.Trigger():
                self._shadows.fed(action.on, action.event, action.names)
            case actions.Other():
                for table in sorted(action.tables):
                    if schema := self._known(table):
                        yield Change(Ddl.OTHER, schema)

    def _of_database(self, database: str) -> list[TableId]:
        return [table for table in (*self._tables.schemas, *self._shadows.tables()) if table.database == database]

    def _known(self, table: TableId) -> TableSchema | None:
        if self._tables.wanted(table):
            return self._tables.schemas.get(table)
        shadow = self._shadows.get(table)
        return shadow.schema if shadow else None

    def _gone(self, table: TableId, kind: Ddl) -> Iterator[Change]:
        schema = self._known(table)
        if schema:
            yield Change(kind, schema)
        elif kind is Ddl.DROP:
            self._shadows.forget(table)

    # --------------------------------------------------------------------------------------------------- CREATE

    def _create(self, action: actions.Create, server: Server) -> Iterator[Change]:
        wanted = self._tables.wanted(action.table)
        if not wanted and self._shadows.real(action.table) is None:
            return
        if away := self._renames.come_back(action.table):
            yield away
        if action.lenient and self._known(action.table):
            return
        if action.replace:
            yield from self._gone(action.table, Ddl.DROP)
        why = ""
        try:
            schema = self._like(action) if action.like else self._created(action, server)
        except Unclear as error:
            schema, why = None, str(error)
        if schema is not None:
            yield Change(Ddl.CREATE, schema)
        elif wanted:
            raise Unsupported(
                f"{action.table}: its CREATE TABLE in the log cannot be followed: "
                f"{why or 'the server now describes the table in another way'}",
                table=str(action.table),
                hint="resync the table",
            )
        else:
            self._shadows.put(action.table, Shadow(None))

    def _like(self, action: actions.Create) -> TableSchema:
        """Unclear: the other table is not known, and the server does not describe both as the same now."""
        assert action.like is not None
        known = self._known(action.like)
        if known is None:
            known, present = self._asking.describe(action.like), self._asking.describe(action.table)
            if known is None or present is None or replace(known, table=present.table) != present:
                raise Unclear(f"its columns are those of {action.like}, which is not of the job")
        return replace(known, table=action.table)

    def _created(self, action: actions.Create, server: Server) -> TableSchema | None:
        """None: the server's description, which is needed, is of another table. Unclear: it is not followed."""
        if action.unclear or not action.columns:
            raise Unclear(action.unclear or "its columns are not in the statement")
        computed = made(action, server, zero_is_null=self._asking.zero_is_null)
        present = self._asking.describe(action.table)
        if action.cascades and present is None:  # also refused where cascades are not logged
            raise Unclear("a foreign key of it cascades")
        schema = settle.with_texts(computed, present)
        if schema is None:
            return None
        if present is not None:
            schema = settle.with_spelling(schema, present, frozenset(column.name for column in schema.columns))
            unclear = frozenset(one.column.name for one in action.columns if one.unclear)
            schema = settle.with_defaults(schema, present, unclear)
            schema = replace(schema, partitions=present.partitions if action.partitioned else "")
        return self._asking.complete(schema)

    # ---------------------------------------------------------------------------------------------------- ALTER

    def _alter(self, action: actions.Alter, said: _Said) -> Iterator[Change]:
        if schema := self._known(action.table):
            yield from self._altered(action, schema, said)
        for table in sorted(action.partners):
            if partner := self._known(table):
                yield Change(Ddl.OTHER, partner)
            else:
                self._renames.refuse(table, said.shown)
        if action.renamed:
            yield from self._renames.follow(((action.table, action.renamed),), said.text, said.shown)

    def _altered(self, action: actions.Alter, schema: TableSchema, said: _Said) -> Iterator[Change]:
        # a description is refused, too, where cascades are not logged
        unseen = action.cascades and self._asking.describe(action.table) is None
        found: Altered | None = None
        if not action.other and not unseen:
            try:
                found = altered(schema, action.steps, said.server, said.settle, zero_is_null=self._asking.zero_is_null)
            except Unclear:
                found = None
        after = settle.changed(found, lambda: self._asking.describe(action.table)) if found else None
        if found is None or after is None:
            yield Change(Ddl.OTHER, schema)
        elif after != schema or found.unsure:
            yield Change(Ddl.ALTER, after, found.renamed, found.unsure)


def _settled(action: actions.Action, query: Query, charset: str) -> actions.Action:
    """With what the session says of the defaults in it."""
    if isinstance(action, actions.Create):
        return replace(action, columns=tuple(settled(one, query, charset) for one in action.columns))
    if not isinstance(action, actions.Alter):
        return action
    steps = (
        replace(step, defined=settled(step.defined, query, charset))
        if isinstance(step, actions.Added | actions.Changed)
        else step
        for step in action.steps
    )
    return replace(action, steps=tuple(steps))
