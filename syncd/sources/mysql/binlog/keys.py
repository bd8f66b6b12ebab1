"""Whether a table still tells its rows apart as before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from syncd.model import Column, TableSchema
from syncd.sources.mysql.binlog import tabled
from syncd.sources.mysql.binlog.actions import Reindexed, Step, Unindexed
from syncd.sources.mysql.binlog.server import Unclear
from syncd.sources.mysql.types import INTEGERS, arguments, base_type, is_unsigned, members

_GROWS = frozenset({"varchar", "varbinary"})


def same_key(
    before: TableSchema, after: TableSchema, renamed: Mapping[str, str], steps: Sequence[Step], *, zero_is_null: bool
) -> TableSchema:
    """`after` with its twins, and its key columns never NULL. Unclear: its key, or what makes two keys equal, may be
    another one."""
    there = {column.name: column for column in after.columns}
    old = {column.name: column for column in before.columns}
    for name in before.key:
        now = there.get(renamed.get(name, ""))
        if now is None or not same_keys(old[name], now) or (now.nullable and before.key_from != "primary"):
            raise Unclear(f"the key column {name} changes")
    if before.key_from != "primary":
        _refuse_other_key(before, after, steps, zero_is_null=zero_is_null)
    keys = {*after.key}
    columns = [replace(c, nullable=c.nullable and c.name not in keys) for c in after.columns]
    twins = [
        replace(
            twin,
            name=f"_key_{renamed.get(twin.normal_of, twin.normal_of)}",
            normal_of=renamed.get(twin.normal_of, twin.normal_of),
        )
        for twin in before.columns
        if twin.normal_of
    ]
    return replace(after, columns=(*columns, *twins))


def _refuse_other_key(before: TableSchema, after: TableSchema, steps: Sequence[Step], *, zero_is_null: bool) -> None:
    """Of a table without a primary key. The name of the index that is the key is not known, nor which are hidden."""
    known = {index.name.lower(): index.kind for index in before.indexes}
    for step in steps:
        if isinstance(step, Unindexed | Reindexed):
            kind = known.get(step.name.lower())
            if (kind is None and before.key) or (kind != "" and isinstance(step, Reindexed)):
                raise Unclear("an index that may be the key")
    there = {index.name: index for index in before.indexes}
    for index in after.indexes:
        was = there.get(index.name)
        could = was == index and tabled.may_be_key(index, before.columns, zero_is_null=zero_is_null)
        if not could and tabled.may_be_key(index, after.columns, zero_is_null=zero_is_null):
            raise Unclear(f"the index {index.name} may be the key")


def same_keys(old: Column, new: Column) -> bool:
    """Equal keys stay equal, and their values what they are."""
    if (old.charset, old.collation, old.generated) != (new.charset, new.collation, new.generated):
        return False
    if old.source_type == new.source_type:
        return True
    one, other = base_type(old.source_type), base_type(new.source_type)
    if one in INTEGERS and other in INTEGERS:
        wider = INTEGERS[one] <= INTEGERS[other]
        return wider and is_unsigned(old.source_type) == is_unsigned(new.source_type)
    if one != other:
        return False
    if one in _GROWS:
        return int(arguments(old.source_type)) <= int(arguments(new.source_type))
    if one == "enum":
        return members(new.source_type)[: len(members(old.source_type))] == members(old.source_type)
    return False
