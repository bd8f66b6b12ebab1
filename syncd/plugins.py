"""Sources, sinks and queues by name; a plugin is imported only when it is asked for.

    load("sink", "clickhouse") -> class          PluginError: unknown, not yet, or its driver is not installed
    names("sink") -> ("clickhouse", ...)         what `load` would find
    available() -> [Plugin(...), ...]            the table of `syncd plugins`

A plugin is an entry point of the group `syncd.sources`, `syncd.sinks` or `syncd.queues`, or a file in one of the
`plugin_paths` folders: `<name>.py` that defines one class with an `Options` model and the methods of `syncd.spi`.
A file goes before an entry point of the same name, so that a folder can replace a shipped plugin. `names` and
`available` import nothing but a file that inherits all of its methods, since its text does not tell what it is.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

from syncd.errors import PluginError

Kind = Literal["source", "sink", "queue"]
KINDS: tuple[Kind, ...] = get_args(Kind)

EXTRAS: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("source", "mysql"): ("mysql", ("pymysql",)),
    ("sink", "clickhouse"): ("clickhouse", ("clickhouse_connect",)),
    ("sink", "mysql"): ("mysql", ("pymysql",)),
    ("sink", "oceanbase"): ("mysql", ("pymysql",)),
}
"""Shipped plugins: the extra that brings their driver, and the driver's modules."""

LATER: dict[Kind, tuple[str, ...]] = {
    "source": ("postgres", "mongodb", "oceanbase", "oracle", "sqlserver", "kafka", "tidb"),
    "sink": ("postgres", "kafka", "rocketmq", "redis", "mongodb", "elasticsearch", "opensearch"),
    "queue": ("kafka", "rocketmq"),
}
"""Plugins that are planned and not there yet."""

_TELLING: dict[Kind, str] = {"source": "stream", "sink": "prepare", "queue": "publish"}
"""The method that only a plugin of this kind has."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One line of `syncd plugins`. `state`: "ready", "driver missing", "not yet"; `hint` says what to do about it."""

    kind: Kind
    name: str
    version: str
    distribution: str
    state: str
    hint: str = ""


def load(kind: Kind, name: str, paths: Sequence[Path] = ()) -> type[Any]:
    """The plugin's class. PluginError says what to install or which names there are."""
    file = _files(kind, paths).get(name)
    if file is not None:
        return _from_file(kind, name, file)
    point = _entries(kind).get(name)
    if point is None:
        raise _unknown(kind, name, paths)
    try:
        return _checked(kind, name, point.load())
    except ImportError as error:
        raise _not_importable(kind, name, error) from error
    except AttributeError as error:
        raise PluginError(
            f"{kind} plugin '{name}' names a class that is not there: {point.value}", code="E113"
        ) from error


def names(kind: Kind, paths: Sequence[Path] = ()) -> tuple[str, ...]:
    """Every name that `load` finds, in order."""
    return tuple(sorted({*_entries(kind), *_files(kind, paths)}))


def is_later(kind: Kind, name: str, paths: Sequence[Path] = ()) -> bool:
    """True for a plugin that is planned and that nobody has brought along meanwhile."""
    return name in LATER[kind] and name not in names(kind, paths)


def available(paths: Sequence[Path] = ()) -> list[Plugin]:
    """All plugins, the ones to come included, by kind and name."""
    return [plugin for kind in KINDS for plugin in sorted(_of_kind(kind, paths), key=lambda p: p.name)]


def _of_kind(kind: Kind, paths: Sequence[Path]) -> Iterator[Plugin]:
    files = _files(kind, paths)
    for name, file in files.items():
        yield Plugin(kind, name, "", str(file), "ready")
    for name, point in _entries(kind).items():
        if name in files:
            continue
        version, distribution = (point.dist.version, point.dist.name) if point.dist else ("", "")
        hint = _install_hint(kind, name) if _drivers_missing(kind, name) else ""
        yield Plugin(kind, name, version, distribution, "driver missing" if hint else "ready", hint)
    for name in LATER[kind]:
        if is_later(kind, name, paths):
            yield Plugin(kind, name, "", "", "not yet", "comes with a later version")


def _entries(kind: Kind) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"syncd.{kind}s")}


def _drivers_missing(kind: Kind, name: str) -> list[str]:
    _, modules = EXTRAS.get((kind, name), ("", ()))
    return [module for module in modules if importlib.util.find_spec(module) is None]


def _install_hint(kind: Kind, name: str) -> str:
    return f"pip install '.[{EXTRAS[kind, name][0]}]' in the checkout of syncd"


def _unknown(kind: Kind, name: str, paths: Sequence[Path]) -> PluginError:
    if name in LATER[kind]:
        return PluginError(
            f"{kind} plugin '{name}' is not there yet", hint="it comes with a later version of syncd", code="E111"
        )
    known = names(kind, paths)
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean '{close[0]}'?" if close else f"there is: {', '.join(known) or 'none'}"
    return PluginError(f"no {kind} plugin is named '{name}'", hint=hint, code="E112")


def _not_importable(kind: Kind, name: str, error: ImportError) -> PluginError:
    missing = error.name or ""
    if missing.split(".")[0] in {"", "syncd"}:
        return PluginError(f"{kind} plugin '{name}' cannot be loaded: {error}", hint="reinstall syncd", code="E113")
    hint = _install_hint(kind, name) if (kind, name) in EXTRAS else f"pip install {missing.split('.')[0]}"
    return PluginError(f"{kind} plugin '{name}' needs the module '{missing}'", hint=hint, code="E110")


# ------------------------------------------------------------------------------------------------- plugin_paths


def _files(kind: Kind, paths: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in paths:
        if not folder.is_dir():
            raise PluginError(f"plugin_paths: {folder} is not a folder", hint="create it or take it out", code="E114")
        for file in sorted(folder.glob("[!_]*.py")):
            if kind in _kinds(file):
                found.setdefault(file.stem, file)
    return found


def _kinds(file: Path) -> set[Kind]:
    """What a file may hold, told from its text, else by importing it. A broken one may be anything; `load` says why."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return set(KINDS)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    methods = {item.name for node in classes for item in node.body if isinstance(item, ast.FunctionDef)}
    told = {kind for kind, method in _TELLING.items() if method in methods}
    return told or (_inherited(file) if classes else set())


def _inherited(file: Path) -> set[Kind]:
    try:
        module = _module("sink", file.stem, file)
    except PluginError:
        return set(KINDS)
    return {kind for kind in KINDS if _classes(module, kind)} or set(KINDS)


def _classes(module: ModuleType, kind: Kind) -> list[type[Any]]:
    """Those that the file itself defines."""
    found = [value for value in vars(module).values() if isinstance(value, type)]
    return [value for value in found if value.__module__ == module.__name__ and hasattr(value, _TELLING[kind])]


def _from_file(kind: Kind, name: str, file: Path) -> type[Any]:
    classes = _classes(_module(kind, name, file), kind)
    if len(classes) != 1:
        text = f"{file} defines {len(classes)} {kind} classes"
        raise PluginError(text, hint=f"define exactly one with `Options` and `{_TELLING[kind]}`", code="E113")
    return _checked(kind, name, classes[0])


def _module(kind: Kind, name: str, file: Path) -> ModuleType:
    # The name holds the file's place: two folders may both have a `files.py`, and instances must pickle.
    place = hashlib.blake2b(str(file.resolve()).encode(), digest_size=4).hexdigest()
    full = f"syncd_plugin_{place}_{name}"
    if full in sys.modules:
        return sys.modules[full]
    spec = importlib.util.spec_from_file_location(full, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        del sys.modules[full]
        raise _not_importable(kind, name, error) from error
    except (Exception, SystemExit) as error:  # a script that ends itself is not to end syncd
        del sys.modules[full]
        raise PluginError(f"{file} cannot be loaded: {type(error).__name__}: {error}", code="E113") from error
    return module


def _checked(kind: Kind, name: str, cls: object) -> type[Any]:
    if isinstance(cls, type) and hasattr(cls, _TELLING[kind]) and hasattr(cls, "Options"):
        return cls
    raise PluginError(
        f"{kind} plugin '{name}' is not a {kind}",
        hint=f"it needs `Options` and `{_TELLING[kind]}` (see syncd/spi.py)",
        code="E113",
    )
