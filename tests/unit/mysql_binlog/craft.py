"""Log events made by hand, and a decoder that reads them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from zlib import crc32

import pyarrow as pa

from syncd.errors import TransientError
from syncd.model import Column, TableId, TableSchema
from syncd.sources.mysql.binlog import kinds
from syncd.sources.mysql.binlog.decoder import Decoder, Event, Settings
from syncd.sources.mysql.binlog.feed import Feed
from syncd.sources.mysql.binlog.follow import Asking, Follower
from syncd.sources.mysql.binlog.position import Place
from syncd.sources.mysql.binlog.tables import Tables
from syncd.testing.log_bytes import BytesWire, packet

TABLE = TableId("d", "t")
SCHEMA = TableSchema(
    TABLE,
    0,
    (Column("id", pa.int32(), False, "int"), Column("v", pa.string(), True, "varchar(20)", "utf8mb4")),
    ("id",),
    "primary",
)
FILE = "binlog.000001"


def event(
    kind: int, body: bytes, log_pos: int = 0, *, flags: int = 0, seconds: int = 1_700_000_000, checksum: bool = True
) -> bytes:
    size = kinds.HEADER + len(body) + 4 * checksum
    head = struct.pack("<IBIIIH", seconds, kind, 1, size, log_pos, flags)
    whole = head + body
    return whole + struct.pack("<I", crc32(whole)) if checksum else whole


def table_map(number: int = 7, table: TableId = TABLE) -> bytes:
    """Columns: INT NOT NULL, VARCHAR(80 bytes) NULL."""
    names = (
        bytes([len(table.database)])
        + table.database.encode()
        + b"\0"
        + bytes([len(table.name)])
        + table.name.encode()
        + b"\0"
    )
    body = number.to_bytes(6, "little") + b"\1\0" + names
    return body + b"\2" + bytes([3, 15]) + b"\2" + b"\x50\0" + b"\2"


def image(number: int, text: str | None) -> bytes:
    start = bytes([0xFC | 2 * (text is None)]) + struct.pack("<i", number)
    return start if text is None else start + bytes([len(text.encode())]) + text.encode()


def rows_body(*images: bytes, number: int = 7, update: bool = False, present: int = 0xFF) -> bytes:
    return number.to_bytes(6, "little") + b"\1\0" + b"\2" + bytes([present]) * (1 + update) + b"".join(images)


def gtid_body(sequence: int = 1, domain: int = 0, *, standalone: bool = False) -> bytes:
    return struct.pack("<QIB", sequence, domain, int(standalone)) + bytes(6)


def query_body(text: str, database: str = "d") -> bytes:
    return struct.pack("<IIBHH", 1, 0, len(database), 0, 0) + database.encode() + b"\0" + text.encode()


def format_body(algorithm: int = 1) -> bytes:
    return struct.pack("<H50sIB", 4, b"10.11.0-MariaDB-log", 0, 19) + bytes(bytearray(200)) + bytes([algorithm])


class Log:
    """Events one after the other in a file, with right places; `wire` is what a server would send."""

    def __init__(self, at: int = 4) -> None:
        self.at = at
        self.events: list[bytes] = []

    def add(self, kind: int, body: bytes, flags: int = 0) -> Log:
        size = kinds.HEADER + len(body) + 4
        self.at += size
        self.events.append(event(kind, body, self.at & 0xFFFFFFFF, flags=flags))
        return self

    def transaction(self, sequence: int, *bodies: tuple[int, bytes]) -> Log:
        self.add(kinds.MARIA_GTID, gtid_body(sequence)).add(kinds.TABLE_MAP, table_map())
        for kind, body in bodies:
            self.add(kind, body)
        return self.add(kinds.XID, bytes(8))

    @property
    def wire(self) -> bytes:
        return b"".join(packet(one) for one in self.events)


def decoder(
    start: Place | None = None,
    *,
    wanted: Callable[[TableId], bool] = lambda table: table == TABLE,
    schema: TableSchema = SCHEMA,
    mariadb: bool = True,
) -> Decoder:
    tables = Tables({schema.table: schema}, wanted, "fail", {})
    asking = Asking(lambda table: None, lambda made: made, 101100, mariadb, zero_is_null=False)
    settings = Settings(1, "mariadb:1" if mariadb else "mysql:1", mariadb, lambda column, values: values, lambda: 5, {})
    return Decoder(settings, start or Place(FILE, 4), tables, Follower(tables, asking))


def play(
    wire: bytes, made: Decoder | None = None, *, size: int = 1 << 16, step: int = 1 << 20, checksum: bool = True
) -> list[Event]:
    """All that a decoder gives for these bytes."""
    made = made or decoder()
    feed = Feed(BytesWire(wire, step), checksum=checksum, size=size)
    found: list[Event] = []
    while True:
        try:
            feed.fill(0)
        except TransientError as end:
            if "closed" not in str(end):
                raise
            return found
        found += list(made.take(feed))
