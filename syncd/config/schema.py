"""JSON Schemas of the service file and of job files, for editors: made of the same types that validate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from syncd import plugins
from syncd.config import later
from syncd.config.service import Service
from syncd.config.spec import JobSpec
from syncd.errors import ConfigError

_BLOCKS: dict[str, plugins.Kind] = {"SourceBlock": "source", "QueueBlock": "queue", "SinkBlock": "sink"}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(kind: str, plugin_paths: Sequence[Path] = ()) -> dict[str, Any]:
    """`kind` is "service" or "job"; a job's schema holds the options of all installed plugins whose driver is there."""
    if kind == "service":
        return _finished(_marked(Service.model_json_schema(), later.SERVICE), "syncd service file")
    if kind != "job":
        raise ConfigError(f"there is no schema of '{kind}'", hint="job or service", code="C109")
    schema = _marked(JobSpec.model_json_schema(), later.JOB)
    definitions = schema["$defs"]
    for name, block in _BLOCKS.items():
        definitions[name]["additionalProperties"] = False
        for plugin in plugins.available(plugin_paths):
            if plugin.kind == block and plugin.state == "ready":
                options = _options(block, plugin.name, plugin_paths, definitions)
                definitions[name].setdefault("properties", {})[plugin.name] = options
    return _finished(schema, "syncd job file")


def _options(kind: plugins.Kind, name: str, paths: Sequence[Path], definitions: dict[str, Any]) -> dict[str, Any]:
    """The plugin's own schema; its inner definitions move to the job's, under names of their own."""
    model = plugins.load(kind, name, paths).Options
    prefix = f"{kind}_{name}_"
    schema: dict[str, Any] = model.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}")
    for inner, value in schema.pop("$defs", {}).items():
        definitions[prefix + inner] = value
    return schema


def _marked(schema: dict[str, Any], table: Iterable[later.Later]) -> dict[str, Any]:
    """With a note at each setting that is not there yet. KeyError: the table names a setting that no file has."""
    for each in table:
        setting = schema
        for name in each.setting:
            setting = _inner(_plain(setting, schema["$defs"]), name)
        setting["description"] = f"{setting.get('description', '')} {each.note}".strip()
    return schema


def _plain(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The mapping that a reference, or an optional setting, stands for."""
    for part in schema.get("anyOf", [schema]):
        if "$ref" in part:
            found: dict[str, Any] = definitions[part["$ref"].rpartition("/")[2]]
            return found
    return schema


def _inner(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """The schema of a setting; "*": of the values under names of the user's."""
    names = schema["properties"] if name != "*" else {"*": schema.get("additionalProperties")}
    found: dict[str, Any] = names[name] or next(iter(schema["patternProperties"].values()))
    return found


def _finished(schema: dict[str, Any], title: str) -> dict[str, Any]:
    extras = {"^x-": {"description": "A place for anchors; syncd does not read it."}}
    return {"$schema": _DIALECT, **schema, "title": title, "patternProperties": extras}
