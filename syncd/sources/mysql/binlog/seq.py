"""The version of a row change: `seq` = epoch (8 bits) | number of the log file (20) | byte place of the row (36).

The place is the offset in the log file of the first byte of the row's (first) image, counted in 64 bits; the event
header's own `log_pos` has 32 bits only. docs/ordering.md holds the layout and the test vectors.
"""

from __future__ import annotations

from typing import NamedTuple

from syncd.errors import FatalError

EPOCH_BITS, FILE_BITS, PLACE_BITS = 8, 20, 36
MAX_EPOCH, MAX_FILE, MAX_PLACE = (1 << EPOCH_BITS) - 1, (1 << FILE_BITS) - 1, (1 << PLACE_BITS) - 1


class Parts(NamedTuple):
    epoch: int
    file: int
    place: int


def make(epoch: int, file: int, place: int) -> int:
    """The u64. FatalError names the part that does not fit."""
    for name, value, limit in (
        ("epoch", epoch, MAX_EPOCH),
        ("log file number", file, MAX_FILE),
        ("place", place, MAX_PLACE),
    ):
        if not 0 <= value <= limit:
            raise FatalError(
                f"{name} {value} does not fit into a seq (0..{limit})",
                hint="reset the server's log file numbers (RESET BINARY LOGS AND GTIDS, or RESET MASTER) and resync",
            )
    return epoch << FILE_BITS + PLACE_BITS | file << PLACE_BITS | place


def split(seq: int) -> Parts:
    return Parts(seq >> FILE_BITS + PLACE_BITS, seq >> PLACE_BITS & MAX_FILE, seq & MAX_PLACE)


def file_number(name: str) -> int:
    """The number that ends the name of a log file: "binlog.000042" -> 42."""
    suffix = name.rpartition(".")[2]
    if not (suffix.isascii() and suffix.isdigit()):
        raise FatalError(f"log file {name!r} does not end in a number", hint="check the server's log_bin setting")
    number = int(suffix)
    make(0, number, 0)
    return number
