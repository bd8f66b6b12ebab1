"""A YAML file as plain data in which every key and value knows its line and column.

Composed by ruamel.yaml's round-trip loader; the nodes are turned into data here, since the places of merged keys and
of duplicate ones exist on the nodes only. The YAML is 1.2: `yes`, `no`, `on` and `off` are texts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.tokens import (
    FlowMappingEndToken,
    FlowMappingStartToken,
    FlowSequenceEndToken,
    FlowSequenceStartToken,
)

from syncd.config.faults import Faults
from syncd.errors import ConfigError

Key = tuple[str | int, ...]
"""The way to a value: ("tables", "shop.users", "mask", "email")."""

_MAX_NODES = 200_000
_TAG = "tag:yaml.org,2002:"
_AMBIGUOUS_INT = re.compile(r"^[-+]?0[0-9_]+$")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Place(NamedTuple):
    line: int
    column: int


@dataclass(slots=True)
class Document:
    """`data`: dicts, lists and scalars. `values` and `keys`: where each value and each key stands."""

    path: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)
    values: dict[Key, Place] = field(default_factory=dict)
    keys: dict[Key, Place] = field(default_factory=dict)
    faults: list[ConfigError] = field(default_factory=list)

    def place(self, key: Key, *, of_key: bool = False) -> Place:
        """Where `key` stands, or the nearest thing around it."""
        for end in range(len(key), -1, -1):
            found = (of_key and self.keys.get(key[:end])) or self.values.get(key[:end])
            if found:
                return found
        return Place(1, 1)

    def fault(self, key: Key, what: str, *, code: str, hint: str = "", of_key: bool = False) -> ConfigError:
        line, column = self.place(key, of_key=of_key)
        return ConfigError(what, path=self.path, line=line, column=column, key=dotted(key), hint=hint, code=code)

    def get(self, key: Key) -> Any:
        """The value at `key`, None when there is none."""
        value: Any = self.data
        for part in key:
            in_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
            if not in_list and not (isinstance(value, dict) and part in value):
                return None
            value = value[part]
        return value


def dotted(key: Key) -> str:
    return ".".join(str(part) for part in key)


def read_text(path: Path) -> str:
    """The file's text. ConfigError: not there, not a file, not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        done = error.object[: error.start]
        line, column = done.count(b"\n") + 1, error.start - (done.rfind(b"\n") + 1) + 1
        raise ConfigError(
            "the file is not UTF-8", path=str(path), line=line, column=column, hint="save it as UTF-8", code="C101"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", path=str(path), code="C101") from error


def parse(text: str, path: str) -> Document:
    """Compose the text. Faults: no YAML, or no mapping; lesser ones are left in `Document.faults`."""
    try:
        return _parse(text, path)
    except RecursionError as error:
        raise Faults(
            [ConfigError("the file is nested too deeply", path=path, line=1, column=1, code="C102")]
        ) from error


def _parse(text: str, path: str) -> Document:
    document = Document(path, text)
    try:
        node = YAML(typ="rt").compose(text)
    except MarkedYAMLError as error:
        raise Faults([_syntax(error, text, path)]) from error
    except ReaderError as error:
        raise Faults([_unreadable(error, text, path)]) from error
    if node is None or (isinstance(node, ScalarNode) and node.value == ""):
        raise Faults([ConfigError("the file is empty", path=path, line=1, column=1, code="C104")])
    if not isinstance(node, MappingNode):
        text = "the file holds a list" if isinstance(node, SequenceNode) else "the file holds one single value"
        raise Faults([_at(node, text, path, "C104", hint="write `setting: value` lines")])
    document.values[()] = _place(node)
    document.data = _Builder(document).mapping(node, ())
    return document


class _Builder:
    """Nodes to data. Faults are gathered, so that one run shows them all."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.open: list[Node] = []
        self.count = 0

    def value(self, node: Node, key: Key) -> Any:
        self.count += 1
        if self.count > _MAX_NODES or node in self.open:
            text = "an alias leads back to itself, or the aliases make the file too large"
            raise Faults([_at(node, text, self.document.path, "C102", key)])
        self.document.values.setdefault(key, _place(node))
        self.open.append(node)
        try:
            if isinstance(node, MappingNode):
                return self.mapping(node, key)
            if isinstance(node, SequenceNode):
                return [self.value(item, (*key, i)) for i, item in enumerate(node.value)]
            assert isinstance(node, ScalarNode)
            return self.scalar(node, key)
        finally:
            self.open.pop()

    def mapping(self, node: MappingNode, key: Key) -> dict[str, Any]:
        data: dict[str, Any] = {}
        seen: dict[str, Place] = {}
        for name_node, value_node in node.value:
            if name_node.tag == f"{_TAG}merge":
                continue
            if not isinstance(name_node, ScalarNode):
                self.fault(name_node, key, "a key must be a plain word", code="C102")
                continue
            name = self.whole_text(name_node, key)
            if name in seen:
                first = f"it is already on line {seen[name].line}"
                self.fault(name_node, (*key, name), "the key is there twice", code="C103", hint=first)
                continue
            seen[name] = self.document.keys[*key, name] = _place(name_node)
            data[name] = self.value(value_node, (*key, name))
        for merged, place, name in self.merged(node, key):
            if name not in data:
                self.document.keys[*key, name] = place
                data[name] = self.value(merged, (*key, name))
        return data

    def merged(self, node: MappingNode, key: Key) -> list[tuple[Node, Place, str]]:
        """What `<<:` brings in: value node, place of the key, key. The first one that has a key wins."""
        found: list[tuple[Node, Place, str]] = []
        for name_node, value_node in node.value:
            if name_node.tag != f"{_TAG}merge":
                continue
            sources = value_node.value if isinstance(value_node, SequenceNode) else [value_node]
            for source in sources:
                if not isinstance(source, MappingNode) or source in self.open:
                    self.fault(value_node, key, "`<<` takes an alias of a mapping", code="C102")
                    continue
                found += [(v, _place(k), str(k.value)) for k, v in source.value if k.tag != f"{_TAG}merge"]
                found += self.merged(source, key)
        return found

    def scalar(self, node: ScalarNode, key: Key) -> Any:
        text = self.whole_text(node, key)
        match str(node.tag).removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return text.lower() in {"true", "yes", "on"}
            case "int":
                return self.whole(node, key, text)
            case "float":
                return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
            case "str" | "timestamp":
                return text
            case tag:
                self.fault(node, key, f"the YAML tag '{tag}' is not known here", code="C110", hint="leave it out")
                return text

    def whole_text(self, node: ScalarNode, key: Key) -> str:
        """The text; with `?` for what escapes make of it that no name, path or terminal takes: half characters, NUL."""
        text = str(node.value)
        if _SURROGATE.search(text):
            hint = r"write the character itself, or \U and eight digits"
            self.fault(node, key, r"a \u escape that is only half a character", code="C102", hint=hint)
        if "\0" in text:
            self.fault(node, key, "an escape that is the character 0x00", code="C102", hint="take it out")
        return _SURROGATE.sub("?", text).replace("\0", "?")

    def whole(self, node: ScalarNode, key: Key, text: str) -> Any:
        if _AMBIGUOUS_INT.match(text):
            hint = f"write {text.lstrip('+-0_') or '0'}, or in quotes if it is a text"
            self.fault(node, key, "a leading zero: some programs read this number as octal", code="C110", hint=hint)
            return int(text.replace("_", ""))
        try:
            return int(text.replace("_", ""), 0)
        except ValueError:
            return text  # YAML 1.1 sexagesimal (12:30): the type check behind this says what was expected

    def fault(self, node: Node, key: Key, what: str, *, code: str, hint: str = "") -> None:
        self.document.faults.append(_at(node, what, self.document.path, code, key, hint))


def _place(node: Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def _at(node: Node, what: str, path: str, code: str, key: Key = (), hint: str = "") -> ConfigError:
    line, column = _place(node)
    return ConfigError(what, path=path, line=line, column=column, key=dotted(key), hint=hint, code=code)


def _unreadable(error: ReaderError, text: str, path: str) -> ConfigError:
    """A character that YAML does not have, such as NUL."""
    at = text.find(chr(error.character) if isinstance(error.character, int) else str(error.character))
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    what = f"the character {ord(text[at]):#04x} is not allowed in YAML"
    return ConfigError(what, path=path, line=line, column=column, hint="take it out", code="C102")


def _opened(text: str) -> Any:
    """The mark of the last bracket that was opened and not closed."""
    opened: list[Any] = []
    try:
        for token in YAML(typ="rt").scan(text):
            if isinstance(token, FlowMappingStartToken | FlowSequenceStartToken):
                opened.append(token.start_mark)
            elif isinstance(token, FlowMappingEndToken | FlowSequenceEndToken) and opened:
                opened.pop()
    except YAMLError:
        return opened[-1] if opened else None  # the text as far as it can be read
    return opened[-1] if opened else None


def _syntax(error: MarkedYAMLError, text: str, path: str) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    problem, context = str(error.problem or error.context or ""), str(error.context or "")
    code, what, hint = "C102", problem, ""
    if "another document" in problem:
        code, what, hint = "C104", "the file holds several YAML documents", "one file, one job: take out the `---`"
    elif "'\\t'" in problem:
        what, hint = "a tab cannot indent YAML", "use spaces"
    elif error.context_mark and ("flow" in context or "quoted scalar" in context):
        mark = (_opened(text) if "stream end" in problem else None) or error.context_mark
        what, hint = "what opens here is not closed", "close it, or quote the text"
    elif "undefined alias" in problem:
        what, hint = (
            "a '*' begins an alias, and there is none of this name",
            "put a text that begins with '*' in quotes",
        )
    elif "mapping values are not allowed" in problem:
        what, hint = "a ':' does not belong here", "put a text that holds ': ' in quotes; check the indentation"
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    return ConfigError(what, path=path, line=line, column=column, hint=hint, code=code)
