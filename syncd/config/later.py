"""What a file may say and this version cannot run yet: refused (C130), and marked in the pages and schemas.

One table for each file; a line goes when the part comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from syncd.config.document import Document, Key
from syncd.errors import ConfigError

_HINT = "it comes with a later version of syncd; take it out for now"


class Later(NamedTuple):
    """`setting`: the way to it in the file, "*" for a name of the user's. `values`: only these; empty: any."""

    what: str
    setting: tuple[str, ...]
    values: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What the pages and schemas say of the setting."""
        only = f": {', '.join(f'`{value}`' for value in self.values)}" if self.values else ""
        return f"Not there yet, and refused{only}."

    def find(self, data: Any) -> Iterator[Key]:
        """Where a file says it."""
        for key, value in _at(data, self.setting):
            if value is not None and (not self.values or value in self.values):
                yield key


def note(setting: tuple[str, ...], table: Iterable[Later]) -> str:
    """What is said of a setting that is not there yet, or that is part of one; "" of all others."""
    notes = (later.note for later in table if setting == later.setting or _is_part(setting, later))
    return next(notes, "")


def _is_part(setting: tuple[str, ...], later: Later) -> bool:
    return not later.values and setting[: len(later.setting)] == later.setting


JOB = (
    Later("`keyless: row-hash`", ("tables", "*", "keyless"), ("row-hash",)),
    Later("`kind: append`", ("tables", "*", "kind"), ("append",)),
    Later("retry and parking", ("retry",)),
    Later("reconcile on a schedule", ("reconcile", "cron")),
    Later("repair", ("reconcile", "repair"), ("dry-run", "apply")),
    Later("a start by time", ("start", "timestamp")),
)
SERVICE: tuple[Later, ...] = ()


def of_job(document: Document, data: Mapping[str, Any], plugins: Iterable[Key]) -> list[ConfigError]:
    """One fault for each part of a job file that this version cannot run, as far as the file can be read.

    `data`: with references put in. `plugins`: where plugins that are to come are named.
    """
    named = [("this plugin", key) for key in plugins]
    return [_fault(document, key, what) for what, key in (*named, *_found(data, JOB))]


def of_service(document: Document, data: Mapping[str, Any]) -> list[ConfigError]:
    return [_fault(document, key, what) for what, key in _found(data, SERVICE)]


def _found(data: Mapping[str, Any], table: Iterable[Later]) -> Iterator[tuple[str, Key]]:
    for later in table:
        yield from ((later.what, key) for key in later.find(data))


def _fault(document: Document, key: Key, what: str) -> ConfigError:
    return document.fault(key, f"{what} is not there yet", code="C130", hint=_HINT)


def _at(value: Any, way: tuple[str, ...], key: Key = ()) -> Iterator[tuple[Key, Any]]:
    if not way:
        yield key, value
    elif isinstance(value, dict):
        for name in value if way[0] == "*" else {way[0]} & value.keys():
            yield from _at(value[name], way[1:], (*key, name))
