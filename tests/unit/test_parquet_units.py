"""Pieces of the Parquet sink: defaults of every type, names of folders, which files are merged."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from syncd.errors import FatalError, SyncdError, TransientError
from syncd.model import Column, TableId, TableSchema, Target
from syncd.sinks.parquet import disk, plan
from syncd.sinks.parquet.defaults import fill, is_known
from syncd.sinks.parquet.errors import mapped
from syncd.sinks.parquet.merge import due

TABLE = TableId("shop", "items")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (pa.uint64(), "18446744073709551615", 2**64 - 1),
        (pa.uint64(), "b'101'", 5),
        (pa.bool_(), "1", True),
        (pa.float32(), "1.5", 1.5),
        (pa.decimal256(65, 30), "-0.000000000000000000000000000001", Decimal("-1E-30")),
        (pa.date32(), "0001-01-01", date(1, 1, 1)),
        (pa.timestamp("us"), "2024-01-31 10:00:00.000001", datetime(2024, 1, 31, 10, 0, 0, 1)),  # noqa: DTZ001
        (pa.timestamp("us"), "2024-01-31", datetime(2024, 1, 31)),  # noqa: DTZ001
        (pa.timestamp("us", "UTC"), "2024-01-31 10:00:00", datetime(2024, 1, 31, 10, tzinfo=UTC)),
        (pa.duration("us"), "-838:59:59.5", -timedelta(hours=838, minutes=59, seconds=59.5)),
        (pa.string(), "0", "0"),
        (pa.dictionary(pa.int16(), pa.string()), "b", "b"),
        (pa.binary(), "0x00ff", b"\x00\xff"),
    ],
)
def test_a_default_is_its_value(kind: pa.DataType, text: str, value: Any) -> None:
    assert fill(TABLE, Column("c", kind, nullable=False, default=text)).as_py() == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [(pa.int8(), "300"), (pa.date32(), "0000-00-00"), (pa.binary(), "abc"), (pa.decimal128(4, 2), "1.234")],
)
def test_a_default_that_is_no_value_is_refused(kind: pa.DataType, text: str) -> None:
    with pytest.raises(FatalError, match=r"shop\.items\.c: the default"):
        fill(TABLE, Column("c", kind, default=text))


def test_what_a_source_fills_without_a_default() -> None:
    kinds = [pa.int8(), pa.decimal128(9, 2), pa.float64(), pa.string(), pa.binary(), pa.duration("us"), pa.bool_()]
    zeros = [fill(TABLE, Column("c", kind, nullable=False)).as_py() for kind in kinds]
    assert zeros == [0, Decimal(0), 0.0, "", b"", timedelta(0), False]
    assert not any(is_known(Column("c", kind, nullable=False)) for kind in (pa.date32(), pa.timestamp("us")))
    assert fill(TABLE, Column("c", pa.date32())).as_py() is None


def test_each_name_has_a_folder_of_its_own() -> None:
    names = [
        "t",
        "T",
        "a/b",
        "a%2Fb",
        "..",
        ".",
        "_t",
        "%5Ft",
        "",
        "%",
        "a b",
        "ü€😀",
        "a=b",
        "*",
        "\n",
        "x" * 64,
        "汉" * 64,
    ]
    folders = [disk.folder_name(name) for name in names]
    assert len({*folders}) == len(names)
    assert not any(
        set(folder) & set("/*?[]{}=\n ") or folder[0] in "._" or len(folder.encode()) > 255 for folder in folders
    )


def test_files_of_one_size_are_merged_with_all_smaller_ones(tmp_path: Path) -> None:
    files = []
    for number, size in enumerate([10, 20, 300_000, 400_000, 500_000, 9_000_000]):
        files.append(tmp_path / f"{number}")
        files[-1].write_bytes(bytes(size))
    assert due(files, 2) == files[:2]
    assert due(files, 3) == files[:5]
    assert due(files, 4) == []


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (OSError(28, ""), TransientError, "free some space"),
        (OSError(24, ""), TransientError, "ulimit"),
        (PermissionError(13, "", "/copy/t"), FatalError, "/copy/t: Permission denied"),
        (OSError(30, ""), FatalError, "mount it for writing"),
        (OSError("Couldn't deserialize thrift"), FatalError, "a damaged file"),
        (pa.ArrowInvalid("no footer"), FatalError, "a damaged file"),
        (ZeroDivisionError("?"), FatalError, "does not know"),
    ],
)
def test_errors_say_what_to_do(error: Exception, kind: type[SyncdError], told: str) -> None:
    found = mapped(error, "writing", "shop.items")
    assert isinstance(found, kind)
    assert told in str(found)


def test_plan_says_what_is_refused_and_what_others_cannot_read(tmp_path: Path) -> None:
    columns = (
        Column("id", pa.int64(), nullable=False),
        Column("wide", pa.decimal256(65, 30)),
        Column("_version", pa.int8()),
        Column("list", pa.list_(pa.int8())),
        Column("span", pa.duration("us")),
    )
    target = Target(TableSchema(TABLE, 1, columns, ("id",), "primary"), "shop", "items")
    planned = plan.plan(target, plan.table_of(tmp_path, target))
    assert [f.text for f in planned.findings if f.level == "error"] == [
        "column _version has a name that the sink needs",
        "column list: no Parquet type holds list<item: int8> exactly",
    ]
    (warned,) = [f.text for f in planned.findings if f.level == "warning"]
    assert warned.startswith("wide: decimals of more than 38 digits")
    assert planned.columns[4] == ("span", "duration[us]", "duration[us]", "microseconds as INT64")
    assert [*tmp_path.iterdir()] == []
