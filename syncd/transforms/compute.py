"""Computed columns: SQL expressions over a row, parsed by sqlglot, evaluated by Arrow kernels (docs/transforms.md).

    tree = parse("concat(first, ' ', last)")                 ConfigError: no SQL, or outside the subset
    made = compile_column("name", tree, schema, salt)        ConfigError: unknown column, types that do not go together
    made.column                                              its type and whether it takes NULL, known before any row
    made.inputs                                              the source columns that it looks at
    made.values(rows)                                        one value a row. Unsupported: one that has no exact value

The subset is that of filters, with the functions of `FUNCTIONS`, CAST, CASE, IF and `||`, which joins texts here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import sqlglot
from numpy.typing import NDArray
from sqlglot import exp
from sqlglot.dialects.mysql import MySQL
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType  # type: ignore[attr-defined, unused-ignore]

from syncd.errors import Unsupported
from syncd.model import Column, TableSchema, plain
from syncd.transforms import cast, functions, numbers, text
from syncd.transforms.operand import Operand, Run, kind_of, nearest, refused
from syncd.transforms.where import FILTERS, Compiler, Subset, Tree, check, near

_SELECT: Final = "SELECT "
_MEANT: Final = {
    "substring_index": "split",
    "split_part": "split",
    "split_index": "split",
    "json_value": "json_extract",
    "get_json_object": "json_extract",
    "md5": "hash",
    "sha1": "hash",
    "sha2": "hash",
    "left": "substring",
    "right": "substring",
    "mid": "substring",
    "nvl": "coalesce",
    "convert": "cast",
    "truncate": "round",
    "to_date": "cast",
}
"""What functions of other names are called here."""

_OTHER_NAMES: Final = {"substr": "substring", "ucase": "upper", "lcase": "lower", "ifnull": "coalesce"}
FUNCTIONS: Final = (*functions.COUNTS, "cast", "if", "case")
"""Every function that there is; docs/transforms.md says what each one does."""


class _Dialect(MySQL):
    """MySQL's, but every function call is kept as it is written, and `||` joins texts (PIPES_AS_CONCAT)."""

    class Parser(MySQL.Parser):  # type: ignore[misc, name-defined, valid-type, unused-ignore]
        FUNCTIONS: dict[str, Any] = {}  # noqa: RUF012
        FUNCTION_PARSERS = {"CAST": MySQL.Parser.FUNCTION_PARSERS["CAST"]}  # noqa: RUF012
        LAMBDAS: dict[Any, Any] = {}  # noqa: RUF012
        DISJUNCTION = {k: v for k, v in MySQL.Parser.DISJUNCTION.items() if k != TokenType.DPIPE}  # noqa: RUF012
        TERM = {**MySQL.Parser.TERM, TokenType.DPIPE: exp.DPipe}  # noqa: RUF012
        COLUMN_OPERATORS = {  # noqa: RUF012
            **MySQL.Parser.COLUMN_OPERATORS,
            TokenType.ARROW: lambda _, this, path: _call("json_extract", this, path),
            TokenType.DARROW: lambda _, this, path: _call("json_unquote", _call("json_extract", this, path)),
        }


def _call(name: str, *arguments: Tree) -> Tree:
    return exp.Anonymous(this=name, expressions=[*arguments])


_SUBSET: Final = Subset(
    {
        **FILTERS.arguments,
        exp.Anonymous: {"this", "expressions"},
        exp.DPipe: {"this", "expression"},
        exp.If: {"this", "true", "false"},
        exp.Case: {"ifs", "default"},
    },
    "computed columns take",
)


def parse(expression: str) -> Tree:
    """The expression as a tree of the subset. ConfigError (without a place) says what is not in it."""
    try:
        # As a part of a statement: by themselves some names of functions (REPLACE) begin statements of their own.
        tree = sqlglot.parse_one(_SELECT + expression, dialect=_Dialect)
    except SqlglotError as error:
        raise refused(f"not an SQL expression{near(error, len(_SELECT))}") from error
    except RecursionError as error:
        raise refused("the expression is nested too deeply") from error
    given = {name for name, value in tree.args.items() if value not in (None, False, [], ())}
    if not isinstance(tree, exp.Select) or given != {"expressions"} or len(tree.expressions) != 1:
        raise refused("not one SQL expression")
    tree = tree.expressions[0]
    for node in tree.find_all(exp.Anonymous):
        _known_function(node)
    check(tree, _SUBSET)
    return tree


def _known_function(node: Tree) -> None:
    """ConfigError: there is no such function, or it has another number of arguments."""
    name, given = _function(node), len(node.expressions)
    if name not in functions.COUNTS:
        meant = _MEANT.get(name)
        hint = f"did you mean '{meant}'?" if meant else nearest(name, FUNCTIONS)
        raise refused(f"there is no function '{node.name}'", hint=hint)
    least, most = functions.COUNTS[name]
    if not least <= given <= (most or given):
        count = str(least) if least == most else f"{least} to {most}" if most else f"{least} or more"
        raise refused(f"{name} takes {count} arguments, and {given} are given")


def _function(node: Tree) -> str:
    name = str(node.name).lower()
    return _OTHER_NAMES.get(name, name)


def columns_of(tree: Tree) -> list[str]:
    """The names of the columns in a tree, each once."""
    return list(dict.fromkeys(node.name for node in tree.find_all(exp.Column)))


def shows(tree: Tree) -> list[str]:
    """The names of the columns whose values a computed one may show something of: those outside of `hash`."""
    hidden = {
        id(column)
        for node in tree.find_all(exp.Anonymous)
        if _function(node) == "hash"
        for column in node.find_all(exp.Column)
    }
    return list(dict.fromkeys(node.name for node in tree.find_all(exp.Column) if id(node) not in hidden))


def hashes(tree: Tree) -> bool:
    """Whether `hash` is in it."""
    return any(_function(node) == "hash" for node in tree.find_all(exp.Anonymous))


def is_cast(tree: Tree) -> bool:
    """Whether the expression is a column, or a cast of one: what takes its place hides nothing of it."""
    return isinstance(tree.this if isinstance(tree, exp.Cast) else tree, exp.Column)


@dataclass(frozen=True, slots=True)
class Computed:
    """A compiled expression. `key`: the table's key columns; `shown`: the values it looks at may stand in messages."""

    table: str
    column: Column
    inputs: tuple[str, ...]
    run: Run = field(repr=False)
    key: tuple[str, ...] = ()
    shown: bool = False

    def values(self, rows: pa.RecordBatch, deleted: NDArray[np.bool_] | None = None) -> pa.Array:
        """One value a row. A row that is `deleted` has NULL where it has no exact value: it is deleted by its key, and
        what could not be written is not at the sinks. Unsupported: any other row without an exact value."""
        try:
            return self._array(rows)
        except pa.ArrowInvalid as error:
            if deleted is None or not deleted.any():
                raise self._fault(rows) from error
        stay, leave = np.flatnonzero(~deleted), np.flatnonzero(deleted)
        parts = [self.values(rows.take(pa.array(stay))), self._or_null(rows.take(pa.array(leave)))]
        return pa.concat_arrays(parts).take(pa.array(np.argsort(np.concatenate([stay, leave]))))

    def _array(self, rows: pa.RecordBatch) -> pa.Array:
        # Rows are picked in CASE and the like: only of the columns that matter.
        values = functions.filled(self.run, rows.select([*self.inputs]) if self.inputs else rows)
        return values if values.type == self.column.type else values.cast(self.column.type)

    def _or_null(self, rows: pa.RecordBatch) -> pa.Array:
        """NULL for each row without an exact value, found by halves."""
        try:
            return self._array(rows)
        except pa.ArrowInvalid:
            if rows.num_rows == 1:
                return pa.nulls(1, self.column.type)
        half = rows.num_rows // 2
        return pa.concat_arrays([self._or_null(rows.slice(0, half)), self._or_null(rows.slice(half))])

    def _fault(self, rows: pa.RecordBatch) -> Unsupported:
        """Which row it is: found by halves, since kernels do not tell."""
        while rows.num_rows > 1:
            half = rows.slice(0, rows.num_rows // 2)
            try:
                self._array(half)
                rows = rows.slice(rows.num_rows // 2)
            except pa.ArrowInvalid:
                rows = half
        row = f" of the row with {_listed(rows, self.key)}" if self.key else ""
        given = f" of {_listed(rows, self.inputs)}" if self.shown and self.inputs else ""
        # Without the expression: a constant in it may have come from a secret.
        return Unsupported(
            f"{self.table}.{self.column.name}{row}: no exact value as {self.column.source_type}{given}",
            table=self.table,
            hint="mend the row at the source, or the expression, then resync the table",
            code="E172",
        )


def _listed(row: pa.RecordBatch, names: Sequence[str]) -> str:
    given = {name: plain(row.column(name)[0]) for name in names}
    return ", ".join(f"{n} = {v if isinstance(v, int | float) else repr(str(v))}" for n, v in given.items())


def compile_column(name: str, tree: Tree, schema: TableSchema, salt: bytes) -> Computed:
    """The expression over the columns of one schema version."""
    compiler = _Compiler(schema, salt)
    operand = compiler.operand(tree)
    if isinstance(tree, exp.Column):
        source = compiler.columns[tree.name.lower()]
        column, run = replace(source, name=name, default=None, comment="", generated="", filled=""), _plain(source.name)
    else:
        column, run = _typed(name, operand), operand.run
        if operand.kind == "float":
            run = functions.finite(run)
        column = replace(column, nullable=compiler.nullable(tree))
    inputs = tuple(c.name for c in schema.columns if c.name in compiler.used)
    made = Computed(str(schema.table), column, inputs, run, schema.key)
    try:
        made.values(pa.RecordBatch.from_pylist([], schema=schema.arrow()))
    except (pa.ArrowException, Unsupported) as error:
        raise refused("the types of the expression do not go together") from error
    return made


def _plain(name: str) -> Run:
    return lambda rows: rows.column(name)


def _typed(name: str, operand: Operand) -> Column:
    """The column that holds every value of the operand. ConfigError: there is none."""
    match operand.kind:
        case "text":
            return text_column(name, operand.length)
        case "truth":
            return Column(name, pa.int8(), source_type="tinyint(1)")
        case "null":
            raise refused("NULL alone has no type", hint="say which one: cast(NULL as char(10))")
        case "decimal":
            kind = cast.settled_decimal(numbers.decimal_type(operand))
            return Column(name, kind, source_type=f"decimal({kind.precision},{kind.scale})")
        case "int" | "float":
            kind = operand.type or (pa.int64() if operand.kind == "int" else pa.float64())
            return Column(name, kind, source_type=operand.source_type or cast.NAMES[kind])
        case _:
            kind = operand.type
            return Column(name, kind, source_type=operand.source_type or cast.NAMES[kind])


def text_column(name: str, length: int) -> Column:
    """A text of so many characters at most, 0 for any number; compared by code point."""
    fits = 0 < length <= cast.LONGEST_VARCHAR
    return Column(
        name, pa.string(), source_type=f"varchar({length})" if fits else "longtext", charset="utf8mb4",
        collation="utf8mb4_bin",
    )  # fmt: skip


class _Compiler(Compiler):
    """That of filters, and functions."""

    def __init__(self, schema: TableSchema, salt: bytes) -> None:
        super().__init__(schema)
        self.salt, self.key = salt, {*schema.key}

    def _anonymous(self, node: Tree) -> Operand:
        name = _function(node)
        if name == "hash":
            return functions.hashed(self.operand(node.expressions[0]), self.salt)
        if name == "json_unquote":
            inner = node.expressions[0].unnest()
            if not isinstance(inner, exp.Anonymous) or _function(inner) != "json_extract":
                raise refused("json_unquote takes what json_extract gives")
            return functions.json_extract([self.operand(argument) for argument in inner.expressions], plain=True)
        made: Callable[[list[Operand]], Operand] = getattr(functions, name)
        return made([self.operand(argument) for argument in node.expressions])

    def _dpipe(self, node: Tree) -> Operand:
        return functions.concat([self.operand(node.this), self.operand(node.expression)])

    def _cast(self, node: Tree) -> Operand:
        inner = self.operand(node.this)
        if node.to.this == exp.DType.BINARY and inner.kind == "text":
            return text.collated(inner, "binary")
        return cast.cast(inner, cast.target(node.to))

    def _if(self, node: Tree) -> Operand:
        return self._chosen([node], node.args.get("false"))

    def _case(self, node: Tree) -> Operand:
        return self._chosen(node.args["ifs"], node.args.get("default"))

    def _chosen(self, branches: Sequence[Tree], otherwise: Tree | None) -> Operand:
        tests = [numbers.truth(self.operand(branch.this)).run for branch in branches]
        values = [self.operand(branch.args["true"]) for branch in branches]
        return functions.chosen(tests, values, None if otherwise is None else self.operand(otherwise))

    def nullable(self, node: Tree) -> bool:
        """Whether a value may be NULL. A date may, also where its column says no (`policy.zero_date`)."""
        if isinstance(node, exp.Column):
            column = self.columns[node.name.lower()]
            return column.name not in self.key and (column.nullable or kind_of(column) == "date")
        if isinstance(node, exp.Null | exp.IntDiv | exp.Mod):
            return True
        if isinstance(node, exp.Is | exp.NullSafeEQ):
            return False
        if isinstance(node, exp.Case | exp.If):
            return self._chosen_nullable(node)
        if isinstance(node, exp.Anonymous):
            name = _function(node)
            if name in functions.MAY_BE_NULL:
                return True
            if name == "concat_ws":
                return self.nullable(node.expressions[0])
            each = [self.nullable(argument) for argument in node.expressions]
            return all(each) if name == "coalesce" else any(each)
        if isinstance(node, exp.Cast):
            return self.nullable(node.this)
        return any(self.nullable(child) for child in node.iter_expressions())

    def _chosen_nullable(self, node: Tree) -> bool:
        branches = [node] if isinstance(node, exp.If) else node.args["ifs"]
        otherwise = node.args.get("false" if isinstance(node, exp.If) else "default")
        values = [branch.args["true"] for branch in branches]
        return otherwise is None or any(self.nullable(value) for value in [*values, otherwise])
