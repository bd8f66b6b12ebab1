"""A server of MySQL's family as the target: syncd's sink in it, and beside it the engine's own rate of the same rows.

The floor: ready texts of multi-row statements, rendered by the source server itself before the clock runs, sent over
two connections that take the next one each, committed statement by statement, into a table of syncd's own statement.
"""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql

from bench.daemon import Daemon
from bench.data import COLUMNS
from bench.measure import Figure, cpu_of, faster, median
from bench.source import DATABASE, FirstRows, SourceServer
from syncd.testing.servers import MariaDB, OceanBase, Server

FLOOR = "floor"
"""The floor's database at the target."""
ROWS, UPSERTED, KEYS = 2000, 500, 1000
"""Of one INSERT, upsert and DELETE: where the engines are at their best."""
CONNECTIONS = 2
ROOM: Mapping[type[Server], Sequence[str]] = {MariaDB: ("--innodb-buffer-pool-size=1G", "--innodb-log-file-size=1G")}
"""Both tables fit: else a change of a random row costs a page, and the disk is what is measured."""
SESSION = "SET SESSION tx_isolation = 'READ-COMMITTED', time_zone = '+00:00'"
_SUMS = "SELECT COUNT(*), SUM(id), SUM(qty), SUM(amount) FROM {}.orders"

_ROW = """CONCAT('(', CONCAT_WS(',', id, user_id, shop_id, QUOTE(status), amount, qty, IFNULL(discount, 'NULL'),
 QUOTE(sku), QUOTE(note), QUOTE(attrs), QUOTE(created_at), QUOTE(updated_at)), ')')"""
_TEXTS = """SELECT GROUP_CONCAT(line ORDER BY id SEPARATOR ',') FROM
 (SELECT id, {line} line, (ROW_NUMBER() OVER (ORDER BY id) - 1) DIV {size} part FROM {rows}) numbered
 GROUP BY part ORDER BY part"""


@dataclass(frozen=True)
class Floor:
    """What the engine did by itself: `rows` in `seconds`, with processor seconds of the server and of the client."""

    rows: int
    seconds: float
    server_cpu: float
    client_cpu: float


class TargetServer:
    """A running server."""

    def __init__(self, server: Server, plugin: str) -> None:
        self._server = server
        self.engine = f"{server.name} itself"
        self.sinks = {"target": f'{plugin}: {{url: "{plugin}://root@127.0.0.1:{server.port}/"}}'}

    def connect(self) -> Any:
        port = self._server.port
        return pymysql.connect(host="127.0.0.1", port=port, user="root", charset="utf8mb4", autocommit=True)

    def one(self, *statements: str) -> tuple[Any, ...]:
        """The first row that the last statement answers."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            row: tuple[Any, ...] = cursor.fetchone() or ()
        return row

    def cpu(self) -> float:
        """Processor seconds that the server has used until now."""
        assert self._server.pid is not None
        return cpu_of(self._server.pid)

    def drop(self) -> None:
        """All that was loaded."""
        self.one(f"DROP DATABASE IF EXISTS {FLOOR}", f"DROP DATABASE IF EXISTS {DATABASE}")

    def make_floor(self) -> None:
        """The floor's table, empty, as the sink has made its own."""
        sql = str(self.one(f"SHOW CREATE TABLE {DATABASE}.orders")[1])
        statements = [f"DROP DATABASE IF EXISTS {FLOOR}", f"CREATE DATABASE {FLOOR}", f"USE {FLOOR}", sql]
        self.one(*statements)

    def run(self, rows: int, statements: Sequence[bytes]) -> Floor:
        """`statements`, which write `rows` rows in all, over the floor's connections."""
        todo: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        for statement in statements:
            todo.put(statement)
        connections = [self.connect() for _ in range(CONNECTIONS)]
        for connection in connections:
            connection.select_db(FLOOR)
            connection.query(SESSION)
        server, client, began = self.cpu(), time.process_time(), time.monotonic()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(_send, connections, [todo] * CONNECTIONS))
        seconds, client = time.monotonic() - began, time.process_time() - client
        for connection in connections:
            connection.close()
        return Floor(rows, seconds, self.cpu() - server, client)

    def check(self, source: SourceServer) -> None:
        """Both copies against the source."""
        wanted = _numbers(source.one(_SUMS.format(DATABASE)))
        for database, who in ((DATABASE, "syncd"), (FLOOR, self.engine)):
            found = _numbers(self.one(_SUMS.format(database)))
            if not all(map(math.isclose, found, wanted)):
                raise RuntimeError(f"{who}: the copy has {found}, the source {wanted}")


def _send(connection: Any, todo: queue.SimpleQueue[bytes]) -> None:
    while True:
        try:
            statement = todo.get_nowait()
        except queue.Empty:
            return
        connection.query(statement)


def _numbers(row: Sequence[Any]) -> list[float]:
    return [float(value) for value in row]


@contextmanager
def target(kind: type[MariaDB] | type[OceanBase], folder: Path) -> Iterator[TargetServer]:
    """A fresh server, gone afterwards."""
    with kind(folder / "target", options=ROOM.get(kind, ())) as server:
        yield TargetServer(server, "oceanbase" if kind is OceanBase else "mysql")


# -- the floor's statements


def inserts(source: SourceServer, rows: str = "orders", size: int = ROWS) -> list[bytes]:
    """Multi-row INSERTs of `rows`, a table or a SELECT in parentheses with a name."""
    return [f"INSERT INTO orders ({COLUMNS}) VALUES {text}".encode() for text in _texts(source, rows, _ROW, size)]


def upserts(source: SourceServer, rows: str) -> list[bytes]:
    """The same with the new values for rows that are there."""
    update = ", ".join(f"{name} = VALUES({name})" for name in COLUMNS.split(", ")[1:])
    return [text + f" ON DUPLICATE KEY UPDATE {update}".encode() for text in inserts(source, rows, UPSERTED)]


def deletes(source: SourceServer, rows: str) -> list[bytes]:
    return [f"DELETE FROM orders WHERE id IN ({text})".encode() for text in _texts(source, rows, "id", KEYS)]


def _texts(source: SourceServer, rows: str, line: str, size: int) -> list[str]:
    with closing(source.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION group_concat_max_len = 1 << 26, time_zone = '+00:00'")
        cursor.execute(_TEXTS.format(rows=rows, line=line, size=size))
        return [text for (text,) in cursor.fetchall()]


# -- what was measured


def watched(
    daemon: Daemon, server: SourceServer, there: TargetServer, run: Callable[[], tuple[float, float]]
) -> tuple[float, dict[str, float]]:
    """Start the daemon; seconds from the first bytes read on, and processor seconds of each of the three since then.

    `run` answers when all was visible, and the daemon's processor seconds from its start to its end.
    """
    first = FirstRows(server)
    daemon.start()
    try:
        while first.at is None and daemon.running:
            time.sleep(FirstRows.TICK)
        before = daemon.cpu(), there.cpu(), server.cpu()
        end, cpu = run()
    finally:
        daemon.kill()
    found = {"syncd": cpu - before[0], "target": there.cpu() - before[1], "source": server.cpu() - before[2]}
    return end - first.stop(), found


@dataclass
class Rounds:
    """Of each round: rows per second, and processor seconds of a row, ours with those of the target, and of all."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    def add(self, rows: int, seconds: float, cpu: dict[str, float], floor: Floor) -> None:
        """`cpu`: who -> processor seconds while syncd wrote `rows` rows or changes."""
        self.ours.append(rows / seconds)
        self.theirs.append(floor.rows / floor.seconds)
        each = {who: seconds / rows for who, seconds in cpu.items()}
        each |= {"floor": (floor.server_cpu + floor.client_cpu) / floor.rows}
        for who, value in each.items():
            self.cpu.setdefault(who, []).append(value)

    def figure(self, name: str, unit: str, engine: str, bar: float, note: str) -> Figure:
        """The ratio is that of the rates; the note has that of the processor seconds, all processes counted."""
        ours = [sum(parts) for parts in zip(*(v for who, v in self.cpu.items() if who != "floor"), strict=True)]
        ratio = median([floor / mine for mine, floor in zip(ours, self.cpu["floor"], strict=True)])
        note = f"{note}; cpu_s of one; by processor time, source and target included, {ratio:.2f}"
        return faster(name, self.ours, self.theirs, peer=engine, bar=bar, unit=unit, cpu=self.cpu, note=note)
