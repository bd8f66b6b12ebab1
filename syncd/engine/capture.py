"""The capture operator: the source's log, transformed, split by lane and published together with its position."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import structlog

from syncd import codec
from syncd.engine import refresh, share
from syncd.engine.build import Parts, clock
from syncd.engine.evolve import evolve, halted, refused
from syncd.engine.lanes import split_by_queue, split_key_changes
from syncd.engine.process import Link, leased, reach
from syncd.errors import FatalError, PositionLost, QueueFull, TransientError, Unsupported
from syncd.failpoints import failpoint
from syncd.model import ChangeBatch, Checkpoint, Ddl, Head, Lane, Message, SchemaChange, TableId, TableSchema
from syncd.spi import Lease, Queue, Source
from syncd.state import LAST_EPOCH, Halt, Items, Phase, SchemaPair, SourceRecord, State, TableRecord
from syncd.transforms import Transform

# Published without waiting for the end of the transaction, so that a huge one needs no more memory than this.
PUBLISH_BYTES = 16 << 20
LOOK_SECONDS = 5.0
KEPT_SECONDS = 60.0
REFRESH_SECONDS = 1.0
"""How often capture looks for rows that are to be read again."""
PAUSE_SECONDS = 0.2
"""How often capture looks whether it is to stand still."""
FOLLOWING = "following the source's log"
_RESYNC = "resync the table"

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
        self._dropped = self._state.dropped()
        self._kept = self._state.kept()
        self._pairs: dict[TableId, SchemaPair] = {}
        self._transforms: dict[TableId, Transform] = {}
        self._given_out: dict[TableId, int] = {}
        self._spread: dict[TableId, tuple[int, int]] = {}
        self._looked = self._asked = self._ask_kept = self._refreshed = time.monotonic()
        self._pause = False, -math.inf
        self._joins: dict[TableId, Head] = {}
        self.beat: Callable[[], None] = lambda: None

    def run(self) -> None:
        if self._given_up:  # a capture before this one may have died between the two steps
            self._parts.subscribe(self._queue, self._published(), self._given_up)
        if self._state.respread():
            self._respread()
        while not self._link.stop.is_set():
            try:
                if self._paused():
                    self._link.step("")
                    self._sleep(PAUSE_SECONDS)
                    continue
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

    def _respread(self) -> None:
        """A sink that refuses disorder has come, or the last one has gone: a key's changes take another lane from here
        on. A barrier, at which nothing is done, ends all lanes before (3)."""
        record = self._state.source()
        assert record is not None
        self._load_schemas(record)
        for pair in self._pairs.values():
            table, schema = pair.published.table, pair.published
            if not self._wanted(table) or not self._parts.in_order(schema):
                continue
            change = SchemaChange(Ddl.ALTER, schema, record.seq, "other lanes", clock(), before=schema)
            self._to_all_lanes(change)
        self._pending.items |= self._state.respread_item(wanted=False)
        self._publish()

    def _follow(self) -> None:
        """Stream from the saved position until told to stop."""
        record = self._state.source()
        if record is None:
            raise FatalError(f"job {self._parts.job.name} has no saved position", code="E154")
        self._link.step("asking the source for its log")
        record = self._in_this_log(record)
        self._pending = Pending()
        self._given_out = {}
        self._dropped, self._kept = self._state.dropped(), self._state.kept()
        self._load_schemas(record)
        self._joins = {table: head for table, head in self._state.joins().items() if table not in self._halted}
        for table, head in self._joins.copy().items():
            if record.seq >= head.seq:
                self._join(table, head, record)
        for event in self._source.stream(record.position, record.epoch, self._known(), self._wanted, self._before):
            self.beat()
            self._link.waits("")
            self._link.step(FOLLOWING, self._parts.heartbeat)
            if self._paused():
                return  # what was not published is read again
            match event:
                case ChangeBatch():
                    self._rows(event)
                case SchemaChange():
                    self._schema_change(event, record)
                case Checkpoint():
                    stands = event.position == record.position
                    record = replace(record, position=event.position, seq=event.seq, time=event.time, saved=clock())
                    self._pending.items |= self._state.source_item(record) | self._log_kept()
                    self._ask_again(record)
                    self._publish()
                    failpoint("capture.published")
                    self._source.ack(event.position)
                    self._look_at_queue()
                    if self._link.stop.is_set() or (stands and self._is_another(record)):
                        return
                    if any(record.seq >= head.seq for head in self._joins.values()):
                        return

    def _join(self, table: TableId, head: Head, record: SourceRecord) -> None:
        """Publish a new table's changes from its head up to where all others are; from there it goes with them.

        Until then its changes are left out: how its rows looked in front of its head is not known. Dying on the way
        it begins anew at the head, with the same changes (1, 2).
        """
        del self._joins[table]
        done = self._state.join_item(table, None)
        if record.seq > head.seq and not self._read_on(table, head, record, done):
            return
        if record.seq == head.seq:
            self._pending.items |= done
            self._publish()
        failpoint("capture.joined")
        log.info("table_joined", job=self._parts.job.name, table=str(table), position=str(record.position))
        self._given_out.pop(table, None)
        self._load_schemas(record)

    def _read_on(self, table: TableId, head: Head, record: SourceRecord, done: Items) -> bool:
        """Whether the table's changes up to `record` are published; not if told to stop before."""
        version = max(version for version in self._state.schemas(table)[table] if version <= head.seq)
        self._pairs[table] = self._state.schema(table, version)
        schemas = {table: self._pairs[table].source}
        stream = self._source.stream(head.position, record.epoch, schemas, table.__eq__, self._before)
        for event in stream:
            self.beat()
            self._link.step(FOLLOWING, self._parts.heartbeat)
            match event:
                case ChangeBatch() if len(event) and event.seq[0] <= record.seq:
                    self._rows(event.take(np.flatnonzero(event.seq <= record.seq)))
                case SchemaChange() if event.seq <= record.seq:
                    self._schema_change(event, record)
                case Checkpoint():
                    over = event.seq >= record.seq
                    self._pending.items |= done if over else {}
                    self._publish()
                    if over:
                        return True
            if self._link.stop.is_set() or self._paused():
                break
        self._pending, self._joins[table] = Pending(), head
        return False

    def _paused(self) -> bool:
        """Whether people want the source to be left alone. Known for a moment."""
        paused, until = self._pause
        if time.monotonic() >= until:
            paused = self._state.wish().pauses_source
            self._pause = paused, time.monotonic() + PAUSE_SECONDS
        return paused

    def _ask_again(self, record: SourceRecord) -> None:
        """Rows that people want to be read again: behind all that is published here."""
        if time.monotonic() - self._refreshed < REFRESH_SECONDS:
            return
        self._refreshed = time.monotonic()
        for name, (table, keys) in self._state.refreshes().items():
            if table in self._joins:
                continue  # when it has joined
            if self._wanted(table) and table in self._pairs:
                for message in refresh.messages(self._parts, self._pairs[table], keys, record.seq):
                    self._pending.add(message)
            else:
                log.warning("refresh_left_out", job=self._parts.job.name, table=str(table), rows=keys.num_rows)
            self._pending.items |= self._state.refreshed_item(name)

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
        for table, head in self._state.joins().items():
            if table not in self._halted and head.seq <= record.seq:
                # Its changes up to `record` would now have larger seqs than that, as those behind it have.
                self._halt_table(table, FatalError("the log became another one while the table joined", hint=_RESYNC))
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

    def _known(self) -> dict[TableId, TableSchema]:
        """The job's tables at the source, also those that are halted, or are still to join."""
        joining = {table: versions[max(versions)] for table, versions in self._state.schemas().items()}
        joining = {table: pair for table, pair in joining.items() if table in self._joins}
        pairs = {**joining, **self._pairs}.items()
        return {t: pair.source for t, pair in pairs if t not in self._dropped and self._parts.wants(t)}

    def _wanted(self, table: TableId) -> bool:
        if table in self._halted or table in self._joins or not self._parts.wants(table) or not self._is_read(table):
            return False
        return table in self._pairs or self._parts.job.policy.ddl.create_table != "ignore"

    def _is_read(self, table: TableId) -> bool:
        """A sink still takes the table's changes."""
        return not self._given_up or any((sink, table) not in self._given_up for sink in self._parts.sinks_of(table))

    def _published(self) -> list[TableId]:
        return [*{*self._state.schemas(), *self._pairs}]

    def _before(self, table: TableId) -> tuple[str, ...]:
        return self._transform(table).before_columns if table in self._pairs else ()

    def _transform(self, table: TableId) -> Transform:
        if table not in self._transforms:
            self._transforms[table] = self._parts.transform_of(self._pairs[table])
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
        if change.to is not None and self._wanted(change.to):  # also where two tables change names, and one is halted
            why = f"it came with the rows of {change.table}"
            came = replace(change, schema=replace(change.schema, table=change.to))
            self._halt_table(change.to, refused(came, why))
        if not self._wanted(change.table) or not self._followed(change):
            return
        published = change
        match change.kind:
            case Ddl.CREATE:
                published = self._created(change, record)
            case Ddl.ALTER:
                published = self._altered(change)
            case Ddl.DROP | Ddl.RENAME:
                published = replace(change, kind=Ddl.TRUNCATE, to=None)
        self._to_all_lanes(replace(published, schema=self._pairs[change.table].published))

    def _to_all_lanes(self, change: SchemaChange) -> None:
        tag, captured = self._parts.tag(change.table), clock()
        for queue in range(self._parts.queues):
            self._pending.add(codec.encode_change(change, Lane(tag, queue), self._parts.source_name, captured))

    def _followed(self, change: SchemaChange) -> bool:
        """Whether the sinks hear of it. Unsupported: the table halts."""
        policy = self._parts.job.policy.ddl
        words: Mapping[Ddl, tuple[str, str]] = {
            Ddl.CREATE: ("create_table", policy.create_table),
            Ddl.ALTER: ("", "apply"),  # by what it does: see `evolve`
            Ddl.TRUNCATE: ("truncate", policy.truncate),
            Ddl.DROP: ("drop_table", policy.drop_table),
            Ddl.RENAME: ("rename_table", policy.rename_table),
        }
        if change.kind not in words:
            raise refused(change, "this statement cannot be followed")
        kind, word = words[change.kind]
        if word == "halt-table":
            raise halted(change, f"{change.kind.value}, and `policy.ddl.{kind}` says halt-table")
        if change.kind in {Ddl.DROP, Ddl.RENAME}:
            self._dropped[change.table] = word == "apply"
            self._pending.items |= self._state.dropped_item(change.table, word == "apply")
        if word == "ignore":
            log.info("schema_change_ignored", job=self._parts.job.name, table=str(change.table), kind=change.kind.value)
        return word == "apply"

    def _created(self, change: SchemaChange, record: SourceRecord) -> SchemaChange:
        """As published: of a table that was dropped, and whose rows the sinks have no more, what is other now."""
        table = change.table
        gone = self._dropped.pop(table, None)
        if gone is False:
            raise halted(change, "the table was made anew, and the sinks hold rows of the one before")
        if gone:
            self._pending.items |= self._state.dropped_item(table, None)
            return self._altered(replace(change, kind=Ddl.ALTER, before=self._pairs[table].source))
        self._becomes(self._fitting_transform(change.schema))
        self._begin_table(change, record)
        return change

    def _altered(self, change: SchemaChange) -> SchemaChange:
        """As published."""
        fresh, policy = self._fitting_transform(change.schema), self._parts.job.policy.ddl
        table = change.table
        kept = self._kept.get(table, frozenset())
        evolved = evolve(change, self._transform(table), fresh, policy, self._source.holds_all, kept)
        self._becomes(evolved.transform)
        if evolved.change.kept:
            self._kept[table] = kept.union(evolved.change.kept)
            self._pending.items |= self._state.kept_item(table, self._kept[table])
        return evolved.change

    def _becomes(self, transform: Transform) -> None:
        """The table's version from here on."""
        table = transform.source.table
        self._pairs[table] = SchemaPair(transform.saved, transform.schema)
        self._transforms[table] = transform
        self._pending.items |= self._state.schema_item(self._pairs[table])

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
        """Saved before the stream goes on without the table, so that the position never passes it unmarked (8).

        One whose rows are to be read anew is then loaded beside its copies, if the job says so.
        """
        if table in self._halted:
            what = f"{table} is halted, and the log cannot be read without it either: {error.what}"
            raise FatalError(what, hint=error.hint, code=error.code) from error
        record = self._state.source()
        assert record is not None
        items = self._state.halt_item(table, Halt(str(error), record.position, clock()))
        if self._parts.reloads(error):
            items |= self._state.resync_item(table, wanted=True)
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
