"""What a job file means for a job that has run: what of it contradicts the saved state, what goes and what comes.

Judged by tables, not by patterns: another pattern that says the same of a table changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

import structlog

from syncd.config import TableMap, TableRule
from syncd.config.filters import Condition, Filters
from syncd.engine import relocate
from syncd.engine.build import Parts, clock
from syncd.errors import ConfigError
from syncd.failpoints import failpoint
from syncd.model import TableId
from syncd.spi import Queue
from syncd.state import Items, Leaving, Place, State, Wish

log = structlog.get_logger()

_FREE = {"table", "pattern", "exact", "to_given", "options", "salt"}
"""Of a rule: what its copies do not depend on, or what is compared by itself."""


def contradictions(
    parts: Parts, state: State, but: Collection[TableId] = (), but_at: Collection[Place] = ()
) -> Iterator[ConfigError]:
    """The faults of the job file, each at its place: it says other than what the saved state was made with (C140).

    `but`, `but_at`: tables that will be loaded anew, everywhere or at a sink, beside those of which this is saved.
    """
    meta = state.meta()
    if meta is None:
        return
    mine = json.loads(json.dumps(parts.facts()))
    for key in (("queue", "queues"), ("source",), ("mode",)):
        if meta[key[-1]] != mine[key[-1]]:
            yield parts.contradiction(key, f"the saved state was made with {meta[key[-1]]}")
    if meta["mask_salt"] != mine["mask_salt"]:
        yield parts.contradiction(("mask_salt",), "the saved state, and rows at the sinks, were made with another")
    yield from _other_sinks(parts, _section(meta, "sinks"), mine["sinks"])
    anew = {*but, *state.resyncs()}
    way = "; `syncd apply` loads it anew under these" if parts.loads and parts.captures else ""
    for table, names in resettled(parts, state).items():
        if table not in anew:
            yield parts.contradiction(
                ("tables", parts.rule(table).pattern),
                f"{table} was loaded under other settings ({', '.join(names)}){way}",
                of_key=True,
            )
    for sink, table in refiltered(parts, state):
        if table not in anew and (sink, table) not in {*but_at, *state.reloads()}:
            what = f"{table} was loaded at {sink} under another `where`{way}"
            yield parts.contradiction(("sinks", sink, "where"), what, of_key=True)


def _other_sinks(
    parts: Parts, saved: Mapping[str, Mapping[str, str]], mine: Mapping[str, Mapping[str, str]]
) -> Iterator[ConfigError]:
    for name in saved.keys() & mine.keys():
        before, here = saved[name], mine[name]
        if [*before] != [*here]:
            yield parts.contradiction(("sinks", name), f"the saved state was made with {json.dumps(before)}")
            continue
        for key, value in before.items():
            if here[key] != value:
                yield parts.contradiction(("sinks", name, key), f"the saved state was made with {value!r}")


def resettled(parts: Parts, state: State) -> dict[TableId, list[str]]:
    """Tables that were loaded under other settings -> which ones."""
    meta = state.meta()
    if meta is None or meta["tables"] == json.loads(json.dumps(parts.facts()))["tables"]:
        return {}
    before = _saved_tables(parts, meta)
    sinks: dict[TableId, set[str]] = {table: set() for table in state.schemas()}
    for record in state.tables():
        sinks.setdefault(record.table, set()).add(record.sink)
    found = {}
    for table in sorted(sinks):
        old, new = before.match(table), parts.job.match(table)
        names = _differ(old, new, sinks[table] & parts.job.sinks.keys()) if old and new else []
        if names:
            found[table] = names
    return found


def refiltered(parts: Parts, state: State) -> list[Place]:
    """Tables that a sink was given under another filter of its own than the file's, and has to be given again.

    Those that halted at capture, or are gone at the source, are not among them: a resync, or a CREATE, is to come.
    """
    meta, mine = state.meta(), parts.facts()["where"]
    saved = {} if meta is None else meta.get("where", {})
    if meta is None or saved == mine:
        return []
    assert isinstance(saved, dict)
    assert isinstance(mine, dict)
    found, left_out = [], {*state.halts(), *state.dropped()}
    for sink in sorted(name for name in saved.keys() | mine.keys() if saved.get(name) != mine.get(name)):
        old, new = (Filters(parts.job.document, sink, where.get(sink)) for where in (saved, mine))
        there = {record.table for record in state.tables(sink)} if sink in parts.job.sinks else set()
        tables = sorted(table for table in there - left_out if parts.wants(table))
        found += [(sink, table) for table in tables if _said(old.of(table)) != _said(new.of(table))]
    return found


def _said(condition: Condition | None) -> str | None:
    return None if condition is None else condition.text


def _differ(old: TableRule, new: TableRule, sinks: Collection[str]) -> list[str]:
    """The settings of a table that are others now. `sinks`: those that have it, and keep it."""
    names = [f.name for f in fields(TableRule) if f.name not in _FREE and getattr(old, f.name) != getattr(new, f.name)]
    return names + [f"sinks.{name}" for name in sorted(sinks) if old.options.get(name) != new.options.get(name)]


def _saved_tables(parts: Parts, meta: Mapping[str, Any]) -> TableMap:
    try:
        return TableMap.of(_section(meta, "tables"), parts.job.path)
    except ValueError as error:
        what = f"the saved state was made with tables that this version of syncd cannot read: {error}"
        raise parts.contradiction(("tables",), what) from error


def _section(meta: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = meta[name]
    assert isinstance(section, dict)
    return section


# -- what goes, what comes


def leaving(parts: Parts, state: State) -> Leaving:
    """The sinks and tables with saved state that the job file has no more."""
    meta = state.meta()
    if meta is None:
        return Leaving()
    known = {record.table for record in state.tables()} | state.schemas().keys() | state.halts().keys()
    tables = sorted(table for table in known if not parts.wants(table))
    return Leaving(tuple(name for name in _section(meta, "sinks") if name not in parts.job.sinks), tuple(tables))


def added(parts: Parts, state: State) -> list[str]:
    """The sinks and patterns that the saved job did not have, or not so."""
    meta = state.meta()
    if meta is None:
        return []
    sinks, tables = _section(meta, "sinks"), _section(meta, "tables")
    mine = json.loads(parts.job.fingerprint()["tables"])
    return [
        *(f"sinks.{name}" for name in parts.job.sinks if name not in sinks),
        *(f"tables.{name}" for name, said in mine.items() if name not in tables or tables[name] != said),
        *(f"tables.{name}" for name in tables if name not in mine),
    ]


def _lacks_sinks(parts: Parts, state: State) -> bool:
    return any(name not in parts.job.sinks for name in _section(state.meta() or {"sinks": {}}, "sinks"))


def looked_at_anew(parts: Parts, state: State) -> list[TableId]:
    """Tables that were refused, and are at no sink, of which the job file says something else now."""
    meta = state.meta()
    halts = state.halts().keys() - {record.table for record in state.tables()} - state.schemas().keys()
    if meta is None or not halts:
        return []
    before = _saved_tables(parts, meta)
    found = []
    for table in sorted(halts):
        old, new = before.match(table), parts.job.match(table)
        if old and new and _differ(old, new, parts.job.sinks):
            found.append(table)
    return found


def take_over(parts: Parts, queue: Queue, state: State, put: Callable[[Items], None]) -> None:
    """The saved state follows the job file, in one step; then the queue does. Faults: see `contradictions`."""
    if state.anew():
        _begin_anew(parts, queue, state, put)
    for fault in contradictions(parts, state):
        raise fault
    mine, new, gone = parts.facts(), added(parts, state), Leaving()
    items = state.meta_item(**mine, started=clock()) | state.failure_item(None)
    if (state.meta() or mine).get("unique") != mine["unique"]:
        items |= state.respread_item(wanted=True)
    again, other = _resyncs(parts, state)
    items |= other
    places, other = _reloads(parts, state, again)
    items |= other
    if new or _lacks_sinks(parts, state):
        gone = leaving(parts, state)
        for table in looked_at_anew(parts, state):
            items |= state.halt_item(table, None)
    if gone != Leaving():
        log.warning("job_left", job=parts.job.name, sinks=gone.sinks, tables=[*map(str, gone.tables)])
        items |= state.wish_item(_without(state.wish(), gone)) | _never_reloaded(state, gone)
    if again:  # forgotten, and found again like a table that the job file has anew
        log.info("resync_begins", job=parts.job.name, tables=[*map(str, again)])
    if places:
        log.info("reload_begins", job=parts.job.name, tables=[f"{table} at {sink}" for sink, table in places])
    if new or again or places or _lacks_sinks(parts, state):
        anew = (*(f"resync.{table}" for table in again), *(f"reload.{sink}.{table}" for sink, table in places))
        items |= state.added_item({*state.added(), *new, *anew})
    if gone != Leaving() or again or places:
        items |= state.leave_items(Leaving(gone.sinks, (*gone.tables, *again), places))
    put(items)
    failpoint("change.saved")
    clear(parts, queue, state, put)
    if state.lost():
        put(relocate.unproven(state))  # of what has not left; done again by the next start if this one dies


def _resyncs(parts: Parts, state: State) -> tuple[tuple[TableId, ...], Items]:
    """The tables that are to be loaded anew; that others were to be is forgotten."""
    again = tuple(table for table in state.resyncs() if parts.wants(table))
    items: Items = {}
    for table in {*state.resyncs()}.difference(again):
        items |= state.resync_item(table, wanted=False)
    return (again if state.source() is not None else ()), items  # else found at the job's first start


def _reloads(parts: Parts, state: State, again: Collection[TableId]) -> tuple[tuple[Place, ...], Items]:
    """What is to be loaded anew at one sink alone; it is forgotten where more of it than that is, goes, or must be."""
    records, left_out = {(r.sink, r.table) for r in state.tables()}, {*again, *state.halts(), *state.dropped()}
    asked = state.reloads()
    wanted = {p for p in asked if p[0] in parts.job.sinks and parts.wants(p[1]) and p[1] not in left_out}
    items: Items = {}
    for sink, table in {*asked} - wanted:
        items |= state.reload_item(sink, table, wanted=False)
    # Those without a record have begun under a start that died since: the planner goes on with them.
    return tuple(place for place in asked if place in wanted & records), items


def _never_reloaded(state: State, gone: Leaving) -> Items:
    """A table that comes back may be loaded anew by itself for the same reason as before."""
    items: Items = {}
    for record in filter(gone.has, state.tables()):
        items |= state.reloaded_item(record.sink, record.table, "")
    return items


def _begin_anew(parts: Parts, queue: Queue, state: State, put: Callable[[Items], None]) -> None:
    """The groups first: while the state stands, who dies here does it again."""
    tables = {record.table for record in state.tables()}
    log.warning("job_begins_anew", job=parts.job.name, tables=[*map(str, sorted(tables))])
    for sink in {*_section(state.meta() or {"sinks": {}}, "sinks"), *parts.job.sinks}:
        queue.unsubscribe(parts.group(sink))
    put(state.anew_items(table for table in tables if parts.wants(table)))
    failpoint("change.forgotten")


def clear(parts: Parts, queue: Queue, state: State, put: Callable[[Items], None]) -> None:
    """The queue keeps nothing for sinks and tables that have left; done again by the next start if this one dies."""
    gone = state.leaving()
    if gone == Leaving():
        return
    for sink in gone.sinks:
        queue.unsubscribe(parts.group(sink))
    if gone.tables or gone.places:
        but = {*state.given_up(), *((sink, table) for sink in parts.job.sinks for table in gone.tables), *gone.places}
        parts.subscribe(queue, state.schemas(), but)
    failpoint("change.cleared")
    put(state.left_item())


def _without(wish: Wish, gone: Leaving) -> Wish:
    """Pauses of parts that are there no more end with them."""
    tables = [*map(str, gone.tables)]

    def left(part: str) -> bool:
        kind, _, name = part.partition(":")
        at = kind.removeprefix("table at ") if kind.startswith("table at ") else ""
        return (kind == "sink" and name in gone.sinks) or at in gone.sinks or (kind != "sink" and name in tables)

    return replace(wish, paused=tuple(part for part in wish.paused if not left(part)))
