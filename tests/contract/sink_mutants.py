"""Broken sinks. Not collected by itself: `test_sink_mutants.py` runs it, and wants each one caught by its test."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from syncd.errors import BatchError, FatalError, FencedError
from syncd.model import Bound, ChangeBatch, Lane, Op, SchemaChange, TableId, Target
from syncd.spi import Mark, Ticket
from syncd.testing.sink_rows import dump_mark, signed
from syncd.testing.sinks import ArrivalSink, SqliteSink, VersionedSink
from tests.contract.test_sqlite_sinks import SqliteContract


class DropsTheLastRow(ArrivalSink):
    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        super().write(target, batch.slice(0, max(1, len(batch) - 1)), ticket)


class IgnoresDeletes(VersionedSink):
    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        super().write(target, batch.take(np.flatnonzero(batch.op != Op.DELETE)), ticket)


class FillsGapsOnly(ArrivalSink):
    """What is read is for rows that are not there."""

    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        there = {row["id"] for part in self.scan(target, None, None) for row in part.to_pylist()}
        known = np.array([key in there for key in batch.rows.column("id").to_pylist()])
        super().write(target, batch.take(np.flatnonzero((batch.op != Op.READ) | ~known)), ticket)


class TurnsTheOrder(ArrivalSink):
    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        super().write(target, batch.take(np.arange(len(batch))[::-1]), ticket)


class SwallowsRefusals(ArrivalSink):
    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        try:
            super().write(target, batch, ticket)
        except BatchError:
            return


class RefusesTheWholeBatch(ArrivalSink):
    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        refused = self._options.faults.refused(batch)
        if refused:
            raise BatchError("refused", refused)
        super().write(target, batch, ticket)


class SwallowsFatalErrors(VersionedSink):
    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        try:
            super().write(target, batch, ticket)
        except FatalError:
            return


class AcknowledgesEarly(ArrivalSink):
    """Keeps the last call in memory, and writes it with the next one."""

    _held: tuple[Target, ChangeBatch, Ticket] | None = None

    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        self._flush()
        self._held = (target, batch, ticket)

    def _flush(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            super().write(*held)

    def scan(self, target: Target, lower: Bound | None, upper: Bound | None) -> Iterator[pa.RecordBatch]:
        self._flush()
        return super().scan(target, lower, upper)

    def close(self) -> None:
        if self._db is not None:
            self._flush()
        super().close()


class TruncatesText(VersionedSink):
    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        columns = [
            pa.array([v and v[:255] for v in c.to_pylist()], c.type) if pa.types.is_string(c.type) else c
            for c in batch.rows.columns
        ]
        rows = pa.RecordBatch.from_arrays(columns, schema=batch.rows.schema)
        super().write(target, replace(batch, rows=rows), ticket)


class IgnoresTheFence(ArrivalSink):
    def _admit(self, db: sqlite3.Connection, ticket: Ticket) -> None:
        return


class FencesEveryOwner(ArrivalSink):
    def _admit(self, db: sqlite3.Connection, ticket: Ticket) -> None:
        found = db.execute("SELECT max(epoch) FROM fences").fetchone()[0]
        if found is not None and found > ticket.epoch:
            raise FencedError("fenced")


class LosesMarks(ArrivalSink):
    def marks(self, owner: str) -> Mapping[Lane, Mark]:
        return {lane: replace_seqs(mark) for lane, mark in super().marks(owner).items()}


class KeepsTheLargestOffset(ArrivalSink):
    """Its marks never step back: what a resync writes is ahead of the queue for ever."""

    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        known = self.marks(ticket.owner)
        super().write(target, batch, ticket)
        back = {lane: m for lane, m in known.items() if lane in ticket.marks and m.offset > ticket.marks[lane].offset}
        with self._transaction() as db:
            values = ((ticket.owner, lane.tag, lane.queue, dump_mark(m)) for lane, m in back.items())
            db.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?)", values)


class KnowsWritesByTheirOffsets(VersionedSink):
    """What comes at an offset that it has had is taken for a repetition."""

    _had: ClassVar[dict[tuple[Path, TableId, str, Lane], int]] = {}

    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        place = self._options.path, target.schema.table, ticket.owner
        ends = {(*place, lane): mark.offset for lane, mark in ticket.marks.items()}
        if not ends or any(end > self._had.get(lane, 0) for lane, end in ends.items()):
            super().write(target, batch, ticket)
            self._had.update(ends)


class GoesOnFromAnyMark(ArrivalSink):
    def _look(self, db: sqlite3.Connection, ticket: Ticket) -> bool:
        return False


class GivesSlowWritesUp(VersionedSink):
    """What takes long is taken for done."""

    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        if self._options.faults.delay < 1:
            super().write(target, batch, ticket)
        time.sleep(self._options.faults.delay)


def replace_seqs(mark: Mark) -> Mark:
    """As a sink does that keeps a seq as a float."""
    return mark._replace(seqs={name: int(float(seq)) for name, seq in mark.seqs.items()})


class ForgetsVersions(VersionedSink):
    def _change(self, db: sqlite3.Connection, target: Target, row: tuple[object, ...], gone: bool) -> None:
        db.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?)", row)


class KeepsNoTombstones(VersionedSink):
    def _change(self, db: sqlite3.Connection, target: Target, row: tuple[object, ...], gone: bool) -> None:
        super()._change(db, target, row, gone)
        if gone and target.deletes == "apply":
            db.execute("DELETE FROM rows WHERE name = ? AND key = ?", row[:2])


class ExpiresTooMuch(VersionedSink):
    def expire(self, target: Target, below: int) -> None:
        super().expire(target, below + 1)


class TruncatesAll(ArrivalSink):
    def apply(self, target: Target, change: SchemaChange, ticket: Ticket) -> None:
        super().apply(target, replace(change, seq=2**63), ticket)


class TruncatesForTheMomentOnly(VersionedSink):
    def apply(self, target: Target, change: SchemaChange, ticket: Ticket) -> None:
        super().apply(target, change, ticket)
        with self._transaction() as db:
            db.execute("UPDATE tables SET floor = ?", (-(2**63),))


class EmptiesTheWholeTarget(ArrivalSink):
    """The rows of other tables that go there, too."""

    def _truncate(self, db: sqlite3.Connection, target: Target, seq: int) -> None:
        db.execute("DELETE FROM rows WHERE name LIKE ? AND seq < ?", (f"{target.database}.{target.name}%", seq))


class SwapsTheWholeTarget(VersionedSink):
    def swap(self, shadow: Target, target: Target, seq: int, ticket: Ticket) -> None:
        super().swap(shadow, target, seq, ticket)
        with self._transaction() as db:
            db.execute("DELETE FROM rows WHERE name LIKE '%orders%' AND seq < ?", (signed(seq),))


class PreparesOverNewerRows(VersionedSink):
    def prepare(self, target: Target, newest: int | None = None) -> None:
        super().prepare(target)


class ForgetsDefaults(VersionedSink):
    def apply(self, target: Target, change: SchemaChange, ticket: Ticket) -> None:
        columns = tuple(replace(c, default=None) for c in target.schema.columns)
        super().apply(replace(target, schema=replace(target.schema, columns=columns)), change, ticket)


class ScansWithoutTheUpperBound(VersionedSink):
    def scan(self, target: Target, lower: Bound | None, upper: Bound | None) -> Iterator[pa.RecordBatch]:
        return super().scan(target, lower, None)


class AppendsTwice(ArrivalSink):
    _calls = 0

    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        self._calls += 1
        marks: dict[Lane, Any] = {lane: m._replace(offset=self._calls) for lane, m in ticket.marks.items()}
        super().write(target, batch, replace(ticket, number=self._calls, marks=marks))


class AddsTheRestOfABatch(VersionedSink):
    """Of an append target, too, it keeps what it did not refuse."""

    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> None:
        try:
            super().write(target, batch, ticket)
        except BatchError as error:
            good = np.array([i for i in range(len(batch)) if i not in error.rows])
            super().write(target, batch.take(good), replace(ticket, number=ticket.number + 1))
            raise


class LetsOldLoadsAdd(VersionedSink):
    """Removes what they wrote, and hears them out when they wake up."""

    def _admit(self, db: sqlite3.Connection, ticket: Ticket) -> None:
        return

    def _change(self, db: sqlite3.Connection, target: Target, row: tuple[object, ...], gone: bool) -> None:
        db.execute("UPDATE tables SET floor = ?", (-(2**63),))
        super()._change(db, target, row, gone)


class LooksAwayFromTheTable(VersionedSink):
    def _fits(self, db: sqlite3.Connection, target: Target) -> None:
        return


def _suite(mutant: type[SqliteSink]) -> type[SqliteContract]:
    return type(f"Test{mutant.__name__}", (SqliteContract,), {"plugin": mutant, "__module__": __name__})


CAUGHT_BY: dict[type[SqliteSink], str] = {
    DropsTheLastRow: "test_every_row_of_a_batch",
    IgnoresDeletes: "test_insert_update_delete_and_insert_again",
    FillsGapsOnly: "test_rows_that_are_read_again",
    TurnsTheOrder: "test_several_changes_of_a_key_in_one_batch",
    SwallowsRefusals: "test_refused_rows_are_named_and_the_others_written",
    RefusesTheWholeBatch: "test_refused_rows_are_named_and_the_others_written",
    SwallowsFatalErrors: "test_a_table_that_is_not_there_is_named",
    AcknowledgesEarly: "test_rows_and_marks_outlive_a_kill",
    TruncatesText: "test_every_value_comes_back_as_it_was",
    IgnoresTheFence: "test_a_zombie_changes_nothing",
    FencesEveryOwner: "test_a_zombie_changes_nothing",
    LosesMarks: "test_marks_are_what_the_last_write_said",
    KeepsTheLargestOffset: "test_a_sink_that_is_ahead_of_its_queue",
    KnowsWritesByTheirOffsets: "test_a_sink_that_is_ahead_of_its_queue",
    GoesOnFromAnyMark: "test_a_write_goes_on_from_the_marks_that_it_names_or_not_at_all",
    GivesSlowWritesUp: "test_a_slow_write_is_whole_when_it_returns",
    ForgetsVersions: "test_an_older_seq_never_replaces_a_newer_one",
    KeepsNoTombstones: "test_tombstones_stay_until_they_expire",
    ExpiresTooMuch: "test_tombstones_stay_until_they_expire",
    TruncatesAll: "test_truncate_twice_and_late",
    TruncatesForTheMomentOnly: "test_rows_older_than_a_truncate_never_come_back",
    EmptiesTheWholeTarget: "test_shards_do_not_touch_each_others_rows",
    SwapsTheWholeTarget: "test_a_shard_that_was_loaded_anew",
    PreparesOverNewerRows: "test_prepare_refuses_a_table_that_would_hide_what_is_written",
    ForgetsDefaults: "test_a_new_column_shows_its_default_in_old_rows",
    ScansWithoutTheUpperBound: "test_a_scan_of_a_key_of_two_columns",
    AppendsTwice: "test_appended_rows_come_once_per_call",
    AddsTheRestOfABatch: "test_a_refused_row_of_an_append_target_keeps_the_others_out",
    LetsOldLoadsAdd: "test_a_load_of_appended_rows_that_is_begun_again",
    LooksAwayFromTheTable: "test_a_table_changed_by_hand_while_it_is_written",
}

globals().update({suite.__name__: suite for suite in map(_suite, CAUGHT_BY)})
