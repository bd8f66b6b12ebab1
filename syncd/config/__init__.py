"""The service file and the job files as typed values.

    load_service(path) -> Service            syncd.yaml, or the defaults
    load_job(path) -> Job                    a job file; `parse_job(text, path)` for a text
    load_directory(folder) -> [Job, ...]     all job files of a folder
    not_yet(job) -> [ConfigError, ...]       what this version cannot run yet
    skeleton(source_url, sink_url) -> text   a job file to begin with
    json_schema("job" | "service") -> dict   for editors

The loaders raise `Faults`: every fault of the file or files at once, each a `ConfigError` with its place.
`python -m syncd.config.docs` writes docs/configuration.md, docs/errors.md and docs/schema/.
"""

from syncd.config.document import parse as parse_document
from syncd.config.faults import Faults
from syncd.config.job import Job, QueueUse, SinkUse, load_directory, load_job, not_yet, parse_job
from syncd.config.schema import json_schema
from syncd.config.service import Service, load_service
from syncd.config.skeleton import skeleton
from syncd.config.spec import DdlPolicy, JobSpec
from syncd.config.tables import TableMap, TableRule
from syncd.config.uses import PluginUse

__all__ = [
    "DdlPolicy",
    "Faults",
    "Job",
    "JobSpec",
    "PluginUse",
    "QueueUse",
    "Service",
    "SinkUse",
    "TableMap",
    "TableRule",
    "json_schema",
    "load_directory",
    "load_job",
    "load_service",
    "not_yet",
    "parse_document",
    "parse_job",
    "skeleton",
]
