"""Several source tables in one target: whose turn it is to act there, and how far each one is.

Each table has lanes, a state and a load of its own; only the target is common. Rows never meet, since a constant of the
key tells them apart. Acts do: one at a time, and what takes a column from all of them waits for the last one.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from syncd import codec
from syncd.engine.build import Parts
from syncd.engine.collect import Swap, Work, Write
from syncd.errors import TransientError
from syncd.model import Ddl, Kind, Lane, Message, SchemaChange, TableId
from syncd.spi import Queue
from syncd.state import Phase, SchemaPair, State, TableRecord


class Waits(TransientError):
    """Nothing is wrong: another table with the same target comes first."""


class Turns:
    """Who acts at a target, in all threads of a deliver process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at: dict[TableId, tuple[TableId, bool]] = {}

    def take(self, target: TableId, table: TableId, *, locks: bool = False) -> None:
        """`locks`: others cannot even write meanwhile. Waits: it is another table's turn."""
        with self._lock:
            holder, _ = self._at.setdefault(target, (table, locks))
        if holder != table:
            raise Waits(f"{table} waits for {holder}, whose act at {target} is not over")

    def check(self, target: TableId, table: TableId) -> None:
        """Waits: the table's writes would stand still at the server, and look as if they hung."""
        holder, locks = self._at.get(target, (table, False))
        if locks and holder != table:
            raise Waits(f"{table} waits for {holder}, which alters {target}")

    def give(self, target: TableId, table: TableId) -> None:
        with self._lock:
            if self._at.get(target, (None, False))[0] == table:
                del self._at[target]


class Siblings:
    """The other tables that go to a table's target, at one sink."""

    def __init__(self, parts: Parts, sink_name: str, queue: Queue, state: State) -> None:
        self._parts, self._sink_name = parts, sink_name
        self._queue, self._state = queue, state
        self._group = parts.group(sink_name)

    def of(self, table: TableId) -> list[TableRecord]:
        place = self._parts.rule(table).to
        records = [record for record in self._state.tables(self._sink_name) if record.table != table]
        return [r for r in records if (rule := self._parts.job.match(r.table)) is not None and rule.to == place]

    def all_loaded(self, table: TableId) -> bool:
        return not any(r.phase in {Phase.NEW, Phase.SNAPSHOT} or r.shadow for r in self.of(table))

    def all_live(self, table: TableId) -> bool:
        return all(record.phase is Phase.LIVE for record in self.of(table))

    def as_now(self, change: SchemaChange) -> SchemaChange:
        """An ALTER as the target can follow it now: it keeps the columns that others still have. Waits: others still
        have a column under the name that it loses."""
        if change.kind is not Ddl.ALTER or not (change.gone or change.renamed):
            return change
        siblings = self.of(change.table)
        lanes = self._lanes(siblings)
        held: dict[str, TableRecord] = {}
        standing: set[str] = set()
        for record in siblings:
            columns, renamed = (
                self._columns(record, lanes[record.table]),
                self._renamed_now(lanes[record.table], change),
            )
            held |= dict.fromkeys(columns - renamed, record)
            standing |= columns & renamed
        for old, new in change.renamed:
            if old in held:
                place, other = self._parts.rule(change.table).to, held[old]
                raise Waits(
                    f"{change.table}: {old} is called {new} now; it stays {old} at {place} until {other.table} "
                    f"({other.phase.value}) has come to the same change"
                )
        lost = [*change.gone, *(old for old, _ in change.renamed)]
        return replace(change, kept=(*change.kept, *(name for name in lost if name in held.keys() | standing)))

    def _lanes(self, records: Collection[TableRecord]) -> dict[TableId, dict[Lane, Message | None]]:
        """The next message of each lane; None: nothing waits in it."""
        tags = {self._parts.tag(record.table): record.table for record in records}
        found: dict[TableId, dict[Lane, Message | None]] = {record.table: {} for record in records}
        for lane, (start, end) in self._queue.lanes(self._group).items():
            if lane.tag in tags:
                stored = self._queue.poll(self._parts.topic, lane, start, 1) if start < end else []
                found[tags[lane.tag]][lane] = stored[0].message if stored else None
        return found

    def version(self, record: TableRecord) -> int:
        """Of the table as far as it has come at the sink. Nothing of it is under way."""
        # Before the lanes: who finds those empty has been at the last version that is in here.
        versions = self._state.schemas(record.table)[record.table]
        return self._version_at(record, versions, self._lanes([record])[record.table])

    def _version_at(
        self, record: TableRecord, versions: Mapping[int, SchemaPair], fronts: Mapping[Lane, Message | None]
    ) -> int:
        ahead = (_version(message, versions) for message in fronts.values() if message is not None)
        return max(min(ahead, default=max(versions)), self._parts.schema_at(self._state, record).source.version)

    def _columns(self, record: TableRecord, fronts: Mapping[Lane, Message | None]) -> set[str]:
        """Of the table as far as it has come at the sink."""
        versions = self._state.schemas(record.table).get(record.table)
        if versions is None:  # refused before it began
            return set()
        if record.phase in {Phase.NEW, Phase.SNAPSHOT}:
            return _names(self._parts.schema_at(self._state, record))
        if not any(fronts.values()) and self._state.dropped().get(record.table):
            return set()
        return _names(versions[self._version_at(record, versions, fronts)])

    def _renamed_now(self, fronts: Mapping[Lane, Message | None], change: SchemaChange) -> set[str]:
        """The columns that the same names are given to by the change that all lanes of a table stand before."""
        renamed: list[set[tuple[str, str]]] = []
        for message in fronts.values():
            if message is None or message.kind is not Kind.BARRIER:
                return set()
            renamed.append({*codec.decode_change(message).renamed})
        return {old for old, _ in set.intersection(*renamed) & {*change.renamed}} if renamed else set()


class Shared:
    """One deliverer's use of targets that several tables share. `unique`: of the sink's traits."""

    def __init__(self, parts: Parts, turns: Turns, siblings: Siblings, *, unique: bool) -> None:
        self._parts, self._turns, self._siblings, self._unique = parts, turns, siblings, unique

    def in_turn(self, work: Work) -> Work:
        """An act as it is to be done now: nobody else acts there until it is saved, and `give` is called. Waits."""
        table = work.target.schema.table
        place = self._parts.rule(table).to
        if isinstance(work, Write):
            self._turns.check(place, table)
            return work
        if isinstance(work, Swap):
            self._turns.take(place, table)
            return work
        standing = work.standing
        alters = not standing.old and standing.change.kind in {Ddl.ALTER, Ddl.INDEX}
        self._turns.take(place, table, locks=alters and self._unique)
        try:
            change = standing.change if standing.old else self._siblings.as_now(standing.change)
            settled = work.target.settled and self._siblings.all_live(table)
        except BaseException:
            self._turns.give(place, table)
            raise
        target = replace(work.target, settled=settled)
        return replace(work, standing=replace(standing, change=change), target=target)

    def give(self, table: TableId) -> None:
        self._turns.give(self._parts.rule(table).to, table)

    @contextmanager
    def turn(self, table: TableId) -> Iterator[None]:
        """Waits: another table acts at the target."""
        if not self._parts.rule(table).constants:
            yield
            return
        self._turns.take(self._parts.rule(table).to, table)
        try:
            yield
        finally:
            self.give(table)


def _names(pair: SchemaPair) -> set[str]:
    return {column.name for column in pair.published.columns}


def _version(message: Message, versions: Mapping[int, SchemaPair]) -> int:
    """Of the rows in front of a message."""
    if message.kind is Kind.BARRIER:
        change = codec.decode_change(message)
        if change.kind is Ddl.ALTER and change.before != change.schema:  # else other lanes, and the same table
            return max((v for v in versions if v < change.schema.version), default=min(versions))
    return message.schema_version
