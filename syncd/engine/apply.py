"""A job file that was applied: which text a daemon is to run, and its answer to who has applied it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import structlog

from syncd.config import Faults, not_yet, parse_job
from syncd.engine.build import Parts
from syncd.errors import SyncdError
from syncd.state import Answer, Applied, Items, State

log = structlog.get_logger()


def digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def following(state: State, text: str, path: str, at: int) -> Applied:
    """What is saved of a file that is applied now: it goes before every text that it, or one before it, replaces."""
    before, now = state.applied(), digest(str((state.meta() or {})["text"]))
    instead = {*(before.instead if before else ()), now} - {digest(text)}
    return Applied(text, path, at, tuple(sorted(instead)))


def at_start(parts: Parts, state: State) -> Parts:
    """The job that a daemon runs that was given this file: the one applied last, where the file is an older one.

    A file that people have edited since goes before it, and so does any other. Faults: the applied text's.
    """
    applied = state.applied()
    if applied is None or applied.text == parts.job.text or digest(parts.job.text) not in applied.instead:
        return parts
    if applied.path == _path(parts):
        return parts
    log.warning("job_file_is_old", job=parts.job.name, file=parts.job.path, applied=applied.path)
    return made(parts, applied)


def refused(parts: Parts, state: State, at: int, error: SyncdError) -> Items:
    """The job of `parts` goes on as if nothing had been applied; who has applied it is told why."""
    log.error("apply_refused", job=parts.job.name, error=str(error))
    before = following(state, parts.job.text, _path(parts), at)
    items = state.applied_item(before) | state.answer_item(Answer(at, str(error)))
    there = {(record.sink, record.table) for record in state.tables()}  # others have begun, by an earlier file
    for sink, table in there.intersection(state.reloads()):
        items |= state.reload_item(sink, table, wanted=False)
    return items


def _path(parts: Parts) -> str:
    return str(Path(parts.job.path).absolute())


def made(parts: Parts, applied: Applied) -> Parts:
    """The job of an applied text, for the same service. Faults: all that is wrong with it here."""
    job = parse_job(applied.text, applied.path, parts.service.plugin_paths)
    if faults := not_yet(job):
        raise Faults(faults)
    return replace(parts, job=job)
