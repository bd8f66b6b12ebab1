"""From windows of log events to what a source's stream gives out: batches, schema changes, checkpoints.

A window is cut at the events that need a look of their own (a DDL statement, the next file, ...). Between two of those,
all row events of one table become one batch; a checkpoint follows at the last end of a transaction. Rows behind that
wait in the feed for the rest of their transaction, unless it is larger than the feed's buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from syncd.errors import FatalError, PositionLost, Unsupported
from syncd.model import ChangeBatch, Checkpoint, SchemaChange, TableId
from syncd.sources.mysql.binlog import compressed, control, kinds, seq
from syncd.sources.mysql.binlog.feed import Feed
from syncd.sources.mysql.binlog.follow import Follower
from syncd.sources.mysql.binlog.gtid import MariaGtids, MySQLGtids, parse
from syncd.sources.mysql.binlog.places import Places
from syncd.sources.mysql.binlog.plan import Normalise
from syncd.sources.mysql.binlog.position import Place
from syncd.sources.mysql.binlog.progress import Progress
from syncd.sources.mysql.binlog.rows import RowDecoder, decode
from syncd.sources.mysql.binlog.tables import Tables
from syncd.sources.mysql.binlog.window import Window, window

Event = ChangeBatch | SchemaChange | Checkpoint
Fate = Literal["done", "rolled back", "cut off"]
_RESYNC = "resync the table"


@dataclass(frozen=True, slots=True)
class Settings:
    """How to decode. `server`: as in `Place.server`; `now`: the server's clock, microseconds."""

    epoch: int
    server: str
    mariadb: bool
    normalise: Normalise
    now: Callable[[], int]
    charsets: Mapping[int, str]
    before: Callable[[TableId], Collection[str]] = lambda table: ()
    batch_rows: int = 1 << 16
    rows: RowDecoder = decode


class Decoder:
    """The state of one stream: where it is, which tables it knows, which transaction it is in."""

    def __init__(self, settings: Settings, start: Place, tables: Tables, follower: Follower) -> None:
        self._settings = settings
        self._tables = tables
        self._follower = follower
        done = None if start.gtid is None else parse(start.gtid, mariadb=settings.mariadb)
        self._progress = Progress(done, mariadb=settings.mariadb)
        # Where a dump by GTID begins in its file is known only when its first transaction has come.
        self._exact = start.server in {"", settings.server} and bool(start.file)
        self._places = Places(start.file, start.pos) if self._exact else Places()
        self._made, self._wanted_made = 0, start.made if self._exact else 0
        self._boundary = self._places.at
        self._told = (self._places.name, self._boundary)
        self._touched: set[TableId] = set()

    def take(self, feed: Feed) -> Iterator[Event]:
        """Give out what the feed holds, up to the last end of a transaction, and drop it from the feed."""
        while len(feed):
            seen = window(feed)
            ready = _ready(seen)
            if feed.full and (not ready or feed.start[ready - 1] < feed.size // 2):
                ready = len(seen)  # the rest of this transaction has no room
            used = yield from self._events(feed, seen, ready)
            feed.drop(used)
            if used == ready:
                break
        if self._exact and self._progress.idle and self._told != (self._places.name, self._boundary):
            yield self._checkpoint(self._progress.time)  # events that are no transaction, as at a file's beginning

    def _events(self, feed: Feed, w: Window, ready: int) -> Generator[Event, None, int]:
        """The first `ready` events; how many were used: less when the log's way of checksumming changed."""
        at = 0
        for index in [*np.flatnonzero(~w.plain[:ready]).tolist(), ready]:
            if index > at:
                yield from self._plain(w, at, index, _fate(w, index, ready))
            if index < ready:
                yield from self._special(w, index)
                if self._progress.idle:
                    self._boundary = self._places.at
                if w.kind[index] == kinds.FORMAT_DESCRIPTION and self._checksum_changed(feed, w, index):
                    return index + 1
            at = index + 1
        return ready

    # ------------------------------------------------------------------------------------------ events by column

    def _plain(self, w: Window, first: int, after: int, fate: Fate) -> Iterator[Event]:
        """Events none of which needs a look of its own; `fate`: of the transaction that is open at their end."""
        self._count(w, first, after)
        ends = np.flatnonzero((w.kind[first:after] == kinds.XID) | w.commit[first:after])
        cut = first + int(ends[-1]) + 1 if ends.size else first
        if cut > first:
            self._progress.begin(w, first, cut)
            yield from self._rows(w, first, cut)
            yield self._passed(w, cut - 1)
        if cut < after:
            self._progress.begin(w, cut, after)
            if fate != "cut off":
                yield from self._rows(w, cut, after, open_=True, fate=fate)

    def _count(self, w: Window, first: int, after: int) -> None:
        part = slice(first, after)
        w.place[part] = self._places.count(w.kind[part], w.size[part], w.log_pos[part], w.flags[part])

    def _rows(
        self,
        w: Window,
        first: int,
        after: int,
        *,
        open_: bool = False,
        fate: Fate = "done",
        given: dict[TableId, int] | None = None,
    ) -> Iterator[ChangeBatch]:
        settings = self._settings
        w = compressed.expand(w, first, after)
        while first < after:
            stop = self._tables.learn(w, first, after)
            for plan, index, events in self._tables.groups(w, first, stop):
                table = plan.schema.table
                self._refuse(table, fate)
                if open_:
                    self._touched.add(table)
                if given is not None:
                    events = replace(events, given=given.get(table, 0))
                base = seq.make(settings.epoch, self._places.file, 0)
                batch = settings.rows(events, plan, base, settings.before(plan.schema.table), settings.normalise)
                if given is not None:
                    given[table] = given.get(table, 0) + len(batch)
                batch = replace(batch, time=self._progress.time_of(w, int(index[-1])))
                for at in range(0, len(batch), settings.batch_rows):
                    yield batch.slice(at, settings.batch_rows) if len(batch) > settings.batch_rows else batch
            first = stop

    def _refuse(self, table: TableId, fate: Fate) -> None:
        if self._progress.xa:
            raise Unsupported(
                f"{table}: rows of an XA transaction in the log",
                table=str(table),
                hint=f"change this table without XA transactions, then {_RESYNC}",
            )
        if fate == "rolled back":
            raise Unsupported(
                f"{table}: rows in the log were rolled back, beside rows of a table that cannot roll back",
                table=str(table),
                hint=f"do not mix engines with and without transactions in one transaction; {_RESYNC}",
            )

    def _passed(self, w: Window, index: int) -> Checkpoint:
        """The event at `index` ended a transaction: the position behind it."""
        self._progress.commit(w, index)
        self._touched.clear()
        self._boundary, self._exact = int(w.place[index] + w.size[index]), True
        return self._checkpoint(self._progress.time)

    def _checkpoint(self, time: int) -> Checkpoint:
        done = self._progress.done
        self._told = (self._places.name, self._boundary)
        file, pos = (self._places.name, self._boundary) if self._exact else ("", 0)
        made = self._made if self._exact else 0
        place = Place(file, pos, None if done is None else done.text(), self._settings.server, made)
        return Checkpoint(place.dump(), seq.make(self._settings.epoch, self._places.file, self._boundary), time)

    # ------------------------------------------------------------------------------------- events one at a time

    def _special(self, w: Window, index: int) -> Iterator[Event]:
        self._count(w, index, index + 1)
        match int(w.kind[index]):
            case kinds.ROTATE:
                yield from self._rotate(w, index)
            case kinds.FORMAT_DESCRIPTION:
                control.checksum_of(w.event(index))
                self._file_made(w.seconds(index))
                self._cut_off("a log file begins")
            case kinds.HEARTBEAT | kinds.HEARTBEAT_V2:
                if not self._exact and self._progress.idle:
                    # All before its place was sent, or is among the GTIDs that the dump began behind.
                    self._boundary = max(self._boundary, int(w.log_pos[index]))
                if self._exact or self._progress.done is not None:
                    yield self._checkpoint(self._settings.now())
            case kinds.PREVIOUS_GTIDS:
                self._progress.file_begins(MySQLGtids.decode(w.body(index)))
            case kinds.MARIA_GTID_LIST:
                if not w.flags[index] & kinds.FLAG_ARTIFICIAL:
                    self._progress.file_begins(MariaGtids.decode(w.body(index)))
            case kinds.QUERY | kinds.MARIA_QUERY_COMPRESSED:
                yield from self._query(w, index)
            case kinds.TRANSACTION_PAYLOAD:
                yield from self._payload(w, index)
            case kinds.XA_PREPARE:
                yield self._passed(w, index)
            case kind:
                self._unknown(w, index, kind)

    def _rotate(self, w: Window, index: int) -> Iterator[Event]:
        name, place = control.rotate(w.body(index))
        if name == self._places.name:
            return  # a dump begins by saying where, and a file ends by saying what the next one says again
        known = bool(self._places.name)
        self._cut_off(f"the log goes on in {name}")
        self._places.rotate(name, place)
        self._boundary, self._made = place, 0
        if known and self._exact:
            yield self._checkpoint(self._progress.time)

    def _file_made(self, seconds: int) -> None:
        """The file says when it was begun. PositionLost: at another time than the one that the stream was to go on in:
        the log was reset, or the server restored, and this is another file of the same name (4)."""
        wanted, self._wanted_made = self._wanted_made, 0
        if wanted not in {0, seconds}:
            raise PositionLost(
                f"{self._places.name} is not the file that the saved position is in: it was begun at "
                f"{_moment(seconds)}, that one at {_moment(wanted)}; the log was reset, or the server restored",
                hint="load anew: what changed in between cannot be known",
            )
        self._made = seconds

    def _cut_off(self, why: str) -> None:
        """A file ends: a transaction that is open then was never committed; the server crashed while writing it.

        Rows of it that were given out concern their tables alone: one is named, and the next when the log is read again
        without it.
        """
        if self._touched:
            table = min(self._touched)
            raise FatalError(
                f"{table}: {why} in the middle of a transaction, rows of which were given out",
                table=str(table),
                hint=_RESYNC,
            )
        self._progress.abandon()

    def _query(self, w: Window, index: int) -> Iterator[Event]:
        rollback = yield from self._statement(w, index)
        if rollback or not self._progress.inside:
            yield self._passed(w, index)

    def _statement(self, w: Window, index: int) -> Generator[Event, None, bool]:
        """What a QUERY event does to tables and to the current transaction; whether it rolls that back as a whole."""
        body = w.body(index)
        if w.kind[index] == kinds.MARIA_QUERY_COMPRESSED:
            body = compressed.query_body(body)
        query = control.query(body)
        at = seq.make(self._settings.epoch, self._places.file, int(w.place[index]))
        charset = self._settings.charsets.get(query.charset, "")
        temporary = bool(w.flags[index] & kinds.FLAG_TEMPORARY)
        followed = self._follower.follow(query, charset, at, self._progress.time_of(w, index), temporary=temporary)
        yield from followed.changes
        progress = self._progress
        if followed.rollback and self._touched:
            self._refuse(min(self._touched), "rolled back")
        if followed.xa in {"START", "BEGIN"}:
            progress.inside = progress.xa = True
        elif followed.rows_follow:
            progress.inside = True
        return followed.rollback and len(query.text) == len(b"ROLLBACK")

    def _payload(self, w: Window, index: int) -> Iterator[Event]:
        """A whole transaction in one event: its rows share the event's bytes as their places."""
        place, size = int(w.place[index]), int(w.size[index])
        given: dict[TableId, int] = {}
        self._progress.inside = True
        for part in compressed.payload(w.body(index)):
            inner = compressed.inside(part, place, size)
            at = 0
            for odd in [*np.flatnonzero(~inner.plain).tolist(), len(inner)]:
                yield from self._rows(inner, at, odd, open_=True, given=given)
                if odd < len(inner):
                    yield from self._within(inner, odd)
                at = odd + 1
        yield self._passed(w, index)

    def _within(self, inner: Window, index: int) -> Iterator[Event]:
        """An event of a payload that needs a look of its own; the transaction ends with the payload alone."""
        kind = int(inner.kind[index])
        if kind == kinds.QUERY:
            yield from self._statement(inner, index)
        elif kind != kinds.XA_PREPARE:
            self._unknown(inner, index, kind)

    def _unknown(self, w: Window, index: int, kind: int) -> None:
        if kind in kinds.BETWEEN:
            return
        where = f"the log at {self._places.name}:{int(w.place[index])}"
        if kind == kinds.INCIDENT:
            raise FatalError(
                f"{where} says that events are missing (INCIDENT)", hint="resync all tables of this source"
            )
        if kind == kinds.EXECUTE_LOAD_QUERY:
            self._follower.refuse_load(control.query(w.body(index), load=True))
        elif not w.flags[index] & kinds.FLAG_IGNORABLE:
            raise Unsupported(
                f"{where} holds an event of type {kind}, which syncd does not know", hint="tell the authors"
            )

    def _checksum_changed(self, feed: Feed, w: Window, index: int) -> bool:
        checksum = control.checksum_of(w.event(index))
        if checksum == feed.checksum:
            return False
        feed.rescan(index + 1, checksum=checksum)
        return True


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _fate(w: Window, index: int, ready: int) -> Fate:
    """What the event at `index` does to a transaction that is open before it."""
    if index == ready:
        return "done"
    if w.rollback[index]:
        return "rolled back"
    return "cut off" if w.kind[index] in {kinds.ROTATE, kinds.FORMAT_DESCRIPTION} else "done"


def _ready(w: Window) -> int:
    """How many events there are up to the last that ends a transaction or stands alone."""
    ends = np.flatnonzero(~w.plain | (w.kind == kinds.XID) | w.commit)
    return int(ends[-1]) + 1 if ends.size else 0
