"""From a job file to the things that run it. `Parts` is all that a worker process is given; it pickles."""

from __future__ import annotations

import difflib
import errno
import hashlib
import json
import os
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import structlog

from syncd import plugins, tags, transforms
from syncd.config import Job, Service, SinkUse, TableRule
from syncd.config.tables import ONE_TARGET, are_apart
from syncd.engine.agree import disagreement
from syncd.engine.remote import RemoteSink
from syncd.engine.shadow import shadow_name
from syncd.errors import ConfigError, FatalError, PositionLost, StateError, SyncdError, TransactionsLost, Unfollowed
from syncd.model import Finding, Head, TableId, TableSchema, Target, part_of
from syncd.spi import Context, Found, Queue, Sink, Source
from syncd.state import SchemaPair, SourceRecord, State, TableRecord

HANG_SECONDS = 300.0
"""A worker that has made no step for this long loses its lease."""
IDLE_SECONDS = 0.25
"""A lane worker looks at least this often; new messages wake it at once."""
_LONG_NAME = 60
LIVE_SECONDS = 10.0
"""A table is LIVE when all is applied that its lanes held when capture was less than this behind the source."""

_AS_PUBLISHED = (
    "the filter of a sink looks at the columns as that sink gets them; `syncd apply` a job file with another one, and "
    "the table is loaded anew there"
)
_Apart = tuple[frozenset[tuple[str, type]], frozenset[Any]]


def _not_apart(rule: TableRule, others: Mapping[_Apart, TableRule]) -> TableRule | None:
    """One of the others whose rows could be the rule's; there may be thousands."""
    if rule.apart in others:
        return others[rule.apart]
    columns = rule.apart[0]
    return next((o for (its, _), o in others.items() if its != columns and not are_apart(rule, o)), None)


def _digest(text: str) -> str:
    """To tell a text from another without holding it."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def clock() -> int:
    """Microseconds since 1970 UTC, for people and for lag; nothing that must be right depends on it."""
    return time.time_ns() // 1000


@contextmanager
def data_directory(directory: Path) -> Iterator[None]:
    """ConfigError: the data directory, or what is in it, cannot be made or used by this user."""
    try:
        yield
    except OSError as error:
        raise unusable(directory, error) from error


def unusable(directory: Path, error: OSError) -> ConfigError:
    """The data directory cannot be used."""
    other = "name another directory (--data, or `data` in the service file)"
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return ConfigError(
        f"{error.filename or directory}: {error.strerror}; syncd keeps its data there",
        hint=f"free some space on that file system, or {other}"
        if full
        else f"{other}, or run as the user who owns this one",
        code="C129",
    )


@dataclass(frozen=True)
class Parts:
    """One job and the service that it runs in."""

    job: Job
    service: Service

    # -- names

    @property
    def topic(self) -> str:
        return self.job.name

    @property
    def source_name(self) -> str:
        return self.job.source.plugin

    @property
    def queues(self) -> int:
        return self.job.queue.queues

    @property
    def loads(self) -> bool:
        return "snapshot" in self.job.mode

    @property
    def captures(self) -> bool:
        return "cdc" in self.job.mode

    def goes_on(self, error: Exception) -> Literal["anew", "mended", ""]:
        """What follows where capture cannot go on from its position: all is loaded anew; or it goes on from a new one,
        and the copies are compared and mended; or the job halts."""
        policy = self.job.policy
        if not (self.loads and self.captures):
            return ""
        match error:
            case PositionLost():
                ways: Mapping[str, Literal["anew", "mended"]] = {"resnapshot": "anew", "reconcile-repair": "mended"}
                return ways.get(policy.position_lost, "")
            case TransactionsLost():
                return "mended" if policy.lost_transactions == "refresh" else ""
        return ""

    def reloads(self, error: SyncdError) -> bool:
        """Whether the table that it halts is loaded anew by itself."""
        wanted = self.loads and self.captures and self.job.policy.ddl.reload == "resnapshot"
        return wanted and isinstance(error, Unfollowed)

    @property
    def readers(self) -> int:
        return self.job.snapshot.readers or self.service.readers or min(4, os.cpu_count() or 1)

    @property
    def heartbeat(self) -> float:
        """Seconds between two checkpoints of an idle source: what the source was told, and the service's at least."""
        return max(self.service.heartbeat, float(getattr(self.job.source.options, "heartbeat", 0.0)))

    def group(self, sink: str) -> str:
        return f"{self.job.name}/{sink}"

    def chunk_owner(self, record: TableRecord) -> str:
        """The `Ticket.owner` of chunk writers: fenced, table by table, at the hand-over."""
        return f"{self.group(record.sink)}/chunk/{record.table}"

    def owner(self, pid: int | None = None) -> str:
        """Who holds a lease: host and process."""
        return f"{socket.gethostname()}:{pid or os.getpid()}"

    def socket(self, sink: str) -> Path:
        """Where the process that hosts a one-process sink listens."""
        name = f"{self.job.name}.{sink}"
        if len(name) > _LONG_NAME:  # both may have 64 letters, and a socket's name is short
            name = hashlib.sha256(name.encode()).hexdigest()[:_LONG_NAME]
        return self.service.data / "run" / f"{name}.sock"

    # -- tables

    def rule(self, table: TableId) -> TableRule:
        rule = self.job.match(table)
        if rule is None:
            raise StateError(
                f"{table} has saved state, but job {self.job.name} does not want it any more",
                hint="put it back into the job file, or remove the job's state",
                code="E164",
            )
        return rule

    def wants(self, table: TableId) -> bool:
        return self.job.wanted(table)

    def tag(self, table: TableId) -> str:
        return tags.tag_of(table.database, table.name)

    def sinks_of(self, table: TableId) -> list[str]:
        """The sinks whose subscription takes the table."""
        tag = self.tag(table)
        return [name for name, sink in self.job.sinks.items() if tags.parse(sink.tags).matches(tag)]

    def subscribe(
        self, queue: Queue, tables: Iterable[TableId], but: Collection[tuple[str, TableId]] = frozenset()
    ) -> None:
        """Register every sink's group, so that retention keeps what it has not finished.

        `tables`: all that are published; `but`: (sink, table) whose changes are not kept any more.
        """
        names = frozenset(self.tag(table) for table in tables)
        for name, sink in self.job.sinks.items():
            left_out = {self.tag(table) for other, table in but if other == name}
            wanted = tags.parse(sink.tags).select(names)
            if left_out:
                wanted = (names if wanted is None else wanted) - left_out
            queue.subscribe(self.group(name), self.topic, wanted)

    def unmatched_tags(self, tables: Iterable[TableId]) -> Iterator[Finding]:
        """A warning for each name in a sink's `tags` that no table has."""
        known = [self.tag(table) for table in tables]
        words = [*known, *(tag.rpartition(".")[2] for tag in known)]
        for name, sink in self.job.sinks.items():
            line, column = self.job.document.place(("sinks", name, "tags"))
            for tag in tags.parse(sink.tags).unmatched(known):
                close = difflib.get_close_matches(tag, words, 1)
                yield Finding(
                    "warning",
                    f"{self.job.path}:{line}:{column} sinks.{name}.tags",
                    f"no table has the tag '{tag}'",
                    f"did you mean '{close[0]}'?" if close else "a tag is a table's name, with or without its database",
                )

    def refusals(self, schema: TableSchema) -> tuple[str | ConfigError, ...]:
        """Why the job's rule cannot be applied to the table as it is; a fault of the job file is a ConfigError."""
        rule = self.rule(schema.table)
        reasons: list[str | ConfigError] = []
        if not schema.key and rule.keyless != "append":
            reasons.append(
                "it has no primary key and no unique index without NULLs (`keyless: append` takes a table into which "
                "rows are only inserted)"
            )
            if rule.keyless != "refuse":
                reasons.append(f"keyless: {rule.keyless} is not there yet")
        elif not schema.key and rule.key is not None:
            reasons.append("it has no key: either `key` says what it is, or `keyless: append`, not both")
        faults = [*transforms.unknown_columns(rule, schema)]
        try:
            transforms.build(rule, schema)
        except ConfigError as error:
            faults = faults or [error]
        return (*reasons, *map(self.job.placed, faults))

    def refused(
        self, found: Sequence[Found], before: Collection[TableId] = (), *, anew: bool = False
    ) -> dict[TableId, tuple[str | ConfigError, ...]]:
        """Every table that was found -> why it is not copied; () for those that are. `before`: tables with a place.
        `anew`: they have been copied before, and each may be ahead of the others."""
        reasons: dict[TableId, tuple[str | ConfigError, ...]] = {
            each.schema.table: each.refusals if each.aside else (*each.refusals, *self.refusals(each.schema))
            for each in found
        }
        mine = dict.fromkeys(table for table in before if self.wants(table))  # in this order
        good = [table for table, why in reasons.items() if not why and table not in mine]
        crowded: dict[TableId, str | ConfigError] = {**self.crowded_out(good, mine)}
        if not before and not anew:
            crowded |= self._disagreeing([each.schema for each in found if each.schema.table in {*good} - {*crowded}])
        return reasons | {table: (why,) for table, why in crowded.items()}

    def crowded_out(self, tables: Iterable[TableId], before: Iterable[TableId] = ()) -> dict[TableId, ConfigError]:
        """Those of `tables` of which a row could have the key of a row that another one has in the same target at some
        sink, each with the reason.

        First come the tables of `before`, then those that keep their own name, then the others by name.
        """
        taken: dict[tuple[str, TableId], dict[_Apart, TableRule]] = {}
        crowded = {}
        for table in [*before, *self._by_name(tables)]:
            rule, places = self.rule(table), self._places(table)
            clashes = ((place, self._clash(rule, place[0], taken.get(place, {}))) for place in places)
            at, other = next((found for found in clashes if found[1] is not None), (None, None))
            if at is None or other is None:
                for place in places:
                    taken.setdefault(place, {})[rule.apart] = rule
                continue
            what = f"{table} and {other.table} both go to {rule.to} at sink {at[0]}, and {other.table} has it"
            what += "; the sink takes one table only" if are_apart(rule, other) else ""
            key = ("tables", rule.pattern, "to") if rule.to_given else ("tables", rule.pattern)
            crowded[table] = self.job.fault(key, what, code="C127", hint=ONE_TARGET, of_key=not rule.to_given)
        return crowded

    def _clash(self, rule: TableRule, sink: str, others: Mapping[_Apart, TableRule]) -> TableRule | None:
        if others and sink not in self._sharing:
            return next(iter(others.values()))
        return _not_apart(rule, others)

    @cached_property
    def _sharing(self) -> frozenset[str]:
        """The sinks that keep rows of several tables apart."""
        return frozenset(sink for sink in self.job.sinks if self.make_sink(sink).traits().shares)

    def _by_name(self, tables: Iterable[TableId]) -> list[TableId]:
        return sorted(tables, key=lambda table: (self.rule(table).to != table, table))

    def _places(self, table: TableId) -> list[tuple[str, TableId]]:
        return [(sink, self.rule(table).to) for sink in self.sinks_of(table)]

    def _disagreeing(self, schemas: Iterable[TableSchema]) -> dict[TableId, str]:
        """Tables of which another one that goes to the same target has other columns, each with the reason."""
        by_table = {schema.table: self.transform(schema).schema for schema in schemas}
        first: dict[tuple[str, TableId], TableSchema] = {}
        found, holds_all = {}, self.make_source().holds_all
        for table in self._by_name(by_table):
            for place in self._places(table):
                other = first.setdefault(place, by_table[table])
                if other.table != table and (why := disagreement(by_table[table], other, holds_all)):
                    found[table] = f"it goes to {place[1]} as {other.table} does, and {why}"
        return found

    def transform(self, schema: TableSchema) -> transforms.Transform:
        zero_is_null = self.job.policy.zero_date == "null"
        return transforms.build(self.rule(schema.table), schema, zero_is_null=zero_is_null)

    def transform_of(self, pair: SchemaPair) -> transforms.Transform:
        """The transform to what is published of a version of a table: not always what the rule alone would make of it,
        since columns may be held back or left out (`engine.evolve`)."""
        return self.transform(pair.source).shaped(pair.published)

    def sink_filter(self, sink: str, published: TableSchema) -> transforms.SinkFilter:
        """The sink's own filter over a version of a table. ConfigError: it does not fit, or not this sink."""
        use = self.job.sinks[sink]
        condition = use.where.of(published.table)
        if condition is None:
            return transforms.SinkFilter(published)
        if use.deletes == "soft" and self.make_sink(sink).traits().versioned:
            what = "`deletes: soft` with `where`: all values of rows that are left out would be kept at this sink"
            raise self.job.fault(condition.key, what, code="C121", hint="`deletes: apply`, or `ignore`")
        from syncd.transforms.where import compile_filter, parse  # only who filters pays for loading sqlglot

        try:
            return transforms.SinkFilter(published, compile_filter(parse(condition.text), published))
        except ConfigError as error:
            hint = f"{error.hint}{'; ' if error.hint else ''}{_AS_PUBLISHED}"
            raise self.job.fault(condition.key, error.what, code=error.code, hint=hint) from error

    def target(self, sink: str, published: TableSchema, shadow: str = "") -> Target:
        """`shadow`: see `TableRecord`."""
        rule = self.rule(published.table)
        return Target(
            published,
            rule.to.database,
            shadow_name(rule.to.name, shadow) if shadow else rule.to.name,
            self.job.sinks[sink].deletes,
            append=rule.kind == "append" or (not published.key and rule.keyless == "append"),
            relaxed=rule.unique == "relaxed",
            options=dict(rule.options.get(sink, {})),
            own=self._own(rule),
        )

    def appends(self, state: State, record: TableRecord) -> bool:
        """Whether the table is loaded by one read whose place is known exactly."""
        return self.target(record.sink, self.schema_at(state, record).published, record.shadow).append

    def _own(self, rule: TableRule) -> tuple[tuple[str, int | float | str], ...]:
        return tuple((name, transforms.constant(name, value)[1].as_py()) for name, value in rule.constants.items())

    def shadow(self, table: TableId, epoch: int) -> str:
        """What ends a target's name while the table is loaded beside it: no other one's. See `shadow_name`."""
        own = self._own(self.rule(table))
        return f"_syncd_{part_of(own)}_{epoch}" if own else f"_syncd_{epoch}"

    def queues_of(self, published: TableSchema) -> int:
        """Into how many queues the rows of the table are spread, under this version of it."""
        return 1 if self.refuses_disorder(published) else self.queues

    def refuses_disorder(self, published: TableSchema) -> bool:
        """Whether a sink refuses rows of the table that come in another order than they were committed in."""
        sinks = self.sinks_of(published.table) if self.in_order(published) else []
        return any(self.make_sink(sink).traits().unique for sink in sinks)

    def in_order(self, published: TableSchema) -> bool:
        """Whether sinks that have unique indexes get the table's rows in one queue."""
        unique = any(index.kind == "unique" for index in published.indexes)
        return unique and self.rule(published.table).unique == "in-order"

    def schema_at(self, state: State, record: TableRecord) -> SchemaPair:
        """The version of a table that its snapshot reads."""
        versions = state.schemas(record.table)[record.table]
        return versions[max(version for version in versions if version <= record.head.seq)]

    # -- instances

    @property
    def plugin_modules(self) -> frozenset[str]:
        """The modules of the job's plugins."""
        uses: list[tuple[plugins.Kind, Any]] = [("source", self.job.source), ("queue", self.job.queue)]
        uses += [("sink", use) for use in self.job.sinks.values()]
        return frozenset(self._class(kind, use).__module__ for kind, use in uses)

    def _class(self, kind: plugins.Kind, use: Any) -> type[Any]:
        return use.cls or plugins.load(kind, use.plugin, self.job.plugin_paths)

    @cached_property
    def _context(self) -> dict[str, Any]:
        return {
            "policy": {name: str(value) for name, value in self.job.policy.model_dump().items()},
            "throttle": {k: float(v) for k, v in self.job.throttle.model_dump().items() if v is not None},
        }

    def _make(self, kind: plugins.Kind, use: Any, name: str, directory: Path, **more: Any) -> Any:
        cls = self._class(kind, use)
        with data_directory(self.service.data):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = structlog.get_logger().bind(plugin=use.plugin)
        return cls(
            use.options, Context(name, directory, log=lambda event, **f: log.info(event, **f), **self._context, **more)
        )

    def make_source(self, **more: Any) -> Source:
        """`more`: of `Context`."""
        directory = self.service.data / "source" / self.job.name
        source: Source = self._make("source", self.job.source, self.job.name, directory, **more)
        return source

    def make_sink(self, sink: str) -> Sink:
        use = self.job.sinks[sink]
        made: Sink = self._make("sink", use, self.group(sink), self.service.data / "sink" / self.job.name / sink)
        return made

    def make_queue(self) -> Queue:
        queue: Queue = self._make("queue", self.job.queue, self.job.name, self.service.data / "queue")
        return queue

    def reach_sink(self, sink: str) -> Sink:
        """The sink, from a process that does not host it."""
        traits = self.make_sink(sink).traits()
        return RemoteSink(self.socket(sink), traits) if traits.scope == "one process" else self.make_sink(sink)

    # -- judgements

    def caught_up(self, source: SourceRecord, record: TableRecord) -> bool:
        """Capture has passed all that the load can have read, and is near the source's end.

        A hand-over that lies ahead says that the clock was set back: then it tells nothing.
        """
        since = source.time >= record.since or record.since > clock()
        return since and source.seq >= record.head.seq and source.saved - source.time < LIVE_SECONDS * 1e6

    def start(self, source: Source, head: Head, epoch: int) -> Head:
        """Where capture begins: the head, or for mode cdc what the job file says."""
        start = self.job.start
        if start is None:
            return head
        text = start.position or start.gtid
        if text is None:
            raise FatalError("start.timestamp is not there yet", hint="give a position or a GTID set", code="E165")
        return source.place(text, epoch)

    def facts(self) -> dict[str, object]:
        """What the saved state depends on."""
        salt = self.job.spec.mask_salt
        return {
            "queues": self.queues,
            "source": self.job.source.plugin,
            "mode": self.job.mode,
            "mask_salt": "" if salt is None else _digest(salt.get_secret_value()),
            "heartbeat": self.heartbeat,
            "unique": any(self.make_sink(sink).traits().unique for sink in self.job.sinks),
            # A condition may hold a reference, whose value is another one by now.
            "where": {name: said for name, sink in self.job.sinks.items() if (said := sink.where.marks(_digest))},
            "path": self.job.path,
            "text": self.job.text,
            "sinks": {name: self._sink_facts(sink) for name, sink in self.job.sinks.items()},
            "tables": json.loads(self.job.fingerprint()["tables"]),
        }

    def _sink_facts(self, sink: SinkUse) -> dict[str, str]:
        """Key in the job file -> what it says."""
        target = self.make_sink(sink.name).traits().target
        return {sink.plugin: target, "tags": sink.tags, "deletes": sink.deletes}

    def contradiction(self, key: tuple[str, ...], what: str, *, of_key: bool = False) -> ConfigError:
        return self.job.fault(
            key,
            what,
            code="C140",
            hint=f"put it back; or drop the targets, `syncd jobs forget {self.job.name}`, and load anew",
            of_key=of_key,
        )
