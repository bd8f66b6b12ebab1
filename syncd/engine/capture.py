"""The capture operator: the source's log, transformed, split by lane and published together with its position."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import structlog

from syncd import codec
from syncd.engine import share
from syncd.engine.build import Parts, clock
from syncd.engine.lanes import split_by_queue, split_key_changes
from syncd.engine.process import Link, leased, reach
from syncd.errors import FatalError, PositionLost, QueueFull, TransientError, Unsupported
from syncd.failpoints import failpoint
from syncd.model import ChangeBatch, Checkpoint, Column, Ddl, Head, Lane, Message, SchemaChange, TableId, TableSchema
from syncd.spi import Lease, Queue, Source
from syncd.state import LAST_EPOCH, Halt, Items, Phase, SchemaPair, SourceRecord, State, TableRecord
from syncd.transforms import Transform

# Published without waiting for the end of the transaction, so that a huge one needs no more memory than this.
PUBLISH_BYTES = 16 << 20
LOOK_SECONDS = 5.0
KEPT_SECONDS = 60.0
FOLLOWING = "following the source's log"

log = structlog.get_logger()


@dataclass
class Pending:
    """What will be published next, in one transaction."""

    messages: list[Message] = field(default_factory=list)
    items: Items = field(default_factory=dict)
    bytes: int = 0
    counted: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, message: Message) -> None:
        self.messages.append(message)
        self.bytes += len(message.body)
        self.counted["published_rows", str(message.table)] += message.rows
        self.counted["published_bytes", str(message.table)] += len(message.body)


class Capture:
    """One job's capture. `run` returns when it is told to stop; everything read until then is published."""

    def __init__(self, parts: Parts, queue: Queue, source: Source, lease: Lease, link: Link) -> None:
        self._parts = parts
        self._queue = queue
        self._source = source
        self._lease = lease
        self._link = link
        self._state = State(queue, parts.job.name)
        self._pending = Pending()
        self._given_up = set(self._state.given_up())
        self._halted = set(self._state.halts())
        self._pairs: dict[TableId, SchemaPair] = {}
        self._transforms: dict[TableId, Transform] = {}
        self._given_out: dict[TableId, int] = {}
        self._spread: dict[TableId, tuple[int, int]] = {}
        self._looked = self._asked = self._ask_kept = time.monotonic()
        self.beat: Callable[[], None] = lambda: None

    def run(self) -> None:
        if self._given_up:  # a capture before this one may have died between the two steps
            self._parts.subscribe(self._queue, self._published(), self._given_up)
        while not self._link.stop.is_set():
            try:
                self._follow()
            except PositionLost:
                raise
            except FatalError as error:
                if error.table is None:
                    raise
                self._halt_table(TableId.parse(error.table), error)
            except TransientError as error:
                log.warning("capture_waits", job=self._parts.job.name, error=str(error), seconds=error.retry_after)
                self._link.waits(str(error))
                self._link.count("retries", "")
                # None of its connections is trusted: what broke one may have left another half dead.
                self._source.close()
                self._sleep(error.retry_after)
                reach("source", self._source.open, self._link, self.beat)

    def _follow(self) -> None:
        """Stream from the saved position until told to stop."""
        record = self._state.source()
        if record is None:
            raise FatalError(f"job {self._parts.job.name} has no saved position", code="E154")
        self._link.step("asking the source for its log")
        record = self._in_this_log(record)
        self._pending = Pending()
        self._given_out = {}
        self._load_schemas(record)
        schemas = {table: pair.source for table, pair in self._pairs.items() if self._wanted(table)}
        for event in self._source.stream(record.position, record.epoch, schemas, self._wanted, self._before):
            self.beat()
            self._link.waits("")
            self._link.step(FOLLOWING, self._parts.heartbeat)
            match event:
                case ChangeBatch():
                    self._rows(event)
                case SchemaChange():
                    self._schema_change(event, record)
                case Checkpoint():
                    stands = event.position == record.position
                    record = replace(record, position=event.position, seq=event.seq, time=event.time, saved=clock())
                    self._pending.items |= self._state.source_item(record) | self._log_kept()
                    self._publish()
                    failpoint("capture.published")
                    self._source.ack(event.position)
                    self._look_at_queue()
                    if self._link.stop.is_set() or (stands and self._is_another(record)):
                        return

    def _is_another(self, record: SourceRecord) -> bool:
        """A log that stands still is asked for anew: a server goes on with one that was reset as if nothing came."""
        if time.monotonic() - self._asked < LOOK_SECONDS:
            return False
        self._asked = time.monotonic()
        self._link.step("asking the source for its log")
        log_now = self._source.identity(record.position)
        self._link.step(FOLLOWING, self._parts.heartbeat)
        return log_now != record.log

    def _log_kept(self) -> Items:
        """Asked now and then, for all that tell how long it is until the saved position is purged."""
        if time.monotonic() < self._ask_kept:
            return {}
        self._ask_kept = time.monotonic() + KEPT_SECONDS
        self._link.step("asking the source how long it keeps its log")
        kept = self._source.log_kept()
        self._link.step(FOLLOWING, self._parts.heartbeat)
        return self._state.log_kept_item(kept)

    def _in_this_log(self, record: SourceRecord) -> SourceRecord:
        """Another log's seqs begin anew: the epoch is raised, and saved, before the first publish from it (4)."""
        log_now = self._source.identity(record.position)
        if log_now == record.log:
            return record
        if record.epoch == LAST_EPOCH:
            raise FatalError(f"job {self._parts.job.name} has seen {LAST_EPOCH} logs", hint="load anew", code="E154")
        facts = {"before": record.log, "now": log_now, "epoch": record.epoch + 1, "to_compare": self._half_loaded()}
        log.warning("log_changed", job=self._parts.job.name, **facts)
        record = replace(record, epoch=record.epoch + 1, log=log_now)
        self._queue.put(self._lease, self._state.source_item(record))
        failpoint("capture.epoch_raised")
        return record

    def _half_loaded(self) -> list[str]:
        """Tables of which rows were read beyond the saved position: whether another log has these is not known."""
        loading = {Phase.SNAPSHOT, Phase.CATCH_UP}
        return sorted({str(table.table) for table in self._state.tables() if table.phase in loading})

    def _load_schemas(self, record: SourceRecord) -> None:
        """The version of each table that holds at the saved position."""
        self._pairs = {}
        self._transforms = {}
        for table, versions in self._state.schemas().items():
            known = [version for version in versions if version <= record.seq]
            if known:
                self._pairs[table] = versions[max(known)]

    def _wanted(self, table: TableId) -> bool:
        return table not in self._halted and self._parts.wants(table) and self._is_read(table)

    def _is_read(self, table: TableId) -> bool:
        """A sink still takes the table's changes."""
        return not self._given_up or any((sink, table) not in self._given_up for sink in self._parts.sinks_of(table))

    def _published(self) -> list[TableId]:
        return [*{*self._state.schemas(), *self._pairs}]

    def _before(self, table: TableId) -> tuple[str, ...]:
        return self._transform(table).before_columns if table in self._pairs else ()

    def _transform(self, table: TableId) -> Transform:
        if table not in self._transforms:
            self._transforms[table] = self._parts.transform(self._pairs[table].source)
        return self._transforms[table]

    # -- events

    def _rows(self, batch: ChangeBatch) -> None:
        if not self._wanted(batch.table):
            return  # halted since the source decoded it; the halt is saved
        self._check_order(batch)
        self._link.count("captured_rows", str(batch.table), by=len(batch))
        self._link.count("captured_bytes", str(batch.table), by=batch.nbytes)
        batch = split_key_changes(self._transform(batch.table).apply(batch))
        if not len(batch):
            return
        captured = clock()
        tag = self._parts.tag(batch.table)
        for queue, part, hashes in split_by_queue(batch, self._queues(batch.schema)):
            self._pending.add(codec.encode(part, Lane(tag, queue), self._parts.source_name, captured, hashes))
        failpoint("capture.transformed")
        if self._pending.bytes >= PUBLISH_BYTES:
            self._publish()
            failpoint("capture.part_published")

    def _queues(self, published: TableSchema) -> int:
        known = self._spread.get(published.table)
        if known is None or known[0] != published.version:
            known = self._spread[published.table] = published.version, self._parts.queues_of(published)
        return known[1]

    def _check_order(self, batch: ChangeBatch) -> None:
        """FatalError: rows that come before rows given out already. A sink would take them for rows seen twice, and
        leave them out; so a source that breaks the order of its log is stopped before anything is published (3)."""
        if not len(batch):
            return
        seqs = np.append(np.uint64(self._given_out.get(batch.table, 0)), batch.seq)
        wrong = np.flatnonzero(seqs[1:] <= seqs[:-1])
        if wrong.size:
            before, here = int(seqs[wrong[0]]), int(seqs[wrong[0] + 1])
            raise FatalError(
                f"{batch.table}: the source gave out seq {here} after {before}: its order is broken",
                table=str(batch.table),
                hint="resync the table, and tell the authors of the source",
            )
        self._given_out[batch.table] = int(batch.seq[-1])

    def _schema_change(self, change: SchemaChange, record: SourceRecord) -> None:
        table = change.table
        if not self._wanted(table):
            return
        # of those followed, an ALTER with as many columns as before changes nothing that a copy holds
        followed = {Ddl.CREATE, Ddl.TRUNCATE} | ({Ddl.ALTER} if only_adds(change) else set())
        quiet = change.before is not None and len(change.schema.columns) == len(change.before.columns)
        if change.kind not in followed or (self._parts.job.policy.ddl != "apply" and not quiet):
            what = "this statement" if change.kind in {Ddl.OTHER, Ddl.ALTER} else change.kind.value
            raise Unsupported(
                f"{table}: {what} in the log cannot be followed: {change.statement}",
                table=str(table),
                hint="resync the table when the change is done",
                code="E155",
            )
        was = self._pairs.get(table)
        if change.kind is not Ddl.TRUNCATE:
            transform = self._fitting_transform(change.schema)
            self._pairs[table] = SchemaPair(transform.saved, transform.schema)
            self._transforms[table] = transform
            self._pending.items |= self._state.schema_item(self._pairs[table])
        if change.kind is Ddl.CREATE:
            self._begin_table(change, record)
        published = replace(change, schema=self._pairs[table].published, before=was.published if was else None)
        tag, captured = self._parts.tag(table), clock()
        for queue in range(self._parts.queues):
            self._pending.add(codec.encode_change(published, Lane(tag, queue), self._parts.source_name, captured))

    def _fitting_transform(self, schema: TableSchema) -> Transform:
        reasons = self._parts.refusals(schema)
        if reasons:
            why = "; ".join(map(str, reasons))
            raise Unsupported(
                f"{schema.table} is not copied: {why}", table=str(schema.table), hint="change the job or the table"
            )
        return self._parts.transform(schema)

    def _begin_table(self, change: SchemaChange, record: SourceRecord) -> None:
        """A table that was created while the job runs: all of its rows are in the log, so it needs no snapshot."""
        crowded = self._parts.crowded_out([change.table], [t for t in self._published() if t != change.table])
        if change.table in crowded:
            raise Unsupported(str(crowded[change.table]), table=str(change.table), hint="then load anew")
        for sink in self._parts.sinks_of(change.table):
            if self._state.table(sink, change.table) is None:
                head = Head(record.position, change.seq)
                epoch = self._state.forgotten().tables + 1
                fresh = TableRecord(change.table, sink, Phase.CATCH_UP, head, epoch, clock())
                self._pending.items |= self._state.table_item(fresh)
        self._parts.subscribe(self._queue, self._published(), self._given_up)

    def _halt_table(self, table: TableId, error: FatalError) -> None:
        """Saved before the stream goes on without the table, so that the position never passes it unmarked (8)."""
        if table in self._halted:
            what = f"{table} is halted, and the log cannot be read without it either: {error.what}"
            raise FatalError(what, hint=error.hint, code=error.code) from error
        record = self._state.source()
        assert record is not None
        items = self._state.halt_item(table, Halt(str(error), record.position, clock()))
        self._queue.put(self._lease, items)
        failpoint("capture.halt_saved")
        self._halted.add(table)
        self._link.count("table_halts", "", str(table))
        log.error("table_halted", job=self._parts.job.name, table=str(table), error=str(error))

    # -- publishing

    def _publish(self) -> None:
        """Messages, position and state in one transaction (1); waits while the queue is full."""
        pending, self._pending = self._pending, Pending()
        while True:
            try:
                self._queue.publish(self._lease, self._parts.topic, pending.messages, pending.items)
            except QueueFull as error:
                holders = self._make_room()
                why = f"{error}; held for {holders}" if holders else str(error)
                log.warning("queue_full", job=self._parts.job.name, error=why)
                self._link.waits(why)
                if self._link.stop.is_set():
                    raise
                self._sleep(error.retry_after)
            else:
                for key, value in pending.counted.items():
                    self._link.count(*key, by=value)
                self._link.waits("")
                self._link.step(FOLLOWING, self._parts.heartbeat)
                return

    def _make_room(self) -> str:
        """See `share.make_room`."""
        holders = share.make_room(self._parts, self._queue, self._lease, self._published())
        self._given_up = set(self._state.given_up())
        return holders

    def _look_at_queue(self) -> None:
        """Another job's capture may wait for what a table of this one holds, while this one has nothing to publish."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            self._make_room()

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._link.stop.is_set() and (left := end - time.monotonic()) > 0:
            self.beat()
            self._link.stop.wait(min(left, 1.0))


def only_adds(change: SchemaChange) -> bool:
    """Whether every column of before is there as it was, and the new ones are surely known in rows that are there."""
    after = {column.name: column for column in change.schema.columns}
    before = () if change.before is None else change.before.columns
    same = all(column.name in after and _holds(after[column.name]) == _holds(column) for column in before)
    return same and not change.renamed and not change.unsure


def _holds(column: Column) -> tuple[object, ...]:
    """What a column's values depend on."""
    kind = column.source_type, column.charset, column.collation, column.generated
    return column.type, column.nullable, *kind


def work(link: Link, parts: Parts) -> None:
    """The capture process."""
    with leased(link, parts, f"job/{parts.job.name}/capture") as held:
        if held is None:
            return
        queue, lease, keeper = held
        source = parts.make_source()
        try:
            reach("source", source.open, link, keeper.beat)
            link.waits("")
            capture = Capture(parts, queue, source, lease, link)
            capture.beat = keeper.beat
            link.send("ready")
            capture.run()
        finally:
            source.close()
