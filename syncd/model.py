"""The words of syncd as frozen values: tables, columns, batches of changes, positions, chunks, lanes.

Everything that moves is a `ChangeBatch` of Arrow columns; no value here stands for a single row.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from functools import cached_property
from typing import Any, NamedTuple, NewType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Position = NewType("Position", str)
"""An opaque place in a source's log; only the source that made it reads it. Names a transaction boundary."""

KeyValue = int | float | str | bytes | Decimal | date | datetime | timedelta
"""One key column's value as a bound of a chunk."""


def plain(value: pa.Scalar) -> Any:
    """The value as Python has it; a date of the year 0, which it has not, as a text."""
    try:
        return value.as_py()
    except OverflowError:
        return value.cast(pa.string()).as_py()


def plain_rows(columns: Sequence[pa.Array | pa.ChunkedArray]) -> list[tuple[Any, ...]]:
    """The values of each row, as `plain` has them."""
    return [*zip(*(_plain_column(column) for column in columns), strict=True)]


def _plain_column(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except OverflowError:
        values = [plain(value) for value in column]
    return values


def column_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """The way back from `plain`."""
    if pa.types.is_temporal(kind) and any(isinstance(value, str) for value in values):
        texts = [pa.string() if isinstance(value, str) else kind for value in values]
        return pa.concat_arrays([pa.array([v], text).cast(kind) for v, text in zip(values, texts, strict=True)])
    return pa.array(values, kind)


class Op(IntEnum):
    """What happened to a row. READ: seen by a scan (snapshot) or REFRESH; written like an upsert."""

    READ = 0
    INSERT = 1
    UPDATE = 2
    DELETE = 3


class TableId(NamedTuple):
    """`database` is what the source calls the table's name space (MySQL: database, PostgreSQL: schema).

    `str()` is one text for one table, and `parse` its way back: a part with a dot in it stands in backticks.
    """

    database: str
    name: str

    def __str__(self) -> str:
        return f"{_quoted(self.database)}.{_quoted(self.name)}"

    @classmethod
    def parse(cls, text: str) -> TableId:
        """Of a text without backticks, the first dot ends the database."""
        found = _TABLE.fullmatch(text)
        database, name = found.groups() if found else text.partition(".")[::2]
        return cls(_plain(database), _plain(name))


_TABLE = re.compile(r"(`(?:[^`]|``)*`|[^.`]*)\.(`(?:[^`]|``)*`|[^`]*)", re.DOTALL)


def _quoted(part: str) -> str:
    return "`" + part.replace("`", "``") + "`" if "." in part or "`" in part else part


def _plain(part: str) -> str:
    return part[1:-1].replace("``", "`") if part.startswith("`") and part.endswith("`") and len(part) > 1 else part


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its Arrow type and what the source itself says of it.

    `source_type` is the source's own spelling ("decimal(18,4) unsigned"). `default` is a constant default as the
    source's text, None without one; of a column added while live it is what old rows hold, exactly: bytes as 0x and hex
    digits, a timestamp in UTC. `normal_of` names the key column whose normalised twin this is: a column that the
    source adds when equal keys may differ in their bytes (case-insensitive text), type binary, ordered as the server's
    collation orders; it exists in every batch and takes the key column's part in hashing, ordering and comparing keys.
    `generated`, `filled`: how the source computes the value from other columns, or fills it where a statement gives
    none, both in the source's own words: "(`a` + 1) STORED"; "AUTO_INCREMENT", "DEFAULT (uuid())". Sinks that speak the
    same dialect make the column so; for others it is a column like any other, since every batch holds its values.
    """

    name: str
    type: pa.DataType
    nullable: bool = True
    source_type: str = ""
    charset: str = ""
    collation: str = ""
    default: str | None = None
    comment: str = ""
    normal_of: str = ""
    generated: str = ""
    filled: str = ""


class IndexPart(NamedTuple):
    """A column, or the first `length` characters (bytes of binary columns) of it; or an expression, in the source's
    words."""

    column: str
    length: int = 0
    descending: bool = False
    expression: str = ""


@dataclass(frozen=True, slots=True)
class Index:
    """A secondary index of the source, for sinks that have such. `kind`: "", "unique", "fulltext" or "spatial"."""

    name: str
    parts: tuple[IndexPart, ...]
    kind: str = ""
    comment: str = ""


@dataclass(frozen=True)
class TableSchema:
    """One version of a table. `version` is the seq from which it holds; `key` is empty for a keyless table.

    `key_from` says where the key comes from: "primary", "unique" (a unique index without NULLs), "job" (declared), "".
    `indexes`: all that are not the key. `dialect`: whose words are in the columns and here, "mysql" or "mariadb";
    `collation`: what text columns have unless they say otherwise; `partitions`: the source's PARTITION BY clause.
    """

    table: TableId
    version: int
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    key_from: str = ""
    comment: str = ""
    indexes: tuple[Index, ...] = ()
    dialect: str = ""
    collation: str = ""
    partitions: str = ""

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    @cached_property
    def identity(self) -> tuple[str, ...]:
        """The columns that tell two rows apart: the key, each column replaced by its normalised twin if it has one."""
        twins = {c.normal_of: c.name for c in self.columns if c.normal_of}
        return tuple(twins.get(name, name) for name in self.key)

    def arrow(self) -> pa.Schema:
        """Arrow schema of `ChangeBatch.rows`; everything else of the table is in its metadata (see `from_arrow`)."""
        return self._arrow

    @cached_property
    def _arrow(self) -> pa.Schema:
        fields = [pa.field(c.name, c.type, c.nullable, metadata=_column_metadata(c)) for c in self.columns]
        own = {
            "table": json.dumps(self.table),
            "version": str(self.version),
            "key": json.dumps(self.key),
            "key_from": self.key_from,
            "comment": self.comment,
        }
        if self.indexes:
            own["indexes"] = json.dumps([(i.name, i.parts, i.kind, i.comment) for i in self.indexes])
        own |= {name: getattr(self, name) for name in _TABLE_TEXT if getattr(self, name)}
        return pa.schema(fields, metadata=own)

    @classmethod
    def from_arrow(cls, schema: pa.Schema) -> TableSchema:
        own = {k.decode(): v.decode() for k, v in schema.metadata.items()}
        return cls(
            table=TableId(*json.loads(own["table"])),
            version=int(own["version"]),
            columns=tuple(_column(f) for f in schema),
            key=tuple(json.loads(own["key"])),
            key_from=own["key_from"],
            comment=own["comment"],
            indexes=tuple(_index(*raw) for raw in json.loads(own.get("indexes", "[]"))),
            **{name: own[name] for name in _TABLE_TEXT if name in own},
        )

    def dump(self) -> bytes:
        return bytes(self.arrow().serialize())

    @classmethod
    def load(cls, data: bytes) -> TableSchema:
        return cls.from_arrow(pa.ipc.read_schema(pa.py_buffer(data)))


_COLUMN_TEXT = ("source_type", "charset", "collation", "comment", "normal_of", "generated", "filled")
_TABLE_TEXT = ("dialect", "collation", "partitions")


def _index(name: str, parts: list[list[Any]], kind: str, comment: str) -> Index:
    return Index(name, tuple(IndexPart(*part) for part in parts), kind, comment)


def _column_metadata(column: Column) -> dict[str, str]:
    data = {name: getattr(column, name) for name in _COLUMN_TEXT if getattr(column, name)}
    return data if column.default is None else {**data, "default": column.default}


def _column(field_: pa.Field) -> Column:
    data = {k.decode(): v.decode() for k, v in (field_.metadata or {}).items()}
    return Column(field_.name, field_.type, field_.nullable, **data)


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """Changes of one table under one schema version, in log order.

    rows    RecordBatch in the order of `schema.columns`: after-images; for a DELETE the row as it was (where the source
            does not give it whole: its key columns, the others null).
    op      uint8, one `Op` per row.
    seq     uint64, one per row, ascending; see `docs/ordering.md`.
    before  RecordBatch of the same length with the columns whose old values the plan asks for, at least the key columns
            (and their twins) when the batch holds UPDATEs; a row is null where there is no before-image. None when
            nothing in the batch has one. After the capture operator has split key changes it holds no key columns.
    time    commit time at the source of the last row, microseconds since 1970 UTC; 0 when unknown.
    trace   id under which the hops of this batch are found; the first seq of the batch as captured.
    """

    schema: TableSchema
    rows: pa.RecordBatch
    op: NDArray[np.uint8]
    seq: NDArray[np.uint64]
    before: pa.RecordBatch | None = None
    time: int = 0
    trace: int = 0

    def __len__(self) -> int:
        return len(self.op)

    @property
    def table(self) -> TableId:
        return self.schema.table

    @property
    def nbytes(self) -> int:
        return int(self.rows.nbytes)

    def take(self, index: NDArray[np.int64]) -> ChangeBatch:
        """The rows at `index`, in that order."""
        at = pa.array(index)
        return replace(
            self,
            rows=self.rows.take(at),
            op=self.op[index],
            seq=self.seq[index],
            before=None if self.before is None else self.before.take(at),
        )

    def slice(self, start: int, length: int) -> ChangeBatch:
        return replace(
            self,
            rows=self.rows.slice(start, length),
            op=self.op[start : start + length],
            seq=self.seq[start : start + length],
            before=None if self.before is None else self.before.slice(start, length),
        )


class Ddl(StrEnum):
    """What a schema change does. ALTER: columns or indexes come, go or change, the rows stay. OTHER: a statement that
    touches the table and that no sink may follow blindly. INDEX is the engine's own: the load is over, and sinks that
    have secondary indexes make them (`Target.settled`: the unique ones, too)."""

    CREATE = "create"
    ALTER = "alter"
    TRUNCATE = "truncate"
    DROP = "drop"
    RENAME = "rename"
    OTHER = "other"
    INDEX = "index"


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A statement in the log that is no row change. All rows before it are of the old schema, all after it of `schema`.

    `schema` is the table after the change (for DROP, RENAME and OTHER: before it). `statement` is the beginning of the
    source's own text, for people, and is never run at a sink; no value stands in it, since it is stored and shown, and
    a DEFAULT may be one of a column that the job masks. Of an ALTER, `before` is the table before it, and `renamed` the
    columns that go on under another name, (old, new): a column of `before` that is in neither is gone. `unsure`: why
    values of rows that are there follow neither from `before` nor from the new columns' `default`, although `schema` is
    right: the table needs a resync. `kept`: columns of `before` that are gone, and that the sinks are to keep: no row
    has a value for them any more; of a target with `own` also old names of renamed ones, which other tables still have.
    Of a RENAME, `to` is the table's name from here on; rows go on under it.
    """

    kind: Ddl
    schema: TableSchema
    seq: int
    statement: str
    time: int = 0
    before: TableSchema | None = None
    renamed: tuple[tuple[str, str], ...] = ()
    unsure: str = ""
    to: TableId | None = None
    kept: tuple[str, ...] = ()

    @property
    def table(self) -> TableId:
        return self.schema.table

    @property
    def gone(self) -> tuple[str, ...]:
        """The columns of `before` that an ALTER takes away."""
        stay = {column.name for column in self.schema.columns} - {new for _, new in self.renamed}
        stay |= {old for old, _ in self.renamed} | {*self.kept}
        return () if self.before is None else tuple(c.name for c in self.before.columns if c.name not in stay)

    def met(self, there: Callable[[str], object]) -> dict[str, str]:
        """New name -> old name of the renamed columns that are `there` under both, at a target with `own`: others have
        got the new one already, and the values go over."""
        return {new: old for old, new in self.renamed if there(new) and there(old)}

    def former(self, name: str) -> Column | None:
        """What the column `name` of `schema` was in `before`; None: it is new."""
        old = next((old for old, new in self.renamed if new == name), name)
        taken = old == name and any(old == name for old, _ in self.renamed)
        there = () if self.before is None or taken else self.before.columns
        return next((column for column in there if column.name == old), None)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All of the log before `position` has been given out. `time`: when this was so, microseconds of our own clock.

    Comes after the last batch of a transaction, and on an idle source with each heartbeat.
    """

    position: Position
    seq: int
    time: int


class Head(NamedTuple):
    """A low watermark: every change before it is visible to a read that begins afterwards.

    `seq` is below the seq of every change at or after `position`.
    """

    position: Position
    seq: int


class Bound(NamedTuple):
    """A place in a table's key order: values of the key columns, and the same key as the `identity` columns see it."""

    key: tuple[KeyValue, ...]
    normal: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A primary-key range of a table: lower < key <= upper, None for no bound; ranges do not overlap and leave no gap.

    `lower` and `upper` are the key columns' values, `normal_lower` and `normal_upper` the same key as `identity`
    columns see it. A keyless table is one chunk without bounds. `rows` is an estimate.
    """

    table: TableId
    number: int
    lower: tuple[KeyValue, ...] | None = None
    upper: tuple[KeyValue, ...] | None = None
    normal_lower: tuple[KeyValue, ...] | None = None
    normal_upper: tuple[KeyValue, ...] | None = None
    rows: int = 0

    def dump(self) -> bytes:
        bounds = [
            bound and [_tagged(v) for v in bound]
            for bound in (self.lower, self.upper, self.normal_lower, self.normal_upper)
        ]
        return json.dumps([self.table, self.number, self.rows, bounds]).encode()

    @classmethod
    def load(cls, data: bytes) -> Chunk:
        table, number, rows, bounds = json.loads(data)
        lower, upper, nlower, nupper = (b and tuple(_untagged(v) for v in b) for b in bounds)
        return cls(TableId(*table), number, lower, upper, nlower, nupper, rows)


_US = timedelta(microseconds=1)


def _tagged(value: KeyValue) -> list[object]:
    match value:
        case bytes():
            return ["b", value.hex()]
        case Decimal():
            return ["n", str(value)]
        case datetime():
            return ["t", value.isoformat()]
        case date():
            return ["d", value.isoformat()]
        case timedelta():
            return ["u", value // _US]
        case _:
            return ["v", value]


def _untagged(pair: list[str]) -> KeyValue:
    tag, value = pair
    match tag:
        case "b":
            return bytes.fromhex(value)
        case "n":
            return Decimal(value)
        case "t":
            return datetime.fromisoformat(value)
        case "d":
            return date.fromisoformat(value)
        case "u":
            return timedelta(microseconds=int(value))
        case _:
            return value


class Lane(NamedTuple):
    """One order, one offset, one owner: the part of a topic's `queue` that holds messages of one `tag`."""

    tag: str
    queue: int


class Kind(IntEnum):
    """What a message is. ROWS: Arrow rows. BARRIER: a `SchemaChange`. REFRESH: keys only; the lane reads the rows."""

    ROWS = 1
    BARRIER = 2
    REFRESH = 3


@dataclass(frozen=True, slots=True)
class Message:
    """One lane's slice of a batch, encoded (`codec`). `body` begins with the key filter; `captured` is microseconds."""

    lane: Lane
    kind: Kind
    table: TableId
    schema_version: int
    rows: int
    first_seq: int
    last_seq: int
    trace: int
    time: int
    captured: int
    body: bytes
    source: str = ""


class Stored(NamedTuple):
    """A message at its place in a lane. Offsets of a lane are ascending, not dense."""

    offset: int
    message: Message


@dataclass(frozen=True, slots=True)
class Hop:
    """What one operator did with one message (or one chunk). Times in microseconds; `outcome` is "ok" or the reason."""

    trace: int
    operator: str
    lane: Lane | None
    offset: int
    at: int
    took: int
    worker: str
    outcome: str = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer of `check` or `plan`. `level`: "ok", "warning", "error". `todo` says what mends it."""

    level: str
    subject: str
    text: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A table as one sink is to hold it: the schema after the job's transforms, its name there, the sink's policies.

    `deletes`: "apply" removes, "soft" keeps the row and marks it, "ignore" drops the delete. `append`: rows are only
    ever added (keyless append tables); there is no key to merge by. `settled`: the rows are those of one place in the
    log, so that unique indexes hold. `relaxed`: those are made as plain ones. `own`: columns of the key that have one
    value in all rows of `schema.table`: the target may hold rows of other tables, with other values in them, and
    whatever is done to it touches the own rows alone. Its columns may be more, and wider, than those of `schema`.
    """

    schema: TableSchema
    database: str
    name: str
    deletes: str = "apply"
    append: bool = False
    settled: bool = False
    relaxed: bool = False
    options: dict[str, object] = field(default_factory=dict)
    own: tuple[tuple[str, int | float | str], ...] = ()

    @property
    def part(self) -> str:
        """A short name of the own rows, the same for the same values; "" where all rows are."""
        return part_of(self.own)


def part_of(own: Collection[tuple[str, int | float | str]]) -> str:
    """See `Target.part`."""
    return hashlib.blake2b(json.dumps(sorted(own)).encode(), digest_size=6).hexdigest() if own else ""


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """What `Sink.plan` answers: DDL texts in order, one line per column (name, source type, target type, note).

    `later`: statements for the cut-over.
    """

    ddl: tuple[str, ...]
    columns: tuple[tuple[str, str, str, str], ...]
    findings: tuple[Finding, ...] = ()
    later: tuple[str, ...] = ()
