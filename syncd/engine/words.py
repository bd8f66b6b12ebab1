"""The words between the supervisor and the processes that load: a planner that finds tables and chunk borders, and
readers that copy one chunk at a time.

Both are told what to do word by word, and answer with words; what counts is saved before it is said. To the planner:
`Discover`, then one `Plan` at a time, each answered by `Planned`s and a `PlanEnded`. To a reader: `Copy`, answered by
one of `Copied`, `LeftOut`, `Deferred` for each of its sinks. Instead of an end: `Refused`.
"""

from __future__ import annotations

from dataclasses import dataclass

from syncd.errors import SyncdError
from syncd.model import Chunk
from syncd.state import Done, TableRecord

Records = tuple[TableRecord, ...]
"""One table, at sinks where it has the same head."""


@dataclass(frozen=True, slots=True)
class Discover:
    """Look at the source, and save the head, schemas and NEW records of tables that are not known yet."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """`chunks`: about how many the tables that were found will have; 0 where they had been found before."""

    chunks: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Find the chunks of a table that are not saved yet."""

    records: Records


@dataclass(frozen=True, slots=True)
class Planned:
    """One more chunk, saved for each of them."""

    records: Records
    chunk: Chunk


@dataclass(frozen=True, slots=True)
class PlanEnded:
    """Every chunk that `Plan` asked for is saved and said, or the planner was told to stop, or had better ask again for
    some of the records."""

    records: Records


@dataclass(frozen=True, slots=True)
class Copy:
    """Read the chunk once, and write it to all of these sinks."""

    records: Records
    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Copied:
    record: TableRecord
    chunk: Chunk
    done: Done


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The sink kept the others of its copy waiting, which go on without it. A write of its may still be under way."""

    record: TableRecord
    chunk: Chunk
    reason: str


@dataclass(frozen=True, slots=True)
class GivenBack:
    """Nothing of a chunk that was left out is under way any more: it is to be read again."""

    record: TableRecord
    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Slow:
    """A write of a chunk takes very long at this sink."""

    sink: str
    reason: str


@dataclass(frozen=True, slots=True)
class Began:
    """The one read of an append table is open, its place saved."""

    record: TableRecord


@dataclass(frozen=True, slots=True)
class Deferred:
    """The table cannot be read for now; to be tried again after `seconds`."""

    record: TableRecord
    chunk: Chunk
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The table cannot go on at these sinks."""

    records: Records
    error: SyncdError
