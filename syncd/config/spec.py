"""The settings of a job file. The types are the validation, the JSON Schema and docs/configuration.md in one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from syncd.config.faults import did_you_mean
from syncd.config.values import (
    Bytes,
    Flag,
    Name,
    Seconds,
    Section,
    empty_as_mapping,
    kind_of,
    one_of,
    refuse,
)
from syncd.transforms.masks import MASKS, SYNONYMS

Mask = Annotated[
    str,
    one_of("a mask", lambda: MASKS, code="C107", synonyms=SYNONYMS),
    Field(json_schema_extra={"enum": sorted(MASKS)}),
]


def _constant(value: Any) -> Any:
    if not isinstance(value, str | int | float):
        refuse(f"expected a text, a number, true or false, got {kind_of(value)}", code="C108")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        refuse("a whole number of more than 64 bits", code="C109", hint="put it in quotes: a text takes it")
    return value


Constant = Annotated[
    Any, BeforeValidator(_constant), Field(json_schema_extra={"type": ["string", "number", "boolean"]})
]


def word(*words: str) -> BeforeValidator:
    return one_of("a value of this setting", lambda: words, code="C109")


class Columns(Section):
    """Which columns go along, and under which names. Masks and filters use the source's names."""

    include: list[str] | None = None
    """Only these columns; the key columns must be among them."""
    exclude: list[str] = Field(default_factory=list)
    """All columns but these; key columns cannot be left out."""
    rename: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """Old name: new name."""

    @model_validator(mode="after")
    def _one_way(self) -> Columns:
        if self.include is not None and self.exclude:
            refuse("both include and exclude are given", code="C123", hint="keep one of the two")
        new = list(self.rename.values())
        double = sorted({name for name in new if new.count(name) > 1})
        if double:
            refuse(f"two columns are renamed to '{double[0]}'", code="C123")
        return self


class TableSpec(Section):
    """What holds for the tables that a pattern names."""

    skip: Flag = False
    """Leave these tables out: for exceptions to a wider pattern."""
    to: str | None = None
    """Name at the sinks, `database.table` or `table`; `\\1` stands for the first group of a regular expression. Several
    tables may have one name where `add` and `key` tell their rows apart."""
    add: dict[str, Constant] = Field(default_factory=dict)
    """Columns with one value each, added to every row; `\\1` stands for the first group of a regular expression."""
    compute: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """Column: SQL expression over the source's columns of the row (docs/transforms.md). A column of this name is
    replaced, else it is a new one, behind all others."""
    key: list[str] | None = Field(default=None, min_length=1)
    """The columns that identify a row at the sinks, by the source's names: those of the table's own key, and added or
    computed ones among them. It gives no key to a table that has none (that is `keyless`)."""
    kind: Annotated[Literal["upsert", "append"], word("upsert", "append")] = "upsert"
    """`upsert`: the copy holds the current rows. `append`: rows are only ever added."""
    keyless: Annotated[Literal["refuse", "row-hash", "append"], word("refuse", "row-hash", "append")] = "refuse"
    """What to do with a table without a primary key or a unique index without NULLs. `append`: its rows are only ever
    added; an update or a delete at the source halts it."""
    unique: Annotated[Literal["in-order", "relaxed"], word("in-order", "relaxed")] = "in-order"
    """A table with a unique index beside its key, at sinks that have such indexes (MySQL, OceanBase). `in-order`: its
    changes go through one queue, in the order of their commits, and the index is made once the table is LIVE.
    `relaxed`: they go through all queues, and the index is made as a plain one, to be made unique at the cut-over."""
    columns: Columns = Field(default_factory=Columns)
    """Which columns go along, and under which names."""
    mask: dict[str, Mask] = Field(default_factory=dict)
    """Column: mask. Values are masked at the source, before they are written anywhere; computed ones, too."""
    where: str | None = None
    """Only rows for which this SQL condition holds; a row that stops matching is deleted at the sinks."""
    sinks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Sink name: the sink plugin's own settings for these tables (ClickHouse: `partition_by`)."""

    @field_validator("add", "compute")
    @classmethod
    def _named(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "" in value:
            refuse("a column without a name", code="C109")
        return value

    @field_validator("key")
    @classmethod
    def _once_each(cls, value: list[str] | None) -> list[str] | None:
        double = next((name for i, name in enumerate(value or []) if name in (value or [])[:i]), None)
        if double is not None:
            refuse(f"'{double}' is there twice", code="C109")
        return value


class Start(Section):
    """Where change capture begins when there is no snapshot to say so. Exactly one of the settings."""

    position: str | None = None
    """A place in the source's log, as the source writes it (MySQL: `binlog.000012:4711`)."""
    gtid: str | None = None
    """The GTID set that is already at the sinks."""
    timestamp: str | None = None
    """The first transaction committed at or after this time (ISO 8601 with time zone)."""

    @field_validator("timestamp")
    @classmethod
    def _iso(cls, value: str | None) -> str | None:
        from datetime import datetime

        try:
            parsed = datetime.fromisoformat(value) if value is not None else None
        except ValueError:
            refuse("expected a time like 2026-05-01T00:00:00+00:00", code="C108")
        if parsed is not None and parsed.tzinfo is None:
            refuse("the time has no time zone", code="C109", hint="end it with Z or +00:00")
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> Start:
        if sum(value is not None for value in (self.position, self.gtid, self.timestamp)) != 1:
            refuse("exactly one of position, gtid and timestamp is needed", code="C121")
        return self


class Block(Section):
    """A mapping that names one plugin: `mysql: {url: ...}`. Every key that is no setting is a plugin's name."""

    model_config = ConfigDict(extra="allow")


class SourceBlock(Block):
    """Where the data comes from: the name of a source plugin and its settings."""


class QueueBlock(Block):
    """The durable queue between source and sinks: its layout, and the name of a queue plugin and its settings."""

    queues: int = Field(default=8, ge=1, le=1024)
    """Into how many queues the keys of a table are spread; each has one order and one writer at a time."""
    tag: Annotated[Literal["table"], word("table")] = "table"
    """What sinks subscribe by: `table` gives every table its own tag, its name."""


class Batch(Section):
    """When a sink writes: as soon as one of the limits is reached."""

    rows: int = Field(default=100_000, ge=1)
    """Rows in one write."""
    bytes: Bytes = 64 * 1024 * 1024
    """Bytes in one write."""
    seconds: Seconds = 0.1
    """How long a row may wait for others."""


def _conditions(value: Any) -> Any:
    """A text, or texts by pattern: said in one sentence, not in one for each."""
    if isinstance(value, dict):
        if not value:
            refuse("must not be empty", code="C109", hint='name a table: `where: {"shop.users": "country = \'DE\'"}`')
        wrong = next((name for name, text in value.items() if not isinstance(text, str)), None)
        if wrong is not None:
            what = f"expected a condition (a text) for '{wrong}', got {kind_of(value[wrong])}"
            refuse(what, code="C108", hint="`TRUE` keeps all rows of a table")
    elif value is not None and not isinstance(value, str):
        refuse(f"expected a text, or a mapping of patterns to texts, got {kind_of(value)}", code="C108")
    return value


class SinkBlock(Block):
    """Where the data goes: the name of a sink plugin and its settings, and what this sink takes."""

    tags: str = "*"
    """The tags that this sink takes: `*`, or names joined by `||`; one that no table has is warned of."""
    deletes: Annotated[Literal["apply", "soft", "ignore"], word("apply", "soft", "ignore")] = "apply"
    """`apply` removes the row, `soft` keeps it and marks it as deleted, `ignore` drops the delete."""
    where: Annotated[str | dict[str, str] | None, BeforeValidator(_conditions)] = None
    """Only rows for which an SQL condition holds, at this sink: one for all of its tables, or a mapping of a table
    pattern to its condition. Over the columns as the sink gets them; a row that stops matching is deleted at it."""
    batch: Batch = Field(default_factory=Batch)
    """When this sink writes."""


Followed = Annotated[Literal["apply", "ignore", "halt-table"], word("apply", "ignore", "halt-table")]
FollowedOrHalted = Annotated[Literal["apply", "halt-table"], word("apply", "halt-table")]


class DdlPolicy(Section):
    """Each kind of schema change at the source: bring it to the sinks, leave them as they are, or halt the table. One
    word for all: `ddl: apply` is the default, `halt-table` and `ignore` mean every kind; what cannot be ignored halts
    its table."""

    add_column: Followed = "apply"
    """A new column; rows that are there get its default. `ignore`: it is not copied, also later."""
    drop_column: Followed = "apply"
    """A column that goes. `ignore`: the sinks keep it, and new rows have no value in it."""
    rename_column: FollowedOrHalted = "apply"
    """Another name for a column."""
    modify_column: FollowedOrHalted = "apply"
    """Another type, or NULL or not. What becomes wider is followed, what becomes narrower keeps its wider type at the
    sinks; for a change by which values may become others see `reload`."""
    index: Followed = "apply"
    """Secondary indexes, at sinks that have them."""
    truncate: Followed = "apply"
    """TRUNCATE TABLE. `ignore`: the sinks keep the rows."""
    create_table: Followed = "apply"
    """A new table that a pattern fits. `ignore`: it is not copied."""
    drop_table: Followed = "halt-table"
    """DROP TABLE. `apply`: the rows go from the sinks as by TRUNCATE, the empty table stays; when the source makes the
    table again, it follows. `ignore`: the sinks keep the rows."""
    rename_table: Followed = "halt-table"
    """RENAME TABLE, away from a name that is copied. `apply`: the rows go from the old name's copy as by TRUNCATE, and
    where the new name is copied, too, they are loaded there (`reload`). `ignore`: the sinks keep the rows under the old
    name."""
    reload: Annotated[Literal["resnapshot", "halt-table"], word("resnapshot", "halt-table")] = "resnapshot"
    """A change after which all rows have to be read anew: another key, a type that does not hold the values of the one
    before, values that the statement may have changed, a table that comes with its rows by RENAME. `resnapshot`: the
    table is loaded anew beside its copies, which it then replaces, while the others go on."""


def _for_each_kind(value: Any) -> Any:
    """One word -> the kinds that take it; those that cannot be left out halt their table then."""
    if not isinstance(value, str):
        return value
    wanted = {"halt": "halt-table"}.get(value, value)
    known = ("apply", "ignore", "halt-table")
    if wanted not in known:
        refuse(f"'{value}' is not a value of this setting", code="C109", hint=did_you_mean(value, known))
    if wanted == "apply":
        return {}  # as by default: that DROP TABLE empties the copies is to be said by itself
    kinds = DdlPolicy.model_json_schema()["properties"]
    return {name: wanted if wanted in kind["enum"] else "halt-table" for name, kind in kinds.items()}


def _or_a_word(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"enum": ["apply", "ignore", "halt-table"]}, {"$ref": schema.pop("$ref")}]


class Policy(Section):
    """What to do in cases that have more than one right answer."""

    ddl: Annotated[DdlPolicy, BeforeValidator(_for_each_kind)] = Field(
        default_factory=DdlPolicy, json_schema_extra=_or_a_word
    )
    """What to do at a schema change of the source: a word for all kinds (`apply`, `ignore`, `halt-table`), or one for
    each kind."""
    position_lost: Annotated[
        Literal["fail", "resnapshot", "reconcile-repair"], word("fail", "resnapshot", "reconcile-repair")
    ] = "fail"
    """The source has deleted the log that syncd still needs, or lost it: halt, load all tables again (beside their
    copies, which they then replace), or go on from the log's end, compare, and read the rows that differ again. Jobs of
    another mode than snapshot+cdc halt."""
    lost_transactions: Annotated[Literal["fail", "refresh"], word("fail", "refresh")] = "fail"
    """A failed-over source lacks transactions that were copied: halt, or go on from the end of its log, compare, and
    read the rows that differ again. Jobs of another mode than snapshot+cdc halt."""
    zero_date: Annotated[Literal["fail", "null"], word("fail", "null")] = "fail"
    """A date that no calendar has (0000-00-00): halt the table, or write NULL. The word "null" needs quotes."""
    cascades: Annotated[Literal["fail", "ignore"], word("fail", "ignore")] = "fail"
    """A foreign key that deletes or changes rows of its table (CASCADE, SET NULL) on a server whose log does not show
    these (MariaDB, MySQL before 9.6): refuse the table, or copy it without such changes, with a warning."""


class Exponential(Section):
    """Waits that grow by a factor up to a limit."""

    first: Seconds = 10
    """The first wait."""
    factor: float = Field(default=2, ge=1)
    """How much longer each wait is than the one before."""
    cap: Seconds = 7200
    """The longest wait."""
    times: int = Field(default=16, ge=1)
    """How many tries."""


class Retry(Section):
    """What happens to a row that a sink refuses."""

    steps: Literal["rocketmq"] | list[Seconds] | Exponential = "rocketmq"
    """Waits between tries: `rocketmq` (16 steps, 10s to 2h), a list (`[10s, 1m]`) or `{first, factor, cap, times}`."""
    then: Annotated[Literal["halt", "park"], word("halt", "park")] = "halt"
    """After the last try: halt the table, or park the row's key and put the row among the dead letters."""


class Reconcile(Section):
    """Comparing source and sinks, and mending what differs."""

    cron: str | None = None
    """When: five fields, minute hour day month weekday."""
    repair: Annotated[Literal["off", "dry-run", "apply"], word("off", "dry-run", "apply")] = "off"
    """What to do with differences: report them, report what a repair would do, or repair."""

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, value: str | None) -> str | None:
        import re

        part = r"(\*|[0-9A-Za-z]+(-[0-9A-Za-z]+)?)(/[0-9]+)?"
        fields = (value or "").split()
        if value is not None and (len(fields) != 5 or not all(re.fullmatch(f"{part}(,{part})*", f) for f in fields)):
            refuse(f"'{value}' is not a cron expression", code="C109", hint='five fields, as in "0 3 * * *"')
        return value


class Throttle(Section):
    """Limits that keep the source at ease; what is not given is not limited."""

    rows_per_s: float | None = Field(default=None, gt=0)
    """Rows that all snapshot readers of the job together read in a second."""
    source_threads_running: int | None = Field(default=None, ge=1)
    """Readers wait while the source runs more threads than this."""
    replica_lag_s: float | None = Field(default=None, gt=0)
    """Readers wait while the worst of the source's `replicas` is further behind, in seconds, or its lag is not known.
    Without `replicas`, the source is a replica itself, and its own lag counts."""


class Snapshot(Section):
    """How the tables are loaded."""

    readers: int | None = Field(default=None, ge=1, le=256)
    """How many read at once; by default as the service file says. One more for each sink that is loaded alone."""
    chunk_bytes: Bytes = 32 * 1024 * 1024
    """About how much one chunk holds; a chunk is what is read, resumed and repeated as a whole."""


Tables = Annotated[dict[str, Annotated[TableSpec, BeforeValidator(empty_as_mapping)]], Field(min_length=1)]


class JobSpec(Section):
    """A job file: one flow from one source to one or more sinks."""

    job: Name
    """The job's name: letters, digits, `_` and `-`. Its state is kept under this name."""
    mode: Annotated[Literal["snapshot", "cdc", "snapshot+cdc"], word("snapshot", "cdc", "snapshot+cdc")] = (
        "snapshot+cdc"
    )
    """Load the tables, follow their changes, or first the one and then the other."""
    start: Start | None = None
    """Where to begin, for `mode: cdc` only."""
    source: SourceBlock
    """Where the data comes from."""
    tables: Tables
    """Pattern: settings. The most specific pattern that fits a table says all about it."""
    queue: QueueBlock = Field(default_factory=QueueBlock)
    """The durable queue between source and sinks."""
    sinks: Annotated[dict[Name, SinkBlock], Field(min_length=1)]
    """Name: sink. Each has its own place in the queue."""
    policy: Policy = Field(default_factory=Policy)
    """What to do in cases that have more than one right answer."""
    snapshot: Snapshot = Field(default_factory=Snapshot)
    """How the tables are loaded."""
    retry: Retry | None = None
    """What happens to a row that a sink refuses; without it the table halts."""
    reconcile: Reconcile | None = None
    """Comparing source and sinks, and mending what differs."""
    throttle: Throttle = Field(default_factory=Throttle)
    """Limits that keep the source at ease."""
    mask_salt: SecretStr | None = None
    """The key of the `hash` mask. The same value gives the same hash in all jobs with the same salt."""
