"""Table patterns: which rule of a job holds for a table.

exact    `shop.users`            no special character, or names in backquotes
glob     `shop.*`, `*.log_?`     `*` any run, `?` one character; the first dot parts the database from the table
regex    `shop_(\\d+).orders`     one of \\ ( ) [ ] { } | + ^ in it: a Python regular expression for all of the name

The exact one wins; then the pattern with the most literal characters; two with the same number are a fault that names
both. Names are compared with their case. `\\1` in `to` and `add` is the first group of a regular expression.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import SecretStr, TypeAdapter

from syncd.config.document import Document, Key
from syncd.config.secrets import Resolver
from syncd.config.spec import Tables, TableSpec
from syncd.errors import ConfigError
from syncd.model import TableId

V = TypeVar("V")
_REGEX = re.compile(r"[\\()\[\]{}|+^]")
_QUOTED = re.compile(r"(`(?:[^`]|``)+`|[^.`]+)\.(`(?:[^`]|``)+`|[^.`]+)", re.DOTALL)
_GROUP = re.compile(r"\\(\d+)")
_SPECS: TypeAdapter[dict[str, TableSpec]] = TypeAdapter(Tables)
ONE_TARGET = (
    "give each another `to`, or leave some out (`skip: true`); or tell them apart by a column with a value for each, "
    "as a part of the key: `add: {shard: '\\1'}` and `key: [shard, id]`"
)
_NOT_LITERAL = re.compile(r"\\.|\[[^\]]*\]|\{[^}]*\}|\(\?[^)]*\)|[^\w]")


@dataclass(frozen=True, slots=True)
class TableRule:
    """What a job says of one table, with all groups filled in. `pattern` is the job file's key for it.

    `to` is the table's name at the sinks: the source's own where the job gives none (`to_given` tells). `exact`: the
    pattern is the table's name. `options`: sink name -> that sink's settings for this table. `salt` is the key of the
    `hash` mask.
    """

    table: TableId
    pattern: str
    to: TableId
    to_given: bool = False
    exact: bool = False
    kind: str = "upsert"
    keyless: str = "refuse"
    unique: str = "in-order"
    key: tuple[str, ...] | None = None
    add: Mapping[str, Any] = field(default_factory=dict)
    compute: Mapping[str, str] = field(default_factory=dict, repr=False)
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    mask: Mapping[str, str] = field(default_factory=dict)
    where: str | None = field(default=None, repr=False)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    salt: SecretStr | None = None

    @property
    def constants(self) -> dict[str, Any]:
        """Added columns that are part of the key: all rows of the table have these values in it, at every sink."""
        return _constants(self)

    @property
    def apart(self) -> tuple[frozenset[tuple[str, type]], frozenset[Any]]:
        """Of two tables with the same first part, those are apart whose second part differs."""
        compared = _compared(self)
        return frozenset(compared), frozenset(compared.items())


def are_apart(one: TableRule | TableSpec, other: TableRule | TableSpec) -> bool:
    """No row of the one table can have the key of one of the other, wherever keys are compared: some servers take
    texts for equal that differ in spaces at their end."""
    here, there = _compared(one), _compared(other)
    return any(here[column] != there[column] for column in here.keys() & there)


def _constants(of: TableRule | TableSpec) -> dict[str, Any]:
    return {name: value for name, value in of.add.items() if name in (of.key or ())}


def tells_apart(pattern: Pattern, spec: TableSpec) -> bool:
    """Whether tables that differ in a group of the pattern have several targets, or another value in their keys."""
    words = (spec.to, *(value for value in _constants(spec).values() if isinstance(value, str)))
    used = {int(number) for word in words for number in _GROUP.findall(word or "")}
    groups = {*range(1, pattern.groups + 1)}
    return pattern.kind == "regex" and (used >= groups or not used <= groups)  # those are a fault of their own


def _compared(of: TableRule | TableSpec) -> dict[tuple[str, type], Any]:
    return {(name, type(value)): _trimmed(value) for name, value in _constants(of).items()}


def _trimmed(value: Any) -> Any:
    return value.rstrip(" ") if isinstance(value, str) else value


class Pattern:
    """One key of `tables`. ValueError says what is wrong with it, and how to write it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.kind = _kind(text)
        self._database: re.Pattern[str] | None = None
        if self.kind == "regex":
            self.regex = _regex(text)
        elif "`" in text:
            if not _QUOTED.fullmatch(text):
                raise ValueError("a table in backquotes is written `database`.`table`, a backquote in a name twice")
            self._database, self.regex = (re.compile(re.escape(part)) for part in TableId.parse(text))
        else:
            database, dot, name = text.partition(".")
            if not (database and dot and name):
                raise ValueError("a table is written database.table")
            self._database = re.compile(_glob(database), re.DOTALL)
            self.regex = re.compile(_glob(name), re.DOTALL)
        self.literals = len(_NOT_LITERAL.sub("", text))

    @property
    def groups(self) -> int:
        return self.regex.groups

    def match(self, table: TableId) -> re.Match[str] | None:
        if self._database is None:
            return self.regex.fullmatch(".".join(table))
        return self.regex.fullmatch(table.name) if self._database.fullmatch(table.database) else None


def _kind(text: str) -> str:
    if "`" in text:
        return "exact"
    if _REGEX.search(text):
        return "regex"
    return "glob" if re.search(r"[*?]", text) else "exact"


def _regex(text: str) -> re.Pattern[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # `[[`, `--`: it is to mean something else one day
            return re.compile(text, re.DOTALL)
    except (re.error, FutureWarning) as error:
        raise ValueError(f"not a regular expression: {error}") from error


def _glob(name: str) -> str:
    return "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in name)


def fill(text: str, match: re.Match[str]) -> str:
    """`\\1` -> the first group; a group that took no part is empty."""
    return _GROUP.sub(lambda m: match[int(m[1])] or "", text)


Fitting = list[tuple[Pattern, V, re.Match[str]]]


def fitting(rules: Iterable[tuple[Pattern, V]], table: TableId) -> Fitting[V]:
    """Those whose pattern fits the table, the most specific first."""
    found = [(pattern, value, match) for pattern, value in rules if (match := pattern.match(table))]
    return sorted(found, key=lambda f: (f[0].kind == "exact", f[0].literals), reverse=True)


def rival(found: Fitting[V]) -> Pattern | None:
    """One that fits as well as the first."""
    if len(found) < 2 or found[0][0].kind == "exact" or found[0][0].literals != found[1][0].literals:
        return None
    return found[1][0]


def tie(document: Document, key: Key, table: TableId, one: Pattern) -> ConfigError:
    """`key`: of the other pattern."""
    return document.fault(
        key,
        f"'{one.text}' and '{key[-1]}' fit {table} equally well",
        code="C118",
        hint=f"name {table} itself, or make one of them more specific",
        of_key=True,
    )


class TableMap:
    """All patterns of a job."""

    def __init__(self, specs: Mapping[str, TableSpec], document: Document, salt: SecretStr | None = None) -> None:
        self._document = document
        self._salt = salt
        self._rules = [(Pattern(text), spec) for text, spec in specs.items()]

    @classmethod
    def of(cls, data: Mapping[str, Any], path: str) -> TableMap:
        """From the `tables` of a job file, with references as they are written. ValueError: this version cannot."""
        document = Document(path, "", {"tables": dict(data)})
        specs = _SPECS.validate_python(Resolver(document).resolve()["tables"])
        return cls(specs, document)

    def match(self, table: TableId) -> TableRule | None:
        """The rule for a table, None for a table that the job does not want. ConfigError: two patterns fit alike."""
        found = fitting(self._rules, table)
        if not found:
            return None
        if (other := rival(found)) is not None:
            raise tie(self._document, ("tables", other.text), table, found[0][0])
        return None if found[0][1].skip else self._rule(table, *found[0])

    def unmatched(self, tables: Collection[TableId]) -> list[Pattern]:
        """The patterns that fit none of the tables: most likely misspelt."""
        return [pattern for pattern, _ in self._rules if not any(pattern.match(table) for table in tables)]

    def _rule(self, table: TableId, pattern: Pattern, spec: TableSpec, match: re.Match[str]) -> TableRule:
        return TableRule(
            table=table,
            pattern=pattern.text,
            to=target_of(table, fill(spec.to, match) if spec.to is not None else ""),
            to_given=spec.to is not None,
            exact=pattern.kind == "exact",
            kind=spec.kind,
            keyless=spec.keyless,
            unique=spec.unique,
            key=None if spec.key is None else tuple(spec.key),
            add={name: fill(value, match) if isinstance(value, str) else value for name, value in spec.add.items()},
            compute=spec.compute,
            include=None if spec.columns.include is None else tuple(spec.columns.include),
            exclude=tuple(spec.columns.exclude),
            rename=spec.columns.rename,
            mask=spec.mask,
            where=spec.where,
            options=spec.sinks,
            salt=self._salt,
        )


def target_of(table: TableId, text: str) -> TableId:
    """Where a table goes, by a `to` with its groups filled in; "": none is given."""
    database, dot, name = text.rpartition(".")
    return TableId(database, name) if dot else TableId(table.database, text or table.name)


def check_pattern(document: Document, text: str, at: Key = ("tables",)) -> tuple[Pattern | None, list[ConfigError]]:
    """The pattern of a key of `tables`, or of the mapping `at`; or the fault that it has."""
    try:
        return Pattern(text), []
    except ValueError as error:
        hint = f'for all tables of a database: "{text}.*"' if re.fullmatch(r"\w+", text) else ""
        return None, [document.fault((*at, text), str(error), code="C116", hint=hint, of_key=True)]


def check_group_use(document: Document, pattern: Pattern, spec: TableSpec) -> Iterator[ConfigError]:
    """Groups in `to` and `add` that the pattern does not have."""
    key: Key = ("tables", pattern.text)
    uses: list[tuple[Key, Any]] = [((*key, "to"), spec.to), *(((*key, "add", n), v) for n, v in spec.add.items())]
    for place, value in uses:
        for number in _GROUP.findall(value) if isinstance(value, str) else ():
            if not 1 <= int(number) <= pattern.groups:
                hint = f"'{pattern.text}' has {pattern.groups or 'no'} group{'' if pattern.groups == 1 else 's'}"
                yield document.fault(place, f"\\{number} is not a group", code="C117", hint=hint)
