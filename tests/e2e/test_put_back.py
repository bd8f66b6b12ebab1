"""A target that is put back from a copy: it is gone on with from its own marks, or its tables halt by name (1, 2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from syncd import control
from syncd.mq.embedded import EmbeddedQueue
from syncd.state import Phase, State
from tests.e2e.harness import Running
from tests.e2e.test_bad_days import fill, right
from tests.services.database import Database

DEATHS = ("deliver.opened", "deliver.set_back")
TABLES = ("a", "b", "_syncd")


class Copies:
    """The target beside its source, and a copy of it, each a database of the server."""

    def __init__(self, source: Database) -> None:
        self._source = source
        self.target = Database(source.server, f"{source.name}_target")
        self._copy = Database(source.server, f"{source.name}_copy")

    def take(self) -> None:
        """While nothing is written to it."""
        self._source.execute(f"DROP DATABASE IF EXISTS {self._copy.name}", f"CREATE DATABASE {self._copy.name}")
        self._move(self.target.name, self._copy.name)

    def put_back(self) -> None:
        """With the columns of its time; nobody writes meanwhile."""
        self._source.execute(*(f"DROP TABLE {self.target.name}.{table}" for table in TABLES))
        self._move(self._copy.name, self.target.name)

    def put_rows_back(self) -> None:
        """At one moment, under the hands of who writes."""
        locks = [f"{self.target.name}.{table} WRITE, {self._copy.name}.{table} READ" for table in TABLES]
        gone = [f"DELETE FROM {self.target.name}.{table}" for table in TABLES]
        come = [f"INSERT INTO {self.target.name}.{table} SELECT * FROM {self._copy.name}.{table}" for table in TABLES]
        self._source.execute(f"LOCK TABLES {', '.join(locks)}", *gone, *come, "UNLOCK TABLES")

    def _move(self, of: str, to: str) -> None:
        for table in TABLES:
            self._source.execute(
                f"CREATE TABLE {to}.{table} LIKE {of}.{table}", f"INSERT INTO {to}.{table} SELECT * FROM {of}.{table}"
            )

    def drop(self) -> None:
        for name in (self.target.name, self._copy.name):
            self._source.execute(f"DROP DATABASE IF EXISTS {name}")

    def assert_equal(self) -> None:
        for table in ("a", "b"):
            sql = f"SELECT * FROM {table} ORDER BY id"
            assert self.target.query(sql) == self._source.query(sql)


@contextmanager
def running(database: Database, copies: Copies, folder: Path) -> Iterator[Running]:
    sink = f'mysql: {{{{url: "mysql://root@127.0.0.1:{database.port}/"}}}}'
    run = Running(folder, database.port, database.name, sink)
    rule = f"'{database.name}\\.(\\w+)': {{to: '{copies.target.name}.\\1'}}"
    run.path.write_text(run.path.read_text().replace(f'"{database.name}.*": {{}}', rule))
    run.job = control.jobs([run.path], run.service)[0]
    run.parts = type(run.parts)(run.job, run.service)
    try:
        yield run
    finally:
        run.close()
        copies.drop()


def change(database: Database, text: str) -> None:
    database.execute(
        f"UPDATE a SET v = '{text}' WHERE id % 3 = 0",
        "DELETE FROM a WHERE id = (SELECT MIN(id) FROM a)",
        f"UPDATE b SET v = '{text}' WHERE id % 2 = 0",
    )


@pytest.mark.mariadb
def test_a_target_that_is_put_back(mariadb_database: Database, tmp_path: Path) -> None:
    database, copies = mariadb_database, Copies(mariadb_database)
    fill(database)
    with running(database, copies, tmp_path) as run:
        run.die_at({"deliver.opened": 1})
        run.start()
        run.wait_live(2)
        change(database, "kept")
        run.wait_applied()
        copies.take()
        change(database, "lost")
        database.execute("TRUNCATE b", "ALTER TABLE b ADD COLUMN n INT NOT NULL DEFAULT 7")
        database.many("INSERT INTO b VALUES (%s, 'new', 2)", [(n,) for n in range(20)])
        change(database, "lost, too")
        run.wait_applied()
        assert run.terminate() == 0

        # While nothing runs; who sets the lanes back dies.
        copies.put_back()
        run.die_at({"deliver.set_back": 1})
        run.start()
        run.wait_for(lambda: not run.deaths_to_come())
        run.wait_applied()
        copies.assert_equal()
        run.wait_live(2)

        # While it runs.
        copies.take()
        change(database, "lost again")
        run.wait_applied()
        before = len(run.events("sink_set_back"))
        copies.put_rows_back()
        change(database, "newest")
        run.wait_for(lambda: len(run.events("sink_set_back")) == before + 2, restart=False)
        assert run.events("sink_moved")
        right(run)
        copies.assert_equal()

        # What it lacks is in the queue no more.
        copies.take()
        change(database, "lost for good")
        run.wait_applied()
        assert isinstance(run.queue, EmbeddedQueue)
        run.queue._trim(keep=False)
        copies.put_rows_back()
        change(database, "newer")
        run.wait_for(lambda: {*run.phases().values()} == {Phase.HALTED}, restart=False)
        for record in State(run.queue, run.job.name).tables():
            assert "put back from a copy" in record.reason
            assert "[E156]" in record.reason
            assert "resync" in record.reason
