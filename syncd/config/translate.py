"""From pydantic's errors to faults with a place, in words that name no value that could be a secret."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from syncd.config.document import Document, Key
from syncd.config.faults import did_you_mean
from syncd.config.secrets import Secrets, is_secret_name
from syncd.config.values import kind_of
from syncd.errors import ConfigError

_EXPECTED = {
    "string": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "dict": "a mapping",
    "model": "a mapping",
    "mapping": "a mapping",
    "decimal": "a number",
    "url": "a URL",
    "path": "a path",
}
_LIMITS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


class Translator:
    """`model` is the type that was validated, `root` where its data stand in the document."""

    def __init__(self, document: Document, secrets: Secrets, model: type[BaseModel], root: Key = ()) -> None:
        self.document, self.secrets, self.model, self.root = document, secrets, model, root

    def faults(self, error: ValidationError) -> list[ConfigError]:
        """One fault for each error; of several answers for one value (a union) only the first."""
        faults: dict[tuple[str, str], ConfigError] = {}
        for detail in error.errors(include_url=False):
            fault = self._fault(detail)
            faults.setdefault((fault.key, fault.code if "union" in detail["type"] else ""), fault)
        return list(faults.values())

    def _fault(self, detail: ErrorDetails) -> ConfigError:
        loc = tuple(part for part in detail["loc"] if isinstance(part, str | int))
        key = self._known((*self.root, *loc))
        kind, context = detail["type"], detail.get("ctx", {})
        if kind == "syncd":
            return self._at(key, context["what"], context["code"], context["hint"], of_key=loc[-1:] == ("[key]",))
        if kind == "extra_forbidden":
            fields = fields_at(self.model, loc[:-1])
            return self._at(key, "unknown key", "C105", did_you_mean(str(loc[-1]), fields, "there is"), of_key=True)
        if kind == "missing":
            around = (*self.root, *loc)
            return self._at(around, "is missing", "C106", of_key=True)
        if loc and loc[-1] == "[key]":
            return self._at(key, "not a name", "C109", "letters, digits, _ and -", of_key=True)
        return self._at(key, *self._of_value(kind, context, key, detail))

    def _of_value(self, kind: str, context: Any, key: Key, detail: ErrorDetails) -> tuple[str, str, str]:
        raw = self.document.get(key)
        if kind in _LIMITS:
            name, words = _LIMITS[kind]
            return f"must be {words} {context[name]}", "C109", ""
        if kind in {"literal_error", "enum"}:
            known = [word.strip("' ") for word in str(context["expected"]).replace(" or ", ", ").split(",")]
            shown = "the value" if is_secret_name(key[-1]) else f"'{raw}'"
            return f"{shown} is not a value of this setting", "C109", did_you_mean(str(raw), known)
        if kind == "string_pattern_mismatch":
            return f"'{raw}' is not a name", "C109", "letters, digits, _ and -, 64 at most"
        if kind in {"too_short", "string_too_short"}:
            return "must not be empty", "C109", ""
        expected = _EXPECTED.get(kind.split("_")[0])
        if expected and (kind.endswith(("_type", "_parsing", "_from_float")) or kind == "dict_type"):
            return f"expected {expected}, got {_got(raw, key)}", "C108", _quote_hint(expected, raw)
        return detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, "), "C109", ""

    def _known(self, key: Key) -> Key:
        """`key` without what pydantic adds (the branch of a union, a function's name): only what the file has."""
        known: Key = ()
        for part in key:
            if (*known, part) in self.document.values:
                known = (*known, part)
        return known if known or not key else key[:1]

    def _at(self, key: Key, what: str, code: str, hint: str = "", *, of_key: bool = False) -> ConfigError:
        hide = self.secrets.hide
        return self.document.fault(key, hide(what), code=code, hint=hide(hint), of_key=of_key)


def _got(raw: Any, key: Key) -> str:
    if isinstance(raw, str) and not is_secret_name(key[-1] if key else "") and len(raw) <= 40:
        return f"'{raw}'"
    return kind_of(raw)


def _quote_hint(expected: str, raw: Any) -> str:
    if expected != "a text" or isinstance(raw, dict | list):
        return ""
    return 'write "null" in quotes if the word is meant' if raw is None else "put it in quotes"


def fields_at(model: type[BaseModel], loc: Sequence[str | int]) -> Iterable[str]:
    """The names that are allowed at `loc`, as a file spells them."""
    current: Any = model
    for part in loc:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = _field(current, str(part))
            current = _model_in(field.annotation if field else None, into_dict=False)
        elif isinstance(current, tuple):
            current = current[0]
    if isinstance(current, tuple):
        current = current[0]
    if not (isinstance(current, type) and issubclass(current, BaseModel)):
        return ()
    return [field.alias or name for name, field in current.model_fields.items()]


def _field(model: type[BaseModel], part: str) -> Any:
    return next((f for name, f in model.model_fields.items() if part in (name, f.alias)), None)


def _model_in(annotation: Any, *, into_dict: bool) -> Any:
    """The model in an annotation; in a tuple when a key or an index of a container leads to it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,) if into_dict else annotation
    origin = getattr(annotation, "__origin__", None)
    for part in get_args(annotation):
        found = _model_in(part, into_dict=into_dict or origin in (dict, list, tuple))
        if found is not None:
            return found
    return None
