"""`python -m syncd.config.docs [FOLDER]` writes configuration.md, errors.md and schema/*.json; FOLDER is `docs`.

The pages are made of the types and of the catalogue; what they say of a setting is the docstring behind it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from syncd import catalogue, plugins
from syncd.config import later, spec
from syncd.config.prose import HEAD
from syncd.config.schema import json_schema
from syncd.config.service import Log, Metrics, Service

SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("", spec.JobSpec),
    ("start", spec.Start),
    ("tables: pattern", spec.TableSpec),
    ("tables: pattern: columns", spec.Columns),
    ("queue", spec.QueueBlock),
    ("sinks: name", spec.SinkBlock),
    ("sinks: name: batch", spec.Batch),
    ("policy", spec.Policy),
    ("policy: ddl", spec.DdlPolicy),
    ("snapshot", spec.Snapshot),
    ("retry", spec.Retry),
    ("retry: steps", spec.Exponential),
    ("reconcile", spec.Reconcile),
    ("throttle", spec.Throttle),
)
SERVICE: tuple[tuple[str, type[BaseModel]], ...] = (("", Service), ("log", Log), ("metrics", Metrics))
SHIPPED: tuple[tuple[plugins.Kind, str], ...] = (
    ("source", "mysql"),
    ("sink", "clickhouse"),
    ("sink", "parquet"),
    ("queue", "embedded"),
)


def configuration() -> str:
    """docs/configuration.md."""
    parts = [HEAD, "\n## The job file\n"]
    for path, model in SECTIONS:
        parts += [_title(path), f"\n{model.__doc__ or ''}\n\n", *_table(model, way(path), later.JOB)]
    for kind, name in SHIPPED:
        model = plugins.load(kind, name).Options
        parts += [f"\n### {kind} `{name}`\n\n", *_plugin_table(model)]
    parts.append("\n## The service file\n")
    for path, model in SERVICE:
        parts += [_title(path), f"\n{model.__doc__ or ''}\n\n", *_table(model, way(path), later.SERVICE)]
    return "".join(parts)


def way(path: str) -> tuple[str, ...]:
    """A section's path as `Later.setting` has it: "sinks: name: batch" -> ("sinks", "*", "batch")."""
    return tuple("*" if part in {"pattern", "name"} else part for part in path.split(": ") if part)


def _title(path: str) -> str:
    return f"\n### `{path}`\n" if path else ""


def _table(model: type[BaseModel], section: tuple[str, ...] = (), table: Sequence[later.Later] = ()) -> Iterator[str]:
    yield "| setting | type | default | meaning |\n|---|---|---|---|\n"
    properties = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        shown = field.alias or name
        kind = _kind(properties[shown], model.model_json_schema().get("$defs", {}))
        meaning = f"{field.description or ''} {later.note((*section, shown), table)}"
        yield f"| `{shown}` | {kind} | {_default(field)} | {_cell(meaning)} |\n"


def _plugin_table(model: type[BaseModel]) -> Iterator[str]:
    """A plugin's settings, and those of the mappings in them."""
    yield from _table(model)
    for name, field in model.model_fields.items():
        for inner in _models(field.annotation):
            yield f"\n`{name}`:\n\n"
            yield from _table(inner)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)


def _kind(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """The type in words."""
    if "$ref" in schema:
        return _kind(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        parts = [_kind(part, definitions) for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(parts))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    kind = schema.get("format") if schema.get("format") in {"size", "duration", "path"} else schema.get("type")
    if isinstance(kind, list):
        return " or ".join(_WORDS.get(str(one), str(one)) for one in kind)
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}), definitions)}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"mapping to {_kind(schema['additionalProperties'], definitions)}"
    return _WORDS.get(str(kind), str(kind)) + _limits(schema)


_WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true`, `false`",
    "object": "mapping",
    "None": "anything",
}


def _limits(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f", {low} to {high}"
    return f", at least {low}" if low is not None else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    is_hidden = isinstance(value, BaseModel) or hasattr(value, "get_secret_value")
    if value is None or value is PydanticUndefined or value in ([], {}, (), "") or is_hidden:
        return ""
    shown = json.dumps(value) if isinstance(value, bool | list | dict) else str(value)
    return f"`{_size(shown, field)}`"


def _size(shown: str, field: FieldInfo) -> str:
    """67108864 -> 64MiB."""
    is_size = any(getattr(m, "json_schema", {}) and m.json_schema.get("format") == "size" for m in field.metadata)
    mib = 1024 * 1024
    return f"{int(shown) // mib}MiB" if is_size and int(shown) % mib == 0 else shown


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def pages() -> dict[str, str]:
    """File below docs/ -> text."""
    schemas = {f"schema/{kind}.json": json.dumps(json_schema(kind), indent=2) + "\n" for kind in ("job", "service")}
    return {"configuration.md": configuration(), "errors.md": catalogue.page(), **schemas}


def main(folder: Path) -> None:
    for name, text in pages().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
