"""Finding tables: at a job's first start, and later those of sinks and tables that its file has anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from syncd.engine.build import Parts, clock
from syncd.engine.found import Tables, no_table, tables
from syncd.errors import ConfigError, FatalError, TransientError, Unsupported
from syncd.failpoints import failpoint
from syncd.model import Head, TableId, TableSchema
from syncd.spi import Lease, Queue, Source
from syncd.state import LAST_EPOCH, Halt, Items, Phase, SchemaPair, SourceRecord, State, TableRecord

log = structlog.get_logger()

Refusals = Sequence[str | ConfigError]


def discover(parts: Parts, queue: Queue, source: Source, lease: Lease) -> int:
    """First start: save where the log is to be read from and what the tables are. Later: the same of what is new.

    About how many chunks the new tables have.
    """
    state = State(queue, parts.job.name)
    if state.source() is None:
        return _first(parts, queue, source, lease, state)
    return _extend(parts, queue, source, lease, state) if state.added() else 0


def _first(parts: Parts, queue: Queue, source: Source, lease: Lease, state: State) -> int:
    past = state.forgotten()
    epoch = past.seqs + 1
    if epoch > LAST_EPOCH:
        hint = "use a new data directory, and drop the target tables"
        raise FatalError(f"job {parts.job.name} has used all {LAST_EPOCH} epochs", hint=hint, code="E154")
    for finding in source.check():
        if finding.level == "error":  # said, not refused: the job may never meet it
            log.error("source_check", job=parts.job.name, at=finding.subject, what=finding.text, hint=finding.todo)
    found, head = tables_at_head(parts, source, epoch)
    _say(parts, found)
    again = {*state.resyncs()}
    refused = {table: refusal(why) for table, why in parts.refused(found.taken, anew=bool(again)).items() if why}
    sizes = {table.schema: table.bytes for table in found.taken if table.schema.table not in refused}
    if not sizes:
        raise no_table(parts, refused)
    start = parts.start(source, head, epoch)
    log_now = source.identity(start.position)
    items = state.source_item(SourceRecord(epoch, start.position, start.seq, saved=clock(), log=log_now))
    for schema in sizes:
        schema = replace(schema, version=min(schema.version, start.seq))
        items |= state.schema_item(pair_of(parts, schema))
        for sink in parts.sinks_of(schema.table):
            fresh = TableRecord(schema.table, sink, Phase.NEW, start, past.tables + 1, clock(), newest=head.seq)
            items |= state.table_item(_beside(parts, fresh) if schema.table in again else fresh)
    for table, why in refused.items():
        items |= _refused(parts, state, table, why, start)
    for table in again:
        items |= state.resync_item(table, wanted=False)
    parts.subscribe(queue, [schema.table for schema in sizes])
    queue.put(lease, items | state.added_item([]))
    failpoint("snapshot.head_saved")
    return sum(1 + size // parts.job.snapshot.chunk_bytes for size in sizes.values())


def _extend(parts: Parts, queue: Queue, source: Source, lease: Lease, state: State) -> int:
    """Tables and sinks that the job file has anew get a head of their own, and a record for each table at each sink.

    Capture stands still meanwhile. The groups are subscribed first: what changes behind the head is kept for them.
    """
    known, halts = state.schemas(), state.halts()
    given_up = {*state.given_up()}
    parts.subscribe(queue, known, given_up)
    found, head = tables_at_head(parts, source, _epoch(parts, source, state))
    _say(parts, found)
    records = {(record.sink, record.table) for record in state.tables()}
    # One that is known was asked for since, and is still to be forgotten.
    at_sink = {*state.reloads()} - records
    again, epoch = {*state.resyncs()} - known.keys() - halts.keys(), state.forgotten().tables + 1
    reasons = parts.refused(found.taken, before=known)
    items, new, size = state.added_item([]), [], 0
    for each in found.taken:
        table = each.schema.table
        sinks = [sink for sink in parts.sinks_of(table) if (sink, table) not in records]
        why = refusal(reasons[table]) if reasons[table] else ""
        if table in halts or (table in known and not sinks):
            continue
        if table not in known and why:
            items |= _refused(parts, state, table, why, head)
            continue
        if not why:
            items |= _schema_now(parts, state, each.schema, head)
        if table not in known:
            new.append(table)
            items |= state.join_item(table, head) if parts.captures else {}
        for sink in sinks:
            fresh = TableRecord(table, sink, Phase.NEW, head, epoch, clock(), newest=head.seq)
            if table in again or (sink, table) in at_sink:
                fresh = _beside(parts, fresh)
            items |= state.table_item(fresh.halted(why, clock()) if why else fresh)
            size += 1 + each.bytes // parts.job.snapshot.chunk_bytes
    there = {each.schema.table for each in found.taken}
    for table in again:
        items |= state.resync_item(table, wanted=False)
        if table not in there:
            why = "it is not at the source any more; its copies stay as they are"
            items |= _refused(parts, state, table, why, head)
    for sink, table in at_sink:
        items |= state.reload_item(sink, table, wanted=False)
        if table not in there and table in known:
            why = "it is not at the source any more; its copy stays as it is"
            items |= state.table_item(TableRecord(table, sink, Phase.NEW, head, epoch).halted(why, clock()))
    parts.subscribe(queue, [*known, *new], given_up)
    queue.put(lease, items)
    failpoint("snapshot.added")
    return size


def _beside(parts: Parts, record: TableRecord) -> TableRecord:
    """Loaded beside the copy that is there."""
    return replace(record, shadow=parts.shadow(record.table, record.epoch))


def _epoch(parts: Parts, source: Source, state: State) -> int:
    """Of the next change that capture will read: it raises the saved one when another log answers."""
    record = state.source()
    assert record is not None
    if not parts.captures or source.identity(record.position) == record.log:
        return record.epoch
    return min(record.epoch + 1, LAST_EPOCH)


def _schema_now(parts: Parts, state: State, schema: TableSchema, head: Head) -> Items:
    """The table's version at the head, if it is another one than the newest that is known.

    TransientError: a newer one than the head's is known; the head comes after it soon.
    """
    versions = state.schemas(schema.table).get(schema.table, {})
    newest = max(versions, default=-1)
    if newest > head.seq:
        raise TransientError(f"{schema.table} has changed behind the log's visible end", retry_after=1.0)
    pair = pair_of(parts, replace(schema, version=head.seq))
    same = newest >= 0 and replace(pair.source, version=newest) == versions[newest].source
    return {} if same else state.schema_item(pair)


def pair_of(parts: Parts, schema: TableSchema) -> SchemaPair:
    transform = parts.transform(schema)
    return SchemaPair(transform.saved, transform.schema)


def _say(parts: Parts, found: Tables) -> None:
    for finding in found.findings:
        log.warning("job_tables", job=parts.job.name, at=finding.subject, what=finding.text, hint=finding.todo)


def tables_at_head(parts: Parts, source: Source, epoch: int) -> tuple[Tables, Head]:
    """The tables as they are at the head: read before and after it, until nothing has changed between."""
    while True:
        before = tables(parts, source)
        head = source.head(epoch)
        failpoint("snapshot.head_taken")
        if _columns(before) == _columns(tables(parts, source)):
            return before, head
        log.info("schema_changed_while_read", job=parts.job.name)


def _columns(found: Tables) -> dict[TableId, object]:
    return {each.schema.table: (each.schema.columns, each.schema.key, each.refusals) for each in found.taken}


def refusal(reasons: Refusals) -> str:
    hint = (
        "leave the table out by its name (`skip: true`), or change it and load the job anew; until then it stands "
        "still and holds up no other"
    )
    if all(isinstance(reason, ConfigError) for reason in reasons):
        hint = "mend the job file, and `syncd apply` it"
    return str(Unsupported(f"not copied: {'; '.join(map(str, reasons))}", hint=hint))


def _refused(parts: Parts, state: State, table: TableId, why: str, head: Head) -> Items:
    log.error("table_refused", job=parts.job.name, table=str(table), reason=why)
    return state.halt_item(table, Halt(why, head.position, clock()))
