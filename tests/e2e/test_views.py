"""A glob over a database with views and sequences: they are left out, at the load and in the log, and nothing halts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.harness import running
from tests.services.database import Database


@pytest.mark.mariadb
def test_views_and_sequences_stand_in_nobody_s_way(mariadb_database: Database, tmp_path: Path) -> None:
    database, name = mariadb_database, mariadb_database.name
    database.execute(
        "CREATE SEQUENCE early",
        "CREATE TABLE t (id INT PRIMARY KEY DEFAULT NEXTVAL(early), v INT)",
        "CREATE VIEW w AS SELECT * FROM t",
        "INSERT INTO t (v) VALUES (1)",
    )
    with running(tmp_path, database.port, name, "arrival") as run:
        run.wait_live(1, 60)
        database.execute(
            "INSERT INTO t (v) VALUES (2)",
            "CREATE SEQUENCE late",
            "CREATE VIEW x AS SELECT * FROM t",
            "SELECT NEXTVAL(late)",
            "INSERT INTO t (v) VALUES (3)",
        )
        run.wait_applied(60)
        run.assert_equal()
        assert run.halted() == {}
        assert {word["at"] for word in run.events("job_tables")} == {f"{name}.early", f"{name}.w"}
        assert run.terminate() == 0
        assert sorted(row[1] for row in run.copied("t")) == [1, 2, 3]
