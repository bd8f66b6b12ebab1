"""A daemon that was down while the source's tables were altered again and again; and statements that the log alone does
not settle: the table is loaded anew by itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from syncd.testing.servers import Server
from tests.e2e import values
from tests.e2e.harness import Running, running
from tests.e2e.proof import family
from tests.e2e.test_bad_days import fill, right
from tests.services.database import Database

pytestmark = [pytest.mark.mariadb, pytest.mark.mysql9]

SERIES = (
    "INSERT INTO a VALUES (5000, 'before')",
    "ALTER TABLE a ADD n INT NOT NULL DEFAULT 7 AFTER id",
    "UPDATE a SET n = id WHERE id < 9",
    "INSERT INTO a VALUES (5001, -5, 'with n')",
    "ALTER TABLE a CHANGE n m INT NOT NULL DEFAULT 8",
    "UPDATE a SET m = m + 1 WHERE id BETWEEN 3 AND 20",
    "INSERT INTO a (id, v) VALUES (5002, 'by another default')",
    "ALTER TABLE a MODIFY m BIGINT NOT NULL DEFAULT 9, ADD w VARCHAR(9) DEFAULT 'ü'",
    "UPDATE a SET m = 1 << 40, w = NULL WHERE id = 5000",
    "ALTER TABLE a DROP v",
    "DELETE FROM a WHERE id BETWEEN 15 AND 30",
    "INSERT INTO a VALUES (15, 1, 'again')",
    "ALTER TABLE a ADD v CHAR(3) FIRST, RENAME COLUMN w TO x",
    "UPDATE a SET v = 'new', id = id + 6000 WHERE id IN (1, 2)",
    "ALTER TABLE a MODIFY x VARCHAR(200), DROP m",
    "INSERT INTO a VALUES ('yes', 6, REPEAT('ü', 150)) ON DUPLICATE KEY UPDATE x = REPEAT('ö', 150)",
)
"""Each with other columns than the server has in the end."""


def anew(run: Running) -> list[str]:
    """The tables that were loaded anew, in order."""
    return [table for word in run.events("resync_begins") for table in word["tables"]]


def test_a_series_of_alters_and_what_the_log_does_not_settle(
    mariadb_database: Database, mysql9: Server, tmp_path: Path
) -> None:
    """The latter once behind and once live. All values by plain SELECTs, at a server of another kind."""
    source, target = mariadb_database, Database(mysql9, mariadb_database.name)
    fill(source)
    source.execute("CREATE TABLE c (id INT PRIMARY KEY, v VARCHAR(20))", "INSERT INTO c VALUES (1, 'first')")
    try:
        with running(tmp_path, source.port, source.name, family(mysql9)) as run:
            run.wait_live(3)
            assert run.terminate() == 0
            source.execute(
                *SERIES[:8],
                "ALTER TABLE b ADD r INT NOT NULL DEFAULT (FLOOR(RAND() * 1000000))",
                "UPDATE b SET r = r + 1 WHERE id < 9",
                "INSERT INTO b (id, v) VALUES (5000, 'with its own')",
                *SERIES[8:],
            )
            run.start()
            run.wait_for(lambda: anew(run), 60)
            run.wait_live(3)
            run.wait_applied()
            source.execute(
                "UPDATE c SET v = 'second'",
                "ALTER TABLE c ADD COLUMN t INT DEFAULT 007",
                "INSERT INTO c (id) VALUES (2)",
            )
            run.wait_for(lambda: len(anew(run)) > 1, 60)
            run.wait_live(3)
            right(run)
            assert anew(run) == [f"{source.name}.b", f"{source.name}.c"]
            assert run.terminate() == 0
            rows, wrong = values.differences(source, partial(values.server_rows, target))
            assert (rows > 700, wrong) == (True, [])
    finally:
        target.execute(f"DROP DATABASE IF EXISTS `{source.name}`")
