"""Several source tables in one target: what they must agree in when they begin."""

from __future__ import annotations

from collections.abc import Callable

from syncd.model import Column, TableSchema


def disagreement(one: TableSchema, other: TableSchema, holds_all: Callable[[Column, Column], bool]) -> str:
    """Why no table could hold the rows of both, which begin together; "" where one could. Both as they are published.

    `holds_all`: see `spi.Source`.
    """
    here, there = ({column.name: column for column in schema.columns} for schema in (one, other))
    if lacks := sorted(there.keys() - here.keys()):
        return f"it lacks the column {lacks[0]}"
    if more := sorted(here.keys() - there.keys()):
        return f"that one lacks the column {more[0]}"
    if one.key != other.key:
        return f"its key is ({', '.join(one.key)}), and that one's ({', '.join(other.key)})"
    for name, column in here.items():
        if not holds_all(column, there[name]) and not holds_all(there[name], column):
            kinds = [c.source_type or str(c.type) for c in (column, there[name])]
            return f"its column {name} is {kinds[0]}, and that one's {kinds[1]}: neither holds all values of the other"
    return ""
