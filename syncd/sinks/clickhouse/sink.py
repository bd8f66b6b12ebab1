"""The ClickHouse sink: ReplacingMergeTree tables whose version is the seq, so that order of arrival does not matter."""

# ruff: noqa: S608 - every name and value in these statements is quoted by `ddl`

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import pyarrow as pa

from syncd.errors import BatchError, FatalError, FencedError, SyncdError
from syncd.model import Bound, ChangeBatch, Ddl, Finding, Lane, SchemaChange, Target, TargetPlan
from syncd.sinks.clickhouse import acts, ddl, plan, present
from syncd.sinks.clickhouse.checks import findings
from syncd.sinks.clickhouse.client import Client
from syncd.sinks.clickhouse.errors import CHANGED_CODES, mapped
from syncd.sinks.clickhouse.limits import Limits, ask
from syncd.sinks.clickhouse.options import ClickHouseOptions, ClickHouseTableOptions
from syncd.sinks.clickhouse.rows import DELETED, VERSION, build
from syncd.sinks.clickhouse.scan import scan
from syncd.sinks.clickhouse.shards import Shared
from syncd.sinks.clickhouse.swap import Swap
from syncd.sinks.clickhouse.syntax import text
from syncd.sinks.clickhouse.types import Making
from syncd.spi import Context, Mark, Ticket, Traits


class ClickHouseSink:
    """One connection; see `spi.Sink` for each method."""

    Options: ClassVar[type[ClickHouseOptions]] = ClickHouseOptions
    TableOptions: ClassVar[type[ClickHouseTableOptions]] = ClickHouseTableOptions

    def __init__(self, options: ClickHouseOptions, context: Context) -> None:
        self._options = options
        self._context = context
        self._client = Client(options)
        self._limits: Limits | None = None
        self._fences: dict[str, int] = {}
        # (database, name, part) -> the target and the table's own statement when the two were last compared
        self._fits: dict[tuple[str, str, str], tuple[Target, str]] = {}
        self._making = Making(
            zero_date_null=context.policy.get("zero_date") == "null",
            low_cardinality=options.low_cardinality == "auto",
            codecs=options.codecs == "auto",
        )

    def traits(self) -> Traits:
        embedded = self._options.embedded
        scope: Literal["one process", "any process"] = "one process" if embedded else "any process"
        return Traits(scope, versioned=True, transactional=False, target=self._options.target, shares=True)

    def open(self) -> None:
        self._client.open()
        self._limits = ask(self._client)

    def close(self) -> None:
        self._client.close()

    def check(self) -> Sequence[Finding]:
        return findings(self._client, self._options.url, self._known_limits())

    def folds(self) -> str:
        return ""

    def plan(self, target: Target) -> TargetPlan:
        target = self._placed(target)
        found = plan.refusals(target, self._making)
        statements: tuple[str, ...] = ()
        if not found:
            statements = plan.statements(
                target, self._making, fsync=self._options.fsync, views=self._options.current_views
            )
            there = present.describe(self._client, target)
            if there is not None:
                statements = ()
                wrong = present.differences(target, there, self._making)
                todo = "mend the table, or give the target another name"
                found += [Finding("error", ddl.full_name(target), f"the table is there, but {w}", todo) for w in wrong]
        found += plan.remarks(target, self._known_limits())
        return TargetPlan(statements, plan.lines(target, self._making), tuple(found))

    def prepare(self, target: Target, newest: int | None = None) -> None:
        target = self._placed(target)
        if not self._made(target):
            self._view(target)
        seen = self._compare(target)
        if newest is not None and not target.append:
            acts.refuse_newer(self._client, target, newest, ddl.floor(target, seen))

    def _made(self, target: Target) -> bool:
        """Whether the table was not there."""
        refused = plan.refusals(target, self._making)
        if refused:
            text = "; ".join(f.text for f in refused)
            raise FatalError(f"{target.schema.table}: {text}", table=str(target.schema.table), hint=refused[0].todo)
        if present.describe(self._client, target) is not None:
            return False
        self._create(target)
        return True

    def _create(self, target: Target) -> None:
        where = f"WHERE name = {text(target.database)}"
        doing = f"creating {ddl.full_name(target)}"
        # Asked first, since IF NOT EXISTS wants the right to create databases also where there is one.
        if not self._client.text(f"SELECT 1 FROM system.databases {where}", doing=doing).strip():
            self._run(ddl.create_database(target), target)
        self._run(ddl.create_table(target, self._making, self._options.fsync), target)
        self._view(target)

    def _view(self, target: Target) -> None:
        if not self._options.current_views:
            return
        there = present.describe(self._client, target) if target.own else None
        known = {column.name for column in target.schema.columns} | {VERSION, DELETED}
        names = [column.name for column in there.columns] if there is not None else []
        others = [name for name in names if name not in known and not name.startswith(ddl.FILLING)]
        self._run(ddl.create_view(target, others), target)

    def _run(self, sql: str, target: Target) -> None:
        self._client.command(sql, doing=f"creating {ddl.full_name(target)}", table=str(target.schema.table))

    def fence(self, owner: str, epoch: int) -> None:
        """Inserts of older epochs that still run at the server are killed; the embedded engine has no other process."""
        self._fences[owner] = max(epoch, self._fences.get(owner, 0))
        if self._options.embedded:
            return
        ids = "'^syncd/([0-9]+)/[0-9]+/(.*)$'"
        mine = f"extractGroups(query_id, {ids})[2] = {text(owner)}"
        older = f"toUInt64OrZero(extractGroups(query_id, {ids})[1]) < {epoch}"
        sql = f"KILL QUERY WHERE query_id LIKE 'syncd/%' AND {mine} AND {older} SYNC"
        self._client.command(sql, doing=f"ending older writes of {owner}")

    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        """Guarantee 1: durable on return. Guarantee 6: what the server would change is refused before it is sent."""
        if ticket.epoch < self._fences.get(ticket.owner, 0):
            raise FencedError(f"{ticket.owner}: epoch {ticket.epoch} is over, {self._fences[ticket.owner]} writes now")
        target = self._placed(target)
        floor = ddl.floor(target, self._still_fits(target))
        if target.append and len(batch) and int(batch.seq[0]) < floor:
            # Left out, they would be missing: what is added is not there yet, unlike an older version of a row.
            raise FatalError(
                f"{ddl.full_name(target)} was closed to rows older than seq {floor}: a later load of it has begun",
                table=str(target.schema.table),
                hint="drop the table, then `syncd jobs resume`",
                code="E192",
            )
        built = build(target, batch, self._making, self._known_limits(), floor)
        if built.rows.num_rows and not (built.refused and target.append):
            self._insert(target, built.rows, ticket)
        if built.refused:
            raise BatchError(f"{target.schema.table}: {len(built.refused)} of {len(batch)} rows refused", built.refused)

    def _insert(self, target: Target, rows: pa.Table, ticket: Ticket) -> None:
        settings = {"query_id": query_id(ticket)}
        if target.append:
            settings["insert_deduplication_token"] = token(rows, ticket)
        try:
            self._client.insert(target.database, target.name, rows, settings)
        except Exception as error:
            raise self._explained(error, target) from error

    def _explained(self, error: Exception, target: Target) -> SyncdError:
        """A table that was changed by hand while it was written: say which column."""
        table = str(target.schema.table)
        if getattr(error, "code", None) in CHANGED_CODES:
            there = present.describe(self._client, target)
            wrong = ["it is gone"] if there is None else present.differences(target, there, self._making)
            if wrong:
                return self._changed(target, wrong)
        return mapped(error, f"writing to {ddl.full_name(target)}", table)

    def marks(self, owner: str) -> Mapping[Lane, Mark]:
        """Nothing: rows are told apart by their version, so that writing them again changes nothing."""
        return {}

    def apply(self, target: Target, change: SchemaChange, ticket: Ticket) -> None:
        target = self._placed(target)
        if change.kind is Ddl.CREATE:
            if not self._made(target) and target.own:
                Shared(self._client, target, change, self._making, self._known_limits()).run()
            self._view(target)
            self._compare(target)
            return
        acts.act(self._client, target, change, self._making, self._known_limits())
        if change.kind in {Ddl.DROP, Ddl.RENAME}:
            self._context.log("target_kept", table=ddl.full_name(target), statement=change.statement)
        if change.kind is Ddl.ALTER:
            self._view(target)
            self._compare(target)

    def swap(self, shadow: Target, target: Target, seq: int, ticket: Ticket) -> None:
        shadow, target = self._placed(shadow), self._placed(target)
        swap = Swap(self._client, shadow, target, seq)
        if target.own:
            change = SchemaChange(Ddl.CREATE, target.schema, seq, "loaded anew")
            self._made(target)
            swap.merge(Shared(self._client, target, change, self._making, self._known_limits()).run, query_id(ticket))
        else:
            swap.run(ticket.epoch)
        self._fits.clear()
        self._view(target)

    def scan(self, target: Target, lower: Bound | None, upper: Bound | None) -> Iterator[pa.RecordBatch]:
        return scan(
            self._client, self._placed(target), lower and lower.normal, upper and upper.normal, self._options.page_rows
        )

    def expire(self, target: Target, below: int) -> None:
        if target.append or target.deletes != "apply":
            return
        acts.expire(self._client, self._placed(target), below, self._options.expire_rows)

    def _placed(self, target: Target) -> Target:
        return target if target.database else replace(target, database=self._options.database)

    def _known_limits(self) -> Limits:
        assert self._limits is not None, "open() comes first"
        return self._limits

    def _still_fits(self, target: Target) -> str:
        """A column altered by hand would take other values without an error: look before every write."""
        known = self._fits.get((target.database, target.name, target.part))
        if known is not None and known[0] == target and present.fingerprint(self._client, target) == known[1]:
            return known[1]
        return self._compare(target)

    def _compare(self, target: Target) -> str:
        """The table's own statement, once it is seen to fit."""
        # Taken before the comparison: a change in between is seen by the next write.
        seen = present.fingerprint(self._client, target)
        there = present.describe(self._client, target)
        if there is None:
            raise self._changed(target, ["it is gone"])
        wrong = present.differences(target, there, self._making)
        if wrong:
            raise self._changed(target, wrong)
        self._fits[target.database, target.name, target.part] = (target, seen)
        return seen

    def _changed(self, target: Target, wrong: Sequence[str]) -> FatalError:
        self._fits.pop((target.database, target.name, target.part), None)
        return FatalError(
            f"{ddl.full_name(target)} does not fit {target.schema.table}: {'; '.join(wrong)}",
            table=str(target.schema.table),
            hint="mend the table, give the target another name, or drop it and resync",
        )


def query_id(ticket: Ticket) -> str:
    """By which `fence` finds what an owner has under way."""
    return f"syncd/{ticket.epoch}/{ticket.number}/{ticket.owner}"


def token(rows: pa.Table, ticket: Ticket) -> str:
    """The same for a call that is repeated, also by the next owner of the lanes; another one for any other call.

    Rows out of lanes are told by their place there; a chunk's by its writer's count, since its rows may all be alike.
    """
    told = hashlib.blake2b(digest_size=16)
    told.update(repr((ticket.owner, rows.num_rows)).encode())
    if ticket.marks:
        places = sorted((*lane, mark.offset, mark.incarnation) for lane, mark in ticket.marks.items())
        told.update(repr(places).encode())
    else:
        told.update(repr((ticket.epoch, ticket.number)).encode())
    told.update(memoryview(rows.column("_version").combine_chunks().to_numpy()))
    return told.hexdigest()
