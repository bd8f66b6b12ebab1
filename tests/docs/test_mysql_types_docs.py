"""docs/types/mysql.md: each type becomes at the sinks what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from syncd.drivers.mysql.connection import Server
from syncd.model import Column
from syncd.sinks.clickhouse import types as clickhouse
from syncd.sinks.mysql import types as family
from syncd.sinks.mysql.session import Limits
from syncd.sources.mysql.types import arrow_type

PAGE = (Path(__file__).parents[2] / "docs/types/mysql.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("|---|---|---|---|---|\n")[2].partition("\n\n")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.splitlines()]
SAME = {"boolean": "tinyint(1)", "real": "double"}
"""What the servers make of a word."""
TEXTS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set")
MYSQL = Limits(Server("mysql", (9, 0, 0), "9.0.0"), frozenset({"utf8mb4"}), frozenset({"utf8mb4_bin"}), 1 << 26, 0)
CASES = [(word.lower(), *row[1:4]) for row in ROWS for word in re.findall(r"`([^`]+)`", row[0]) if row[3]]


@pytest.mark.parametrize(("source_type", "arrow", "at_clickhouse", "at_family"), CASES)
def test_each_type_becomes_what_the_page_says(source_type: str, arrow: str, at_clickhouse: str, at_family: str) -> None:
    kind = SAME.get(source_type, source_type)
    text = kind.partition("(")[0] in TEXTS
    made = arrow_type(kind, "utf8mb4" if text else "")
    assert made is not None
    assert f"`{made}`" == arrow
    column = Column("c", made, False, kind, *(("utf8mb4", "utf8mb4_bin") if text else ()))
    there = clickhouse.held(column, False, clickhouse.Making())
    assert there is not None
    assert f"`{there.name}`" == at_clickhouse
    own = family.held(column, MYSQL, key=False)
    assert own is not None
    plain = family.canonical(own.name.partition(" CHARACTER SET ")[0])
    assert plain == (family.canonical(kind) if at_family == "the same" else at_family.strip("`"))


def test_every_type_of_the_family_is_on_the_page() -> None:
    told = {word.partition("(")[0] for word, *_ in CASES}
    assert {*family.FAMILY} - {"integer", "numeric"} <= told
