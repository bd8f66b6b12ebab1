"""What is known of the transaction that the log is in: its GTID, its commit time, and all transactions before it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from syncd.sources.mysql.binlog import kinds
from syncd.sources.mysql.binlog.arrays import Ints
from syncd.sources.mysql.binlog.gtid import MariaGtids, MySQLGtids, Source
from syncd.sources.mysql.binlog.tagged import Tagged, parse_tagged
from syncd.sources.mysql.binlog.window import Window

_STANDALONE, _PREPARED_XA = 1, 1 << 6
_US = 1_000_000
_NUMBER = kinds.HEADER + 17
_COMMIT_TIME = kinds.HEADER + 42
_TIME_BITS = (1 << 55) - 1

Gtids = MySQLGtids | MariaGtids


class Progress:
    """`done`: the GTIDs of all finished transactions, None while they are not known. `inside`: in a transaction.

    `xa`: it is an XA one, whose rows do not count yet. `time`: commit time of the current or last transaction,
    microseconds.
    """

    def __init__(self, done: Gtids | None, *, mariadb: bool) -> None:
        self.done = done
        self.inside = self.xa = False
        self.time = 0
        self._mariadb = mariadb
        self._pending: tuple[Source, int] | tuple[int, int, int] | None = None
        self._window: Window | None = None
        self._began = np.zeros(0, np.int64)

    def begin(self, window: Window, first: int, after: int) -> None:
        """Take notice of the GTID and BEGIN events from `first` up to `after`."""
        kind = window.kind[first:after]
        if self._mariadb:
            index = np.flatnonzero(kind == kinds.MARIA_GTID) + first
            self._maria(window, index)
        else:
            index = np.flatnonzero((kind == kinds.GTID) | (kind == kinds.GTID_TAGGED)) + first
            self._mysql(window, index)
            if (kind == kinds.ANONYMOUS_GTID).any():
                self.done = self._pending = None  # such a transaction has no name: no set can say that it is done
            self.inside |= bool(window.begin[first:after].any())
        self._window, self._began = window, index
        if index.size:
            self.time = self.time_of(window, int(index[-1]))

    @property
    def idle(self) -> bool:
        """Between two transactions: the end of every event is a place to go on from."""
        return not self.inside and self._pending is None

    def commit(self, window: Window, index: int) -> None:
        """The event at `index` ends the current transaction."""
        self.time = max(self.time, self.time_of(window, index)) if self._mariadb else self.time
        self.inside = self.xa = False
        self._finish()

    def abandon(self) -> None:
        """The current transaction was never committed."""
        self.inside = self.xa = False
        self._pending = None

    def file_begins(self, before: Gtids) -> None:
        """What the log file says at its beginning was done before it; a MySQL without GTIDs says nothing."""
        match self.done, before:
            case MySQLGtids() as done, MySQLGtids():
                done.merge(before)
            case MariaGtids() as done, MariaGtids():
                done.merge(before)
            case _ if before.text() or self._mariadb:
                self.done = before

    def time_of(self, window: Window, index: int) -> int:
        """Commit time of the transaction of the event at `index`, as exact as the log has it, microseconds."""
        if not self._mariadb and window is self._window:  # that of a payload counts its events anew
            before = int(np.searchsorted(self._began, index, side="right")) - 1
            if before >= 0:
                return _commit_time(window, int(self._began[before]))
        return window.seconds(index) * _US if self._mariadb or not self.time else self.time

    def _finish(self) -> None:
        pending, self._pending = self._pending, None
        if pending is None:
            return
        if isinstance(self.done, MySQLGtids) and len(pending) == 2:
            self.done.add(pending[0], pending[1], pending[1] + 1)
        elif isinstance(self.done, MariaGtids) and len(pending) == 3:
            self.done.add(*pending)

    def _maria(self, window: Window, index: Ints) -> None:
        if not index.size:
            return
        self._finish()
        start = window.start[index]
        body = start + kinds.HEADER
        sequence, domain = window.views.little(8, body), window.views.little(4, body + 8)
        server = window.views.little(4, start + 5)
        if isinstance(self.done, MariaGtids):
            others = domain[:-1]
            for one in np.unique(others):
                last = int(np.flatnonzero(others == one)[-1])
                self.done.add(int(one), int(server[last]), int(sequence[last]))
        self._pending = (int(domain[-1]), int(server[-1]), int(sequence[-1]))
        flags = int(window.views.data[body[-1] + 12])
        self.inside, self.xa = not flags & _STANDALONE, bool(flags & _PREPARED_XA)

    def _mysql(self, window: Window, index: Ints) -> None:
        plain = index[window.kind[index] == kinds.GTID]
        tagged = [(int(at), _tagged(window, int(at))) for at in index[window.kind[index] == kinds.GTID_TAGGED]]
        if not index.size:
            return
        self._finish()
        last = int(index[-1])
        if isinstance(self.done, MySQLGtids):
            for at, gtid in tagged:
                if at != last:
                    self.done.add(gtid.source, gtid.number, gtid.number + 1)
            self._add_plain(self.done, window, plain[plain != last])
        if tagged and tagged[-1][0] == last:
            self._pending = (tagged[-1][1].source, tagged[-1][1].number)
        else:
            self._pending = (_source(window, last), int(window.views.little(8, window.start[[last]] + _NUMBER)[0]))

    def _add_plain(self, done: MySQLGtids, window: Window, index: Ints) -> None:
        """Runs of consecutive numbers of one source go in as intervals."""
        if not index.size:
            return
        start = window.start[index]
        high, low = window.views.little(8, start + kinds.HEADER + 1), window.views.little(8, start + kinds.HEADER + 9)
        number = window.views.little(8, start + _NUMBER)
        breaks = (np.diff(high) != 0) | (np.diff(low) != 0) | (np.diff(number) != 1)
        edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(index)]
        for first, after in pairwise(edges):
            done.add(_source(window, int(index[first])), int(number[first]), int(number[after - 1]) + 1)


def _source(window: Window, index: int) -> Source:
    at = int(window.start[index]) + kinds.HEADER + 1
    return window.views.data[at : at + 16].tobytes(), ""


def _tagged(window: Window, index: int) -> Tagged:
    return parse_tagged(window.body(index))


def _commit_time(window: Window, index: int) -> int:
    if window.kind[index] == kinds.GTID_TAGGED:
        return _tagged(window, index).time
    at = int(window.start[index]) + _COMMIT_TIME
    if at + 7 > window.end[index]:
        return window.seconds(index) * _US
    return int.from_bytes(window.views.data[at : at + 7].tobytes(), "little") & _TIME_BITS
