"""Row filters: a subset of MySQL's SQL conditions, parsed by sqlglot and compiled to Arrow kernels.

    tree = parse("country = 'DE' AND NOT deleted")      ConfigError: no SQL, or outside the subset
    rows = compile_filter(tree, schema)                 ConfigError: unknown column, types, a collation not followed
    rows.columns                                        the source columns that it looks at
    rows.keep(batch)                                    boolean array: true, false, or null for SQL's UNKNOWN

The subset: columns, texts, numbers, TRUE, FALSE, NULL, DATE '...', comparisons, <=>, AND, OR, NOT, XOR, IN, BETWEEN,
LIKE, IS [NOT] NULL/TRUE/FALSE, + - *, DIV, %, parentheses, COLLATE and BINARY. Whatever could not be answered exactly
as the server would is refused by name; there is no function, no subquery, no REGEXP and no `/`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from syncd.errors import ConfigError, Unsupported
from syncd.model import TableSchema
from syncd.transforms import compare, numbers, text
from syncd.transforms.operand import Operand, Rows, nearest, refused

_ARGUMENTS: Final[dict[type[exp.Expression], set[str]]] = {
    exp.Column: {"this"},
    exp.Identifier: {"this", "quoted"},
    exp.Literal: {"this", "is_string"},
    exp.Boolean: {"this"},
    exp.Null: set(),
    exp.Var: {"this"},
    exp.Paren: {"this"},
    exp.Not: {"this"},
    exp.Neg: {"this"},
    exp.In: {"this", "expressions"},
    exp.Between: {"this", "low", "high"},
    exp.Cast: {"this", "to", "_type"},
    exp.Like: {"this", "expression", "negate"},
    exp.Escape: {"this", "expression"},
    exp.Collate: {"this", "expression"},
    exp.Is: {"this", "expression"},
    exp.And: {"this", "expression"},
    exp.Or: {"this", "expression"},
    exp.Xor: {"this", "expression"},
}
"""The nodes of the subset and the arguments they may have: an argument that is not understood is not overlooked."""

_COMPARISONS: Final[dict[type[exp.Expression], str]] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.NullSafeEQ: "<=>",
}
_ARITHMETIC: Final[dict[type[exp.Expression], str]] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.IntDiv: "DIV",
    exp.Mod: "%",
}
_DEPTH: Final = 100
Tree = Any  # a sqlglot tree; its base class has another name in each of its major versions


@dataclass(frozen=True, slots=True)
class Filter:
    """A compiled condition. `columns`: what it looks at, by the source's names, in the order of the schema."""

    table: str
    columns: tuple[str, ...]
    run: Callable[[Rows], Any]

    def keep(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        """One answer a row; null where SQL says UNKNOWN. Unsupported: a value that cannot be compared exactly."""
        try:
            answer = self.run(rows)
        except pa.ArrowInvalid as error:
            raise Unsupported(
                f"{self.table}: the filter's arithmetic leaves the range of 64 bits",
                table=self.table,
                hint="compare the columns without arithmetic",
                code="E171",
            ) from error
        if isinstance(answer, pa.Scalar):
            return pa.array([answer.as_py()] * rows.num_rows, pa.bool_())
        return answer


def parse(condition: str) -> Tree:
    """The condition as a tree of the subset. ConfigError (without a place) says what is not in it."""
    try:
        tree = sqlglot.parse_one(condition, dialect="mysql")
    except SqlglotError as error:
        raise ConfigError(f"not an SQL condition{near(error)}", code="C120") from error
    except RecursionError as error:
        raise refused("the condition is nested too deeply") from error
    check(tree, FILTERS)
    return tree


def near(error: SqlglotError, behind: int = 0) -> str:
    """Where sqlglot gave up, less `behind` characters in front; its own words are about its classes."""
    details = getattr(error, "errors", None)
    column = details[0].get("col") if details else None
    column = None if column is None else max(column - behind, 1)
    return f", near character {column}" if column else ""


@dataclass(frozen=True, slots=True)
class Subset:
    """The SQL that a setting takes. `arguments`: node -> its arguments; `taken_by`: whose it is, for messages."""

    arguments: Mapping[type[exp.Expression], Collection[str]]
    taken_by: str


FILTERS: Final = Subset(_ARGUMENTS, "filters take")


def check(node: Tree, subset: Subset, depth: int = 0) -> None:
    """ConfigError: the tree has a node or an argument that is not of the subset."""
    if depth > _DEPTH:
        raise refused("the condition is nested too deeply")
    kind = type(node)
    if kind in _COMPARISONS or kind in _ARITHMETIC:
        allowed: Collection[str] = {"this", "expression"}
    elif kind in subset.arguments:
        allowed = subset.arguments[kind]
    else:
        raise refused(f"{_words(node)} is not in the subset of SQL that {subset.taken_by}")
    given = {name for name, value in node.args.items() if value not in (None, False, [], ())}
    if given - {*allowed}:
        raise refused(f"{_words(node)} is not in the subset of SQL that {subset.taken_by}")
    if kind in _COMPARISONS:
        for side in (node.this, node.expression):
            if type(side) in _COMPARISONS:
                raise refused("a comparison of a comparison", hint="put the inner one in parentheses")
    if isinstance(node, exp.Cast):
        check(node.this, subset, depth + 1)
        return
    for child in node.iter_expressions():
        check(child, subset, depth + 1)


def _words(node: Tree) -> str:
    if isinstance(node, exp.Anonymous):
        return f"the function {node.name}"
    if isinstance(node, exp.Func) and not isinstance(node, exp.Connector):
        return f"the function {node.sql_name()}"
    return {"Div": "`/`", "RegexpLike": "REGEXP", "Subquery": "a subquery", "Block": "`;`"}.get(
        type(node).__name__, type(node).__name__
    )


def compile_filter(tree: Tree, schema: TableSchema) -> Filter:
    """The condition over the columns of one schema version."""
    compiler = Compiler(schema)
    run = numbers.truth(compiler.operand(tree)).run
    columns = tuple(c.name for c in schema.columns if c.name in compiler.used)
    compiled = Filter(str(schema.table), columns, run)
    empty = pa.RecordBatch.from_pylist([], schema=schema.arrow())
    try:
        run(empty)  # the kernels exist for these types: found out here, not at the first row
    except pa.ArrowException as error:
        raise refused("the types of the condition do not go together") from error
    return compiled


class Compiler:
    """Operands out of a tree, over the columns of one schema version. `used`: the columns met so far."""

    def __init__(self, schema: TableSchema) -> None:
        self.columns = {column.name.lower(): column for column in schema.columns if not column.normal_of}
        self.table = str(schema.table)
        self.used: set[str] = set()

    def operand(self, node: Tree) -> Operand:
        kind = type(node)
        if kind in _COMPARISONS:
            return compare.comparison(_COMPARISONS[kind], self.operand(node.this), self.operand(node.expression))
        if kind in _ARITHMETIC:
            return numbers.arithmetic(_ARITHMETIC[kind], self.operand(node.this), self.operand(node.expression))
        method: Callable[[Any], Operand] = getattr(self, f"_{kind.__name__.lower()}")
        return method(node)

    def _column(self, node: exp.Column) -> Operand:
        column = self.columns.get(node.name.lower())
        if column is None:
            hint = nearest(node.name, (c.name for c in self.columns.values()))
            raise ConfigError(f"{self.table} has no column '{node.name}'", hint=hint, code="C124")
        self.used.add(column.name)
        return Operand.of_column(column, self.table)

    def _literal(self, node: exp.Literal) -> Operand:
        return Operand.of_text(node.this) if node.is_string else numbers.literal(node.this)

    def _boolean(self, node: exp.Boolean) -> Operand:
        return numbers.literal("1" if node.this else "0")

    def _null(self, _: exp.Null) -> Operand:
        return Operand("null", lambda rows: pa.scalar(None, pa.bool_()))

    def _paren(self, node: exp.Paren) -> Operand:
        return self.operand(node.this)

    def _neg(self, node: exp.Neg) -> Operand:
        return numbers.negated(self.operand(node.this))

    def _not(self, node: exp.Not) -> Operand:
        inner = numbers.truth(self.operand(node.this)).run
        return Operand.of_truth(lambda rows: pc.invert(inner(rows)))

    def _and(self, node: exp.And) -> Operand:
        return self._both(pc.and_kleene, node)

    def _or(self, node: exp.Or) -> Operand:
        return self._both(pc.or_kleene, node)

    def _xor(self, node: exp.Xor) -> Operand:
        return self._both(pc.xor, node)

    def _both(self, kernel: Callable[[Any, Any], Any], node: exp.Binary) -> Operand:
        left, right = numbers.truth(self.operand(node.this)).run, numbers.truth(self.operand(node.expression)).run
        return Operand.of_truth(lambda rows: kernel(left(rows), right(rows)))

    def _in(self, node: exp.In) -> Operand:
        if not node.expressions:
            raise refused("an empty IN list")
        left = self.operand(node.this)
        return compare.within(left, [self.operand(item) for item in node.expressions])

    def _between(self, node: exp.Between) -> Operand:
        value = self.operand(node.this)
        low = compare.comparison(">=", value, self.operand(node.args["low"])).run
        high = compare.comparison("<=", value, self.operand(node.args["high"])).run
        return Operand.of_truth(lambda rows: pc.and_kleene(low(rows), high(rows)))

    def _is(self, node: exp.Is) -> Operand:
        if isinstance(node.expression, exp.Null):
            run = self.operand(node.this).run
            return Operand.of_truth(lambda rows: pc.is_null(run(rows)))
        if not isinstance(node.expression, exp.Boolean):
            raise refused("IS takes NULL, TRUE or FALSE")
        truth, wanted = numbers.truth(self.operand(node.this)).run, bool(node.expression.this)
        return Operand.of_truth(lambda rows: pc.fill_null(pc.equal(truth(rows), wanted), fill_value=False))

    def _like(self, node: exp.Like, escape: str = "\\") -> Operand:
        pattern = node.expression
        if not (isinstance(pattern, exp.Literal) and pattern.is_string):
            raise refused("LIKE takes a text")
        like = text.like(self.operand(node.this), pattern.this, escape)
        if not node.args.get("negate"):
            return like
        return Operand.of_truth(lambda rows: pc.invert(like.run(rows)))

    def _escape(self, node: exp.Escape) -> Operand:
        sign = node.expression.name
        if not isinstance(node.this, exp.Like) or len(sign) != 1:
            raise refused("ESCAPE takes one character, behind LIKE")
        return self._like(node.this, sign)

    def _collate(self, node: exp.Collate) -> Operand:
        return text.collated(self.operand(node.this), node.expression.name.lower())

    def _cast(self, node: exp.Cast) -> Operand:
        to = node.to.this
        inner = self.operand(node.this)
        if to == exp.DType.BINARY and inner.kind == "text":
            return text.collated(inner, "binary")
        dated = {exp.DType.DATE, exp.DType.DATETIME, exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ}
        if to in dated and inner.literal is not None and inner.kind == "text":
            return inner
        raise refused("CAST is not in the subset of SQL that filters take")
