"""A value out of JSON documents by its path, row by row: Arrow has no kernel for it.

The value is given as the server gives it: texts with their quotes (or without, `plain`), numbers digit by digit as
they stand in the document, objects and lists with one space behind `,` and `:`. A NULL document and a path that leads
nowhere give NULL. What is no JSON at all raises ArrowInvalid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from syncd.transforms.operand import refused

_STEP = re.compile(r'\.([A-Za-z_$\u0080-\U0010ffff][\w$]*)|\."((?:[^"\\]|\\.)*)"|\[(0|[1-9][0-9]{0,8})\]')
_NOWHERE: Final = object()


class _Number(str):
    """A number as it is written: 1.10 stays 1.10."""

    __slots__ = ()


def parse(path: str) -> tuple[str | int, ...]:
    """`$.a."b c"[0]` as its steps. ConfigError: no path, or one that may lead to many values."""
    if not path.startswith("$"):
        raise refused(f"'{path}' is not a path", hint="write '$.name', '$.list[0]', '$.\"two words\"'")
    steps: list[str | int] = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            hint = "write '$.name', '$.list[0]', '$.\"two words\"'; * and ranges are not there"
            raise refused(f"'{path}' is not a path that leads to one value", hint=hint)
        key, quoted, index = found.groups()
        steps.append(int(index) if index is not None else key if key is not None else _unquoted(quoted, path))
        at = found.end()
    return tuple(steps)


def _unquoted(name: str, path: str) -> str:
    try:
        return str(json.loads(f'"{name}"'))
    except ValueError as error:
        raise refused(f"'{path}' is not a path: \"{name}\" is not a text in JSON") from error


def extract(documents: pa.Array, steps: Sequence[str | int], *, plain: bool) -> pa.Array:
    """The value at the path of each document."""
    shown = _plain if plain else _text
    out: list[str | None] = []
    try:
        for document in documents.to_pylist():
            value = _NOWHERE if document is None else _walk(_DECODER.decode(document), steps)
            out.append(None if value is _NOWHERE else shown(value))
        return pa.array(out, pa.string())
    except (ValueError, RecursionError) as error:  # also half of a surrogate pair, which is no character
        raise pa.ArrowInvalid("not JSON") from error


def _walk(value: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        if isinstance(step, int):
            if isinstance(value, list):
                value = value[step] if step < len(value) else _NOWHERE
            elif step:  # anything but a list is as good as a list of one
                value = _NOWHERE
        else:
            value = value.get(step, _NOWHERE) if isinstance(value, dict) else _NOWHERE
        if value is _NOWHERE:
            break
    return value


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else _text(value)


def _text(value: Any) -> str:
    match value:
        case _Number():
            return str(value)
        case dict():
            return "{" + ", ".join(f"{_quoted(key)}: {_text(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_text, value)) + "]"
        case str():
            return _quoted(value)
        case _:
            return "null" if value is None else str(value).lower()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _no_constant(word: str) -> Any:
    raise ValueError(word)


_DECODER: Final = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_no_constant)
