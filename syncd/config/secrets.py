"""`${env:NAME}` and `${file:/path}` in any text of a file; `$${` stands for `${`. What they hold is shown to nobody.

References are put in when a job is loaded, in the process that loads it: a stored or pickled job holds the file's text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from syncd.config.document import Document, Key

MASK = "***"
_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)(\}?)")
_SECRET_NAME = re.compile(r"(?i)(^|[_-])(password|passwd|pw|pwd|secret|token|salt|api_?key|private_?key|credentials?)$")
_URL_PASSWORD = re.compile(r"^([A-Za-z][\w+.-]*://[^/@:\s]*):([^/\s]*)@")


class Secrets:
    """The values that must never be shown. `hide(text)` replaces each of them."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values = {value for value in values if value}

    def add(self, value: str) -> None:
        self._values |= {value, unquote(value)} - {""}

    def hide(self, text: str) -> str:
        """`text` without any secret; a very short one only where it stands alone, or it would blot out everything."""
        for value in sorted(self._values, key=len, reverse=True):
            if len(value) > 2:
                text = text.replace(value, MASK)
            else:
                text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", MASK, text)
        return text

    def hide_in(self, value: Any) -> Any:
        """The same for every text in a log event or a JSON value."""
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, Mapping):
            return {key: self.hide_in(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)([self.hide_in(item) for item in value]) if type(value) in (list, tuple) else value
        return value

    def __contains__(self, value: object) -> bool:
        return value in self._values

    def __repr__(self) -> str:
        return f"Secrets({len(self._values)} hidden)"


class Resolver:
    """Puts the references of one document in. `failed`: keys whose reference leads nowhere; their faults are noted."""

    def __init__(self, document: Document, environ: Mapping[str, str] | None = None) -> None:
        self.document = document
        self.environ = os.environ if environ is None else environ
        self.secrets = Secrets()
        self.failed: set[Key] = set()

    def resolve(self) -> dict[str, Any]:
        """The document's data with all references put in."""
        for key, value in literals(self.document):
            self.secrets.add(value if is_secret_name(key[-1]) else password_of(value))
        resolved: dict[str, Any] = self._value(self.document.data, ())
        return resolved

    def _value(self, value: Any, key: Key) -> Any:
        if isinstance(value, dict):
            return {name: self._value(item, (*key, name)) for name, item in value.items()}
        if isinstance(value, list):
            return [self._value(item, (*key, i)) for i, item in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            return _REFERENCE.sub(lambda match: self._one(match, key), value)
        return value

    def _one(self, match: re.Match[str], key: Key) -> str:
        if match[1] is None:
            return "${"
        kind, colon, name = match[1].partition(":")
        if not match[2] or not colon or kind not in {"env", "file"} or not name:
            hint = "write ${env:NAME} or ${file:/path}, and $${ for a plain ${"
            return self._fail(key, f"'{match[0]}' is not a reference", hint, "C112")
        found = self._env(name, key) if kind == "env" else self._file(name, key)
        self.secrets.add(found)
        return found

    def _env(self, name: str, key: Key) -> str:
        if name in self.environ:
            return self.environ[name]
        return self._fail(key, f"the environment variable {name} is not set", f"export {name}=...", "C111")

    def _file(self, name: str, key: Key) -> str:
        try:
            return (Path(self.document.path).parent / name).read_text(encoding="utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            return self._fail(key, f"the file {name} is not UTF-8", "", "C111")
        except OSError as error:
            return self._fail(key, f"the file {name} cannot be read: {error.strerror}", "", "C111")

    def _fail(self, key: Key, what: str, hint: str, code: str) -> str:
        self.failed.add(key)
        self.document.faults.append(self.document.fault(key, what, code=code, hint=hint))
        return ""


def without_extras(data: dict[str, Any]) -> dict[str, Any]:
    """The data without `x-...` keys of the top level: a place for anchors, as in Compose files."""
    return {name: value for name, value in data.items() if not name.startswith("x-")}


def is_secret_name(name: object) -> bool:
    """True for `password`, `api_key` and the like."""
    return _SECRET_NAME.search(str(name)) is not None


def password_of(text: str) -> str:
    """The password that stands in a URL, or ""."""
    match = _URL_PASSWORD.match(text)
    return match[2] if match else ""


def literals(document: Document) -> Iterator[tuple[Key, str]]:
    """The texts that hold a secret in the clear: a password setting, or a URL with a password in it."""
    for key, text in _texts(document.data, ()):
        secret = is_secret_name(key[-1]) and key[0] != "tables"
        if text and not text.startswith("${") and (secret or password_of(text).partition("${")[0]):
            yield key, text


def _texts(value: Any, key: Key) -> Iterator[tuple[Key, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, (*key, name))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _texts(item, (*key, i))
    elif key and isinstance(value, str | int) and not isinstance(value, bool):
        yield key, str(value)


def without_secrets(value: Any) -> Any:
    """The unresolved data with literal secrets masked: references stay as written, since they tell nothing."""
    if isinstance(value, dict):
        # Below `tables` the names are the source's own: a column `password` with a mask is no secret.
        return {name: item if name == "tables" else _masked(name, item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return _URL_PASSWORD.sub(_keep_reference, value) if isinstance(value, str) else value


def _masked(name: str, value: Any) -> Any:
    if is_secret_name(name) and isinstance(value, str | int | float) and not str(value).startswith("${"):
        return MASK
    return without_secrets(value)


def _keep_reference(match: re.Match[str]) -> str:
    return match[0] if match[2].startswith("${") else f"{match[1]}:{MASK}@"
