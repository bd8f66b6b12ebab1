"""From a table's rule and its schema to a `Transform`; what does not fit is a ConfigError that names the setting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
from pydantic import SecretStr

from syncd.errors import ConfigError
from syncd.model import Column, IndexPart, TableSchema
from syncd.transforms.masks import hash_key, masked_column
from syncd.transforms.operand import nearest
from syncd.transforms.transform import Step, Transform

if TYPE_CHECKING:
    from syncd.transforms.compute import Computed
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
    def compute(self) -> Mapping[str, str]: ...
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


def build(rule: Rule, schema: TableSchema, *, zero_is_null: bool = False) -> Transform:
    """The transform of one table under one schema version. ConfigError: the first setting that does not fit.

    `zero_is_null`: the source's zero dates become NULL (`policy.zero_date`).
    """
    builder = _Builder(rule, schema)
    kept = builder.kept()
    steps = tuple(builder.step(column) for column in kept)
    added = tuple(constant(name, value) for name, value in rule.add.items())
    computed = tuple(builder.new(name) for name in rule.compute if name.lower() not in builder.by_name)
    columns = (
        *(step.column for step in steps),
        *(column for column, _ in added),
        *(step.column for step in computed),
    )
    names = builder.unique([column.name for column in columns])
    key, key_from = builder.key(names)
    out = replace(schema, columns=columns, key=key, key_from=key_from)
    if out != schema or rule.compute:
        out = builder.in_own_words(out)
    if zero_is_null:
        out = _as_computed(out)
    if out == schema and not rule.mask and not rule.compute:
        out = schema
    constants = tuple(value for _, value in added)
    return Transform(schema, out, steps, constants, computed, builder.filter(), builder.salt, out.arrow())


def _as_computed(schema: TableSchema) -> TableSchema:
    """What the source computes of a date goes along as it is: of a NULL a sink would compute something else."""
    odd = {c.name.lower() for c in schema.columns if pa.types.is_date(c.type) or pa.types.is_timestamp(c.type)}
    generated = [c for c in schema.columns if c.generated]
    for _ in generated:  # one may be computed of another one
        odd |= {c.name.lower() for c in generated if any(name in c.generated.lower() for name in odd)}
    columns = (replace(c, generated="") if c.generated and c.name.lower() in odd else c for c in schema.columns)
    return replace(schema, columns=tuple(columns))


def unknown_columns(rule: Rule, schema: TableSchema) -> Iterator[ConfigError]:
    """A fault for each name of a column, outside of `where` and `key`, that the table does not have."""
    there = {column.name.lower(): column.name for column in schema.columns if not column.normal_of}
    computed = {name.lower() for name in rule.compute}
    asked = [*((name, f"mask.{name}") for name in rule.mask if name.lower() not in computed), *_read(rule)]
    asked += ((name, f"columns.rename.{name}") for name in rule.rename)
    asked += ((name, "columns.exclude") for name in rule.exclude)
    asked += ((name, "columns.include") for name in rule.include or ())
    for name, setting in asked:
        if name.lower() not in there:
            yield _no_column(rule, schema, name, setting, there.values())


def _read(rule: Rule) -> Iterator[tuple[str, str]]:
    """The columns that each computed one looks at, with the setting."""
    if not rule.compute:
        return
    from syncd.transforms.compute import columns_of, parse

    for name, expression in rule.compute.items():
        yield from ((read, f"compute.{name}") for read in columns_of(parse(expression)))


def _no_column(rule: Rule, schema: TableSchema, name: str, setting: str, there: Iterable[str]) -> ConfigError:
    what, hint = f"{schema.table} has no column '{name}'", nearest(name, there)
    return ConfigError(what, key=f"tables.{rule.pattern}.{setting}", hint=hint, code="C124")


def constant(name: str, value: object) -> tuple[Column, pa.Scalar]:
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


class _Builder:
    def __init__(self, rule: Rule, schema: TableSchema) -> None:
        self.rule, self.schema = rule, schema
        self.by_name = {c.name.lower(): c for c in schema.columns if not c.normal_of}
        self.salt = hash_key(rule.salt.get_secret_value()) if rule.salt is not None else b""
        new = {name.lower(): name for name in rule.compute if name.lower() not in self.by_name}
        self.masks = {
            new.get(n.lower()) or self.column(n, f"mask.{n}").name: (n, mask) for n, mask in rule.mask.items()
        }
        self.compute = {name.lower(): (name, expression) for name, expression in rule.compute.items()}
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
            left -= {c.name for low, c in self.by_name.items() if low in self.compute}
        lost = [name for name in self.schema.key if name in left]
        if lost:
            what = f"'{lost[0]}' is a key column of {self.schema.table} and cannot be left out"
            raise self.fault(setting, what, code="C125")
        return [c for c in self.schema.columns if c.name not in left and c.normal_of not in left]

    def step(self, column: Column) -> Step:
        """How one column gets to its place, name and mask."""
        computed = self.replaced(column)
        if computed is not None:
            column = computed.column
        return Step(column.name, self.shown(column), self.mask(column), computed)

    def mask(self, column: Column) -> str:
        """The column's mask, or ""."""
        given, mask = self.masks.get(column.name, ("", ""))
        if mask and column.name in self.schema.key:
            # A masked key could never be read again at the source: no REFRESH, no repair, no comparison by key.
            what = f"'{column.name}' is a key column of {self.schema.table} and cannot be masked"
            raise self.fault(f"mask.{given}", what, code="C125", hint="mask other columns, or leave the table out")
        return mask

    def shown(self, column: Column) -> Column:
        """The column as it is behind its mask, under its new name."""
        mask = self.mask(column)
        return replace(
            masked_column(column, mask) if mask else column,
            name=self.renames.get(column.name, column.name),
            normal_of=self.renames.get(column.normal_of, column.normal_of),
        )

    def replaced(self, column: Column) -> Computed | None:
        """What takes the place of a source's column."""
        if column.normal_of or column.name.lower() not in self.compute:
            return None
        given, expression = self.compute[column.name.lower()]
        if column.name in self.schema.key:
            what = f"'{column.name}' is a key column of {self.schema.table} and cannot be computed"
            hint = "compute a column of another name"
            raise self.fault(f"compute.{given}", what, code="C125", hint=hint)
        return self.computed(given, column.name, expression)

    def new(self, name: str) -> Step:
        """A computed column that the source does not have."""
        computed = self.computed(name, name, self.rule.compute[name])
        return Step("", self.shown(computed.column), self.mask(computed.column), computed)

    def computed(self, given: str, name: str, expression: str) -> Computed:
        # sqlglot is slow to load: only who computes pays for it.
        from syncd.transforms.compute import compile_column, parse

        try:
            made = compile_column(name, parse(expression), self.schema, self.salt)
        except ConfigError as error:
            code = "C132" if error.code == "C120" else error.code
            raise self.fault(f"compute.{given}", error.what, code=code, hint=error.hint) from error
        return replace(made, shown=name not in self.masks and not self.hidden(made.inputs))

    def hidden(self, names: Iterable[str]) -> bool:
        """Whether one of these columns of the source does not go along as it is: then no message shows its values."""
        from syncd.transforms.compute import is_cast, parse

        kept = {column.name for column in self.kept()}
        changed = {name for name, (_, expression) in self.compute.items() if not is_cast(parse(expression))}
        return any(name not in kept or name in self.masks or name.lower() in changed for name in names)

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
        computed = {name for name in given if name in self.rule.compute}
        if own and set(own) != set(given) - set(self.rule.add) - computed:
            what = f"the key of {self.schema.table} is ({', '.join(own)}), and the job's is another one"
            raise self.fault("key", what, code="C125", hint="name its columns, and added or computed ones")
        for name in sorted(computed):
            self.key_part(name)
        return given, "job"

    def in_own_words(self, out: TableSchema) -> TableSchema:
        """What the source says in its own words names its own columns: it goes where those are other ones.

        An index goes with a column of it that is left out, masked or computed; unique among the rows of several tables
        is only what holds their added key columns, too.
        """
        names = {column.name for column in out.columns}
        replaced = {self.by_name[name].name for name in self.compute if name in self.by_name}
        changed = {name for name in self.masks if name.lower() in self.by_name} | replaced
        same = not self.renames and not changed and {column.name for column in self.schema.columns} <= names
        added = tuple(IndexPart(name) for name in out.key if name in self.rule.add)
        indexes = []
        for index in self.schema.indexes:
            parts = tuple(part._replace(column=self.renames.get(part.column, part.column)) for part in index.parts)
            whole = changed.isdisjoint(part.column for part in index.parts)
            whole = whole and all(part.column in names for part in parts if part.column)
            if whole and (same or not any(part.expression for part in parts)):
                indexes.append(replace(index, parts=(parts + added) if index.kind == "unique" else parts))
        columns = out.columns if same else tuple(replace(c, generated="") for c in out.columns)
        return replace(out, columns=columns, indexes=tuple(indexes), partitions=out.partitions if same else "")

    def key_part(self, name: str) -> None:
        """A computed column in the key follows from the key alone, so that a DELETE or a changed row has it, too."""
        what = ""
        made = self.computed(name, name, self.rule.compute[name])
        others = [read for read in made.inputs if read not in self.schema.key]
        if name in self.masks:
            what = "is masked"
        elif others:
            what = f"looks at '{others[0]}', which is not in the table's key"
        elif made.column.nullable:
            what = "may be NULL"
        elif pa.types.is_floating(made.column.type):
            what = "is a floating-point number"
        if what:
            hint = f"compute it of {', '.join(self.schema.key)} alone, and without NULL; or leave it out of the key"
            raise self.fault("key", f"'{name}' {what}, and cannot be in the key", code="C125", hint=hint)

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
