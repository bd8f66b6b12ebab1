"""A job that is changed while it runs, and while it does not: `syncd apply`."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd import control
from syncd.config import load_job
from syncd.model import TableSchema
from syncd.state import Leaving, Phase, State
from tests.e2e.harness import Running
from tests.e2e.test_daemon import syncd
from tests.e2e.workload import TABLES, Workload
from tests.services.database import Database

pytestmark = pytest.mark.mariadb


class Changed(Running):
    """A job file of its own beside the one that the daemon was started with."""

    @property
    def new(self) -> Path:
        return self.folder / "new.yaml"

    def apply(self, text: str, *options: str) -> tuple[int, str, str]:
        self.new.write_text(text)
        done = syncd("apply", str(self.new), *options, "--service", str(self.folder / "syncd.yaml"))
        return done.returncode, done.stdout, done.stderr

    @property
    def state(self) -> State:
        assert self.queue is not None
        return State(self.queue, self.job.name)

    def copies(self) -> dict[tuple[str, str], Phase]:
        return {(record.sink, record.table.name): record.phase for record in self.state.tables()}

    def published(self, name: str) -> TableSchema:
        """The newest version of a table, as it is at the sinks."""
        versions = next(found for table, found in self.state.schemas().items() if table.name == name)
        return versions[max(versions)].published

    def wait_copies(self, count: int) -> None:
        self.wait_for(lambda: [*self.copies().values()] == [Phase.LIVE] * count)

    def assert_copies(self, text: str, count: int) -> None:
        """So many copies are LIVE, and right."""
        self.wait_copies(count)
        self.path.with_name("compared.yaml").write_text(text)
        job = load_job(self.path.with_name("compared.yaml"), self.service.plugin_paths)
        results = control.reconcile(self.service, job)
        assert [result.right for result in results] == [True] * count, results


def test_a_job_is_changed_by_apply(mariadb_database: Database, tmp_path: Path) -> None:
    """Sinks and tables come and go while it runs; what is refused changes nothing; what is live starts one process
    anew; applied while it is down, it is what the next start runs, though that was given the older file. Who is killed
    on the way is followed by one that ends it."""
    shop = mariadb_database
    Workload(shop, seed=5).create(rows=300)
    run = Changed(tmp_path, shop.port, shop.name, "arrival")
    few = run.path.read_text().replace(f'"{shop.name}.*"', f'"{shop.name}.items"')
    run.path.write_text(few)
    many = few.replace(f'"{shop.name}.items"', f'"{shop.name}.*"')
    many += f"  lake: {{sqlite_versioned: {{path: {tmp_path}/lake.db}}}}\n"
    run.start()
    try:
        run.wait_live(1)
        before = run.workers()

        code, says, _ = run.apply(many, "--dry-run")
        assert code == 0
        assert "new.yaml:11:3 sinks.lake: nothing -> {" in says.replace("\n", " ")
        assert "restart, a new sink: its tables get a load of their own" in says
        assert f"tables.{shop.name}.*: nothing -> {{}}: restart, tables that fit it" in says
        assert run.copies() == {("copy", "items"): Phase.LIVE}
        assert run.apply(many)[0] == 2, "nobody can be asked"

        control.pause(run.service, "chaos", source=True)  # capture is before the new heads, and comes behind them
        shop.execute("UPDATE items SET n = n + 1", "UPDATE words SET n = 6", "DELETE FROM pairs LIMIT 2")
        run.die_at({"snapshot.added": 1, "capture.joined": 2})
        code, says, _ = run.apply(many, "--yes")
        assert (code, "the job starts anew" in says) == (0, True), says
        run.wait_for(lambda: len(run.copies()) == 2 * len(TABLES), restart=False)
        shop.execute("UPDATE items SET n = n + 1", "UPDATE words SET n = 7", "DELETE FROM pairs LIMIT 5")
        assert run.state.joins().keys() == {t for t in run.state.schemas() if t.name != "items"}
        control.resume(run.service, "chaos", source=True)
        run.assert_copies(many, 2 * len(TABLES))
        assert run.workers()["run"] == before["run"]
        assert run.deaths_to_come() == []

        for wrong, why in (
            (many.replace("queues: 4", "queues: 5"), "new.yaml:6:9 queue.queues: 4 -> 5: refused, the saved state was"),
            (many.replace("  copy:\n", "  copy:\n    deletes: soft\n"), "the saved state was made with 'apply'"),
            (many.replace("readers: 2", "readers: none"), "new.yaml:7:"),
            (many.replace("heartbeat: 0.5", "heartbeat: 0.5, password: no"), "the server refused the log-in"),
        ):
            assert wrong != many
            code, says, fault = run.apply(wrong, "--yes")
            assert (code, why in says + fault) == (2, True), (says, fault)

        before = run.workers()
        live = many.replace("\n  lake", "\n    batch: {rows: 7}\n  lake").replace("readers: 2", "readers: 1")
        code, says, _ = run.apply(live, "--yes")
        assert (code, "the job follows" in says) == (0, True), says
        assert "sinks.copy.batch.rows: nothing -> 7: live" in says
        run.wait_for(lambda: run.workers()["deliver/copy"] != before["deliver/copy"], restart=False)
        after = run.workers()
        assert all(after[name] == before[name] for name in ("run", "capture", "deliver/lake"))
        shop.execute("UPDATE items SET n = n + 1")
        run.assert_copies(live, 2 * len(TABLES))

        assert run.terminate() == 0
        gone = live[: live.index("  lake")].replace("tables:\n", f'tables:\n  "{shop.name}.words": {{skip: true}}\n')
        code, says, _ = run.apply(gone, "--yes")
        assert (code, "saved; the job follows with its next start" in says) == (0, True), says
        assert f"tables: {shop.name}.words -> nothing: restart, its saved state" in says
        assert run.path.read_text() == few
        run.die_at({"change.saved": 1, "change.cleared": 1})
        run.start()
        shop.execute("UPDATE items SET n = n + 1")
        run.wait_for(lambda: not run.deaths_to_come() and run.state.leaving() == Leaving())
        run.assert_copies(gone, 2)
        assert run.events("job_file_is_old")
        assert run.terminate() == 0
    finally:
        run.close()
