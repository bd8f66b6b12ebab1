"""Where events lie in the log file, in 64 bits.

The header's `log_pos` is the end of the event modulo 2^32. So the place is counted: each event of the file advances it
by its size, and `log_pos` corrects it where the server left events out (by GTID, or of kinds that it does not send).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from syncd.errors import FatalError
from syncd.sources.mysql.binlog.arrays import Bools, Ints
from syncd.sources.mysql.binlog.kinds import FLAG_ARTIFICIAL, HEARTBEAT, HEARTBEAT_V2
from syncd.sources.mysql.binlog.seq import file_number

_LOW = (1 << 32) - 1


class Places:
    """`at`: one past the last event that was counted, in file `name` with number `file`."""

    def __init__(self, name: str = "", at: int = 4) -> None:
        self.rotate(name, at)

    def rotate(self, name: str, at: int) -> None:
        self.name, self.at = name, at
        self.file = file_number(name) if name else 0

    def count(self, kind: NDArray[np.uint8], size: Ints, log_pos: Ints, flags: Ints) -> Ints:
        """The place of each event's first byte; of events that are not in the file, the place where they came."""
        real = _in_file(kind, log_pos, flags)
        step = np.where(real, size, 0)
        ends = self.at + np.cumsum(step)
        drift = (log_pos - ends & _LOW)[real]
        if drift.any():
            jump = np.diff(drift, prepend=0) & _LOW
            if (jump >> 31).any():
                raise FatalError(f"the places of events in {self.name} go backwards behind byte {self.at}")
            left_out = np.zeros(len(ends), np.int64)
            left_out[real] = jump
            ends += np.cumsum(left_out)
        self.at = int(ends[-1]) if len(ends) else self.at
        places: Ints = ends - step
        return places


def _in_file(kind: NDArray[np.uint8], log_pos: Ints, flags: Ints) -> Bools:
    heartbeat = (kind == HEARTBEAT) | (kind == HEARTBEAT_V2)
    real: Bools = (log_pos != 0) & (flags & FLAG_ARTIFICIAL == 0) & ~heartbeat
    return real
