"""The log of a MariaDB server into Arrow columns, beside mysql-replication's parser and beside the bare feed.

The server's own log files of a million row changes in two shapes (`bench/data.py`) are fed from memory through the same
chain that reads a socket: packets, checksums, bounds checks, positions, batches. mysql-replication's parser gets the
first events of the same file, in an environment of its own (`peer_parser.py`). The files are kept in the cache folder.

    bench/run decode [--quick] [--json] [--rounds N]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pymysql

from bench.data import EVENTS, QUICK_EVENTS, QUICK_ROWS, ROWS, Orders
from bench.measure import Figure, emit, faster, median, parser, spread
from bench.peers import bare, environment, pinned
from syncd.errors import TransientError
from syncd.model import ChangeBatch, Column, TableId, TableSchema
from syncd.sources.mysql.binlog.decoder import Decoder, Settings
from syncd.sources.mysql.binlog.feed import Feed
from syncd.sources.mysql.binlog.follow import Asking, Follower
from syncd.sources.mysql.binlog.position import Place
from syncd.sources.mysql.binlog.tables import Tables
from syncd.testing.log_bytes import BytesWire, packets
from syncd.testing.servers import MariaDB
from syncd.testing.servers.cache import cache_dir

DATABASE = "bench"
BARS = {"small": 100.0, "large": 25.0}
NAMES = {"small": "rows_per_s", "large": "rows_per_s_bulk"}
LONG_ENOUGH = 400_000
"""Row changes of one round."""
PEER = "mysql-replication"
PEER_EVENTS = {"small": 12_000, "large": 60_000}
"""Row changes that mysql-replication parses in one round."""

CHARSETS = {45: "utf8mb4", 46: "utf8mb4", 33: "utf8mb3", 63: "binary"}
_TEXT, _JSON = (
    {"charset": "utf8mb4", "collation": "utf8mb4_general_ci"},
    {"charset": "utf8mb4", "collation": "utf8mb4_bin"},
)
_STATUS = "enum('new','paid','packed','shipped','done','cancelled')"
SCHEMA = TableSchema(
    TableId(DATABASE, "orders"),
    0,
    (
        Column("id", pa.int64(), False, "bigint(20)"),
        Column("user_id", pa.uint32(), False, "int(10) unsigned"),
        Column("shop_id", pa.int32(), False, "int(11)"),
        Column("status", pa.dictionary(pa.int16(), pa.string()), False, _STATUS, **_TEXT),
        Column("amount", pa.decimal128(18, 4), False, "decimal(18,4)"),
        Column("qty", pa.int16(), False, "smallint(6)"),
        Column("discount", pa.float64(), True, "double"),
        Column("sku", pa.string(), False, "varchar(64)", **_TEXT),
        Column("note", pa.string(), True, "varchar(255)", **_TEXT),
        Column("attrs", pa.string(), True, "longtext", **_JSON),
        Column("created_at", pa.timestamp("us"), False, "datetime(6)"),
        Column("updated_at", pa.timestamp("us"), True, "datetime(6)"),
    ),
    ("id",),
    "primary",
)


def logs(rows: int, events: int) -> dict[str, Path]:
    """The log file of each shape; written by a server the first time."""
    folder = cache_dir() / "bench" / f"decode-1-{rows}-{events}"
    if not folder.exists():
        partial = Path(tempfile.mkdtemp(dir=_made(folder.parent)))
        _write(partial, rows, events)
        partial.rename(folder)
    return {shape: folder / f"{shape}.log" for shape in BARS}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(folder: Path, rows: int, events: int) -> None:
    with MariaDB(options=["--max-binlog-size=1G"]) as server:
        connection = pymysql.connect(host="127.0.0.1", port=server.port, user="root", autocommit=True)
        with closing(connection), connection.cursor() as cursor:
            # the texts of statements are in the file, but a server sends them to nobody who does not ask
            cursor.execute("SET SESSION binlog_annotate_row_events = OFF")
            cursor.execute(f"CREATE DATABASE {DATABASE}")
            cursor.execute(f"USE {DATABASE}")
            orders = Orders(connection)
            orders.create(rows)
            for shape, change in {"small": orders.small, "large": orders.large}.items():
                cursor.execute("FLUSH BINARY LOGS")
                cursor.execute("SHOW MASTER STATUS")
                (name, *_) = cursor.fetchone() or ("",)
                change(events)
                cursor.execute("FLUSH BINARY LOGS")
                shutil.copyfile(server.data / name, folder / f"{shape}.log")


def decoded(log: bytes, then: Callable[[ChangeBatch], ChangeBatch] = lambda batch: batch) -> int:
    """Every row change of the log as Arrow columns, and what comes `then`; how many they were."""
    tables = Tables({SCHEMA.table: SCHEMA}, lambda table: table == SCHEMA.table, "fail", CHARSETS)
    asking = Asking(lambda table: None, lambda schema: schema, 101100, True, zero_is_null=False)
    settings = Settings(1, "mariadb:1", True, lambda column, values: values, lambda: 0, CHARSETS)
    decoder = Decoder(settings, Place("binlog.000001", 4), tables, Follower(tables, asking))
    feed, found = Feed(BytesWire(log), checksum=True), 0
    while _filled(feed):
        found += sum(len(then(event)) for event in decoder.take(feed) if isinstance(event, ChangeBatch))
    return found


def fed(log: bytes) -> int:
    """The floor: packets cut and checksums checked, nothing read."""
    feed, found = Feed(BytesWire(log), checksum=True), 0
    while _filled(feed):
        found += len(feed)
        feed.drop(len(feed))
    return found


def _filled(feed: Feed) -> bool:
    try:
        return feed.fill(0)
    except TransientError:  # the bytes are at their end
        return False


class Measured(NamedTuple):
    """Row changes per processor second, and per second of the clock."""

    rate: float
    wall: float


def parsed(path: Path, limit: int) -> Measured:
    """mysql-replication's parser on the first `limit` row changes of the same file, in an environment of its own."""
    python = environment(*pinned(PEER, "PyMySQL", "packaging"))
    command = [str(python), "-I", str(Path(__file__).with_name("peer_parser.py")), str(path), str(limit)]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=bare(), check=True)
    told = json.loads(done.stdout)
    return Measured(told["count"] / told["cpu"], told["count"] / told["wall"])


def measured(work: Callable[[], int]) -> Measured:
    cpu, wall = time.process_time(), time.perf_counter()
    count = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Measured(count / cpu, count / wall)


def rounds_of(path: Path, log: bytes, rounds: int, count: int, limit: int) -> dict[str, list[Measured]]:
    """All three, by turns: what else the machine does meets them alike. A short log is read several times.

    `log` is what `path` holds, as packets.
    """
    passes = max(1, LONG_ENOUGH // count)
    work: dict[str, Callable[[], Measured]] = {
        "syncd": lambda: measured(lambda: sum(decoded(log) for _ in range(passes))),
        PEER: lambda: parsed(path, limit),
        "feed": lambda: measured(lambda: sum(count for _ in range(passes) if fed(log))),
    }
    found: dict[str, list[Measured]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, one in work.items():
            found[name].append(one())
    return found


def figures(shape: str, found: dict[str, list[Measured]], note: str) -> list[Figure]:
    """By processor seconds beside mysql-replication (the bar) and the bare feed; by the clock beside the former."""
    ours, theirs = found["syncd"], found[PEER]
    by_cpu = faster(
        NAMES[shape],
        [one.rate for one in ours],
        [one.rate for one in theirs],
        peer=PEER,
        bar=BARS[shape],
        unit="row changes per processor second",
        cpu={},
        note=note,
    )
    bare = median([one.rate for one in found["feed"]])
    wall, peer = [one.wall for one in ours], median([one.wall for one in theirs])
    by_clock = Figure(
        f"{NAMES[shape]}_by_clock",
        median(wall),
        "row changes/s",
        {PEER: peer},
        median(wall) / peer,
        spread=spread(wall),
        rounds=len(wall),
    )
    return [replace(by_cpu, beside={**by_cpu.beside, "bare feed": bare}), by_clock]


def main(argv: Sequence[str]) -> int:
    arguments = parser(__doc__).parse_args(argv)
    size = (QUICK_ROWS, QUICK_EVENTS) if arguments.quick else (ROWS, EVENTS)
    holds = True
    for shape, path in logs(*size).items():
        log = packets(path.read_bytes())
        count = decoded(log)  # also a first run, with all imports
        limit = PEER_EVENTS[shape] // (3 if arguments.quick else 1)
        note = f"{count:,} changes, {len(log) >> 20} MB; {PEER} {limit:,} of them"
        for figure in figures(shape, rounds_of(path, log, arguments.rounds or 3, count, limit), note):
            emit(figure, as_json=arguments.json)
            holds = holds and figure.holds is not False
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
