"""The pages on ClickHouse say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from syncd.model import Column
from syncd.sinks.clickhouse.options import ClickHouseOptions
from syncd.sinks.clickhouse.types import Making, held

DOCS = Path(__file__).parents[2] / "docs"
KINDS = {
    "int8": pa.int8(),
    "uint8": pa.uint8(),
    "float32": pa.float32(),
    "bool": pa.bool_(),
    "date32": pa.date32(),
    "timestamp(us)": pa.timestamp("us"),
    "timestamp(us, UTC)": pa.timestamp("us", "UTC"),
    "duration(us)": pa.duration("us"),
    "string": pa.string(),
    "dictionary(int16, string)": pa.dictionary(pa.int16(), pa.string()),
    "binary": pa.binary(),
}


@pytest.mark.parametrize("option", ClickHouseOptions.model_fields)
def test_every_option_is_documented(option: str) -> None:
    page = (DOCS / "sinks" / "clickhouse.md").read_text()
    table = page.partition("## Options")[2].partition("## The table")[0]
    assert f"`{option}`" in table


@pytest.mark.parametrize("name", KINDS)
def test_every_type_is_what_the_page_says(name: str) -> None:
    page = (DOCS / "types" / "clickhouse.md").read_text()
    line = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
    told = re.findall(r"`([^`]+)`", line.split("|")[2])[0]
    kind = held(Column("c", KINDS[name], nullable=False), False, Making())
    assert kind is not None
    assert kind.name == told


def test_the_grants_are_those_of_the_statements(tmp_path: Path) -> None:
    """The server's own parser knows each of them, and each kind of statement in the sink's code has its own."""
    import chdb

    page = (DOCS / "sinks" / "clickhouse.md").read_text().partition("## The user")[2].partition("## Options")[0]
    blocks = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    grants = [line for block in blocks for line in block.splitlines() if not line.startswith("--")]
    for grant in grants:
        literal = grant.rstrip(";").replace("'", "\\'")
        assert "GRANT" in str(chdb.query(f"SELECT formatQuery('{literal}')"))
    told = "\n".join(grants)
    code = "\n".join(path.read_text() for path in sorted((DOCS.parent / "syncd/sinks/clickhouse").glob("*.py")))
    for name in set(re.findall(r"system\.(\w+)", code)):
        assert f"SELECT ON system.{name} " in told
    kinds = {
        "CREATE DATABASE": "CREATE DATABASE",
        "CREATE TABLE": "CREATE TABLE",
        "CREATE OR REPLACE VIEW": "CREATE VIEW, DROP VIEW",
        "ADD COLUMN": "ALTER ADD COLUMN",
        "DROP COLUMN": "ALTER DROP COLUMN",
        "RENAME COLUMN": "ALTER RENAME COLUMN",
        "MODIFY COLUMN": "ALTER MODIFY COLUMN",
        "ADD CONSTRAINT": "ALTER ADD CONSTRAINT",
        "DROP CONSTRAINT": "ALTER DROP CONSTRAINT",
        "} DELETE WHERE": "ALTER DELETE",
        "} UPDATE ": "ALTER UPDATE",
        "INSERT INTO": "INSERT",
        "EXCHANGE TABLES": "DROP TABLE",
        "SHOW CREATE TABLE": "SHOW COLUMNS",
    }
    for statement, grant in kinds.items():
        assert statement in code
        assert grant in told
