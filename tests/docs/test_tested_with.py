"""docs/tested-with.md names the versions that this run uses, to the minor version."""

from __future__ import annotations

import re
from importlib.metadata import version

import pytest

from syncd.testing.servers import Server
from tests.services.tested_with import DRIVERS, PAGE, series


def row(name: str) -> str:
    found = re.search(rf"^\| {re.escape(name)} \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{name} is not in {PAGE.name}: run python -m tests.services.tested_with"
    return found[1]


@pytest.mark.parametrize("name", DRIVERS)
def test_drivers(name: str) -> None:
    assert row(name) == version(name)


def test_embedded_clickhouse() -> None:
    assert row("ClickHouse, embedded (chDB)") == version("chdb-core")


def test_mariadb(mariadb: Server) -> None:
    assert row("MariaDB").split(".")[:2] == series(mariadb.version).split(".")[:2]


def test_mysql9(mysql9: Server) -> None:
    assert row("MySQL 9").split(".")[:1] == series(mysql9.version).split(".")[:1]


def test_mysql80(mysql80: Server) -> None:
    assert row("MySQL 8.0").split(".")[:2] == series(mysql80.version).split(".")[:2]


def test_oceanbase(oceanbase: Server) -> None:
    assert row("OceanBase").split(".")[:2] == series(oceanbase.version).split(".")[:2]
