"""The plugins that a job names: found in their blocks, loaded, and their options validated by their own types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from syncd import plugins
from syncd.config.document import Document, Key
from syncd.config.faults import did_you_mean
from syncd.config.secrets import Resolver
from syncd.config.spec import Block, QueueBlock, SinkBlock
from syncd.config.translate import Translator
from syncd.errors import ConfigError, PluginError


@dataclass(frozen=True, slots=True)
class PluginUse:
    """One plugin as a job uses it. `options` is None when the plugin is not there yet (`not_yet` reports it)."""

    kind: plugins.Kind
    plugin: str
    options: Any = field(repr=False)
    cls: type[Any] | None = field(repr=False)


class Uses:
    """Finds the plugin in each block and validates its options with the plugin's own type."""

    def __init__(self, document: Document, resolver: Resolver, paths: tuple[Path, ...]) -> None:
        self.document, self.resolver, self.paths = document, resolver, paths
        self.faults: list[ConfigError] = []
        self.later: list[Key] = []

    def one(self, kind: plugins.Kind, key: Key, data: Any, default: str = "") -> PluginUse | None:
        """The plugin of the block at `key`; None after a fault (or where the block's own type finds one)."""
        if not isinstance(data, dict):
            return None
        own = _BLOCKS[kind].model_fields
        named = [name for name in data if name not in own]
        if not named and default:
            return self.use(kind, default, (*key, default), {})
        known = [n for n in named if n in plugins.names(kind, self.paths) or plugins.is_later(kind, n, self.paths)]
        for name in (n for n in named if n not in known):
            self.unknown(kind, (*key, name), own)
        if len(known) == 1:
            return self.use(kind, known[0], (*key, known[0]), data[known[0]])
        if not named:
            there = ", ".join(plugins.names(kind, self.paths))
            hint = f"there is: {there}" if there else "none is installed"
            self.add(self.document.fault(key, f"no {kind} plugin is named", code="C113", hint=hint))
        elif len(known) > 1:
            text = f"two {kind} plugins are named: {known[0]} and {known[1]}"
            self.add(self.document.fault((*key, known[1]), text, code="C113", hint="keep one", of_key=True))
        return None

    def unknown(self, kind: plugins.Kind, key: Key, own: Mapping[str, object]) -> None:
        hint = did_you_mean(str(key[-1]), [*own, *plugins.names(kind, self.paths)], "there is")
        what = f"neither a setting nor a {kind} plugin" if own else f"no such {kind} plugin"
        self.add(self.document.fault(key, what, code="C114", hint=hint, of_key=True))

    def use(self, kind: plugins.Kind, name: str, key: Key, data: Any) -> PluginUse | None:
        if plugins.is_later(kind, name, self.paths):
            self.later.append(key)
            return PluginUse(kind, name, None, None)
        try:
            cls = plugins.load(kind, name, self.paths)
        except PluginError as error:
            self.add(self.document.fault(key, error.what, code="C115", hint=error.hint, of_key=True))
            return None
        options = self.options(cls.Options, key, {} if data is None else data)
        return None if options is None else PluginUse(kind, name, options, cls)

    def options(self, model: type[BaseModel], key: Key, data: Any) -> Any:
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for fault in Translator(self.document, self.resolver.secrets, model, key).faults(error):
                self.add(fault)
        return None

    def table_options(self, data: Mapping[str, Any], sinks: Mapping[str, PluginUse | None]) -> None:
        """A table's settings for one sink: the sink is there, and its plugin's `TableOptions` takes them."""
        tables = data.get("tables")
        for text, table in (tables if isinstance(tables, dict) else {}).items():
            given = table.get("sinks") if isinstance(table, dict) else None
            for name, options in (given if isinstance(given, dict) else {}).items():
                key: Key = ("tables", text, "sinks", name)
                if name not in sinks:
                    hint = did_you_mean(name, sinks, "there is")
                    self.add(self.document.fault(key, "no sink has this name", code="C105", hint=hint, of_key=True))
                    continue
                use = sinks[name]
                model = getattr(use.cls, "TableOptions", None) if use else None
                if model is not None:
                    self.options(model, key, options)

    def add(self, fault: ConfigError) -> None:
        self.faults.append(fault)


_BLOCKS: dict[plugins.Kind, type[Block]] = {"source": Block, "queue": QueueBlock, "sink": SinkBlock}
