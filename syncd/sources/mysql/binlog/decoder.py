"""From windows of log events to what a source's stream gives out: batches, schema changes, checkpoints.

A window is cut at the events that need a look of their own (a DDL statement, the next file, ...). Between two of those, all
row events of one table become one batch; a checkpoint follows at the last end of a transaction. Rows behind that wait
in the feed for the rest of their transaction, unless it is larger than the feed's buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np

from syncd.errors import FatalError, Unsupported
from syncd.model import ChangeBatch, Checkpoint, SchemaChange
from syncd.sources.mysql.binlog import control, kinds, seq
from syncd.sources.mysql.binlog.feed import Feed
from syncd.sources.mysql.binlog.gtid import MariaGtids, MySQLGtids
from syncd.sources.mysql.binlog.places import Places
from syncd.sources.mysql.binlog.plan import Normalise
from syncd.sources.mysql.binlog.position import Place
from syncd.sources.mysql.binlog.progress import Progress
from syncd.sources.mysql.binlog.rows import Before, RowDecoder, decode
from syncd.sources.mysql.binlog.tables import Tables
from syncd.sources.mysql.binlog.window import Window, window

Event = ChangeBatch | SchemaChange | Checkpoint


@dataclass(frozen=True, slots=True)
class Settings:
    """How to decode. `server`: as in `Place.server`; `now`: the server's clock, microseconds."""

    epoch: int
    server: str
    mariadb: bool
    normalise: Normalise
    now: Callable[[], int]
    before: Before = "key"
    batch_rows: int = 1 << 16
    rows: RowDecoder = decode


class Decoder:
    """The state of one stream: where it is, which tables it knows, which transaction it is in."""

    def __init__(self, settings: Settings, start: Place, tables: Tables) -> None:
        self._settings = settings
        self._tables = tables
        done: MariaGtids | MySQLGtids | None = None
        if start.gtid is not None:
            done = MariaGtids(start.gtid) if settings.mariadb else MySQLGtids(start.gtid)
        self._progress = Progress(done, mariadb=settings.mariadb)
        here = start.server in {"", settings.server} and bool(start.file)
        self._places = Places(start.file if here else "", start.pos if here else 4)
        self._boundary = self._places.at

    def take(self, feed: Feed) -> Iterator[Event]:
        """Give out what the feed holds, up to the last end of a transaction, and drop it from the feed."""
        while feed.starts:
            seen = window(feed)
            ready = _ready(seen)
            if feed.full and (not ready or feed.starts[ready - 1] < feed.size // 2):
                ready = len(seen)  # the rest of this transaction has no room
            used = yield from self._events(feed, seen, ready)
            feed.drop(used)
            if used == ready:
                return

    def _events(self, feed: Feed, w: Window, ready: int) -> Generator[Event, None, int]:
        """The first `ready` events; how many were used: less when the log's way of checksumming changed."""
        at = 0
        for index in [*np.flatnonzero(~w.plain[:ready]).tolist(), ready]:
            if index > at:
                yield from self._plain(w, at, index)
            if index < ready:
                yield from self._special(w, index)
                if w.kind[index] == kinds.FORMAT_DESCRIPTION and self._checksum_changed(feed, w, index):
                    return index + 1
            at = index + 1
        return ready

    def _plain(self, w: Window, first: int, after: int) -> Iterator[Event]:
        """Events without one that needs a look of its own, whose places are counted here."""
        self._count(w, first, after)
        ends = np.flatnonzero((w.kind[first:after] == kinds.XID) | w.commit[first:after])
        cut = first + int(ends[-1]) + 1 if ends.size else first
        if cut > first:
            self._progress.begin(w, first, cut)
            yield from self._rows(w, first, cut)
            self._progress.commit(w, cut - 1)
            yield self._passed(w, cut - 1)
        if cut < after:
            self._progress.begin(w, cut, after)
            yield from self._rows(w, cut, after)

    def _count(self, w: Window, first: int, after: int) -> None:
        part = slice(first, after)
        w.place[part] = self._places.count(w.kind[part], w.size[part], w.log_pos[part], w.flags[part])

    def _rows(self, w: Window, first: int, after: int) -> Iterator[Event]:
        settings = self._settings
        while first < after:
            stop = self._tables.learn(w, first, after)
            for plan, index, events in self._tables.groups(w, first, stop):
                base = seq.make(settings.epoch, self._places.file, 0)
                batch = settings.rows(events, plan, base, settings.before, settings.normalise)
                batch = replace(batch, time=self._progress.time_of(w, int(index[-1])))
                for at in range(0, len(batch), settings.batch_rows):
                    yield batch.slice(at, settings.batch_rows) if len(batch) > settings.batch_rows else batch
            first = stop

    def _passed(self, w: Window, index: int) -> Checkpoint:
        """The event at `index` ended a transaction: the position behind it."""
        self._boundary = int(w.place[index] + w.size[index])
        return self._checkpoint(self._progress.time)

    def _checkpoint(self, time: int) -> Checkpoint:
        done = self._progress.done
        place = Place(self._places.name, self._boundary, None if done is None else done.text(), self._settings.server)
        return Checkpoint(place.dump(), seq.make(self._settings.epoch, self._places.file, self._boundary), time)

    # ------------------------------------------------------------------------------------- events one at a time

    def _special(self, w: Window, index: int) -> Iterator[Event]:
        self._count(w, index, index + 1)
        kind = int(w.kind[index])
        if kind == kinds.ROTATE:
            yield from self._rotate(w, index)
        elif kind == kinds.FORMAT_DESCRIPTION:
            control.checksum_of(w.event(index))
        elif kind in {kinds.HEARTBEAT, kinds.HEARTBEAT_V2}:
            if self._places.name:
                yield self._checkpoint(self._settings.now())
        elif kind == kinds.PREVIOUS_GTIDS:
            self._progress.reset(MySQLGtids.decode(w.body(index)))
        elif kind == kinds.MARIA_GTID_LIST:
            if not w.flags[index] & kinds.FLAG_ARTIFICIAL:
                self._progress.reset(MariaGtids.decode(w.body(index)))
        elif kind == kinds.QUERY:
            yield from self._query(w, index)
        elif not w.flags[index] & kinds.FLAG_IGNORABLE:
            raise Unsupported(f"the log at {self._places.name}:{int(w.place[index])} holds an event of type {kind}")

    def _rotate(self, w: Window, index: int) -> Iterator[Event]:
        name, place = control.rotate(w.body(index))
        if name == self._places.name and w.log_pos[index] == 0:
            return  # said at the beginning of a dump: where it begins
        self._places.rotate(name, place)
        self._boundary = place
        if self._progress.inside:
            raise FatalError(f"a transaction is cut off at the end of the log file before {name}", hint="resync")
        yield self._checkpoint(self._progress.time)

    def _query(self, w: Window, index: int) -> Iterator[Event]:
        query = control.query(w.body(index))
        if not self._progress.inside:
            self._progress.commit(w, index)
            yield self._passed(w, index)

    def _checksum_changed(self, feed: Feed, w: Window, index: int) -> bool:
        checksum = control.checksum_of(w.event(index))
        if checksum == feed.checksum:
            return False
        feed.rescan(index + 1, checksum=checksum)
        return True


def _ready(w: Window) -> int:
    """How many events there are up to the last that ends a transaction or stands alone."""
    ends = np.flatnonzero(~w.plain | (w.kind == kinds.XID) | w.commit)
    return int(ends[-1]) + 1 if ends.size else 0
