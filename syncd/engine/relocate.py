"""Capture goes on from a new place in the log, since the saved one is lost to it (`policy`); see docs/states.md.

What changed between the two is in no lane. Each table is compared with the source, and mended by REFRESH, before it is
LIVE again; one for which that is not enough is loaded anew.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import structlog

from syncd.engine.build import Parts, clock
from syncd.engine.discover import pair_of, refusal, tables_at_head
from syncd.errors import FatalError
from syncd.failpoints import failpoint
from syncd.model import Head, TableId, TableSchema
from syncd.spi import Lease, Queue, Source
from syncd.state import LAST_EPOCH, Halt, Items, Phase, Repair, SchemaPair, SourceRecord, State, TableRecord

log = structlog.get_logger()

_BEHIND = "the log was lost to it: it is compared with the source, and what differs is read again"
_LOADED = {Phase.CATCH_UP, Phase.LIVE, Phase.NEEDS_RESYNC}


def unproven(state: State) -> Items:
    """No table is LIVE any more. Nothing of the job runs, so that none becomes so meanwhile."""
    items: Items = {}
    halts = state.halts()
    for record in state.tables():
        if record.phase is not Phase.NEEDS_RESYNC and record.table not in halts:
            items |= state.table_item(record.behind(_BEHIND, clock()))
            items |= state.repair_item(record.sink, record.table, Repair())
    return items


def relocate(parts: Parts, queue: Queue, source: Source, lease: Lease) -> None:
    """If the place is lost: a head is taken, under the next epoch (4), and saved with what becomes of each table.

    Capture stands still meanwhile.
    """
    state = State(queue, parts.job.name)
    before = state.source()
    if before is None or not state.lost():
        return
    if before.epoch == LAST_EPOCH:
        raise FatalError(f"job {parts.job.name} has seen {LAST_EPOCH} logs", hint="load anew", code="E154")
    found, head = tables_at_head(parts, source, before.epoch + 1)
    log_now = source.identity(head.position)
    items = state.source_item(SourceRecord(before.epoch + 1, head.position, head.seq, saved=clock(), log=log_now))
    known, there = state.schemas(), {each.schema.table: each.schema for each in found.taken}
    refused = {table: refusal(why) for table, why in parts.refused(found.taken, before=known).items() if why}
    for table in known.keys() - state.halts().keys() - {t for t in state.dropped() if t not in there}:
        if parts.wants(table):
            items |= _becomes(parts, state, table, there.get(table), refused.get(table, ""), head)
    for table in state.joins():
        items |= state.join_item(table, None)
    # Tables may have come in the part of the log that is lost: they are looked for like those of another job file.
    items |= state.added_item({*state.added(), "the log was lost"}) | state.lost_item(wanted=False)
    queue.put(lease, items)
    log.warning("log_begins_anew", job=parts.job.name, before=before.log, now=log_now, epoch=before.epoch + 1)
    failpoint("snapshot.relocated")


def _becomes(parts: Parts, state: State, table: TableId, schema: TableSchema | None, refused: str, head: Head) -> Items:
    records = [record for record in state.tables() if record.table == table]
    why = refused if schema is not None else "the source has it no more: it went in a part of the log that is lost"
    if why:
        log.error("table_halted", job=parts.job.name, table=str(table), error=why)
        items = state.halt_item(table, Halt(why, head.position, clock()))
    elif schema is not None and (why := _begins_anew(parts, state, schema, records)):
        log.warning("table_begins_anew", job=parts.job.name, table=str(table), reason=why)
        items = state.resync_item(table, wanted=True)
    else:
        return {}
    for record in records:
        items |= state.repair_item(record.sink, table, None)
    return items


def _begins_anew(parts: Parts, state: State, schema: TableSchema, records: Collection[TableRecord]) -> str:
    """Why rows that are read again are not enough, or ""."""
    versions = state.schemas(schema.table)[schema.table]
    newest: SchemaPair = versions[max(versions)]
    if not newest.published.key:
        return "it has no key by which rows could be read again"
    if pair_of(parts, replace(schema, version=newest.source.version)).source != newest.source:
        return "its columns, indexes or words have changed in a part of the log that is lost"
    if parts.refuses_disorder(newest.published):
        return "a unique index at a sink refuses rows that come in another order than they were committed in"
    if schema.table in state.joins() or any((record.resume or record.phase) not in _LOADED for record in records):
        return "it was being loaded"
    return "it was dropped, and made anew" if schema.table in state.dropped() else ""
