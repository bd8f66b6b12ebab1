"""From a table's rule and its schema to a `Transform`; what does not fit is a ConfigError that names the setting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
from pydantic import SecretStr

from syncd.errors import ConfigError
from syncd.model import Column, TableSchema
from syncd.transforms.masks import hash_key, masked_column
from syncd.transforms.transform import Step, Transform

if TYPE_CHECKING:
    from syncd.transforms.where import Filter


class Rule(Protocol):
    """The part of `syncd.config.TableRule` that transforms go by."""

    @property
    def pattern(self) -> str: ...
    @property
    def key(self) -> tuple[str, ...] | None: ...
    @property
    def add(self) -> Mapping[str, Any]: ...
    @property
    def include(self) -> tuple[str, ...] | None: ...
    @property
    def exclude(self) -> tuple[str, ...]: ...
    @property
    def rename(self) -> Mapping[str, str]: ...
    @property
    def mask(self) -> Mapping[str, str]: ...
    @property
    def where(self) -> str | None: ...
    @property
    def salt(self) -> SecretStr | None: ...


def build(rule: Rule, schema: TableSchema) -> Transform:
    """The transform of one table under one schema version. ConfigError: the first setting that does not fit."""
    builder = _Builder(rule, schema)
    kept = builder.kept()
    steps = tuple(builder.step(column) for column in kept)
    added = tuple(builder.constant(name, value) for name, value in rule.add.items())
    names = builder.unique([*(step.column.name for step in steps), *(column.name for column, _ in added)])
    columns = (*(step.column for step in steps), *(column for column, _ in added))
    key, key_from = builder.key(names)
    out = replace(schema, columns=columns, key=key, key_from=key_from)
    if out == schema and not rule.mask:
        out = schema
    salt = hash_key(rule.salt.get_secret_value()) if rule.salt is not None else b""
    return Transform(schema, out, steps, tuple(value for _, value in added), builder.filter(), salt, out.arrow())


def unknown_columns(rule: Rule, schema: TableSchema) -> Iterator[ConfigError]:
    """A fault for each name of a column, outside of `where` and `key`, that the table does not have."""
    there = {column.name.lower(): column.name for column in schema.columns if not column.normal_of}
    asked = [*((name, f"mask.{name}") for name in rule.mask)]
    asked += ((name, f"columns.rename.{name}") for name in rule.rename)
    asked += ((name, "columns.exclude") for name in rule.exclude)
    asked += ((name, "columns.include") for name in rule.include or ())
    for name, setting in asked:
        if name.lower() not in there:
            yield _no_column(rule, schema, name, setting, there.values())


def _no_column(rule: Rule, schema: TableSchema, name: str, setting: str, there: Iterable[str]) -> ConfigError:
    what, hint = f"{schema.table} has no column '{name}'", f"there is: {', '.join(there)}"
    return ConfigError(what, key=f"tables.{rule.pattern}.{setting}", hint=hint, code="C124")


class _Builder:
    def __init__(self, rule: Rule, schema: TableSchema) -> None:
        self.rule, self.schema = rule, schema
        self.by_name = {c.name.lower(): c for c in schema.columns if not c.normal_of}
        self.masks = {self.column(n, f"mask.{n}").name: (n, mask) for n, mask in rule.mask.items()}
        self.renames = {self.column(n, f"columns.rename.{n}").name: new for n, new in rule.rename.items()}

    def fault(self, setting: str, what: str, *, code: str, hint: str = "") -> ConfigError:
        return ConfigError(what, key=f"tables.{self.rule.pattern}.{setting}", hint=hint, code=code)

    def column(self, name: str, setting: str) -> Column:
        """A column by the name that the rule gives; the server does not tell upper from lower case in them."""
        found = self.by_name.get(name.lower())
        if found is None:
            raise _no_column(self.rule, self.schema, name, setting, (c.name for c in self.by_name.values()))
        return found

    def names(self, names: Iterable[str], setting: str) -> set[str]:
        return {self.column(name, setting).name for name in names}

    def kept(self) -> list[Column]:
        """The columns that go on. A twin goes with its key column, since keys compare by it."""
        left = self.names(self.rule.exclude, "columns.exclude")
        setting = "columns.exclude"
        if self.rule.include is not None:
            setting = "columns.include"
            left = {c.name for c in self.by_name.values()} - self.names(self.rule.include, setting)
        lost = [name for name in self.schema.key if name in left]
        if lost:
            what = f"'{lost[0]}' is a key column of {self.schema.table} and cannot be left out"
            raise self.fault(setting, what, code="C125")
        return [c for c in self.schema.columns if c.name not in left and c.normal_of not in left]

    def step(self, column: Column) -> Step:
        """How one column gets to its place, name and mask."""
        given, mask = self.masks.get(column.name, ("", ""))
        if mask and column.name in self.schema.key:
            # A masked key could never be read again at the source: no REFRESH, no repair, no comparison by key.
            what = f"'{column.name}' is a key column of {self.schema.table} and cannot be masked"
            raise self.fault(f"mask.{given}", what, code="C125", hint="mask other columns, or leave the table out")
        shown = masked_column(column, mask) if mask else column
        shown = replace(
            shown,
            name=self.renames.get(column.name, column.name),
            normal_of=self.renames.get(column.normal_of, column.normal_of),
        )
        return Step(column.name, shown, mask)

    def constant(self, name: str, value: object) -> tuple[Column, pa.Scalar]:
        """A column with one value."""
        if isinstance(value, bool):
            scalar, source_type = pa.scalar(int(value), pa.int8()), "tinyint(1)"
        elif isinstance(value, int):
            scalar, source_type = pa.scalar(value, pa.int64()), "bigint"
        elif isinstance(value, float):
            scalar, source_type = pa.scalar(value, pa.float64()), "double"
        else:
            scalar, source_type = pa.scalar(str(value), pa.string()), "varchar(255)"
        text = pa.types.is_string(scalar.type)
        charset, collation = ("utf8mb4", "utf8mb4_bin") if text else ("", "")
        return Column(name, scalar.type, False, source_type, charset, collation), scalar

    def unique(self, names: list[str]) -> list[str]:
        double = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if double is None:
            return names
        setting = f"add.{double}" if double in self.rule.add else "columns.rename"
        raise self.fault(setting, f"{self.schema.table} would have two columns '{double}'", code="C123")

    def key(self, names: list[str]) -> tuple[tuple[str, ...], str]:
        """The key behind the transform: the source's, or the job's where it can stand for the source's."""
        own = tuple(self.renames.get(name, name) for name in self.schema.key)
        if self.rule.key is None:
            return own, self.schema.key_from
        given = tuple(self.renamed(name) for name in self.rule.key)
        for name in given:
            if name not in names:
                raise self.fault("key", f"{self.schema.table} has no column '{name}'", code="C124")
        # With another key two rows of the source could become one at the sinks.
        if own and set(own) != set(given) - set(self.rule.add):
            what = f"the key of {self.schema.table} is ({', '.join(own)}), and the job's is another one"
            raise self.fault("key", what, code="C125", hint="name its columns, and added ones")
        return given, "job"

    def renamed(self, name: str) -> str:
        column = self.by_name.get(name.lower())
        return name if column is None else self.renames.get(column.name, column.name)

    def filter(self) -> Filter | None:
        if self.rule.where is None:
            return None
        # sqlglot is slow to load: only who filters pays for it.
        from syncd.transforms.where import compile_filter, parse

        try:
            return compile_filter(parse(self.rule.where), self.schema)
        except ConfigError as error:
            raise self.fault("where", error.what, code=error.code, hint=error.hint) from error
