"""Which of the source's tables a job takes, and which patterns of it say nothing."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from syncd.config.document import dotted
from syncd.engine.build import Parts
from syncd.errors import FatalError
from syncd.model import Finding, TableId
from syncd.spi import Found, Source


@dataclass(frozen=True, slots=True)
class Tables:
    """`taken`: what the job names, whether it can be copied or not. `findings`: warnings."""

    taken: list[Found]
    findings: list[Finding]


def tables(parts: Parts, source: Source) -> Tables:
    """The tables at the source as the job sees them now. Views and their like are taken only by their exact name."""
    names: set[TableId] = set()

    def wanted(table: TableId) -> bool:
        names.add(table)
        return parts.wants(table)

    taken, left_out = [], []
    for found in source.tables(wanted):
        rule = parts.rule(found.schema.table)
        if found.aside and not rule.exact:
            text = f"{'; '.join(found.refusals)}: '{rule.pattern}' leaves it out"
            left_out.append(Finding("warning", str(found.schema.table), text))
        else:
            taken.append(found)
    unused = _unused([each.schema.table for each in taken], parts)
    return Tables(taken, [*_unmatched(parts, names), *unused, *left_out])


def _unmatched(parts: Parts, names: Collection[TableId]) -> Iterator[Finding]:
    words = [str(table) for table in sorted(names)]
    for pattern in parts.job.tables.unmatched(names):
        line, column = parts.job.document.place(("tables", pattern.text), of_key=True)
        close = difflib.get_close_matches(pattern.text, words, 1) if pattern.kind == "exact" else []
        yield Finding(
            "warning",
            f"{parts.job.path}:{line}:{column} tables.{pattern.text}",
            "no table at the source fits it",
            f"did you mean '{close[0]}'?" if close else "look at its spelling, and at the account's SELECT grants",
        )


def _unused(tables: Collection[TableId], parts: Parts) -> Iterator[Finding]:
    """The filters of a sink that are none of any of its tables."""
    for name, sink in parts.job.sinks.items():
        there = [table for table in tables if name in parts.sinks_of(table)]
        for condition in sink.where.unmatched(there):
            line, column = parts.job.document.place(condition.key, of_key=True)
            pattern = str(condition.key[-1])
            close = difflib.get_close_matches(pattern, map(str, there), 1)
            yield Finding(
                "warning",
                f"{parts.job.path}:{line}:{column} {dotted(condition.key)}",
                "no table of this sink fits it",
                f"did you mean '{close[0]}'?" if close else "patterns are of the source's names, as in `tables`",
            )


def no_table(parts: Parts, refused: Mapping[TableId, str]) -> FatalError:
    """Nothing is left to copy. `refused`: each table that the job names, with the reason."""
    return FatalError(
        f"job {parts.job.name}: no table to copy" + "".join(f"; {table}: {why}" for table, why in refused.items()),
        hint="look at the table patterns and at the account's SELECT grants (`syncd plan`, `syncd check`)",
        code="E160",
    )
