"""mysql-replication's parser on a log file, for the Python of an environment that holds nothing else.

    python -I bench/peer_parser.py LOG LIMIT

It reads the file into memory and parses the first LIMIT row changes, event by event; no checksums are checked, as by
default. Prints {"count": row changes, "cpu": processor seconds, "wall": seconds}: without the start and the imports.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from pymysql.protocol import MysqlPacket
from pymysqlreplication.event import FormatDescriptionEvent
from pymysqlreplication.packet import BinLogPacketWrapper
from pymysqlreplication.row_event import DeleteRowsEvent, TableMapEvent, UpdateRowsEvent, WriteRowsEvent

ALLOWED = frozenset({TableMapEvent, WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent, FormatDescriptionEvent})
WARM = 200
"""Row changes that are parsed once before the measured run."""


def parsed(log: bytes, limit: int) -> int:
    """How many row changes were parsed: `limit`, or a few more, since an event is parsed whole."""
    connection = SimpleNamespace(charset="utf8mb4", _get_dbms=lambda: "mariadb")
    tables: dict[int, object] = {}
    at, found = 4, 0
    while at < len(log) and found < limit:
        size = int.from_bytes(log[at + 9 : at + 13], "little")
        packet = MysqlPacket(b"\0" + log[at : at + size], "utf8mb4")
        at += size
        wrapper = BinLogPacketWrapper(
            packet,
            tables,
            connection,
            (10, 11, 0),
            True,
            ALLOWED,
            None,
            None,
            None,
            None,
            False,
            False,
            False,
            True,
            False,
        )
        event = wrapper.event
        if isinstance(event, TableMapEvent):
            tables[event.table_id] = event.get_table()
        elif isinstance(event, (WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent)):
            found += len(event.rows)
    return found


def main(path: str, limit: int) -> None:
    log = Path(path).read_bytes()
    parsed(log, WARM)
    cpu, wall = time.process_time(), time.perf_counter()
    count = parsed(log, limit)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(json.dumps({"count": count, "cpu": cpu, "wall": wall}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
