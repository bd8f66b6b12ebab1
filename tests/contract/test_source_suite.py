"""The conformance suite of sources catches broken sources: each one by the test that is about what it breaks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from syncd.errors import SyncdError, TransientError
from syncd.model import ChangeBatch, Checkpoint, Chunk, Head, Op, Position, SchemaChange, TableId, TableSchema
from syncd.spi import Event
from syncd.testing.contracts.source_kit import ITEMS, MARKER, WORDS, Bench
from syncd.testing.sources import LogSource
from tests.contract.source_log import LogContract, LogHands, OnceCut, made


class DropsTheLastRow(OnceCut):
    """Of each transaction that has more than one."""

    def stream(self, *args: Any) -> Iterator[Event]:
        for event in super().stream(*args):
            if isinstance(event, ChangeBatch) and len(event) > 1:
                yield event.slice(0, len(event) - 1)
            else:
                yield event


class ChecksInTheMiddle(OnceCut):
    def stream(self, position: Position, *args: Any) -> Iterator[Event]:
        for event in super().stream(position, *args):
            yield event
            if isinstance(event, ChangeBatch):
                yield Checkpoint(position, int(event.seq[-1]), 0)


class ChecksBeforeTheRows(OnceCut):
    """Each checkpoint comes before the last batch that it is for."""

    def stream(self, *args: Any) -> Iterator[Event]:
        held: Event | None = None
        for event in super().stream(*args):
            if held is not None and isinstance(event, Checkpoint):
                yield event
                yield held
                held = None
                continue
            if held is not None:
                yield held
            held = event if isinstance(event, ChangeBatch) else None
            if held is None:
                yield event


class CountsSeqsFromTheStart(OnceCut):
    """Of the stream, not of the log."""

    def stream(self, position: Position, *args: Any) -> Iterator[Event]:
        shift = np.uint64(position.removeprefix("log:"))
        for event in super().stream(position, *args):
            yield replace(event, seq=event.seq + shift) if isinstance(event, ChangeBatch) else event


class NeverStepsBack(OnceCut):
    """It goes on from where it was, whatever older place it is told."""

    _done = 0

    def stream(self, position: Position, *args: Any) -> Iterator[Event]:
        begin = max(self._done, int(position.removeprefix("log:")))
        for event in super().stream(Position(f"log:{begin}"), *args):
            if isinstance(event, Checkpoint):
                self._done = int(event.position.removeprefix("log:"))
            yield event


class KeepsTheNewestColumns(OnceCut):
    """Whatever schema a later stream is told of."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._newest: dict[TableId, TableSchema] = {}

    def stream(self, position: Position, epoch: int, schemas: Any, *args: Any) -> Iterator[Event]:
        for event in super().stream(position, epoch, {**schemas, **self._newest}, *args):
            if isinstance(event, SchemaChange):
                self._newest[event.table] = event.schema
            yield event


class TurnsTheOrder(OnceCut):
    def stream(self, *args: Any) -> Iterator[Event]:
        for event in super().stream(*args):
            if isinstance(event, ChangeBatch):
                turned = event.take(np.arange(len(event))[::-1])
                yield replace(turned, seq=event.seq)
            else:
                yield event


class HidesKeyChanges(OnceCut):
    def stream(self, *args: Any) -> Iterator[Event]:
        for event in super().stream(*args):
            if isinstance(event, ChangeBatch) and event.before is not None:
                names = event.before.schema.names
                now = [event.rows.column(name) for name in names]
                yield replace(event, before=pa.RecordBatch.from_arrays(now, names=names))
            else:
                yield event


class ForgetsOldValues(OnceCut):
    def stream(self, position: Position, epoch: int, schemas: Any, wanted: Any, before: Any) -> Iterator[Event]:
        return super().stream(position, epoch, schemas, wanted, lambda _: ())


class GivesOutEverything(OnceCut):
    def stream(self, position: Position, epoch: int, schemas: Any, wanted: Any, before: Any) -> Iterator[Event]:
        known = {schema.table: schema for schema in self.log.tables()}
        return super().stream(position, epoch, {**known, **schemas}, lambda _: True, before)


class StandsStillWhenNothingIsWanted(OnceCut):
    """Its checkpoints stay at the last row that it gave out."""

    def stream(self, position: Position, *args: Any) -> Iterator[Event]:
        last = Checkpoint(position, 0, 0)
        new = False
        for event in super().stream(position, *args):
            new = new or not isinstance(event, Checkpoint)
            if isinstance(event, Checkpoint):
                last, new = (event if new else last), False
                yield replace(last, time=event.time)
            else:
                yield event


class ForgetsTruncates(OnceCut):
    def stream(self, *args: Any) -> Iterator[Event]:
        return (e for e in super().stream(*args) if not isinstance(e, SchemaChange) or e.kind != "truncate")


class AddsColumnsLate(OnceCut):
    """A statement comes behind the batches of its group."""

    def stream(self, *args: Any) -> Iterator[Event]:
        held: list[Event] = []
        for event in super().stream(*args):
            if isinstance(event, SchemaChange):
                held.append(event)
                continue
            if isinstance(event, Checkpoint):
                yield from held
                held = []
            yield event


class SwallowsABrokenConnection(OnceCut):
    def stream(self, *args: Any) -> Iterator[Event]:
        try:
            yield from super().stream(*args)
        except TransientError:
            while True:
                yield Checkpoint(Position("log:0"), 0, 0)


class HeadIsAhead(OnceCut):
    def head(self, epoch: int) -> Head:
        head = super().head(epoch)
        return head._replace(seq=head.seq + 1000)


class BordersBelongToTwoChunks(OnceCut):
    def scan(self, schema: TableSchema, chunk: Chunk, seq: int) -> Iterator[ChangeBatch]:
        lower = chunk.normal_lower and tuple(v - 1 if isinstance(v, int) else v for v in chunk.normal_lower)
        return super().scan(schema, replace(chunk, normal_lower=lower), seq)


class LastChunkIsClosed(OnceCut):
    def chunks(self, schema: TableSchema, chunk_bytes: int, after: Chunk | None) -> Iterator[Chunk]:
        for chunk in super().chunks(schema, chunk_bytes, after):
            rows = self.log.plain_rows(schema.table)
            end = rows[-1][:1] if rows else None
            yield replace(chunk, normal_upper=end) if chunk.upper is None else chunk


class StartsChunksAnew(OnceCut):
    def chunks(self, schema: TableSchema, chunk_bytes: int, after: Chunk | None) -> Iterator[Chunk]:
        return super().chunks(schema, chunk_bytes, None)


class ReadsNothingOfAbsentKeys(OnceCut):
    def read(self, schema: TableSchema, keys: pa.RecordBatch, epoch: int) -> ChangeBatch:
        batch = super().read(schema, keys, epoch)
        return batch.take(np.flatnonzero(batch.op != Op.DELETE))


class ReadsWhenAsked(OnceCut):
    """Its one read is of the moment in which its rows are asked for."""

    def scan_once(self, schema: TableSchema, epoch: int, seq: int) -> tuple[Head, Iterator[ChangeBatch]]:
        head = self.head(epoch)
        return head, (batch for _ in (0,) for batch in super(ReadsWhenAsked, self).scan_once(schema, epoch, seq)[1])


class ClaimsTooMuch(OnceCut):
    """The place is behind the read."""

    def scan_once(self, schema: TableSchema, epoch: int, seq: int) -> tuple[Head, Iterator[ChangeBatch]]:
        head, batches = super().scan_once(schema, epoch, seq)
        return head._replace(seq=head.seq + 1), batches


class ClaimsTooLittle(OnceCut):
    """The place is a low watermark, as good enough for tables with a key."""

    def scan_once(self, schema: TableSchema, epoch: int, seq: int) -> tuple[Head, Iterator[ChangeBatch]]:
        head, batches = super().scan_once(schema, epoch, seq)
        return head._replace(seq=head.seq - 1), batches


class ReadsOldColumns(OnceCut):
    def scan_once(self, schema: TableSchema, epoch: int, seq: int) -> tuple[Head, Iterator[ChangeBatch]]:
        return self.head(epoch), self.scan(schema, Chunk(schema.table, 0), seq)


CAUGHT_BY: list[tuple[type[LogSource], str]] = [
    (DropsTheLastRow, "test_the_last_row_of_a_transaction_is_there"),
    (ChecksInTheMiddle, "test_a_transaction_larger_than_a_buffer_has_no_checkpoint_inside"),
    (ChecksBeforeTheRows, "test_seqs_ascend_and_keep_to_their_checkpoints"),
    (ChecksBeforeTheRows, "test_from_each_checkpoint_exactly_the_rest_comes_with_the_same_seqs"),
    (CountsSeqsFromTheStart, "test_from_each_checkpoint_exactly_the_rest_comes_with_the_same_seqs"),
    (NeverStepsBack, "test_a_step_back_reads_the_same_again"),
    (KeepsTheNewestColumns, "test_a_step_back_reads_the_same_again"),
    (TurnsTheOrder, "test_inserts_updates_and_deletes"),
    (HidesKeyChanges, "test_key_changes_and_a_swap"),
    (ForgetsOldValues, "test_updates_carry_the_old_values_that_are_asked_for"),
    (GivesOutEverything, "test_tables_that_are_not_wanted_are_not_given_out"),
    (StandsStillWhenNothingIsWanted, "test_checkpoints_move_when_only_other_tables_change"),
    (ForgetsTruncates, "test_a_truncate"),
    (AddsColumnsLate, "test_an_added_column"),
    (SwallowsABrokenConnection, "test_a_cut_stream_is_transient_and_goes_on_from_its_last_checkpoint"),
    (HeadIsAhead, "test_the_head_is_below_every_later_change"),
    (BordersBelongToTwoChunks, "test_chunks_cover_every_key_once"),
    (LastChunkIsClosed, "test_rows_behind_the_last_border_belong_to_the_last_chunk"),
    (StartsChunksAnew, "test_chunks_go_on_behind_a_chunk"),
    (ReadsWhenAsked, "test_one_read_is_of_its_place_whenever_it_is_read"),
    (ReadsWhenAsked, "test_one_read_under_load"),
    (ClaimsTooMuch, "test_one_read_is_of_its_place_whenever_it_is_read"),
    (ClaimsTooLittle, "test_one_read_under_load"),
    (ReadsOldColumns, "test_one_read_of_a_table_that_was_altered_is_begun_again"),
    (ReadsNothingOfAbsentKeys, "test_read_gives_rows_and_says_which_are_not_there"),
]


def run(name: str, plugin: type[LogSource], folder: Path) -> None:
    """One test of the suite, on this source in this empty folder."""
    folder.mkdir()
    test: Callable[..., None] = getattr(LogContract(), name)
    factory = partial(made, plugin, folder)
    hands = LogHands(folder)
    for table in (ITEMS, WORDS, MARKER):
        hands.create(table)
    bench = Bench(factory(), hands)
    bench.source.open()
    try:
        wants = inspect.signature(test).parameters
        test(**{key: value for key, value in {"bench": bench, "factory": factory}.items() if key in wants})
    finally:
        bench.source.close()
        hands.close()


@pytest.mark.parametrize(("mutant", "name"), CAUGHT_BY, ids=[f"{mutant.__name__}-{name}" for mutant, name in CAUGHT_BY])
def test_a_wrong_source_fails_the_test_that_names_its_fault(
    mutant: type[LogSource], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.testing.contracts.source_kit.PATIENCE", 2.0)
    monkeypatch.setattr("syncd.testing.contracts.source_changes.PATIENCE", 2.0)
    run(name, OnceCut, tmp_path / "right")
    with pytest.raises((AssertionError, SyncdError, pytest.fail.Exception)):
        run(name, mutant, tmp_path / "wrong")
