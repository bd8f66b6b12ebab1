"""The end-to-end proof: load and changes under kills and freezes, then every value compared in two independent ways.

Each has five kills and a freeze; `bench/run nightly --only proof` has more pairs and sizes. `SYNCD_PROOF=full`
gives each the size that `bench/run nightly` takes, `SYNCD_PROOF_SEED=N` the accidents and changes of N.
"""

from __future__ import annotations

import os
import random
from contextlib import closing
from pathlib import Path

import clickhouse_connect
import pytest

from syncd.testing.servers import Server
from tests.e2e import values
from tests.e2e.proof import SIZES, Sink, prove
from tests.services.database import Database, connect


def proved(database: Database, folder: Path, sink: Sink, size: str) -> None:
    seed = int(os.environ.get("SYNCD_PROOF_SEED", random.randrange(2**32)))
    print(f"SYNCD_PROOF_SEED={seed}")
    wanted = SIZES[os.environ.get("SYNCD_PROOF", size)]
    done = prove(database, folder, sink, wanted, seed)
    print(done)
    assert done["rows_compared"] > wanted.rows // 4
    assert sum(done["kills"].values()) == wanted.kills
    assert sum(done["stops"].values()) == wanted.stops


@pytest.mark.chdb
@pytest.mark.mariadb
def test_the_comparison_sees_a_row_too_many_too_few_and_too_old(mariadb_database: Database, tmp_path: Path) -> None:
    rows = "(1, 0.1, 'ä', '-00:00:01'), (2, NULL, '', NULL), (3, 1e300, 'x', '838:59:59')"
    mariadb_database.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, d DOUBLE, w VARCHAR(9), h TIME)", f"INSERT INTO t VALUES {rows}"
    )
    client = clickhouse_connect.get_client(interface="chdb", path=str(tmp_path / "ch"))
    name = mariadb_database.name
    columns = "id Int32, d Nullable(Float64), w String, h Nullable(Int64), _version UInt64, _deleted UInt8"
    rows = "(1, 0.1, 'ä', -1000000, 1, 0), (2, NULL, '', NULL, 1, 0), (3, 1e300, 'x', 3020399000000, 1, 0)"
    for statement in (
        f"CREATE DATABASE {name}",
        f"CREATE TABLE {name}.t ({columns}) ENGINE = ReplacingMergeTree(_version, _deleted) ORDER BY id",
        f"INSERT INTO {name}.t VALUES {rows}",
    ):
        client.raw_query(statement)
    client.close()

    def found() -> tuple[int, list[str]]:
        with values.clickhouse(tmp_path / "ch", name) as select:
            return values.differences(mariadb_database, select)

    assert found() == (3, [])
    mariadb_database.execute("DELETE FROM t WHERE id = 1", "INSERT INTO t VALUES (4, 0, '', NULL)")
    mariadb_database.execute("UPDATE t SET h = '838:59:58' WHERE id = 3")
    total, (wrong,) = found()
    assert total == 3
    assert wrong.startswith("t: 2 and 2 rows at one end only")


# The other pairs of source and sink, and larger sizes: bench/run nightly --only proof.


@pytest.mark.nightly
@pytest.mark.chdb
@pytest.mark.mariadb
def test_every_value_arrives_at_clickhouse(mariadb_database: Database, tmp_path: Path) -> None:
    proved(mariadb_database, tmp_path, "clickhouse", "brief")


@pytest.mark.mysql80
def test_every_value_arrives_where_the_last_write_wins(mysql80_database: Database, tmp_path: Path) -> None:
    """A sink that keeps what arrives last hides no disorder."""
    proved(mysql80_database, tmp_path, "arrival", "brief")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param("mysql9", "oceanbase", marks=[pytest.mark.mysql9, pytest.mark.oceanbase]),
    ],
)
def test_every_value_arrives_at_servers_of_the_family(
    request: pytest.FixtureRequest, tmp_path: Path, source: str, target: str
) -> None:
    """Rows there have no versions: what arrives last stays, as in any table of theirs."""
    database: Database = request.getfixturevalue(f"{source}_database")
    server: Server = request.getfixturevalue(target)
    try:
        proved(database, tmp_path, server, "brief")
    finally:
        with closing(connect(server)) as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS `{database.name}`")
