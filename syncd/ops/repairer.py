"""The process that mends copies: capture has gone on from a new place in the log, and what came before is in no lane.

Each table at each sink, when its lanes have applied all that was published until then: every row is compared, and the
keys that differ are asked for by REFRESH. A row that changes from then on comes by its lane, so that one look finds all
that no lane has; what is only on its way is asked for, too, and does no harm. When its lanes have passed what was asked
for, the table may be LIVE. Who dies on the way goes on there; a comparison begins again, and finds less.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping

import pyarrow as pa
import structlog

from syncd.engine.build import Parts
from syncd.engine.process import Link, leased
from syncd.errors import FatalError, FencedError, SyncdError, TransientError
from syncd.failpoints import failpoint
from syncd.model import TableId
from syncd.ops.reconcile import Key, differing
from syncd.ops.repair import AT_ONCE, requests
from syncd.ops.settle import lanes_of, opened_sink, stands
from syncd.spi import Lease, Queue, Source
from syncd.state import Place, Repair, State, TableRecord

log = structlog.get_logger()

ROUND_SECONDS = 1.0
PART_SECONDS = 60.0
"""One part of a table may take so long to compare before it is said."""
AHEAD = 50
"""So many requests may wait for capture."""


class _Stopped(Exception):
    """The process is to end; what was asked for so far is saved."""


class Repairer:
    """Of one job. `beat` is called between two steps."""

    def __init__(self, parts: Parts, queue: Queue, lease: Lease, link: Link, beat: Callable[[], None]) -> None:
        self._parts = parts
        self._queue = queue
        self._lease = lease
        self._link = link
        self._beat = beat
        self._state = State(queue, parts.job.name)
        self._said: dict[Place, str] = {}

    def run(self) -> None:
        """Until told to stop."""
        while not self._link.stop.is_set():
            places = [] if self._state.wish().pauses_source else self._state.repairs()
            records = {(record.sink, record.table): record for record in self._state.tables()}
            for place in places:
                if place in records and not self._link.stop.is_set():
                    self._guarded(place, records[place])
            self._link.step("")
            self._beat()
            self._link.receive(ROUND_SECONDS)

    def _guarded(self, place: Place, record: TableRecord) -> None:
        """A table that cannot be compared now holds up no other (8)."""
        try:
            with self._link.in_hand(record.table):
                why = self._step(place, record)
        except _Stopped:
            return
        except FencedError:
            raise
        except SyncdError as error:
            why = str(error)
        except Exception as error:
            log.exception("repair_crashed", job=self._parts.job.name, table=str(record.table))
            why = f"{type(error).__name__}: {error} [E159]"
        if why != self._said.get(place, ""):
            self._said[place] = why
            self._link.waits(why, f"{record.table} at {record.sink}")
            if why:
                log.warning("repair_waits", job=self._parts.job.name, table=str(record.table), reason=why)

    def _step(self, place: Place, record: TableRecord) -> str:
        """What is next for the table, done. Why that cannot be, or ""."""
        if record.table in self._state.dropped():
            return self._done(place, 0)  # its rows go with the barrier, or are to stay
        if why := stands(self._state, record):
            return why
        repair = self._state.repairs(record.sink)[place]
        if repair.ends is None:
            if self._is_asked(record.table):
                self._save(place, Repair(self._ends(record), repair.rows))
            return ""
        if not self._passed(record, repair.ends):
            return ""
        if repair.rows is not None:
            return self._done(place, repair.rows)
        rows = self._compared(record)
        failpoint("repair.compared")
        self._save(place, Repair(None, rows))
        return ""

    def _done(self, place: Place, rows: int) -> str:
        self._save(place, None)
        sink, table = place
        log.info("table_repaired", job=self._parts.job.name, table=str(table), sink=sink, rows=rows)
        return ""

    def _save(self, place: Place, repair: Repair | None) -> None:
        self._queue.put(self._lease, self._state.repair_item(*place, repair))

    def _is_asked(self, table: TableId) -> bool:
        """Capture has published what was asked for."""
        return all(other != table for other, _ in self._state.refreshes().values())

    def _ends(self, record: TableRecord) -> dict[int, int]:
        return {lane.queue: end for lane, (_, end) in lanes_of(self._parts, self._queue, record)}

    def _passed(self, record: TableRecord, ends: Mapping[int, int]) -> bool:
        lanes = lanes_of(self._parts, self._queue, record)
        return all(start >= ends.get(lane.queue, 0) for lane, (start, _) in lanes)

    # -- one table at one sink

    def _compared(self, record: TableRecord) -> int:
        """How many rows were asked for."""
        source = self._parts.make_source(waits=lambda reason: self._link.waits(reason, "throttle"))
        try:
            self._link.step("connecting to the source")
            source.open()
            rows = self._ask_for_all(source, record, before := self._in_log(source))
            if self._in_log(source) != before:
                raise TransientError("another log came while the table was compared: it is compared again")
            return rows
        finally:
            source.close()

    def _ask_for_all(self, source: Source, record: TableRecord, log_now: tuple[int, str]) -> int:
        versions = self._state.schemas(record.table)[record.table]
        pair = versions[max(versions)]
        transform, target = self._parts.transform_of(pair), self._parts.target(record.sink, pair.published)
        sink_filter = self._parts.sink_filter(record.sink, pair.published)
        size = self._parts.job.snapshot.chunk_bytes
        with opened_sink(self._parts, self._queue, record.sink) as sink:
            self._link.step(f"comparing {record.table} at {record.sink}", every=PART_SECONDS)
            rows, keys = 0, set[Key]()
            for found in differing(source, sink, pair.source, transform, target, sink_filter, size, self._go_on):
                rows, keys = rows + len(found), keys | found
                if len(keys) >= AT_ONCE:
                    self._ask(requests(source, pair, transform, sorted(keys, key=repr), log_now[0]), record)
                    keys = set()
            self._ask(requests(source, pair, transform, sorted(keys, key=repr), log_now[0]), record)
        return rows

    def _in_log(self, source: Source) -> tuple[int, str]:
        """Its epoch and name, of the log that capture follows. TransientError: the source reads another one, which may
        be behind."""
        saved = self._state.source()
        assert saved is not None
        try:
            log_now = source.identity(saved.position)
        except FatalError as error:  # of the whole job, and for capture to settle
            raise TransientError(error.what, hint=error.hint, code=error.code) from error
        if log_now != saved.log:
            raise TransientError(f"{log_now} answers now, and capture has not seen it yet: it follows {saved.log}")
        return saved.epoch, saved.log

    def _ask(self, batches: Iterator[pa.RecordBatch], record: TableRecord) -> None:
        for keys in batches:
            while len(self._state.refreshes()) >= AHEAD:
                self._go_on()
                self._link.stop.wait(ROUND_SECONDS)
            self._queue.put(self._lease, self._state.refresh_item(f"refresh/{uuid.uuid4().hex}", record.table, keys))
            failpoint("repair.asked")

    def _go_on(self) -> None:
        self._beat()
        self._link.beat()
        if self._link.stop.is_set():
            raise _Stopped


def work(link: Link, parts: Parts) -> None:
    """The process."""
    with leased(link, parts, f"job/{parts.job.name}/repair") as held:
        if held is not None:
            queue, lease, keeper = held
            link.send("ready")
            Repairer(parts, queue, lease, link, keeper.beat).run()
