"""What commands print: plain lines, tables, the results of a comparison.

Nothing is read as markup: a table may be called `a[/x]b`, and a reason may quote it. What has a style is given it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta

from rich.console import Console
from rich.table import Column, Table

from syncd import control
from syncd.ops.reconcile import Result

out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
WIDE = 1000
"""Columns of a table that goes into a file or a pipe: one line a row, and nothing is cut."""


def grid_of(*columns: str) -> Table:
    return Table(*(Column(name, overflow="fold") for name in columns), box=None, padding=(0, 0, 0, 2))


def show(grid: Table) -> None:
    width = None if out.is_terminal else WIDE
    Console(highlight=False, markup=False, emoji=False, width=width).print(grid)


def print_results(results: Iterable[Result], as_json: bool = False) -> None:
    if as_json:
        for result in results:
            print(control.as_json(control.result_facts(result)))  # noqa: T201
        return
    grid = grid_of("table", "sink", "rows", "missing", "extra", "different")
    for result in results:
        counted = result.rows or result.differs or not result.unsettled
        grid.add_row(
            str(result.table),
            result.sink,
            *(f"{n:,}" if counted else "-" for n in (result.rows, result.missing, result.extra, result.different)),
        )
    show(grid)
    for result in results:
        if result.unsettled:
            out.print(
                f"{result.table} at {result.sink} was not compared to the end: {result.unsettled}; "
                "what is on its way there may be among the differences"
            )
        if result.kept:
            out.print(f"{result.table}: {result.kept:,} deleted rows stay at {result.sink} (deletes: ignore)")
        for key in result.missing_keys:
            out.print(f"{result.table} {_key(key)} is missing at {result.sink}")
        for key in result.extra_keys:
            out.print(f"{result.table} {_key(key)} is extra at {result.sink}")
        for sample in result.samples:
            for column, (left, right) in sample.columns.items():
                out.print(
                    f"{result.table} {_key(sample.key)} {column}: source {value(left)}, {result.sink} {value(right)}"
                )
        if result.unnamed:
            more = f"{result.unnamed:,} more rows differ; --show N names N of each kind"
            out.print(f"{result.table} at {result.sink}: {more}")


def _key(key: tuple[object, ...]) -> str:
    return value(key[0]) if len(key) == 1 else f"[{', '.join(map(value, key))}]"


def value(of: object) -> str:
    """A value for people; bytes as `trace` takes them."""
    match of:
        case None:
            return "NULL"
        case bytes():
            return f"0x{of.hex()}"
        case str():
            return json.dumps(of, ensure_ascii=False)
        case timedelta():
            return f"{'-' if of < timedelta(0) else ''}{abs(of)}"
        case _:
            return str(of)
