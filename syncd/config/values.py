"""Values that settings are made of: sizes, durations, names; and how a check refuses one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from syncd.config.faults import did_you_mean

_SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(i?)B?\s*$", re.IGNORECASE)
_DURATION = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)?\s*$")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_POWER = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def refuse(what: str, *, code: str, hint: str = "") -> NoReturn:
    """Called in a validator: the fault as it will be shown, at the place of the value."""
    raise PydanticCustomError("syncd", "{what}", {"what": what, "hint": hint, "code": code})


class Section(BaseModel):
    """A mapping of a file. Unknown keys are faults; the values stay as they were read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=False)

    def __repr__(self) -> str:
        # Any text of a file may have come from a secret, so a section shows its settings' names only.
        return f"{type(self).__name__}({', '.join(sorted(self.model_fields_set))})"

    __str__ = __repr__


def _size(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _SIZE.match(value)
    if match is None:
        refuse(f"'{value}' is not a size", code="C108", hint="write bytes, or 64MiB, 8MB, 1GiB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _POWER[match[2].upper()])


def _duration(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _DURATION.match(value)
    if match is None:
        refuse(f"'{value}' is not a duration", code="C108", hint="write seconds, or 500ms, 10s, 5m, 2h, 1d")
    return float(match[1]) * _SECONDS[match[2]]


def _yes_no(value: Any) -> Any:
    # pydantic takes "yes", "on", "t" and 1 for true; one spelling is enough.
    if isinstance(value, bool) or value in ("true", "false"):
        return value
    refuse(f"expected true or false, got {_shown(value)}", code="C108", hint=_bool_hint(value))


def _shown(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else kind_of(value)


def _bool_hint(value: Any) -> str:
    words = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
    word = words.get(str(value).lower())
    return f"YAML 1.2 reads {value} as a text: write {word}" if word else ""


def kind_of(value: Any) -> str:
    """What a value is, in words, without the value."""
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false"}
    return "nothing" if value is None else names.get(type(value), "a number")


def empty_as_mapping(value: Any) -> Any:
    """`shop.users:` with nothing behind it is the same as `shop.users: {}`."""
    return {} if value is None else value


def _schema(**schema: Any) -> WithJsonSchema:
    return WithJsonSchema(schema)


Bytes = Annotated[int, BeforeValidator(_size), Field(gt=0), _schema(type=["integer", "string"], format="size")]
Seconds = Annotated[
    float,
    BeforeValidator(_duration),
    Field(gt=0),
    _schema(type=["number", "string"], format="duration"),
]
Flag = Annotated[bool, BeforeValidator(_yes_no), _schema(type="boolean")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


def one_of(
    kind: str, known: Callable[[], Sequence[str]], *, code: str, synonyms: Mapping[str, str] | None = None
) -> BeforeValidator:
    """A check that a word is one of a set, with the nearest one as the hint."""

    def check(value: Any) -> Any:
        words = tuple(known())
        if value in words:
            return value
        if value is None and "null" in words:
            refuse(f"YAML's null is not the word 'null', which is {kind}", code=code, hint='write "null" in quotes')
        if not isinstance(value, str):
            refuse(f"expected {kind} (a text), got {kind_of(value)}", code="C108")
        meant = (synonyms or {}).get(value.lower())
        hint = f"did you mean '{meant}'?" if meant else did_you_mean(value, words)
        refuse(f"'{value}' is not {kind}", code=code, hint=hint)

    return BeforeValidator(check)
