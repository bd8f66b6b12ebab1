"""Text keys as the server's own collation compares them: the twin columns `_key_<name>`.

A twin is needed where equal keys may differ in their bytes, or where keys are ordered otherwise than their bytes are.
Its values are the collation's weights (`weights`), asked of the server once for each collation (`weigh`) and kept on
disk, so that capture normalises without the server.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from syncd.errors import StateError, Unsupported
from syncd.model import Column, KeyValue, TableSchema
from syncd.sources.mysql import types
from syncd.sources.mysql.connect import Connection, close
from syncd.sources.mysql.weigh import Weigher
from syncd.sources.mysql.weights import Level, Weights

FORMAT = 1

_UNICODE = {"utf8mb4", "utf8mb3", "utf8"}
_NARROW = {"latin1", "ascii"}
_WIDE_NAMES = re.compile(
    r"^(bin|nopad_bin|0900_bin|general(_nopad)?_ci|general_mysql500_ci|unicode(_520)?(_nopad)?_ci|"
    r"0900_(?:ai_ci|as_ci|as_cs)|uca1400(_nopad)?_(?:ai|as)_c[is])$"
)
_NARROW_NAMES = re.compile(
    r"^(bin|nopad_bin|general_ci|general_cs|general_nopad_ci|swedish(_nopad)?_ci|(german1|danish|spanish)_ci)$"
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a collation's name says. `plain`: its order is that of the UTF-8 bytes, and equal means the same bytes."""

    charset: str
    name: str
    bare: str

    @property
    def pad(self) -> bool:
        return not (self.bare.startswith("0900_") or "nopad" in self.bare)

    @property
    def binary(self) -> bool:
        return self.bare in {"bin", "nopad_bin", "0900_bin"}

    @property
    def plain(self) -> bool:
        return self.binary and not self.pad and self.charset != "latin1"

    @property
    def levels(self) -> tuple[int, ...]:
        """Letters, accents, cases: what the collation looks at, in this order."""
        if not self.bare.startswith(("0900", "uca1400")):
            return (1,)
        return (1, *([2] if "_as_" in self.bare else []), *([3] if self.bare.endswith("_cs") else []))

    @property
    def known(self) -> bool:
        """Whether its order follows from single characters and Unicode's own contractions."""
        if self.charset in _UNICODE:
            return _WIDE_NAMES.match(self.bare) is not None
        return self.charset in _NARROW and _NARROW_NAMES.match(self.bare) is not None


def rules_of(column: Column) -> Rules:
    """The rules of a text column's collation."""
    name = column.collation.lower()
    bare = re.sub(rf"^({column.charset}|utf8mb3|utf8)_", "", name) if column.charset else name
    return Rules(column.charset, name, bare)


def needs_twin(column: Column) -> bool:
    """Whether the column, as a key, is compared otherwise than its bytes."""
    is_text = pa.types.is_string(column.type) and types.base_type(column.source_type) in types.TEXTS
    return is_text and not rules_of(column).plain


class Normaliser:
    """Normalises the columns of one source. Weights are loaded when first needed; absent ones come from the server."""

    def __init__(self, directory: Path, connect: Callable[[], Connection]) -> None:
        self._directory = directory / "collations"
        self._connect = connect
        self._weights: dict[str, Weights] = {}

    def __call__(self, column: Column, values: pa.Array) -> pa.Array:
        """The twin's values (binary) for a key column's values (string)."""
        return self._of(column).keys(values)

    def refusal(self, column: Column) -> str:
        """Why a key column cannot be normalised, "" when it can; its weights are on disk afterwards."""
        rules = rules_of(column)
        if not rules.known:
            return f"the order of collation {rules.name} is not known to syncd"
        try:
            self._of(column)
        except Unsupported as error:
            return error.what
        return ""

    def key(self, schema: TableSchema, values: Sequence[KeyValue]) -> tuple[KeyValue, ...]:
        """A key of the table as its `identity` columns see it."""
        return tuple(self._one(schema.column(name), value) for name, value in zip(schema.key, values, strict=True))

    def _one(self, column: Column, value: KeyValue) -> KeyValue:
        if not needs_twin(column):
            return value
        normal: bytes = self(column, pa.array([value], pa.string()))[0].as_py()
        return normal

    def _of(self, column: Column) -> Weights:
        rules = rules_of(column)
        found = self._weights.get(rules.name)
        if found is None:
            file = self._directory / f"{rules.name}.npz"
            found = _load(file) if file.exists() else self._ask(rules, file)
            self._weights[rules.name] = found
        return found

    def _ask(self, rules: Rules, file: Path) -> Weights:
        if rules.binary and rules.charset != "latin1":
            return Weights(1, (ord(" "),) if rules.pad else ())
        connection = self._connect()
        try:
            weigher = Weigher(connection, rules.charset, rules.name, rules.levels)
            if rules.charset in _NARROW:
                made = weigher.narrow(rules.pad)
            else:
                made = weigher.wide(2, rules.pad, rules.bare.startswith("uca1400"))
        finally:
            close(connection)
        _store(file, made)
        return made


def _store(file: Path, weights: Weights) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    contractions = {text: [part.hex() for part in parts] for text, parts in weights.contractions.items()}
    head = json.dumps([FORMAT, weights.unit, weights.space, len(weights.levels), contractions])
    arrays: dict[str, Any] = {f"offsets{n}": level.offsets for n, level in enumerate(weights.levels)}
    arrays |= {f"data{n}": level.data for n, level in enumerate(weights.levels)}
    # Several processes may find it missing at once: each writes its own file, and the last one stays.
    part = file.with_suffix(f".{os.getpid()}")
    with part.open("wb") as out:
        np.savez_compressed(out, head=np.array(head), known=weights.known, **arrays)
    part.replace(file)


def _load(file: Path) -> Weights:
    """StateError: the file is damaged or of a newer syncd."""
    try:
        with np.load(file) as data:
            version, unit, space, levels, contractions = json.loads(str(data["head"]))
            if version != FORMAT:
                raise StateError(f"{file} has format {version}; this syncd reads {FORMAT}", hint="delete the file")
            made = tuple(Level(data[f"offsets{n}"], data[f"data{n}"]) for n in range(levels))
            own = {text: tuple(map(bytes.fromhex, parts)) for text, parts in contractions.items()}
            return Weights(unit, tuple(space), made, data["known"], own)
    except (OSError, TypeError, ValueError, KeyError, EOFError) as error:
        raise StateError(f"{file} cannot be read: {error}", hint="delete the file: it is made again") from error
