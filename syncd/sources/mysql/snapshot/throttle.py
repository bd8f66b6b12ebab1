"""Going easy on the source: readers wait while a limit of the job's `throttle` is passed.

rows_per_s               rows read per second, by all readers of the job together
source_threads_running   threads that are busy at the source (`Threads_running`)
replica_lag_s            seconds that the worst of the source's `replicas` is behind; without `replicas`, the source
                         itself, which is a replica then
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from syncd.drivers.mysql.address import Address
from syncd.errors import FatalError, TransientError
from syncd.model import Finding
from syncd.sources.mysql.connect import Connection, close, connect, dicts, rows, server
from syncd.sources.mysql.options import Options
from syncd.spi import Context

_RATE = "rows_per_s"
_LOOK_EVERY = 1.0
_WAIT = 0.5


class Over(NamedTuple):
    """A limit that is passed; `text` for people."""

    name: str
    limit: float
    text: str


class Throttle:
    """Called with the number of rows just read; returns when the next may be read."""

    def __init__(
        self,
        context: Context,
        ask: Callable[[], Connection],
        options: Options,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._context, self._limits, self._ask, self._options = context, context.throttle, ask, options
        self._now, self._sleep = now, sleep
        self._owed = 0.0
        self._paid, self._share = now(), 1.0
        self._looked = float("-inf")
        self._replicas: dict[Address, Connection] = {}

    def close(self) -> None:
        for connection in self._replicas.values():
            close(connection)
        self._replicas.clear()

    def __call__(self, rows_read: int) -> None:
        if limit := self._limits.get(_RATE):
            self._pace(rows_read, limit)
        if self._limits:
            self._look()

    def _pace(self, count: int, limit: float) -> None:
        """What was read is owed, and paid by waiting: with this reader's share of the rate, which may change."""
        self._pay(limit)
        self._owed += count
        told = False
        while pause := self._owed / (limit * self._share):
            if pause > _WAIT and not told:
                self._context.log("throttled", why=_RATE, seconds=round(pause, 2))
                told = True
            self._context.waits("")
            self._sleep(min(pause, _LOOK_EVERY))
            self._pay(limit)

    def _pay(self, limit: float) -> None:
        now, share = self._now(), self._context.share()
        passed, self._paid = now - self._paid, now
        lesser, self._share = min(share, self._share), share
        left = self._owed - passed * limit * lesser
        self._owed = left if left > 1e-6 else 0.0

    def _look(self) -> None:
        """Ask the servers at most once a second, and wait as long as one of them is over its limit."""
        if self._now() - self._looked < _LOOK_EVERY:
            return
        told = ""
        while (over := next(self._over(), None)) is not None:
            if told != over.name:
                self._context.log("throttled", why=over.name, limit=over.limit, text=over.text)
                told = over.name
            self._context.waits(over.text)
            self._sleep(_WAIT)
        if told:
            self._context.log("throttle_over", why=told)
            self._context.waits("")
        self._looked = self._now()

    def _over(self) -> Iterator[Over]:
        name = "source_threads_running"
        if limit := self._limits.get(name):
            running = float(rows(self._ask(), "SHOW GLOBAL STATUS LIKE 'Threads_running'")[0][1])
            if running > limit:
                yield Over(name, limit, f"throttled: {running:g} threads run at the source, {name} is {limit:g}")
        name = "replica_lag_s"
        if limit := self._limits.get(name):
            for address in self._watched():
                lag, why = self._lag(address)
                if lag is None or lag > limit:
                    yield Over(name, limit, f"throttled: {why}, {name} is {limit:g}")

    def findings(self) -> Iterator[Finding]:
        """What `replica_lag_s` watches, as it is now."""
        name = "replica_lag_s"
        for address in self._watched() if self._limits.get(name) else ():
            try:
                lag, why = self._lag(address)
                yield Finding("warning" if lag is None or lag > self._limits[name] else "ok", name, why)
            except FatalError as error:
                yield Finding("error", name, error.what, error.hint)

    def _watched(self) -> tuple[Address, ...]:
        return self._options.replica_addresses or (self._options.address,)

    def _lag(self, address: Address) -> tuple[float | None, str]:
        """Seconds, and how to say it; None while they are not known: then reading on might only make it later."""
        try:
            told = self._told(address)
        except TransientError as error:
            close(self._replicas.pop(address, None))
            return None, f"the lag of {address} is not known ({error.what})"
        if not told:
            raise FatalError(
                f"throttle `replica_lag_s`: {address} is no replica",
                hint="name the replicas to watch in `replicas` of the source, or leave the limit out",
            )
        lags = [row.get("seconds_behind_source", row.get("seconds_behind_master")) for row in told]
        if None in lags:
            return None, f"the lag of {address} is not known (its replication does not run)"
        worst = max(float(lag) for lag in lags if lag is not None)
        return worst, f"{address} is {worst:g} s behind"

    def _told(self, address: Address) -> list[dict[str, Any]]:
        """A row for each source of the replica."""
        connection = self._replicas.get(address)
        if connection is None or not connection.open:
            connection = self._replicas[address] = connect(self._options, address=address)
        return replicated(connection)


def replicated(connection: Connection) -> list[dict[str, Any]]:
    """What the server replicates, a row for each source of its own; none where it is no replica."""
    at = server(connection)
    if at.mariadb:
        return dicts(connection, "SHOW ALL SLAVES STATUS")
    return dicts(connection, "SHOW REPLICA STATUS" if at.at_least(8, 0, 22) else "SHOW SLAVE STATUS")
