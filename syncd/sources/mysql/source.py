"""The source `mysql`: thin, everything is done by the modules beside it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar

import pyarrow as pa

from syncd.errors import TransientError
from syncd.model import ChangeBatch, Chunk, Column, Finding, Head, Position, TableId, TableSchema
from syncd.sources.mysql import head as heads
from syncd.sources.mysql import schema as tables_
from syncd.sources.mysql import stream as log
from syncd.sources.mysql import triggers
from syncd.sources.mysql.binlog.shadows import Shadows
from syncd.sources.mysql.check import check, log_kept
from syncd.sources.mysql.collation import Normaliser
from syncd.sources.mysql.connect import Connection, close, connect, rows
from syncd.sources.mysql.log_identity import log_identity, written_place
from syncd.sources.mysql.options import Options as MySQLOptions
from syncd.sources.mysql.snapshot import chunks as chunks_
from syncd.sources.mysql.snapshot.consistent import begin_at_a_place
from syncd.sources.mysql.snapshot.decode import Rules
from syncd.sources.mysql.snapshot.read import Reader
from syncd.sources.mysql.snapshot.throttle import Throttle
from syncd.sources.mysql.wider import holds_all
from syncd.spi import Context, Event, Found


class MySQLSource:
    """MySQL 8.0 to 9.x, MariaDB from 10.5. One connection asks questions, one reads rows, one locks or finds heads.

    All of them are to one server, from `open` to `close`: a name may lead to another one between two connections.
    """

    Options: ClassVar[type[MySQLOptions]] = MySQLOptions

    def __init__(self, options: MySQLOptions, context: Context) -> None:
        self._options = options
        self._context = context
        self._connections: dict[str, Connection] = {}
        self._server = ""
        self._normalise = Normaliser(context.directory, self._connect)
        self._zero_date = "null" if context.policy.get("zero_date") == "null" else "fail"
        self._cascades = str(context.policy.get("cascades", "fail"))
        rules = Rules(self._zero_date, self._normalise)
        self._throttle = Throttle(context, lambda: self._link("throttle"), options)
        self._reader = Reader(self._connect, rules, self._throttle)

    def open(self) -> None:
        self._link("asking")

    def close(self) -> None:
        self._reader.close()
        self._throttle.close()
        for connection in self._connections.values():
            close(connection)
        self._connections.clear()
        self._server = ""

    def check(self) -> Sequence[Finding]:
        return [*check(self._link("asking"), self._options, self._context.name), *self._throttle.findings()]

    def folds(self) -> str:
        ((mode,),) = rows(self._link("asking"), "SELECT @@lower_case_table_names")
        return f"lower_case_table_names is {mode}" if int(mode) else ""

    def log_kept(self) -> float | None:
        return log_kept(self._link("asking"))

    def tables(self, wanted: Callable[[TableId], bool]) -> Sequence[Found]:
        found = tables_.tables(self._link("asking"), wanted, self._rules(lambda: self.head(0).seq))
        own = Shadows(
            wanted, {each.schema.table for each in found}, (), self._options.shadow_tables, self._options.tool_tables
        )
        return [each if own.wanted(each.schema.table) else _a_tool_s(each) for each in found]

    def head(self, epoch: int) -> Head:
        return heads.head(self._link("head"), self._options, epoch)

    def place(self, text: str, epoch: int) -> Head:
        return written_place(self._link("asking"), text, epoch)

    def identity(self, position: Position) -> str:
        """Asked over a new connection: the old server may still answer when the name leads to another one by now."""
        close(self._connections.pop("asking", None))
        return log_identity(self._link("asking"), position)

    def chunks(self, schema: TableSchema, chunk_bytes: int, after: Chunk | None) -> Iterator[Chunk]:
        return chunks_.walk(self._link("asking"), schema, chunk_bytes, after, self._normalise.key)

    def scan(self, schema: TableSchema, chunk: Chunk, seq: int) -> Iterator[ChangeBatch]:
        return self._reader.scan(schema, chunk, seq)

    def scan_once(self, schema: TableSchema, epoch: int, seq: int) -> tuple[Head, Iterator[ChangeBatch]]:
        begin = partial(begin_at_a_place, schema.table, lambda: self._link("lock"), self._options, epoch)
        return self._reader.scan_once(schema, begin, seq)

    def read(self, schema: TableSchema, keys: pa.RecordBatch, epoch: int) -> ChangeBatch:
        return self._reader.read(schema, keys, self.head(epoch).seq)

    def stream(
        self,
        position: Position,
        epoch: int,
        schemas: Mapping[TableId, TableSchema],
        wanted: Callable[[TableId], bool],
        before: Callable[[TableId], Collection[str]],
    ) -> Iterator[Event]:
        options = log.Options(
            self._options.replica_id(self._context.name),
            self._normalise,
            self._options.heartbeat,
            self._zero_date,
            before,
            describe=self._describe,
            complete=self._complete,
            is_sequence=lambda table: tables_.is_sequence(self._link("asking"), table),
            triggers=lambda table: triggers.statements(self._link("asking"), [table]).get(table, ()),
            shadow_tables=self._options.shadow_tables,
            tool_tables=self._options.tool_tables,
        )
        return log.stream(self._connect, position, epoch, schemas, wanted, options)

    def holds_all(self, wide: Column, narrow: Column) -> bool:
        return holds_all(wide, narrow)

    def ack(self, position: Position) -> None:
        """Nothing to do: a replica of these servers holds nothing back at the source."""

    def _rules(self, version: Callable[[], int]) -> tables_.Rules:
        return tables_.Rules(self._normalise.refusal, version, self._zero_date == "null", self._cascades)

    def _describe(self, table: TableId) -> TableSchema | None:
        """The table as the server describes it now; None: absent, or with something that syncd does not take."""
        found = tables_.tables(self._link("asking"), lambda other: other == table, self._rules(lambda: 0))
        return found[0].schema if found and not found[0].refusals else None

    def _complete(self, schema: TableSchema) -> TableSchema:
        return tables_.with_twins(schema, self._rules(lambda: 0))

    def _connect(self) -> Connection:
        """TransientError: it is to another server than the first one."""
        connection = connect(self._options)
        try:
            self._same_server(heads.identity(connection))
        except BaseException:
            close(connection)
            raise
        return connection

    def _same_server(self, here: str) -> None:
        if self._server not in {"", here}:
            raise TransientError(
                f"the source's address led to {self._server}, and now it leads to {here}",
                hint="it is gone on with there; where this comes again and again, name one server",
            )
        self._server = here

    def _link(self, purpose: str) -> Connection:
        """A connection of the instance's own, opened again after it was lost."""
        known = self._connections.get(purpose)
        if known is None or not known.open:
            known = self._connections[purpose] = self._connect()
        return known


def _a_tool_s(found: Found) -> Found:
    why = "it is a table of a tool for online schema changes (see the source's `shadow_tables` and `tool_tables`)"
    return found._replace(refusals=(*found.refusals, why), aside=True)
