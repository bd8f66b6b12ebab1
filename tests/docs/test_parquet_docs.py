"""The pages on Parquet say what the code does."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from syncd.sinks.parquet.options import ParquetOptions
from syncd.sinks.parquet.types import stored

DOCS = Path(__file__).parents[2] / "docs"
KINDS = {
    "int8": (pa.int8(), "INT32"),
    "uint8": (pa.uint8(), "INT32"),
    "decimal256(p, s)": (pa.decimal256(65, 30), "FIXED_LEN_BYTE_ARRAY"),
    "bool": (pa.bool_(), "BOOLEAN"),
    "date32": (pa.date32(), "INT32"),
    "timestamp(us)": (pa.timestamp("us"), "INT64"),
    "timestamp(us, UTC)": (pa.timestamp("us", "UTC"), "INT64"),
    "duration(us)": (pa.duration("us"), "INT64"),
    "string": (pa.string(), "BYTE_ARRAY"),
    "dictionary(int16, string)": (pa.dictionary(pa.int16(), pa.string()), "BYTE_ARRAY"),
    "binary": (pa.binary(), "BYTE_ARRAY"),
}


@pytest.mark.parametrize("option", ParquetOptions.model_fields)
def test_every_option_is_documented(option: str) -> None:
    page = (DOCS / "sinks" / "parquet.md").read_text()
    assert f"| `{option}` |" in page.partition("## Options")[2].partition("## The folder")[0]


@pytest.mark.parametrize("name", KINDS)
def test_every_type_is_what_the_page_says(name: str, tmp_path: Path) -> None:
    page = (DOCS / "types" / "parquet.md").read_text()
    line = next(line for line in page.splitlines() if f"`{name}`" in line.partition("|")[2].partition("|")[0])
    told = line.split("|")[2].strip().strip("`")
    kind, physical = KINDS[name]
    held = stored(kind)
    assert (told == "the same") == (held == kind)
    assert told in {"the same", str(held)}
    pq.write_table(pa.table({"v": pa.array([], held)}), tmp_path / "v.parquet")
    assert pq.read_schema(tmp_path / "v.parquet").field("v").type == held
    assert pq.ParquetFile(tmp_path / "v.parquet").schema.column(0).physical_type == physical
