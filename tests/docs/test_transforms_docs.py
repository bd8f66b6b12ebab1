"""docs/transforms.md names every function and type that there is, and no other one."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from syncd.transforms import build
from syncd.transforms.compute import FUNCTIONS
from tests.unit.transforms.tables import SCHEMA, batch, rule

PAGE = (Path(__file__).parents[2] / "docs/transforms.md").read_text(encoding="utf-8")
FIRST_CELLS = [
    line.split(" | ")[0] for line in PAGE.partition("\n## Functions\n")[2].splitlines() if line.startswith("| `")
]
EXAMPLES = {
    "concat": ("concat(email, '!')", "ann.bee@example.org!"),
    "concat_ws": ("concat_ws('-', country, NULL, small)", "DE--5"),
    "split": ("split(email, '@', -1)", "example.org"),
    "substring": ("substring(email, 5, 3)", "bee"),
    "upper": ("upper(kind)", "A"),
    "lower": ("lower(country)", "de"),
    "trim": ("trim(concat(' ', padded, ' '))", "abc"),
    "ltrim": ("ltrim(concat(' ', padded, ' '))", "abc "),
    "rtrim": ("rtrim(concat(' ', padded, ' '))", " abc"),
    "coalesce": ("coalesce(NULL, small)", -5),
    "if": ("if(small < 0, 'minus', 'plus')", "minus"),
    "case": ("case when small > 0 then 1 else 2 end", 2),
    "round": ("cast(round(price) as int)", 13),
    "date": ("cast(date(made) as char)", "2024-05-06"),
    "cast": ("cast(price as char)", "12.50"),
    "json_extract": ("json_extract(doc, '$')", "{}"),
    "json_unquote": ("json_unquote(json_extract(doc, '$'))", "{}"),
    "hash": ("hash(small)", hashlib.blake2b(b"-5", digest_size=32).hexdigest()),
}


def documented() -> set[str]:
    return {name for cell in FIRST_CELLS for name in re.findall(r"`([a-z_]+)[( ]", cell)}


def test_every_function_is_documented_and_every_documented_one_is_there() -> None:
    names = documented() - {"tinyint", "decimal", "char", "datetime"}
    assert names == set(FUNCTIONS)
    assert set(EXAMPLES) == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_documented_function_works(name: str) -> None:
    expression, expected = EXAMPLES[name]
    assert name in expression
    out = build(rule(compute={"x": expression}), SCHEMA).apply(batch([{}]))
    (value,) = out.rows.column("x").to_pylist()
    assert value == expected


TYPES = ["tinyint", "smallint", "int", "bigint", "signed", "unsigned", "int unsigned", "decimal(9,3)", "double"]
TYPES += ["char", "char(20)", "varchar(20)"]


@pytest.mark.parametrize("kind", [*TYPES, "date", "datetime", "datetime(6)"])
def test_every_documented_type_is_one_to_cast_to(kind: str) -> None:
    word = kind.partition("(")[0].split()[-1]
    assert re.search(rf"^\| .*`{word}\b", PAGE.partition("### Casts")[2], re.MULTILINE) or f"`{word}`" in PAGE
    source = "'2024-02-03'" if kind.startswith("date") else "'7'"
    made = build(rule(compute={"x": f"cast({source} as {kind})"}), SCHEMA)
    assert made.apply(batch([{}])).rows.column("x").null_count == 0
