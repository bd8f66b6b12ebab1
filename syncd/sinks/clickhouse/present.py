"""The table as it is at the server, and every difference from what the sink would make."""

# ruff: noqa: S608 - every name and value in these statements is quoted by `ddl`

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from syncd.model import Target
from syncd.sinks.clickhouse.client import Client
from syncd.sinks.clickhouse.ddl import engine, full_name
from syncd.sinks.clickhouse.rows import DELETED, VERSION
from syncd.sinks.clickhouse.syntax import text
from syncd.sinks.clickhouse.types import Making, held, holds

_LISTED = re.compile(r"`((?:[^`\\]|\\.)*)`|([^`(), ]+)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_CONTROLS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "0": "\0"}


@dataclass(frozen=True, slots=True)
class PresentColumn:
    name: str
    type: str
    default_kind: str
    in_partition: bool


@dataclass(frozen=True, slots=True)
class Present:
    """`engine` with its arguments; `sorting`: the names of ORDER BY.

    `remembers`: inserts that are repeated are known again.
    """

    engine: str
    sorting: tuple[str, ...]
    columns: tuple[PresentColumn, ...]
    remembers: bool

    def column(self, name: str) -> PresentColumn | None:
        return next((c for c in self.columns if c.name == name), None)


def describe(client: Client, target: Target) -> Present | None:
    """None when there is no such table."""
    where = f"database = {text(target.database)} AND"
    doing, table = f"describing {target.database}.{target.name}", str(target.schema.table)
    found = client.text(
        f"SELECT toJSONString((engine, engine_full, sorting_key)) FROM system.tables "
        f"WHERE {where} name = {text(target.name)}",
        doing=doing,
        table=table,
    )
    if not found.strip():
        return None
    name, full, sorting = json.loads(found)
    listed = client.text(
        f"SELECT toJSONString((name, type, default_kind, is_in_partition_key)) FROM system.columns "
        f"WHERE {where} table = {text(target.name)} ORDER BY position",
        doing=doing,
        table=table,
    )
    columns = [json.loads(line) for line in listed.splitlines()]
    return Present(
        engine=_engine(name, full),
        sorting=_names(sorting),
        columns=tuple(PresentColumn(n, t, d, bool(p)) for n, t, d, p in columns),
        remembers=_remembers(name, full),
    )


def fingerprint(client: Client, target: Target) -> str:
    """Changes whenever somebody alters the table; one cheap statement."""
    table = str(target.schema.table)
    return client.text(f"SHOW CREATE TABLE {full_name(target)}", doing=f"looking at {full_name(target)}", table=table)


def _engine(name: str, full: str) -> str:
    """ReplicatedReplacingMergeTree('/path', 'replica', _version) and its kind: as ReplacingMergeTree(_version)."""
    family = next((f for f in ("ReplacingMergeTree", "MergeTree") if name in {f, f"Replicated{f}", f"Shared{f}"}), name)
    arguments = full.partition("(")[2].partition(")")[0] if full.startswith(f"{name}(") else ""
    own = [a.strip() for a in arguments.split(",") if a.strip() and not a.strip().startswith("'")]
    return f"{family}({', '.join(own)})" if own else family


def _remembers(name: str, full: str) -> bool:
    """Replicated tables do so unless told otherwise, others if told."""
    plain = not name.startswith(("Replicated", "Shared"))
    found = re.search(rf"\b{'non_' if plain else ''}replicated_deduplication_window = (\d+)", full)
    return int(found[1]) > 0 if found else not plain


def _names(sorting: str) -> tuple[str, ...]:
    """The names in a list, of which the odd ones are quoted."""
    return tuple(plain or _ESCAPED.sub(_meant, quoted) for quoted, plain in _LISTED.findall(sorting))


def _meant(escape: re.Match[str]) -> str:
    return _CONTROLS.get(escape[1], escape[1])


def differences(target: Target, present: Present, making: Making) -> list[str]:
    """One line per difference that would lose or change something; empty when the table fits."""
    return [*_columns(target, present, making), *_extra(target, present), *keys(target, present)]


def _columns(target: Target, present: Present, making: Making) -> list[str]:
    identity = target.schema.identity
    wanted = {c.name: held(c, c.name in identity, making) for c in target.schema.columns}
    types = {name: kind.name if kind else "nothing" for name, kind in wanted.items()}
    found = []
    for name, kind in {**types, VERSION: "UInt64", DELETED: "UInt8"}.items():
        there = present.column(name)
        if there is None:
            found.append(f"column {name} is missing, {kind} is wanted")
        elif there.type != kind and not (target.own and name in wanted and holds(there.type, kind)):
            found.append(f"column {name} is {there.type}, {kind} is wanted")
        elif there.default_kind in {"MATERIALIZED", "ALIAS", "EPHEMERAL"}:
            found.append(f"column {name} is {there.default_kind}: it cannot be written")
    return found


def _extra(target: Target, present: Present) -> list[str]:
    ours = {c.name for c in target.schema.columns} | {VERSION, DELETED}
    return [
        f"column {c.name} {c.type} is not the source's, and has neither NULL nor a DEFAULT"
        for c in present.columns
        if c.name not in ours and not c.default_kind and "Nullable(" not in c.type
    ]


def keys(target: Target, present: Present) -> list[str]:
    """The part of `differences` that no ALTER could mend."""
    found = []
    if present.engine != engine(target):
        found.append(f"the engine is {present.engine}, {engine(target)} is wanted")
    if target.append:
        if not present.remembers:
            found.append("it has no non_replicated_deduplication_window: a repeated insert would add its rows twice")
        return found
    if present.sorting != target.schema.identity:
        there, wanted = ", ".join(present.sorting), ", ".join(target.schema.identity)
        found.append(f"ORDER BY is ({there}), ({wanted}) is wanted")
    outside = [c.name for c in present.columns if c.in_partition and c.name not in target.schema.identity]
    if outside:
        found.append(f"PARTITION BY uses {', '.join(outside)}: two versions of a row could lie in two partitions")
    return found
