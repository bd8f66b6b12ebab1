"""A row that kills whoever writes it: its table halts, while it is loaded and when it is live; others go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd import control
from syncd.state import Phase
from tests.e2e.harness import Running, order, running
from tests.e2e.workload import Workload
from tests.services.database import Database

pytestmark = pytest.mark.mariadb


def halted(run: Running, table: str) -> str:
    """Its reason, once it stands still for one."""
    jobs = control.status(run.service) if run.queue is not None else []
    records = [row.record for job in jobs for row in job.tables if row.record.table.name == table]
    return next((record.reason for record in records if record.phase is Phase.HALTED), "")


def mend(run: Running) -> None:
    order(run.folder)
    control.resume(run.service, "chaos", table=f"{run.database}.words")


@pytest.mark.parametrize("sink", ["arrival", pytest.param("versioned", marks=pytest.mark.nightly)])
def test_a_row_to_die_of(mariadb_database: Database, tmp_path: Path, sink: str) -> None:
    database, name = mariadb_database, mariadb_database.name
    Workload(database, seed=3).create(rows=300)
    database.execute("INSERT INTO words VALUES ('first', 1)")
    order(tmp_path, die_of={"word": ["first"]})
    with running(tmp_path, database.port, name, sink) as run:
        run.wait_for(lambda: bool(halted(run, "words")), 120, restart=False)
        assert f"3 readers died at chunk 0 of {name}.words: no last word" in halted(run, "words")
        assert "[E162]" in halted(run, "words")
        mend(run)
        run.wait_live(3, 120)
        order(tmp_path, die_of={"word": ["second"]})
        database.execute("INSERT INTO words VALUES ('second', 2)", "UPDATE items SET n = 7")
        run.wait_for(lambda: bool(halted(run, "words")), 240, restart=False)
        assert f"deliver/copy of job chaos died 4 times at {name}.words" in halted(run, "words")
        assert "[E162]" in halted(run, "words")
        (items,) = control.reconcile(run.service, run.job, [f"{name}.items"])
        assert (items.right, items.unsettled) == (True, "")
        assert control.status(run.service)[0].failed is None
        mend(run)
        run.wait_applied(120)
        assert run.terminate() == 0
        run.assert_equal()
