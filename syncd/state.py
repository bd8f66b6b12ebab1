"""What syncd remembers of a job, typed. The one place that knows the keys and formats of the queue's state.

Readers ask `State`; writers hand the items made here to `publish`, `commit` or `put`, so that what belongs together is
stored together (docs/architecture.md says who writes which key).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import NamedTuple, TypeVar
from urllib.parse import quote

import pyarrow as pa

from syncd.errors import StateError
from syncd.model import Chunk, Head, Position, TableId, TableSchema
from syncd.spi import Queue

FORMAT = 2
T = TypeVar("T")

Items = dict[str, bytes | None]
Place = tuple[str, TableId]
"""A sink, and a table there."""


class Phase(StrEnum):
    """State of one table at one sink: NEW -> SNAPSHOT -> CATCH_UP -> LIVE, DONE for jobs that only load."""

    NEW = "NEW"
    SNAPSHOT = "SNAPSHOT"
    CATCH_UP = "CATCH_UP"
    LIVE = "LIVE"
    DONE = "DONE"
    HALTED = "HALTED"
    NEEDS_RESYNC = "NEEDS_RESYNC"


LAST_EPOCH = 255
DELIVERED = {Phase.CATCH_UP, Phase.LIVE}
_AT_SINKS = ("table", "chunk", "done", "append", "given-up", "repair", "foreign")
"""What is kept for a table at a sink."""
STANDING = {Phase.HALTED, Phase.NEEDS_RESYNC}
"""A person must act."""


@dataclass(frozen=True, slots=True)
class TableRecord:
    """One table at one sink. `head` is its snapshot's low watermark; `epoch` grows at hand-over and resync.

    Of an append table, `head` is where its one read was, and `epoch` grows with each attempt to load it.

    `resume` is the phase to go back to from HALTED. Times are microseconds since 1970 UTC. `newest`: the end
    of the log when the table was found (where that is behind `head`): no row of the job can be newer before it is LIVE.
    `opened`: the epoch under which the sink's marks were set to the beginning of the table's lanes. `shadow`: what
    ends the target's name while it is loaded anew beside the one that is there (`engine.shadow`).
    """

    table: TableId
    sink: str
    phase: Phase
    head: Head
    epoch: int = 1
    since: int = 0
    reason: str = ""
    resume: Phase | None = None
    newest: int = 0
    opened: int = 0
    shadow: str = ""

    def dump(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def load(cls, data: bytes) -> TableRecord:
        raw = json.loads(data)
        return cls(
            **{
                **raw,
                "table": TableId(*raw["table"]),
                "phase": Phase(raw["phase"]),
                "head": Head(*raw["head"]),
                "resume": raw["resume"] and Phase(raw["resume"]),
            }
        )

    def halted(self, reason: str, now: int) -> TableRecord:
        return replace(self, phase=Phase.HALTED, reason=reason, since=now, resume=self.phase)

    def behind(self, reason: str, now: int) -> TableRecord:
        """No longer LIVE, also once it is resumed."""
        if self.phase is Phase.HALTED:
            return replace(self, resume=Phase.CATCH_UP) if self.resume is Phase.LIVE else self
        return replace(self, phase=Phase.CATCH_UP, reason=reason, since=now) if self.phase is Phase.LIVE else self

    @property
    def was_live(self) -> bool:
        """And is no longer, since its log was lost."""
        return self.phase is Phase.CATCH_UP and bool(self.reason)

    def live(self, now: int) -> TableRecord:
        return replace(self, phase=Phase.LIVE, reason="", since=now)


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """How far capture has read: everything before `position` is in the queue.

    `epoch`: top bits of every seq (0..255). `log`: the name of the log that `position` is in. `time`: when the source
    said so; `saved`: when it was stored. A lane that has been delivered up to an end offset that was read after this
    record has seen everything before `position`.
    """

    epoch: int
    position: Position
    seq: int
    time: int = 0
    saved: int = 0
    log: str = ""

    def dump(self) -> bytes:
        return json.dumps([self.epoch, self.position, self.seq, self.time, self.saved, self.log]).encode()

    @classmethod
    def load(cls, data: bytes) -> SourceRecord:
        epoch, position, seq, time, saved, log = json.loads(data)
        return cls(epoch, Position(position), seq, time, saved, log)


class Sample(NamedTuple):
    """How it stood at `at`: the source's time up to which capture had read (0: unknown), and the queue's bytes.

    Times are microseconds since 1970 UTC.
    """

    at: int
    time: int
    used: int


class Epochs(NamedTuple):
    """The largest that a job has used: of seqs (`SourceRecord`), and of its tables (`TableRecord`)."""

    seqs: int = 0
    tables: int = 0


class Stranger(NamedTuple):
    """Rows at a target that somebody else has removed or written, at least so many, and when that was told last."""

    missing: int
    extra: int
    at: int


@dataclass(frozen=True, slots=True)
class Halt:
    """The changes of a table have been left out since `position`; it needs a resync."""

    reason: str
    position: Position
    at: int


def left_by_capture(record: TableRecord, halts: Mapping[TableId, Halt]) -> Halt | None:
    """Why what is at the sink no longer follows, where the sink itself would go on."""
    return None if record.phase in STANDING else halts.get(record.table)


@dataclass(frozen=True, slots=True)
class Done:
    """A chunk is written. `writes`: by how many, under which `attempt`, where the sink keeps marks of them; else 0."""

    rows: int
    bytes: int
    at: int
    writes: int = 0
    attempt: str = ""


@dataclass(frozen=True, slots=True)
class Repair:
    """How far the mending of a table at a sink is.

    `ends`: queue -> where the table's lanes ended when all was published that is waited for now; None: not yet.
    `rows`: how many were asked for; None: it was not compared yet.
    """

    ends: Mapping[int, int] | None = None
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Appending:
    """How far an append table's lane is, at a sink that keeps no marks. `seqs`: source name -> last seq applied.

    `offset`, `end`: the messages (`end` is behind the last) of the write that may be there already: done again, it is
    made of the same ones, so that the sink knows it again.
    """

    seqs: Mapping[str, int]
    offset: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class SchemaPair:
    """One version of a table: as the source has it, and as it is published after the job's transforms."""

    source: TableSchema
    published: TableSchema


@dataclass(frozen=True, slots=True)
class Wait:
    """Why something waits, and since when."""

    reason: str
    since: int


@dataclass(frozen=True, slots=True)
class Applied:
    """A job file that a command has given to the daemon, `at` (microseconds since 1970).

    `instead`: digests of the texts that it goes before. `path`: absolute.
    """

    text: str
    path: str
    at: int
    instead: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the file applied `at`. `text`: why it was not taken over, or ""."""

    at: int
    text: str


@dataclass(frozen=True, slots=True)
class Leaving:
    """Sinks and tables that the job file has no more. `places`: what one sink alone is to have no more, or anew."""

    sinks: tuple[str, ...] = ()
    tables: tuple[TableId, ...] = ()
    places: tuple[Place, ...] = ()

    def has(self, record: TableRecord) -> bool:
        place = record.sink, record.table
        return record.sink in self.sinks or record.table in self.tables or place in self.places


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the whole job stands still, and since when."""

    reason: str
    since: int


@dataclass(frozen=True, slots=True)
class Wish:
    """What people asked of a job: parts that stand still (see `paused_part`), and whether to end.

    `applied`: when a job file was applied last, microseconds since 1970 (`State.applied` has it); 0: never.
    """

    paused: tuple[str, ...] = ()
    stopped: bool = False
    applied: int = 0

    def pauses(self, sink: str, table: TableId) -> bool:
        """Whether the table is to stand still at the sink."""
        name = str(table)
        parts = {paused_part("", ""), paused_part(name, ""), paused_part("", sink), paused_part(name, sink)}
        return not parts.isdisjoint(self.paused)

    @property
    def pauses_source(self) -> bool:
        """Whether nothing is to be read from the source."""
        return SOURCE in self.paused


SOURCE = "source"
"""The part that reads the source: capture, and the readers of a load."""


def paused_part(table: str, sink: str) -> str:
    """The name of a part: "" the job, "table:db.t", "sink:s", "table at s:db.t"; also `SOURCE`."""
    if table:
        return f"table at {sink}:{table}" if sink else f"table:{table}"
    return f"sink:{sink}" if sink else ""


class State:
    """The saved state of one job. Every call reads the queue's file anew; nothing is cached."""

    def __init__(self, queue: Queue, job: str) -> None:
        self._queue = queue
        self._root = f"job/{job}/"
        self._forgotten = f"forgotten/{job}"

    # -- reading

    def meta(self) -> dict[str, object] | None:
        data = self._queue.get(self._root + "meta")
        if data is None:
            return None
        with _whole(self._root + "meta"):
            meta: dict[str, object] = json.loads(data)
            known = int(str(meta["format"])) == FORMAT
        if not known:
            raise StateError(
                f"the state of job {self._root[4:-1]} has format {meta['format']}, this syncd knows {FORMAT}",
                hint="run the version that made it, or start with a new data directory",
            )
        return meta

    def source(self) -> SourceRecord | None:
        return self._one("source", SourceRecord.load)

    def log_kept(self) -> float | None:
        """Seconds for which the source keeps its log, as last asked; None: not known, or until somebody purges it."""
        return self._one("log-kept", lambda data: None if (kept := json.loads(data)) is None else float(kept))

    def samples(self) -> tuple[Sample, ...]:
        """Of the last minutes in which a daemon ran, oldest first: what forecasts are made from."""
        return self._one("samples", lambda data: tuple(Sample(*one) for one in json.loads(data))) or ()

    def tables(self, sink: str = "") -> list[TableRecord]:
        """Tables that gave up their share of the queue are NEEDS_RESYNC, whatever else was saved of them since."""
        given_up = self.given_up()
        records = self._all(f"table/{sink}/" if sink else "table/", TableRecord.load)
        return [_with(record, given_up) for record in records.values()]

    def table(self, sink: str, table: TableId) -> TableRecord | None:
        return self._one(f"table/{sink}/{_part(table)}", TableRecord.load)

    def given_up(self) -> dict[tuple[str, TableId], Halt]:
        """(sink, table) -> why its queued changes are gone."""
        return dict(self._all("given-up/", _given_up).values())

    def strangers(self) -> dict[tuple[str, TableId], Stranger]:
        """(sink, table) -> what somebody else has written there."""
        return dict(self._all("foreign/", _stranger).values())

    def halts(self) -> dict[TableId, Halt]:
        return dict(self._all("halted/", _halt).values())

    def dropped(self) -> dict[TableId, bool]:
        """The tables that the source has no more -> whether the sinks' rows are gone, too."""
        return dict(self._all("dropped/", _dropped).values())

    def kept(self) -> dict[TableId, frozenset[str]]:
        """Columns that the source has no more, and that the sinks keep."""
        return dict(self._all("kept/", _kept).values())

    def schemas(self, table: TableId | None = None) -> dict[TableId, dict[int, SchemaPair]]:
        """Every known version of every table, or of one."""
        found = self._queue.scan(self._root + ("schema/" if table is None else f"schema/{_part(table)}/"))
        versions: dict[TableId, dict[int, SchemaPair]] = {}
        for key, data in found.items():
            if key.endswith("/source"):
                with _whole(key):
                    source = TableSchema.load(data)
                    published = TableSchema.load(found[key.removesuffix("source") + "published"])
                versions.setdefault(source.table, {})[source.version] = SchemaPair(source, published)
        return versions

    def schema(self, table: TableId, version: int) -> SchemaPair:
        root = f"{self._root}schema/{_part(table)}/{version:020d}/"
        source, published = self._queue.get(root + "source"), self._queue.get(root + "published")
        if source is None or published is None:
            raise StateError(f"version {version} of {table} is not in the saved state", hint="resync the table")
        with _whole(root):
            return SchemaPair(TableSchema.load(source), TableSchema.load(published))

    def chunks(self, sink: str, table: TableId) -> list[Chunk]:
        return [*self._all(f"chunk/{sink}/{_part(table)}/", Chunk.load).values()]

    def done(self, sink: str, table: TableId) -> dict[int, Done]:
        found = self._all(f"done/{sink}/{_part(table)}/", lambda data: Done(*json.loads(data)))
        return {int(key.rpartition("/")[2]): done for key, done in found.items()}

    def appending(self, sink: str, table: TableId) -> Appending:
        return self._one(f"append/{sink}/{_part(table)}", lambda data: Appending(*json.loads(data))) or Appending({})

    def forgotten(self) -> Epochs:
        """Of the job's lives that were forgotten: the next one uses larger ones only."""
        with _whole(self._forgotten):
            return Epochs(*json.loads(self._queue.get(self._forgotten) or b"[]"))

    def readers(self) -> int:
        """How many readers have a chunk."""
        return self._one("readers", int) or 0

    def waits(self) -> dict[str, Wait]:
        """What waits (a worker, or a part of its work), as last said."""
        return self._one("waits", _waits) or {}

    def failure(self) -> Failure | None:
        """Why its last run failed, if it did."""
        return self._one("failed", lambda data: Failure(*json.loads(data)))

    def wish(self) -> Wish:
        return self._one("wish", _wish) or Wish()

    def added(self) -> list[str]:
        """What the job file has anew, for which the source is still to be looked at."""
        return self._one("added", lambda data: [*map(str, json.loads(data))]) or []

    def resyncs(self) -> list[TableId]:
        """Tables that people want to be loaded anew, and of which that has not begun."""
        return [TableId(*json.loads(data)) for data in self._all("resync/", bytes).values()]

    def reloads(self) -> list[Place]:
        """Tables that are to be loaded anew at one sink alone, and of which that has not begun."""
        found = self._all("reload/", json.loads).values()
        return [(sink, TableId(database, name)) for sink, database, name in found]

    def reloaded(self, sink: str, table: TableId) -> str:
        """Why the table at the sink was to be loaded anew by itself, until that load is handed over; "": it was not."""
        return self._one(f"reloaded/{sink}/{_part(table)}", lambda data: str(json.loads(data))) or ""

    def refreshes(self) -> dict[str, tuple[TableId, pa.RecordBatch]]:
        """Requests, by their names: keys, as the source has them, whose rows are to be read again there."""
        found = self._all("refresh/", lambda data: data)
        return {name.removeprefix(self._root): _refresh(data) for name, data in found.items()}

    def anew(self) -> bool:
        """Whether all tables are to be loaded anew, from a new place in the log, and that has not begun."""
        return self._one("anew", bool) or False

    def lost(self) -> bool:
        """Whether capture is to go on from a new place in the log, and that has not begun."""
        return self._one("lost", bool) or False

    def repairs(self, sink: str = "") -> dict[tuple[str, TableId], Repair]:
        """(sink, table): capture has gone on from a new place, and what the sink lacks of before is not known yet."""
        return dict(self._all(f"repair/{sink}/" if sink else "repair/", _repair).values())

    def joins(self) -> dict[TableId, Head]:
        """Tables of which capture is to publish the changes from these places on, and does not yet."""
        return dict(self._all("join/", _join).values())

    def applied(self) -> Applied | None:
        """The job file that was applied last."""
        return self._one("applied", _applied)

    def answer(self) -> Answer | None:
        """What became of it."""
        return self._one("answer", lambda data: Answer(*json.loads(data)))

    def respread(self) -> bool:
        """Whether tables with a unique index go through other lanes from now on, and their old ones end first."""
        return self._one("respread", bool) or False

    def leaving(self) -> Leaving:
        """What has no saved state any more, and may still be known to the queue."""
        return self._one("leaving", _leaving) or Leaving()

    def _one(self, key: str, load: Callable[[bytes], T]) -> T | None:
        data = self._queue.get(self._root + key)
        if data is None:
            return None
        with _whole(self._root + key):
            return load(data)

    def _all(self, prefix: str, load: Callable[[bytes], T]) -> dict[str, T]:
        """By key, in order."""
        loaded = {}
        for key, data in sorted(self._queue.scan(self._root + prefix).items()):
            with _whole(key):
                loaded[key] = load(data)
        return loaded

    # -- items to write

    def meta_item(self, **facts: object) -> Items:
        return {self._root + "meta": json.dumps({"format": FORMAT, **facts}).encode()}

    def source_item(self, record: SourceRecord) -> Items:
        return {self._root + "source": record.dump()}

    def log_kept_item(self, seconds: float | None) -> Items:
        return {self._root + "log-kept": json.dumps(seconds).encode()}

    def samples_item(self, samples: Iterable[Sample]) -> Items:
        return {self._root + "samples": json.dumps([*samples]).encode()}

    def table_item(self, record: TableRecord) -> Items:
        return {f"{self._root}table/{record.sink}/{_part(record.table)}": record.dump()}

    def halt_item(self, table: TableId, halt: Halt | None) -> Items:
        key = f"{self._root}halted/{_part(table)}"
        return {key: None if halt is None else json.dumps([*table, halt.reason, halt.position, halt.at]).encode()}

    def dropped_item(self, table: TableId, gone: bool | None) -> Items:
        """`gone`: see `dropped`; None: the table is there again."""
        value = None if gone is None else json.dumps([*table, gone]).encode()
        return {f"{self._root}dropped/{_part(table)}": value}

    def kept_item(self, table: TableId, columns: Iterable[str]) -> Items:
        return {f"{self._root}kept/{_part(table)}": json.dumps([*table, sorted(columns)]).encode()}

    def given_up_item(self, sink: str, table: TableId, halt: Halt) -> Items:
        value = json.dumps([sink, *table, halt.reason, halt.position, halt.at]).encode()
        return {f"{self._root}given-up/{sink}/{_part(table)}": value}

    def stranger_item(self, sink: str, table: TableId, found: Stranger) -> Items:
        return {f"{self._root}foreign/{sink}/{_part(table)}": json.dumps([sink, *table, *found]).encode()}

    def schema_item(self, pair: SchemaPair) -> Items:
        root = f"{self._root}schema/{_part(pair.source.table)}/{pair.source.version:020d}/"
        return {root + "source": pair.source.dump(), root + "published": pair.published.dump()}

    def chunk_item(self, sink: str, chunk: Chunk) -> Items:
        return {f"{self._root}chunk/{sink}/{_part(chunk.table)}/{chunk.number:09d}": chunk.dump()}

    def done_item(self, sink: str, chunk: Chunk, done: Done) -> Items:
        value = json.dumps([done.rows, done.bytes, done.at, done.writes, done.attempt]).encode()
        return {f"{self._root}done/{sink}/{_part(chunk.table)}/{chunk.number:09d}": value}

    def undone_items(self, sink: str, table: TableId, numbers: Iterable[int]) -> Items:
        """These chunks are to be written anew."""
        return {f"{self._root}done/{sink}/{_part(table)}/{number:09d}": None for number in numbers}

    def appending_item(self, sink: str, table: TableId, appending: Appending) -> Items:
        value = json.dumps([dict(appending.seqs), appending.offset, appending.end]).encode()
        return {f"{self._root}append/{sink}/{_part(table)}": value}

    def readers_item(self, count: int) -> Items:
        return {self._root + "readers": str(count).encode()}

    def waits_item(self, waits: Mapping[str, Wait]) -> Items:
        values = {name: (wait.reason, wait.since) for name, wait in waits.items()}
        return {self._root + "waits": json.dumps(values).encode()}

    def failure_item(self, failure: Failure | None) -> Items:
        value = None if failure is None else json.dumps([failure.reason, failure.since]).encode()
        return {self._root + "failed": value}

    def forget_items(self) -> Items:
        """Deletes everything that is known of the job but its largest epochs.

        Its targets keep what older epochs wrote, the seqs below which they take nothing, and its writers' fences: rows
        of the job's next life must be newer than all of that (3, 4).
        """
        past, source = self.forgotten(), self.source()
        seqs = max(past.seqs, source.epoch if source else 0)
        tables = max([past.tables, *(record.epoch for record in self.tables())])
        return {**dict.fromkeys(self._queue.scan(self._root)), self._forgotten: json.dumps([seqs, tables]).encode()}

    def added_item(self, names: Collection[str]) -> Items:
        return {self._root + "added": json.dumps(sorted(names)).encode() if names else None}

    def resync_item(self, table: TableId, *, wanted: bool) -> Items:
        return {f"{self._root}resync/{_part(table)}": json.dumps(table).encode() if wanted else None}

    def reload_item(self, sink: str, table: TableId, *, wanted: bool) -> Items:
        return {f"{self._root}reload/{sink}/{_part(table)}": json.dumps([sink, *table]).encode() if wanted else None}

    def reloaded_item(self, sink: str, table: TableId, why: str) -> Items:
        """`why`: see `reloaded`; "" forgets it."""
        return {f"{self._root}reloaded/{sink}/{_part(table)}": json.dumps(why).encode() if why else None}

    def refresh_item(self, name: str, table: TableId, keys: pa.RecordBatch) -> Items:
        """`name`: of the request, "refresh/..."."""
        schema = keys.schema.with_metadata({"table": json.dumps(table)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_batch(keys.cast(schema))
        return {self._root + name: sink.getvalue().to_pybytes()}

    def refreshed_item(self, name: str) -> Items:
        return {self._root + name: None}

    def anew_item(self) -> Items:
        return {self._root + "anew": b"1"}

    def lost_item(self, *, wanted: bool) -> Items:
        return {self._root + "lost": b"1" if wanted else None}

    def repair_item(self, sink: str, table: TableId, repair: Repair | None) -> Items:
        value = None if repair is None else json.dumps([sink, *table, repair.ends, repair.rows]).encode()
        return {f"{self._root}repair/{sink}/{_part(table)}": value}

    def anew_items(self, tables: Iterable[TableId]) -> Items:
        """Forgets all but what people want of the job; these tables are loaded beside their copies then."""
        kept = {self._root + name for name in ("wish", "applied", "answer")}
        items = {key: value for key, value in self.forget_items().items() if key not in kept}
        for table in tables:
            items |= self.resync_item(table, wanted=True)
        return items

    def join_item(self, table: TableId, head: Head | None) -> Items:
        value = None if head is None else json.dumps([*table, *head]).encode()
        return {f"{self._root}join/{_part(table)}": value}

    def applied_item(self, applied: Applied | None) -> Items:
        values = None if applied is None else [applied.text, applied.path, applied.at, applied.instead]
        return {self._root + "applied": None if values is None else json.dumps(values).encode()}

    def answer_item(self, answer: Answer) -> Items:
        return {self._root + "answer": json.dumps([answer.at, answer.text]).encode()}

    def respread_item(self, *, wanted: bool) -> Items:
        return {self._root + "respread": b"1" if wanted else None}

    def left_item(self) -> Items:
        """What was leaving is out of the queue, too."""
        return {self._root + "leaving": None}

    def leave_items(self, leaving: Leaving) -> Items:
        """Forgets these sinks and tables; and remembers that the queue is to forget them, too.

        A table that comes back begins above the epochs that its target has seen (7).
        """
        prefixes = [f"{kind}/{sink}/" for kind in _AT_SINKS for sink in leaving.sinks]
        sinks = {record.sink for record in self.tables()}
        for part in map(_part, leaving.tables):
            prefixes += [f"{kind}/{sink}/{part}/" for kind in _AT_SINKS for sink in sinks]
            prefixes += [f"{kind}/{part}/" for kind in ("schema", "halted", "join", "dropped", "kept")]
        prefixes += [f"{kind}/{sink}/{_part(table)}/" for kind in _AT_SINKS for sink, table in leaving.places]
        wanted = tuple(self._root + prefix for prefix in prefixes)
        keys = [key for key in self._queue.scan(self._root) if f"{key}/".startswith(wanted)]
        gone = [r.epoch for r in self.tables() if leaving.has(r)]
        past, before = self.forgotten(), self.leaving()
        both = [(*before.sinks, *leaving.sinks), (*before.tables, *leaving.tables), (*before.places, *leaving.places)]
        return {
            **dict.fromkeys(keys),
            self._root + "leaving": json.dumps(both).encode(),
            self._forgotten: json.dumps([past.seqs, max([past.tables, *gone])]).encode(),
        }

    def wish_item(self, wish: Wish) -> Items:
        return {self._root + "wish": json.dumps([wish.paused, wish.stopped, wish.applied]).encode()}


def job_names(queue: Queue) -> list[str]:
    """The jobs with saved state."""
    return sorted(key.split("/")[1] for key in queue.scan("job/") if key.endswith("/meta") and key.count("/") == 2)


def _with(record: TableRecord, given_up: Mapping[tuple[str, TableId], Halt]) -> TableRecord:
    halt = given_up.get((record.sink, record.table))
    if halt is None:
        return record
    return replace(record, phase=Phase.NEEDS_RESYNC, reason=halt.reason, since=halt.at, resume=None)


def _part(table: TableId) -> str:
    """A table as two parts of a key, `database/name`, so that no two tables are alike and none begins another."""
    return f"{quote(table.database, safe='')}/{quote(table.name, safe='')}"


def _halt(data: bytes) -> tuple[TableId, Halt]:
    database, name, reason, position, at = json.loads(data)
    return TableId(database, name), Halt(reason, Position(position), at)


def _refresh(data: bytes) -> tuple[TableId, pa.RecordBatch]:
    with pa.ipc.open_stream(data) as reader:
        return TableId(*json.loads(reader.schema.metadata[b"table"])), reader.read_next_batch()


def _repair(data: bytes) -> tuple[tuple[str, TableId], Repair]:
    sink, database, name, ends, rows = json.loads(data)
    return (sink, TableId(database, name)), Repair(ends and {int(queue): end for queue, end in ends.items()}, rows)


def _dropped(data: bytes) -> tuple[TableId, bool]:
    database, name, gone = json.loads(data)
    return TableId(database, name), bool(gone)


def _kept(data: bytes) -> tuple[TableId, frozenset[str]]:
    database, name, columns = json.loads(data)
    return TableId(database, name), frozenset(columns)


def _stranger(data: bytes) -> tuple[tuple[str, TableId], Stranger]:
    sink, database, name, *found = json.loads(data)
    return (sink, TableId(database, name)), Stranger(*found)


def _given_up(data: bytes) -> tuple[tuple[str, TableId], Halt]:
    sink, database, name, reason, position, at = json.loads(data)
    return (sink, TableId(database, name)), Halt(reason, Position(position), at)


def _waits(data: bytes) -> dict[str, Wait]:
    return {name: Wait(*value) for name, value in json.loads(data).items()}


def _applied(data: bytes) -> Applied:
    text, path, at, instead = json.loads(data)
    return Applied(text, path, at, tuple(instead))


def _join(data: bytes) -> tuple[TableId, Head]:
    database, name, position, seq = json.loads(data)
    return TableId(database, name), Head(Position(position), seq)


def _leaving(data: bytes) -> Leaving:
    sinks, tables, *more = json.loads(data)
    places = more[0] if more else []
    return Leaving(
        tuple(sinks),
        tuple(TableId(*table) for table in tables),
        tuple((sink, TableId(*table)) for sink, table in places),
    )


def _wish(data: bytes) -> Wish:
    paused, stopped, *applied = json.loads(data)
    return Wish(tuple(paused), stopped, *applied)


@contextmanager
def _whole(key: str) -> Iterator[None]:
    """StateError for what cannot be read back as it was written."""
    try:
        yield
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise StateError(
            f"{key} in the saved state is damaged: {type(error).__name__}: {error}",
            hint="keep the data directory aside for inspection; then drop the targets and load anew into a new one",
        ) from error
