"""What of a job file is another than in the saved job, and what each change asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from syncd.config import parse_document
from syncd.config.document import Key, dotted
from syncd.config.secrets import without_extras, without_secrets
from syncd.engine import change
from syncd.engine.build import Parts
from syncd.errors import ConfigError
from syncd.model import TableId
from syncd.state import Place, State

Effect = Literal["live", "restart", "resnapshot", "refused"]
"""live: the processes that it is about start anew; restart: all of the job's; resnapshot: these, and a table is loaded
anew; refused: nothing of the file is taken."""

_LIVE = {"throttle", "snapshot"}


@dataclass(frozen=True, slots=True)
class Change:
    """`before`, `after`: as the files say it, secrets masked, "" for nothing. `why`: what comes of it."""

    key: Key
    place: str
    before: str
    after: str
    effect: Effect
    why: str = ""

    def __str__(self) -> str:
        what = f": {self.before or 'nothing'} -> {self.after or 'nothing'}" if self.before or self.after else ""
        return f"{self.place} {dotted(self.key)}{what}: {self.effect}{f', {self.why}' if self.why else ''}"


def diff(parts: Parts, state: State) -> list[Change]:
    """From the saved job to this one; empty where only comments and the like differ. Faults: it cannot be read."""
    meta = state.meta() or {}
    document = parts.job.document
    old = without_extras(parse_document(str(meta["text"]), str(meta["path"])).data)
    new = without_extras(document.data)
    faults = [*change.contradictions(parts, state, loaded_anew(parts, state), reloaded(parts, state))]
    found = []
    for key in _others(old, new, ()):
        before, after = _shown(old, key), _shown(new, key)
        wrong = next((fault for fault in faults if _about(fault, key)), None)
        effect, why = _effect(key, before, after) if wrong is None else ("refused", _why(wrong))
        found.append(Change(key, _place(parts, key), before, after, effect, why))
    untold = [fault for fault in faults if not any(_about(fault, each.key) for each in found)]
    found += [Change((str(fault.key),), _at(fault), "", "", "refused", _why(fault)) for fault in untold]
    return found if faults else [*found, *_of_tables(parts, state)]


def loaded_anew(parts: Parts, state: State) -> dict[TableId, list[str]]:
    """The tables that the file gives other settings, and that can be loaded anew -> which settings."""
    return change.resettled(parts, state) if parts.loads and parts.captures else {}


def reloaded(parts: Parts, state: State) -> list[Place]:
    """The tables that the file gives another filter at a sink, and that can be loaded anew there; at others they go on
    as they are."""
    anew = loaded_anew(parts, state)
    if not (parts.loads and parts.captures):
        return []
    return [place for place in change.refiltered(parts, state) if place[1] not in anew]


def effect_of(changes: Sequence[Change]) -> Effect:
    """Of all of them together."""
    effects = {each.effect for each in changes}
    worst: tuple[Effect, ...] = ("refused", "resnapshot", "restart")
    return next((effect for effect in worst if effect in effects), "live")


def started_anew(changes: Sequence[Change], workers: Sequence[str]) -> list[str]:
    """The workers that live changes are about."""
    sinks = {f"deliver/{each.key[1]}" for each in changes if each.key[0] == "sinks"}
    loads = any(each.key[0] in _LIVE for each in changes)
    return [name for name in workers if name in sinks or (loads and name.partition("/")[0] in {"planner", "reader"})]


def _others(old: Any, new: Any, key: Key) -> Iterator[Key]:
    """The ways to what differs. A sink or a pattern that comes or goes is one change."""
    if key in _NAMED:
        for name in dict.fromkeys((*old, *new)):
            gone = name not in old or name not in new
            yield from [(*key, name)] if gone else _others(old[name], new[name], (*key, name))
    elif _is_section(old) and _is_section(new):
        one, other = old or {}, new or {}
        for name in dict.fromkeys((*one, *other)):
            yield from _others(one.get(name), other.get(name), (*key, name))
    elif old != new:
        yield key


def _is_section(value: Any) -> bool:
    """A mapping, or what is the same as an empty one: nothing."""
    return value is None or isinstance(value, dict)


_NAMED = {("sinks",), ("tables",)}
"""What is named there is there, even where nothing is said of it."""


def _shown(data: dict[str, Any], key: Key) -> str:
    value: Any = without_secrets(data)
    for name in key:
        if not isinstance(value, dict) or name not in value:
            return ""
        value = value[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _effect(key: Key, before: str, after: str) -> tuple[Effect, str]:
    match key:
        case ("throttle" | "snapshot", *_) | ("sinks", _, "batch", *_):
            return "live", ""
        case ("start", *_):
            return "live", "without effect: the job has begun"
        case ("queue", _, *_):
            return "refused", "the queue belongs to all jobs of the daemon: change it in the file and start that anew"
        case ("sinks", _):
            if after:
                return "restart", "a new sink: its tables get a load of their own, the other sinks go on"
            return "restart", "its saved state and queued changes are forgotten; its tables stay as they are"
        case ("tables", _):
            if after and not before:
                return "restart", "tables that fit it and are not copied yet get a load of their own"
        case ("policy", "zero_date"):
            return "restart", "in full for tables loaded from then on: resync those with dates"
        case ("policy", *_):
            return "restart", "for what comes from then on"
    return "restart", ""


def _of_tables(parts: Parts, state: State) -> Iterator[Change]:
    for table, names in loaded_anew(parts, state).items():
        why = f"loaded anew under other settings ({', '.join(names)}), beside its copies, which it then replaces"
        place = _place(parts, ("tables", parts.rule(table).pattern))
        yield Change(("tables",), place, str(table), str(table), "resnapshot", why)
    for sink, table in reloaded(parts, state):
        why = f"{table} is loaded anew at {sink} under another `where`, beside its copy, which it then replaces"
        key = ("sinks", sink, "where")
        yield Change(key, _place(parts, key), "", "", "resnapshot", why)
    for table in change.leaving(parts, state).tables:
        why = "its saved state and queued changes are forgotten; it stays at the sinks as it is"
        yield Change(("tables",), parts.job.path, str(table), "", "restart", why)
    for table in change.looked_at_anew(parts, state):
        yield Change(("tables",), parts.job.path, "", str(table), "restart", "it was refused, and is looked at anew")


def _about(fault: ConfigError, key: Key) -> bool:
    """Whether one stands in the other."""
    one, other = f"{fault.key}.", f"{dotted(key)}."
    return one.startswith(other) or other.startswith(one)


def _why(fault: ConfigError) -> str:
    return f"{fault.what}; {fault.hint} [{fault.code}]"


def _at(fault: ConfigError) -> str:
    return f"{fault.path}:{fault.line}:{fault.column}"


def _place(parts: Parts, key: Key) -> str:
    line, column = parts.job.document.place(key, of_key=True)
    return f"{parts.job.path}:{line}:{column}"
