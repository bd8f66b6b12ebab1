"""docs/tested-with.md: what the suite runs against, asked of the servers and libraries themselves.

./dev python -m tests.services.tested_with      writes the page
"""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

from syncd.testing.servers import MariaDB, MySQL9, MySQL80, OceanBase, Server

PAGE = Path(__file__).parents[2] / "docs" / "tested-with.md"
SERVERS: dict[str, type[Server]] = {"MariaDB": MariaDB, "MySQL 9": MySQL9, "MySQL 8.0": MySQL80, "OceanBase": OceanBase}
DRIVERS = ("PyMySQL", "mysql-replication", "clickhouse-connect", "chdb", "pyarrow", "numpy")

_TEXT = """\
# Tested with

Written by `./dev python -m tests.services.tested_with`. Tests compare it with what runs: libraries and the engine
exactly, MariaDB, MySQL 8.0 and OceanBase by the first two numbers of their version, MySQL 9 by its first alone.

## Tested: every run of the suite

| system | version |
|---|---|
{servers}
| ClickHouse, embedded (chDB) | {chdb} |
| ClickHouse over HTTP | a front of the same engine, not a server |

| library | version |
|---|---|
{drivers}

OceanBase runs as seekdb, its one-process edition, out of the wheel `pylibseekdb`.

## Expected to work, not run here

- MySQL 8.1 to 9.x and MariaDB 10.5 to 12.x: the same log formats; `syncd check` names what it does not know.
- A ClickHouse server from 23.2, the first that knows deleted rows: the same SQL as the embedded engine.
- What `docker-compose.yml` starts, which needs Docker and is not run in our CI: MySQL 8.4, MariaDB 11.8,
  ClickHouse server 25.8 and seekdb 1.0.0.0-100000262025111218. A test holds its versions, ports and settings against
  those of the servers above.

## Unsupported, refused by name

- MySQL before 8.0, MariaDB before 10.5.
- MySQL's partial JSON, statement-based logging, a compressed transaction of more rows than it has bytes.
"""


def page() -> str:
    """The page as it should be now; starts each server."""
    rows = []
    for name, kind in SERVERS.items():
        with kind() as server:
            rows.append(f"| {name} | {series(server.version)} |")
    drivers = [f"| {name} | {version(name)} |" for name in DRIVERS]
    return _TEXT.format(servers="\n".join(rows), drivers="\n".join(drivers), chdb=version("chdb-core"))


def series(text: str) -> str:
    """The first three numbers of a server's version."""
    found = re.match(r"\d+\.\d+\.\d+", text)
    return found[0] if found else text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
