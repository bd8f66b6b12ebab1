"""Going easy on the source: readers wait while a limit of the job's `throttle` is passed.

rows_per_s, bytes_per_s  rows and bytes (of Arrow) read per second, by this reader
source_threads_running   threads that are busy at the source (`Threads_running`)
replica_lag_s            seconds that the worst of the watched replicas is behind
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from syncd.errors import FatalError
from syncd.sources.mysql.connect import Connection, close, connect, dicts, rows, server
from syncd.sources.mysql.options import Address, Options

Log = Callable[..., None]

_RATES = ("rows_per_s", "bytes_per_s")
_LOOK_EVERY = 1.0
_WAIT = 0.5


class Throttle:
    """Called with the number of rows and bytes just read; returns when the next may be read."""

    def __init__(
        self,
        limits: Mapping[str, float],
        log: Log,
        ask: Callable[[], Connection],
        options: Options,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limits, self._log, self._ask, self._options = limits, log, ask, options
        self._now, self._sleep = now, sleep
        self._free_at = dict.fromkeys(_RATES, now())
        self._looked = float("-inf")
        self._replicas: dict[Address, Connection] = {}

    def close(self) -> None:
        for connection in self._replicas.values():
            close(connection)
        self._replicas.clear()

    def __call__(self, rows_read: int, bytes_read: int) -> None:
        if self._limits:
            for name, count in zip(_RATES, (rows_read, bytes_read), strict=True):
                self._pace(name, count)
            self._look()

    def _pace(self, name: str, count: int) -> None:
        rate = self._limits.get(name)
        if rate:
            self._free_at[name] = max(self._free_at[name], self._now()) + count / rate
            pause = self._free_at[name] - self._now()
            if pause > _WAIT:
                self._log("throttled", why=name, limit=rate, seconds=round(pause, 2))
            self._sleep(max(0.0, pause))

    def _look(self) -> None:
        """Ask the servers at most once a second, and wait as long as one of them is over its limit."""
        if self._now() - self._looked < _LOOK_EVERY:
            return
        told = ""
        while (why := self._over()) is not None:
            name, value, limit = why
            if told != name:
                self._log("throttled", why=name, value=value, limit=limit)
                told = name
            self._sleep(_WAIT)
        if told:
            self._log("throttle_over", why=told)
        self._looked = self._now()

    def _over(self) -> tuple[str, float, float] | None:
        limit = self._limits.get("source_threads_running")
        if limit:
            running = float(rows(self._ask(), "SHOW GLOBAL STATUS LIKE 'Threads_running'")[0][1])
            if running > limit:
                return "source_threads_running", running, limit
        limit = self._limits.get("replica_lag_s")
        if limit:
            lag = max((self._lag(address) for address in self._options.replica_addresses), default=0.0)
            if lag > limit:
                return "replica_lag_s", lag, limit
        return None

    def _lag(self, address: Address) -> float:
        connection = self._replicas.get(address)
        if connection is None or not connection.open:
            connection = self._replicas[address] = connect(self._options, address=address)
        old = server(connection).mariadb or not server(connection).at_least(8, 0, 22)
        told = dicts(connection, "SHOW SLAVE STATUS" if old else "SHOW REPLICA STATUS")
        if not told:
            raise FatalError(f"{address} is no replica", hint="mend `replicas` of the source")
        lags = [row.get("seconds_behind_source", row.get("seconds_behind_master")) for row in told]
        # NULL: replication is broken or connecting; reading on would only make it later.
        return max(float("inf") if lag is None else float(lag) for lag in lags)
