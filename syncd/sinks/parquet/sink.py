"""The Parquet sink: a folder of files per table, each row with its seq as its version: order of arrival is all one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from syncd.errors import BatchError, FatalError
from syncd.model import Bound, ChangeBatch, Ddl, Finding, Lane, SchemaChange, Target, TargetPlan
from syncd.sinks.parquet import acts, merge, plan, shards
from syncd.sinks.parquet.entrance import Entrance
from syncd.sinks.parquet.errors import mapping
from syncd.sinks.parquet.options import ParquetOptions
from syncd.sinks.parquet.pages import between, merged, own_rows, replaced, snapshot
from syncd.sinks.parquet.rows import build, live, token
from syncd.sinks.parquet.table import MERGED, Busy, State, Table
from syncd.sinks.parquet.types import restored
from syncd.spi import Context, Mark, Ticket, Traits


class ParquetSink:
    """See `spi.Sink` for each method."""

    Options: ClassVar[type[ParquetOptions]] = ParquetOptions

    def __init__(self, options: ParquetOptions, context: Context) -> None:
        self._options = options
        self._context = context
        self._entrance = Entrance(options.path, context.directory / "life")
        self._zero_date_null = context.policy.get("zero_date") == "null"

    def traits(self) -> Traits:
        target = f"parquet:{self._options.path}"
        return Traits("any process", versioned=True, transactional=False, target=target, shares=True)

    def open(self) -> None:
        """Nothing is held open between two calls."""
        wrong = [found for found in self.check() if found.level == "error"]
        if wrong:
            raise FatalError(f"{wrong[0].subject} {wrong[0].text}", hint=wrong[0].todo)

    def close(self) -> None:
        """Nothing is held open between two calls."""

    def check(self) -> Sequence[Finding]:
        with mapping(f"looking at {self._options.path}"):
            return [*plan.check(self._options.path)]

    def folds(self) -> str:
        return ""

    def plan(self, target: Target) -> TargetPlan:
        table = self._table(target)
        with mapping(f"looking at {table.folder}", table.source):
            return plan.plan(target, table)

    def prepare(self, target: Target, newest: int | None = None) -> None:
        table = self._table(target)
        with mapping(f"preparing {table.folder}", table.source):
            self._made(table, target)
            table.fitting(target)
            if newest is not None and not target.append:
                with table.locked():
                    acts.refuse_newer(table, target, newest)

    def _made(self, table: Table, target: Target) -> None:
        for refused in plan.refusals(target, table):
            raise FatalError(f"{table.source}: {refused.text}", table=table.source, hint=refused.todo)
        self._entrance.make()
        table.create(target)

    def fence(self, owner: str, epoch: int) -> None:
        with mapping(f"ending older writes of {owner}"):
            self._entrance.fence(owner, epoch)

    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        """Guarantee 1: durable on return. Guarantee 7: what was shut out meanwhile does not get in."""
        table = self._table(target)
        with mapping(f"writing to {table.folder}", table.source):
            with self._entrance.waiting(table, ticket) as file:
                state = table.fitting(target)
                rows, refused = self._rows(target, batch, state)
                place = table.folder / merge.written(token(batch, ticket, self._entrance.name(ticket.owner)))
                if len(rows) and not (refused and target.append) and not self._is_merged(table, state, place):
                    merge.write(rows, file, self._options.page_rows)
                    self._entrance.enter(file, place, ticket)
            self._tidy(table, self._options.merge_files)
        if refused:
            raise BatchError(f"{table.source}: {len(refused)} of {len(batch)} rows refused", refused)

    def _rows(self, target: Target, batch: ChangeBatch, state: State) -> tuple[pa.Table, dict[int, str]]:
        floor = state.marks(target).floor
        if target.append and len(batch) and int(batch.seq.min()) < floor:
            # Left out, they would be missing: what is added is not there yet, unlike an older version of a row.
            raise FatalError(
                f"{target.schema.table} was closed to rows older than seq {floor}: a later load of it has begun",
                table=str(target.schema.table),
                hint="remove the table's folder, then `syncd jobs resume`",
                code="E192",
            )
        return build(target, batch, state, zero_date_null=self._zero_date_null)

    def _is_merged(self, table: Table, state: State, place: Path) -> bool:
        """Rows without a key that were written before, in a file that is part of another one now."""
        if state.key:
            return False
        with ExitStack() as stack:
            return place.name in replaced(snapshot(stack, table, state, MERGED))

    def _tidy(self, table: Table, at_least: int) -> None:
        """Merge files where there are many, unless another process does so now."""
        if merge.due(table.files(), at_least):
            try:
                with table.locked(wait=False):
                    merge.tidy(table, at_least, self._options.page_rows)
            except Busy:
                return

    def marks(self, owner: str) -> Mapping[Lane, Mark]:
        """Nothing: rows are told apart by their version, so that writing them again changes nothing."""
        return {}

    def apply(self, target: Target, change: SchemaChange, ticket: Ticket) -> None:
        table = self._table(target)
        if change.kind is Ddl.CREATE:
            with mapping(f"preparing {table.folder}", table.source):
                self._made(table, target)
                if target.own:
                    shards.fit(table, self._entrance, target, change, self._options.page_rows)
                table.fitting(target)
            return
        with mapping(f"{change.kind.value} of {table.folder}", table.source):
            if change.kind is Ddl.ALTER and target.own:
                shards.fit(table, self._entrance, target, change, self._options.page_rows)
                table.fitting(target)
                return
            acts.act(table, self._entrance, target, change, self._options.page_rows)
        if change.kind in {Ddl.DROP, Ddl.RENAME}:
            self._context.log("target_kept", table=str(table.folder), statement=change.statement)

    def swap(self, shadow: Target, target: Target, seq: int, ticket: Ticket) -> None:
        new, there = self._table(shadow), self._table(target)
        with mapping(f"swapping {there.folder}", there.source):
            if target.own:
                self._made(there, target)
                shards.swap(new, there, self._entrance, target, seq, self._options.page_rows)
            else:
                acts.swap(new, there, self._entrance, target, seq)

    def scan(self, target: Target, lower: Bound | None, upper: Bound | None) -> Iterator[pa.RecordBatch]:
        table = self._table(target)
        schema = target.schema.arrow()
        with mapping(f"scanning {table.folder}", table.source):
            state = table.fitting(target)
            condition = between(state, lower and lower.normal, upper and upper.normal) if state.key else None
            if (own := own_rows(target, state)) is not None:
                condition = own if condition is None else condition & own
            with ExitStack() as stack:
                parts = snapshot(stack, table, state)
                for page in merged(parts, state, self._options.page_rows, condition):
                    for batch in live(page).combine_chunks().to_batches():
                        arrays = [restored(batch.column(c.name), c.type) for c in target.schema.columns]
                        yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def expire(self, target: Target, below: int) -> None:
        table = self._table(target)
        with mapping(f"removing tombstones of {table.folder}", table.source):
            if not target.append and target.deletes == "apply":
                with table.locked():
                    acts.expire(
                        table, self._entrance, target, below, self._options.expire_rows, self._options.page_rows
                    )
            self._tidy(table, 2)

    def _table(self, target: Target) -> Table:
        return plan.table_of(self._options.path, target)
