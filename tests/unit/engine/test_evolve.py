"""What is published of a table behind its ALTER, by each policy."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from syncd.config import DdlPolicy
from syncd.engine.evolve import Evolved, evolve
from syncd.errors import Unsupported
from syncd.model import Column, Ddl, Index, IndexPart, SchemaChange, TableId, TableSchema
from syncd.sources.mysql.wider import holds_all
from syncd.transforms import build
from tests.unit.transforms.tables import rule

ID = Column("id", pa.int64(), False, "bigint")
INT = Column("n", pa.int32(), True, "int")
BIG = Column("n", pa.int64(), True, "bigint")
WORD = Column("word", pa.string(), True, "varchar(9)", "utf8mb4", "utf8mb4_bin")
OTHER = replace(WORD, name="other")
PLAIN = Index("by_word", (IndexPart("word"),))


def table(*columns: Column, indexes: tuple[Index, ...] = ()) -> TableSchema:
    return TableSchema(TableId("shop", "users"), 1, (ID, *columns), ("id",), "primary", indexes=indexes)


def after(
    before: TableSchema,
    now: TableSchema,
    *renamed: tuple[str, str],
    kept: frozenset[str] = frozenset(),
    policy: dict[str, str] | None = None,
) -> Evolved:
    """The ALTER from one to the other, of a table that was published as it is."""
    change = SchemaChange(Ddl.ALTER, replace(now, version=2), 2, "ALTER TABLE users", before=before, renamed=renamed)
    old, new = build(rule(), before), build(rule(), change.schema)
    return evolve(change, old, new, DdlPolicy.model_validate(policy or {}), holds_all, kept)


def columns(evolved: Evolved) -> list[tuple[str, pa.DataType]]:
    schema = evolved.change.schema
    assert schema == evolved.transform.schema
    return [(column.name, column.type) for column in schema.columns[1:]]


def test_columns_come_and_go() -> None:
    made = after(table(INT), table(WORD))
    assert columns(made) == [("word", pa.string())]
    assert (made.change.gone, made.change.kept) == (("n",), ())
    assert columns(after(table(INT), table(INT, WORD), policy={"add_column": "ignore"})) == [("n", pa.int32())]
    kept = after(table(INT), table(), policy={"drop_column": "ignore"})
    assert (columns(kept), kept.change.gone, kept.change.kept) == ([], (), ("n",))


def test_other_names() -> None:
    made = after(table(WORD), table(OTHER), ("word", "other"))
    assert (columns(made), made.change.renamed, made.change.gone) == (
        [("other", pa.string())],
        (("word", "other"),),
        (),
    )


def test_wider_types_are_taken_and_narrower_ones_held_back() -> None:
    assert columns(after(table(INT), table(BIG))) == [("n", pa.int64())]
    assert columns(after(table(BIG), table(INT))) == [("n", pa.int64())]
    assert after(table(INT), table(replace(INT, nullable=False))).change.schema.column("n").nullable


def test_indexes() -> None:
    before, now = table(WORD), table(WORD, indexes=(PLAIN,))
    assert after(before, now).change.schema.indexes == (PLAIN,)
    assert after(before, now, policy={"index": "ignore"}).change.schema.indexes == ()
    assert after(now, before, policy={"index": "ignore"}).change.schema.indexes == (PLAIN,)


HALTS: dict[str, tuple[TableSchema, TableSchema, tuple[tuple[str, str], ...]]] = {
    "add_column": (table(), table(INT), ()),
    "drop_column": (table(INT), table(), ()),
    "rename_column": (table(WORD), table(OTHER), (("word", "other"),)),
    "modify_column": (table(INT), table(BIG), ()),
    "index": (table(WORD), table(WORD, indexes=(PLAIN,)), ()),
}


@pytest.mark.parametrize("kind", HALTS)
def test_what_a_policy_halts(kind: str) -> None:
    before, now, renamed = HALTS[kind]
    with pytest.raises(Unsupported, match=rf"`policy\.ddl\.{kind}` says halt-table: ALTER TABLE users"):
        after(before, now, *renamed, policy={kind: "halt-table"})
    after(before, now, *renamed, policy={other: "halt-table" for other in HALTS if other != kind})


def test_neither_wider_nor_narrower() -> None:
    with pytest.raises(Unsupported, match=r"n: int became varchar\(9\), in which values may be other ones"):
        after(table(INT), table(replace(WORD, name="n")))


def test_a_name_that_another_column_had() -> None:
    swapped = table(replace(WORD, name="other"), replace(OTHER, name="word"))
    with pytest.raises(Unsupported, match="is now the name of another column"):
        after(table(WORD, OTHER), swapped, ("word", "other"), ("other", "word"))


def test_a_name_that_the_sinks_have_kept() -> None:
    """They would show the values of then."""
    with pytest.raises(Unsupported, match="N is now the name of another column"):
        after(table(), table(replace(INT, name="N")), kept=frozenset({"n"}))
    with pytest.raises(Unsupported, match="word is now the name of another column"):
        after(table(OTHER), table(WORD), ("other", "word"), kept=frozenset({"word"}))
    assert columns(after(table(), table(INT), kept=frozenset({"n"}), policy={"add_column": "ignore"})) == []
    assert columns(after(table(INT), table(BIG), kept=frozenset({"word"}))) == [("n", pa.int64())]


@pytest.mark.parametrize(
    ("wide", "narrow", "holds"),
    [
        ("enum('b','a','c')", "enum('a','b')", True),
        ("enum('a','c')", "enum('a','b')", False),
        ("set('a','x','b')", "set('a','b')", True),
        ("set('b','a')", "set('a','b')", False),
        ("set('a')", "set('a','b')", False),
    ],
)
def test_members(wide: str, narrow: str, holds: bool) -> None:
    """The text of a SET's value has its members in the order of the type."""
    one, other = (Column("c", pa.string(), True, kind, "utf8mb4", "utf8mb4_bin") for kind in (wide, narrow))
    assert holds_all(one, other) is holds
