"""The plugin contract: what syncd asks of a source, a sink and a queue.

A plugin is one class, found by entry point (`syncd.sources`, `syncd.sinks`, `syncd.queues`) or in `plugin_paths`. It is
made with `Plugin(options, context)`, where `options` is an instance of its own `Options` (a pydantic model, which is
also its validation, its JSON Schema and its docs). An instance lives in one process and one thread, from `open` to
`close`; the engine makes more instances for more of either. Every method raises the errors of `syncd.errors` and
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from syncd.errors import MovedError
from syncd.model import (
    Bound,
    ChangeBatch,
    Checkpoint,
    Chunk,
    Column,
    Finding,
    Head,
    Hop,
    Lane,
    Message,
    Position,
    SchemaChange,
    Stored,
    TableId,
    TableSchema,
    Target,
    TargetPlan,
)

Event = ChangeBatch | SchemaChange | Checkpoint


def _silent(event: str, **fields: object) -> None:
    """No log."""


def _all() -> float:
    """Nobody else reads."""
    return 1.0


@dataclass(frozen=True, slots=True)
class Context:
    """What a plugin is told about where it runs. `name` is "job" or "job/sink"; `directory` is its own and durable.

    `policy` is the job's (`zero_date`, `ddl`, ...); `throttle` its limits; `log` takes one event name and its fields.
    `share`: the part of the job's rates (0..1) that is this instance's now, to be asked again and again. `waits` is
    called while the plugin waits of its own will: with the reason; with "" while nothing is wrong, and when it goes on.
    """

    name: str
    directory: Path
    policy: Mapping[str, str] = field(default_factory=dict)
    throttle: Mapping[str, float] = field(default_factory=dict)
    log: Callable[..., None] = _silent
    share: Callable[[], float] = _all
    waits: Callable[[str], None] = _silent


# -------------------------------------------------------------------------------------------------------- source


class Named(NamedTuple):
    """A name in a statement: of `table`; of its `column`; or of the thing `beside` it, in the same database."""

    table: TableId
    column: str = ""
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """A statement for the cut-over, in pieces, so that it can be told by other names. `quote`: the sign around a name.

    `needs`: columns of the table that it is about without naming them. `note`: what a person should know of it.
    """

    pieces: tuple[str | Named, ...]
    needs: tuple[str, ...] = ()
    note: str = ""
    quote: str = "`"


class Found(NamedTuple):
    """One table at the source. `refusals` name each column (or the table) that syncd cannot take, and why.

    `aside`: it is none that a pattern could mean (a view, a sequence): left out; named exactly, refused.
    `stream` gives nothing of it. `later`: statements, in the source's dialect, that make what the copy goes without
    while it is synced: foreign keys, CHECKs, triggers.
    """

    schema: TableSchema
    rows: int
    bytes: int
    refusals: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    aside: bool = False
    later: tuple[Later, ...] = ()


class Source(Protocol):
    Options: ClassVar[type[Any]]

    def open(self) -> None:
        """Connect. TransientError: unreachable; FatalError: refused (password, grant), named.

        May follow a close, or an open that raised TransientError.
        """

    def close(self) -> None:
        """Give everything back; called also after an error."""

    def check(self) -> Sequence[Finding]:
        """Everything about the server that a job needs: version, grants, log settings, retention, ids in use."""

    def folds(self) -> str:
        """See `Sink.folds`."""

    def log_kept(self) -> float | None:
        """Seconds for which the server keeps its log; None: until somebody purges it."""

    def tables(self, wanted: Callable[[TableId], bool]) -> Sequence[Found]:
        """The wanted tables as they are now; each schema's version is the seq of a head() with no DDL after it.

        `wanted` is asked of every table that the source shows.
        """

    def head(self, epoch: int) -> Head:
        """A low watermark of the log (see `Head`). `epoch` (0..255) becomes the top bits of every seq."""

    def place(self, text: str, epoch: int) -> Head:
        """A place in the log that people wrote in the job file (`start:`). FatalError: it is none."""

    def identity(self, position: Position) -> str:
        """The name of the log that answers now. With another log seqs begin anew: the engine raises the epoch first.

        TransactionsLost: this log lacks changes before `position` (of a server that was failed over to); a head of it
        may be gone on from. PositionLost. FatalError: it has nothing to do with `position`.
        TransientError: they are still on their way there; or another log answers than when the instance was opened:
        from `open` to `close` it reads one log only. Asked before a stream, and again from time to time while one of
        the same instance stands still at its position.
        """

    def chunks(self, schema: TableSchema, chunk_bytes: int, after: Chunk | None) -> Iterator[Chunk]:
        """Key ranges of about `chunk_bytes`, in key order, found as they are asked for; goes on behind `after`.

        Together they cover the whole key space: the last chunk has no upper bound.
        """

    def scan(self, schema: TableSchema, chunk: Chunk, seq: int) -> Iterator[ChangeBatch]:
        """The rows of the chunk as they are now, op READ, all with `seq`. Not locked, not one moment.

        FatalError names a table that is gone or no longer has `schema`'s columns.
        """

    def scan_once(self, schema: TableSchema, epoch: int, seq: int) -> tuple[Head, Iterator[ChangeBatch]]:
        """The whole table in one consistent read whose place in the log is known: for rows that nothing tells apart.

        Every change of the table with a seq up to the head's is in it, none with a larger one, however late the rows
        are asked for. op READ, all with `seq`. TransientError: the read cannot begin now, and why (who holds the table,
        other columns than `schema`'s). FatalError: never for this table (it is gone, no grant, no consistent reads).
        """

    def read(self, schema: TableSchema, keys: pa.RecordBatch, epoch: int) -> ChangeBatch:
        """REFRESH: the rows with these keys (key columns in schema order) as they are now, read after a head().

        op READ or, where no row is there, DELETE; all with that head's seq.
        """

    def stream(
        self,
        position: Position,
        epoch: int,
        schemas: Mapping[TableId, TableSchema],
        wanted: Callable[[TableId], bool],
        before: Callable[[TableId], Collection[str]],
    ) -> Iterator[Event]:
        """The log from `position` on, without end. `schemas` hold at `position`, and tell which tables are the job's,
        also those that are not wanted for now; `before` names the columns beyond the key whose old values updates
        carry.

        Row changes come as batches, per table in log order, without a promise between tables; a SchemaChange comes
        after all batches before it and before all batches behind it. A Checkpoint follows each group of batches that
        ends on a transaction boundary, and comes at least each heartbeat when the source is idle. A CREATE TABLE that
        is wanted comes as SchemaChange. Behind a RENAME `to` a wanted table, rows come under that name, with the same
        columns and the change's seq as their schema's version. When no bytes are waiting at the source, everything
        decoded has been given out.
        TransientError: the connection broke, call again from the last Checkpoint. PositionLost, Unsupported: by name.
        Unsupported with `table` set concerns that table alone: call again without it.
        """

    def holds_all(self, wide: Column, narrow: Column) -> bool:
        """Whether each value of a column like `narrow` but NULL is one of a column like `wide`, too: the same one."""

    def ack(self, position: Position) -> None:
        """Everything before `position` is durable in the queue; the source may let go of its log up to there."""


# ---------------------------------------------------------------------------------------------------------- sink


@dataclass(frozen=True, slots=True)
class Traits:
    """scope: "any process", or "one process": then one process hosts the sink and all others reach it through that one.

    versioned: an older seq never replaces a newer one, in whatever order they arrive; so lanes may share a write.
    transactional: `write` stores `Mark`s in the transaction of the rows, and `marks` reads them back.
    target: names the system and the place in it, without secrets; a job that has run refuses another one.
    parallel: how many lanes are written at once, each by an instance of its own. 0: lanes share writes.
    unique: it has secondary unique indexes, which refuse rows that come in another order than they were committed in.
    shares: it knows `Target.own`, so that several tables may go to one target.
    """

    scope: Literal["any process", "one process"]
    versioned: bool
    transactional: bool
    target: str = ""
    parallel: int = 0
    unique: bool = False
    shares: bool = False


class Foreign(NamedTuple):
    """Rows that were not as `Ticket.there` says, at least so many: `missing` were not there, `extra` were."""

    missing: int
    extra: int


class Mark(NamedTuple):
    """How far a lane has been written. `seqs`: source name -> last seq applied; `incarnation`: the queue's."""

    offset: int
    incarnation: str
    seqs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Ticket:
    """What goes with a write: who writes, under which fencing epoch, and which lanes' marks it moves.

    `owner` is "job/sink" or, for chunks, "job/sink/chunk"; `epoch` is its lease's; `number` tells its writes apart.
    A transactional sink refuses (FencedError) an epoch below the largest that it has seen for the owner.
    `behind`: lane -> the offset that its mark must have before the write (None: it must have none), or has already if
    this is the same call again; a transactional sink looks in the write's transaction, and refuses with a MovedError
    that stores nothing: it was put back from a copy. Lanes that are not named are not looked at.
    `there`: for each row of the batch, whether a row of its key is at the sink before the write, unless somebody else
    has written there; None: that is not known.
    """

    owner: str
    epoch: int
    number: int
    marks: Mapping[Lane, Mark] = field(default_factory=dict)
    behind: Mapping[Lane, int | None] = field(default_factory=dict)
    there: NDArray[np.bool_] | None = field(default=None, compare=False)

    def check_behind(self, there: Mapping[Lane, int]) -> bool:
        """Whether nothing of the call was done before, as its marks tell.

        MovedError: the marks that the sink has (`there`: lane -> offset) are not those that this goes on from.
        """
        for lane, offset in self.behind.items():
            found = there.get(lane)
            if found != offset and not (lane in self.marks and found == self.marks[lane].offset):
                raise MovedError(
                    f"{self.owner}: lane {lane.tag}/{lane.queue} was written up to offset {offset}, and its mark at "
                    f"the sink is {found}: the target was put back from a copy"
                )
        return bool(self.behind) and all(there.get(lane) == offset for lane, offset in self.behind.items())


class Sink(Protocol):
    Options: ClassVar[type[Any]]

    def traits(self) -> Traits:
        """Known from the options alone, before `open`."""

    def open(self) -> None:
        """Connect. TransientError: unreachable; FatalError: refused, named.

        May follow an open that raised TransientError.
        """

    def close(self) -> None:
        """Give everything back; called once, also after an error."""

    def check(self) -> Sequence[Finding]:
        """Everything about the target that a job needs: version, grants, settings."""

    def folds(self) -> str:
        """Why databases and tables whose names differ in their case alone are one here; "" where they are not."""

    def plan(self, target: Target) -> TargetPlan:
        """DDL, type of each column, what is lossy, what is refused (level "error"). Reads, never writes."""

    def prepare(self, target: Target, newest: int | None = None) -> None:
        """The table is there and fits `target`: created if absent. FatalError names a column that differs. With `own`
        (here and below: see `Target`) columns may be wider, and there may be others.

        `newest`, before the load: the job has written no newer seq. FatalError (E192): what is there would stay or
        would hide what is loaded. Of a versioned sink, rows or tombstones with a newer seq, or a table that takes none
        as old; of another one, any row. Not asked of append targets of versioned sinks.
        """

    def fence(self, owner: str, epoch: int) -> None:
        """From the return on, no write of `owner` with a smaller epoch changes anything; running ones have ended."""

    def write(self, target: Target, batch: ChangeBatch, ticket: Ticket) -> Foreign | None:
        """All rows and the ticket's marks are durable on return; at most one row per key and seq order kept.

        The same call again changes nothing. TransientError: nothing is known, call again with the same arguments.
        BatchError: those rows were refused, all others are durable, the marks have not moved: a mark passes a refused
        row only once the engine has stored it. Of an append target, where nothing would tell them from rows that are
        written again, none is written then; and rows older than a TRUNCATE that was applied are a FatalError, not left
        out. MovedError: see `Ticket.behind`. FatalError: the table halts.
        Answers what was not as `Ticket.there` says, where the sink can tell at no cost and is sure of it; None: cannot.
        """

    def marks(self, owner: str) -> Mapping[Lane, Mark]:
        """What the sink itself remembers; empty where it is not transactional."""

    def apply(self, target: Target, change: SchemaChange, ticket: Ticket) -> None:
        """A barrier's act (CREATE, ALTER, TRUNCATE, DROP, INDEX); `target` is the table after it.

        With `own`, CREATE of a table that is there, and ALTER, add the columns that it lacks, widen those that do not
        hold the target's values, and let rows be written without those that the target has not; an ALTER gives only
        the own rows the default of a column that is new to them. FatalError names a column that could hold the values
        of one side alone. Nobody else acts at the table meanwhile; others may write to it.

        Harmless when done twice or late: it touches only what is older than `change.seq`, or (where rows have no
        versions) is refused (FencedError) when the ticket's epoch is over. The ticket's marks move after the act, all
        at once. MovedError: see `Ticket.behind`; nothing was done.
        """

    def swap(self, shadow: Target, target: Target, seq: int, ticket: Ticket) -> None:
        """The table `shadow` takes the place and the name of `target`; the one that was there is gone, with all rows.
        With `own`, its rows take the place of the own ones in it, and `shadow` is gone.

        Where rows have versions, the table takes none older than `seq` from the return on. Harmless when done twice;
        when done late, it changes nothing, or is refused (FencedError) when the ticket's epoch is over.
        """

    def scan(self, target: Target, lower: Bound | None, upper: Bound | None) -> Iterator[pa.RecordBatch]:
        """The live rows with lower < key <= upper, with `target`'s columns and types.

        A twin is null in every row where the sink does not hold it, since its server compares the key by itself.
        """

    def expire(self, target: Target, below: int) -> None:
        """Tombstones with a seq below `below` are needed by nobody any more and may go."""


# --------------------------------------------------------------------------------------------------------- queue


class Lease(NamedTuple):
    """The right to write as `name`. `epoch` grows with every change of owner; every write carries it."""

    name: str
    owner: str
    epoch: int
    ttl: float


class LeaseState(NamedTuple):
    """`age`: seconds since it was last renewed; `live`: not yet run out."""

    lease: Lease
    age: float
    live: bool


class Held(NamedTuple):
    """What a group has not finished of a lane: `bytes`, about, of its messages, and their `rows`.

    `since`: when the oldest of them was committed at the source, or captured where that is not known: microseconds.
    """

    bytes: int
    rows: int
    since: int


class Queue(Protocol):
    """Durable lanes, leases and a small key-value store (`state`), all under one commit.

    A call that takes a lease raises FencedError, and stores nothing, once the lease has passed to another.
    State keys are paths ("table/shop/..."); a value of None deletes.
    """

    Options: ClassVar[type[Any]]

    def open(self) -> None:
        """Make or join the queue. StateError: damaged, or written by a newer syncd."""

    def close(self) -> None:
        """Give everything back; called once, also after an error."""

    def incarnation(self) -> str:
        """A name given at creation; a restored or recreated queue has another one, or older offsets."""

    def acquire(self, name: str, owner: str, ttl: float) -> Lease | None:
        """A new epoch of `name`, or None while another owner's lease is live."""

    def renew(self, lease: Lease) -> None:
        """Live for another ttl."""

    def release(self, lease: Lease) -> None:
        """Free at once for the next owner. Not an error when it has passed on already."""

    def leases(self, prefix: str) -> Sequence[LeaseState]:
        """The leases whose names begin with `prefix`, also those that have run out; none that was released."""

    def publish(
        self, lease: Lease, topic: str, messages: Sequence[Message], state: Mapping[str, bytes | None]
    ) -> Sequence[int]:
        """All messages and the state, or nothing; durable on return. The offset of each message.

        QueueFull: nothing was stored; call again when the sinks have gone on. Only `publish` answers it.
        """

    def subscribe(self, group: str, topic: str, tags: Collection[str] | None) -> None:
        """Register a group, or change its tags (None: all): from now on retention keeps what it has not finished."""

    def unsubscribe(self, group: str) -> None:
        """Forget a group with its offsets: retention keeps nothing for it any more."""

    def lanes(self, group: str) -> Mapping[Lane, tuple[int, int]]:
        """Each lane of the group's topic and tags: (the offset to read from, the end: one past its last message)."""

    def poll(self, topic: str, lane: Lane, offset: int, max_bytes: int) -> Sequence[Stored]:
        """The messages from `offset` on, in order, at least one if there is one."""

    def kept(self, topic: str, lane: Lane) -> int:
        """The first offset from which every message of the lane is still there; its end where none is."""

    def wait(self, topic: str, timeout: float) -> bool:
        """Sleep until something may have been published since this instance's last `poll` or `lanes`."""

    def commit(
        self,
        lease: Lease,
        group: str,
        offsets: Mapping[Lane, int],
        state: Mapping[str, bytes | None],
        hops: Sequence[Hop],
    ) -> None:
        """Offsets (of the next message to read), state and hops in one step; durable on return.

        An offset may step back: from then on retention keeps what is behind it, as far as it is still there (`kept`).
        """

    def hops(self, topic: str, trace: int) -> Sequence[Hop]:
        """The retained hops of the messages of one trace, oldest first."""

    def put(self, lease: Lease, state: Mapping[str, bytes | None]) -> None:
        """Durable on return."""

    def get(self, key: str) -> bytes | None:
        """What the last step stored under `key`; None: nothing, or it was deleted."""

    def scan(self, prefix: str) -> Mapping[str, bytes]:
        """All of the state whose keys begin with `prefix`, as of one moment."""

    def trim(self) -> int:
        """Retention: bytes given back to the disk. Never touches what a registered group has not finished."""

    def usage(self) -> tuple[int, int]:
        """Bytes held, and the limit at which `publish` answers QueueFull."""

    def held(self) -> Mapping[str, Mapping[Lane, Held]]:
        """Group -> lane -> what it has not finished there; only lanes that have something.

        Cheap however much that is: metrics ask every few seconds.
        """
