"""A job file as a typed value. Every fault of the file is found at once (`Faults`), each with its place.

    job = load_job(Path("shop.yaml"))            Faults: all that is wrong
    jobs = load_directory(Path("jobs"))          also: two files with one job name
    job.match(TableId("shop", "users"))          TableRule | None
    job.source.plugin, job.source.options        the plugin's name, and its own `Options`
    job.sinks["olap"].tags                       a sink's settings next to its plugin
    job.fingerprint()                            canonical JSON by section, without secrets
    job.findings                                 warnings: a password in the clear
    not_yet(job)                                 what this version cannot run (syncd.config.later); in `Faults`, too

A job pickles and stores as its text; references to secrets are put in anew where it is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from syncd.config import later
from syncd.config.document import Document, Key, dotted, parse, read_text
from syncd.config.faults import Faults, raise_all, replaced
from syncd.config.filters import Filters
from syncd.config.rules import check_rules
from syncd.config.secrets import Resolver, Secrets, literals, without_extras, without_secrets
from syncd.config.spec import (
    Batch,
    JobSpec,
    Policy,
    SinkBlock,
    Snapshot,
    Start,
    TableSpec,
    Throttle,
)
from syncd.config.tables import TableMap, TableRule
from syncd.config.translate import Translator
from syncd.config.uses import PluginUse, Uses
from syncd.errors import ConfigError
from syncd.model import Finding, TableId


@dataclass(frozen=True, slots=True)
class QueueUse(PluginUse):
    queues: int
    tag: str


@dataclass(frozen=True, slots=True)
class SinkUse(PluginUse):
    name: str
    tags: str
    deletes: str
    where: Filters = field(repr=False)
    batch: Batch


@dataclass(frozen=True, slots=True)
class Job:
    """A valid job. `spec` holds the settings as typed; the names below are the ones that are used most."""

    path: str
    spec: JobSpec = field(repr=False)
    source: PluginUse
    queue: QueueUse
    sinks: Mapping[str, SinkUse]
    findings: tuple[Finding, ...]
    document: Document = field(repr=False)
    secrets: Secrets = field(repr=False)
    plugin_paths: tuple[Path, ...] = field(repr=False)
    tables: TableMap = field(repr=False)
    not_yet: tuple[ConfigError, ...] = field(repr=False)

    @property
    def name(self) -> str:
        return self.spec.job

    @property
    def mode(self) -> str:
        return self.spec.mode

    @property
    def start(self) -> Start | None:
        return self.spec.start

    @property
    def policy(self) -> Policy:
        return self.spec.policy

    @property
    def snapshot(self) -> Snapshot:
        return self.spec.snapshot

    @property
    def throttle(self) -> Throttle:
        return self.spec.throttle

    @property
    def text(self) -> str:
        """The file's text; `parse_job(job.text, job.path)` makes the job again."""
        return self.document.text

    def match(self, table: TableId) -> TableRule | None:
        """The rule for a table, None for one that the job does not want. ConfigError: two patterns fit alike."""
        return self.tables.match(table)

    def wanted(self, table: TableId) -> bool:
        return self.match(table) is not None

    def fingerprint(self) -> dict[str, str]:
        """Section -> canonical JSON of what the file says; a sink is a section of its own, "sinks.<name>".

        Literal secrets are masked and references stay as they are written, so that a new password changes nothing.
        """
        shown = self.public()
        sinks = shown.pop("sinks")
        sections = {**shown, **{f"sinks.{name}": sink for name, sink in sinks.items()}}
        return {name: _canonical(value) for name, value in sorted(sections.items())}

    def public(self) -> dict[str, Any]:
        """The file's settings for people and APIs: secrets masked, references as written."""
        return without_extras(without_secrets(self.document.data))

    def fault(self, key: Key, what: str, *, code: str, hint: str = "", of_key: bool = False) -> ConfigError:
        """A fault found later (at plan time), with its place in the job file."""
        return self.document.fault(key, what, code=code, hint=hint, of_key=of_key)

    def placed(self, error: ConfigError) -> ConfigError:
        """A ConfigError that knows its key only (`transforms.build`), with its place in the job file."""
        place = next((p for key, p in self.document.values.items() if dotted(key) == error.key), None)
        if error.line or place is None:
            return error
        return replaced(error, self.secrets.hide, self.path, *place)

    def __reduce__(self) -> tuple[Callable[..., Job], tuple[Any, ...]]:
        return parse_job, (self.text, self.path, self.plugin_paths)


def load_job(path: Path, plugin_paths: Sequence[Path] = ()) -> Job:
    """The job in a file. Faults: everything that is wrong with it."""
    if not path.suffix and not path.exists():
        hint = "name a job file, or make this folder and put job files into it"
        raise ConfigError("there is no such file or folder", path=str(path), hint=hint, code="C101")
    return parse_job(read_text(path), str(path), plugin_paths)


def load_directory(folder: Path, plugin_paths: Sequence[Path] = ()) -> list[Job]:
    """All jobs (`*.yaml`, `*.yml`) of a folder, by file name. Faults: those of all files, and double job names."""
    if not folder.is_dir():
        raise ConfigError("is not a folder", path=str(folder), hint="create it, or name another one", code="C101")
    jobs: list[Job] = []
    faults: list[ConfigError] = []
    for path in sorted(p for p in folder.iterdir() if p.suffix in {".yaml", ".yml"} and p.name != "syncd.yaml"):
        try:
            job = load_job(path, plugin_paths)
        except ConfigError as found:
            faults += found.faults if isinstance(found, Faults) else [found]
            continue
        first = next((j for j in jobs if j.name == job.name), None)
        if first is not None:
            what = f"the job name '{job.name}' is taken"
            faults.append(job.fault(("job",), what, code="C122", hint=f"by {first.path}"))
        jobs.append(job)
    if faults:
        raise Faults([*faults, *(fault for job in jobs for fault in not_yet(job))])
    return jobs


def parse_job(text: str, path: str, plugin_paths: Sequence[Path] = ()) -> Job:
    """The job in a text; `path` is where its faults are said to be."""
    document = parse(text, path)
    resolver = Resolver(document)
    data = without_extras(resolver.resolve())
    spec, faults = _validated(document, resolver, data)
    uses = Uses(document, resolver, tuple(plugin_paths))
    source = uses.one("source", ("source",), data.get("source"))
    queue = uses.one("queue", ("queue",), data.get("queue") or {}, default="embedded")
    raw_sinks = data.get("sinks")
    sinks = {
        str(name): uses.one("sink", ("sinks", name), value)
        for name, value in (raw_sinks if isinstance(raw_sinks, dict) else {}).items()
    }
    uses.table_options(data, sinks)
    faults += [*uses.faults, *check_rules(document, data)]
    to_come = later.of_job(document, data, uses.later)
    if document.faults or faults:
        known = {fault.key for fault in faults}
        faults += [fault for fault in to_come if fault.key not in known]
    missing = {dotted(key) for key in resolver.failed}
    hide = resolver.secrets.hide
    raise_all(
        replaced(fault, hide, fault.path, fault.line, fault.column)
        for fault in [*document.faults, *faults]
        if fault in document.faults or fault.key not in missing
    )
    assert spec is not None
    assert source is not None
    assert queue is not None
    return Job(
        path=path,
        spec=spec,
        source=source,
        queue=QueueUse(queue.kind, queue.plugin, queue.options, queue.cls, spec.queue.queues, spec.queue.tag),
        sinks={name: _sink(document, name, use, spec.sinks[name]) for name, use in sinks.items() if use is not None},
        findings=tuple(_findings(document, spec)),
        document=document,
        secrets=resolver.secrets,
        plugin_paths=tuple(plugin_paths),
        tables=TableMap(spec.tables, document, spec.mask_salt),
        not_yet=tuple(to_come),
    )


def not_yet(job: Job) -> list[ConfigError]:
    """One fault for each part of the job that this version cannot run; empty when it can run all of it."""
    return [*job.not_yet]


def _validated(
    document: Document, resolver: Resolver, data: dict[str, Any]
) -> tuple[JobSpec | None, list[ConfigError]]:
    try:
        return JobSpec.model_validate(data), []
    except ValidationError as error:
        return None, Translator(document, resolver.secrets, JobSpec).faults(error)


def _sink(document: Document, name: str, use: PluginUse, block: SinkBlock) -> SinkUse:
    where = Filters(document, name, block.where)
    return SinkUse(use.kind, use.plugin, use.options, use.cls, name, block.tags, block.deletes, where, block.batch)


def _findings(document: Document, spec: JobSpec) -> Iterator[Finding]:
    for key, _ in literals(document):
        line, column = document.place(key)
        yield Finding(
            "warning",
            f"{document.path}:{line}:{column} {dotted(key)}",
            "a password stands in the file in the clear",
            "write ${env:NAME} or ${file:/path} in its place",
        )
    hashed: list[Key] = [
        ("tables", text, "mask") for text, table in spec.tables.items() if "hash" in table.mask.values()
    ]
    for text, table in spec.tables.items():
        if table.compute:
            hashed += [("tables", text, "compute", name) for name in _hashed(table.compute)]
            yield from _seen_through(document, text, table)
    if hashed and spec.mask_salt is None:
        line, column = document.place(hashed[0])
        yield Finding(
            "warning",
            f"{document.path}:{line}:{column} {dotted(hashed[0])}",
            "`hash` without `mask_salt`: short values can be found by trying",
            "set mask_salt: ${env:NAME}",
        )


def _hashed(compute: Mapping[str, str]) -> Iterator[str]:
    """The computed columns that hash something."""
    from syncd.transforms.compute import hashes, parse

    yield from (name for name, expression in compute.items() if hashes(parse(expression)))


def _seen_through(document: Document, text: str, table: TableSpec) -> Iterator[Finding]:
    """Computed columns that show something of what a mask hides; one that is masked itself shows nothing."""
    from syncd.transforms.compute import parse, shows

    masked = {name.lower() for name in table.mask}
    for name, expression in table.compute.items():
        seen = [column for column in shows(parse(expression)) if column.lower() in masked]
        if seen and name.lower() not in masked:
            key = ("tables", text, "compute", name)
            line, column = document.place(key)
            yield Finding(
                "warning",
                f"{document.path}:{line}:{column} {dotted(key)}",
                f"'{seen[0]}' is masked, and this column is computed of what the mask hides",
                f"mask '{name}' too, or use hash({seen[0]}), if this is not meant",
            )


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
