"""All of a job over TLS: its user may not come without."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.config import load_job
from syncd.engine.build import Parts
from tests.e2e.harness import Running
from tests.e2e.test_append import assert_copied
from tests.e2e.workload import TABLES, Workload
from tests.services.database import Database


@pytest.mark.nightly
@pytest.mark.mysql9
def test_load_and_log(mysql9_database: Database, tmp_path: Path) -> None:
    """Rows of less than a TLS record and of many, of the tables and of the log; the log also from a saved place."""
    database = mysql9_database
    workload = Workload(database, seed=8)
    workload.create(rows=3000)
    database.execute("CREATE TABLE large (id INT PRIMARY KEY, body LONGTEXT)")
    database.many("INSERT INTO large VALUES (%s, %s)", [(n, f"{n} ä" * (1 << n)) for n in range(18)])
    database.execute(
        "CREATE USER tls@'127.0.0.1' IDENTIFIED WITH caching_sha2_password BY 'pw' REQUIRE SSL",
        "GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT, XA_RECOVER_ADMIN ON *.* TO tls@'127.0.0.1'",
    )
    ca = database.server.data / "ca.pem"
    tls = f", password: pw, tls: {{ca: '{ca}', verify: ca}}"
    run = Running(tmp_path, database.port, database.name, "arrival", chunk_bytes=20_000, source=tls)
    run.path.write_text(run.path.read_text().replace("root@", "tls@"))
    run.job = load_job(run.path, run.service.plugin_paths)
    run.parts = Parts(run.job, run.service)
    try:
        run.start()
        run.wait_live(len(TABLES) + 1)
        workload.start()
        run.wait_for(lambda: workload.statements > 300)
        run.kill()
        database.execute("UPDATE large SET body = CONCAT(body, REPEAT('ß', 2000000)) WHERE id IN (0, 17)")
        run.start()
        run.wait_for(lambda: workload.statements > 600)
        workload.stop()
        run.wait_applied()
        assert run.terminate() == 0
        run.assert_equal()
        assert_copied(run, database, (*TABLES, "large"))
    finally:
        workload.stop()
        run.close()
        database.execute("DROP USER tls@'127.0.0.1'")
