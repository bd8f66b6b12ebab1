"""What a part of a filter or of a computed column is: a kind, and how to get its values from the rows."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from syncd.errors import ConfigError
from syncd.model import Column
from syncd.transforms.collation import Rule, rule_of

Rows = Any  # a pyarrow.RecordBatch
Run = Callable[[Rows], Any]
KERNELS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "=": pc.equal,
    "<>": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
"""What each sign of a comparison asks of two arrays, or of an array and a constant."""
Kind = Literal["int", "decimal", "float", "text", "date", "truth", "null", "other"]
_LONGEST_MEMBER: Final = 255  # of an ENUM
_LENGTH = re.compile(r"(?:var)?char\((\d+)\)")


def refused(what: str, *, hint: str = "", code: str = "C120") -> ConfigError:
    """A filter that syncd cannot answer exactly as the server would."""
    return ConfigError(what, hint=hint, code=code)


def nearest(word: str, known: Iterable[str], otherwise: str = "there is") -> str:
    """A hint: the known name that is meant, or all of them."""
    names = [*known]
    lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), lower, 1)
    return f"did you mean '{lower[close[0]]}'?" if close else f"{otherwise}: {', '.join(names)}"


@dataclass(frozen=True, slots=True)
class Operand:
    """`run` gives an array, or a scalar where no column takes part. `literal`: the value of a constant.

    `name` is the column's, for messages. `rule`: how texts compare. `type`: the Arrow type of a column, or of a value
    that a function gives. `length`: the characters that a text has at most, 0 where nothing says so.
    """

    kind: Kind
    run: Run
    literal: Any = None
    name: str = ""
    type: pa.DataType | None = None
    rule: Rule | None = None
    table: str = ""
    source_type: str = field(default="", repr=False)
    length: int = 0

    @classmethod
    def of_truth(cls, run: Run) -> Operand:
        return cls("truth", run)

    @classmethod
    def of_text(cls, text: str) -> Operand:
        return cls("text", lambda rows: pa.scalar(text), literal=text, type=pa.string(), length=max(len(text), 1))

    @classmethod
    def of_column(cls, column: Column, table: str) -> Operand:
        kind = kind_of(column)
        index_name = column.name

        def run(rows: Rows) -> Any:
            values = rows.column(index_name)
            return values.cast(values.type.value_type) if pat.is_dictionary(values.type) else values

        rule = rule_of(column) if kind == "text" else None
        source_type = column.source_type.lower()
        sized = _LENGTH.match(source_type)
        length = int(sized[1]) if sized else _LONGEST_MEMBER if source_type.startswith("enum") else 0
        return cls(kind, run, None, column.name, column.type, rule, table, source_type, length)

    def shown(self) -> str:
        return f"column '{self.name}'" if self.name else f"a {self.kind}"


def kind_of(column: Column) -> Kind:
    """ "other" can only be asked for NULL: JSON, binary and time-of-day values compare in ways of their own."""
    kind = column.type
    if pat.is_integer(kind) or pat.is_boolean(kind):
        return "int"
    if pat.is_decimal(kind):
        return "decimal"
    if pat.is_floating(kind):
        return "float"
    if pat.is_date(kind) or pat.is_timestamp(kind):
        return "date"
    is_text = pat.is_string(kind) or pat.is_large_string(kind) or pat.is_dictionary(kind)
    return "text" if is_text and not column.source_type.lower().startswith("json") else "other"
