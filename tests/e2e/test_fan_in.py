"""Several tables of a source in one table at each sink, told apart by a column of the key."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from syncd import control
from syncd.config import load_job
from syncd.engine.build import Parts
from syncd.ops import settle
from syncd.state import Phase, State
from tests.e2e.harness import Running
from tests.e2e.test_change import Changed
from tests.services.database import Database

pytestmark = [pytest.mark.mariadb, pytest.mark.chdb]

SINKS = ("copy", "olap")
TABLE = (
    "CREATE TABLE orders_{} (id BIGINT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(40) NOT NULL, qty INT, "
    "at DATETIME(3) NOT NULL DEFAULT '2024-02-29 12:00', UNIQUE u (name), KEY k (qty))"
)
FILL = "INSERT INTO orders_{} (id, name, qty) SELECT seq, CONCAT('n{}-', seq), IF(seq % 7, seq, NULL) FROM seq_1_to_{}"


class Shards:
    """A daemon that copies the tables orders_N of a database into one, at two sinks: one is the same server."""

    def __init__(self, folder: Path, shop: Database) -> None:
        self.shop, self.all = shop, f"{shop.name}_all"
        self.run = Changed(folder, shop.port, shop.name, "arrival")
        text = self.run.path.read_text().partition("tables:")[0]
        self.run.path.write_text(
            f"""{text}tables:
  '{shop.name}.orders_(\\d+)': {{to: {self.all}.orders, add: {{shard: '\\1'}}, key: [shard, id]}}
policy: {{ddl: {{drop_table: apply}}}}
queue: {{queues: 4, embedded: {{}}}}
snapshot: {{chunk_bytes: 4000, readers: 2}}
sinks:
  copy: {{mysql: {{url: "mysql://root@127.0.0.1:{shop.port}"}}}}
  olap: {{clickhouse: {{url: "chdb:///{folder}/ch"}}}}
"""
        )

    def make(self, *shards: int, rows: int) -> None:
        for n in shards:
            self.shop.execute(TABLE.format(n), FILL.format(n, n, rows))

    def each(self, statement: str, *shards: int) -> None:
        for n in shards:
            self.shop.execute(statement.format(n))

    def check(self, *shards: int) -> None:
        """All are LIVE at all sinks, and every value is as at the source; nothing else is in the common table."""
        self.run.wait_for(lambda: {*self.run.copies().values()} == {Phase.LIVE}, 120)
        self.run.wait_applied(120)
        job = load_job(self.run.path, self.run.service.plugin_paths)
        there = {f"orders_{n}" for n in shards}
        results = [r for r in control.reconcile(self.run.service, job) if r.table.name in there]
        wrong = [result for result in results if not result.right]
        assert not wrong, wrong
        assert len(results) == len(shards) * len(SINKS), results
        columns = [name for name, *_ in self.shop.query(f"SHOW COLUMNS FROM orders_{shards[0]}")]
        listed = ", ".join(f"`{name}`" for name in columns)
        union = " UNION ALL ".join(f"SELECT '{n}', {listed} FROM orders_{n}" for n in shards)
        mine = self.rows(f"SELECT * FROM ({union}) x ORDER BY 1, 2")
        assert self.rows(f"SELECT shard, {listed} FROM {self.all}.orders ORDER BY 1, 2") == mine

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self.shop.query(statement)

    def columns(self) -> set[str]:
        return {name for name, *_ in self.rows(f"SHOW COLUMNS FROM {self.all}.orders")}

    def indexes(self) -> dict[str, str]:
        found = self.rows(
            "SELECT index_name, GROUP_CONCAT(column_name ORDER BY seq_in_index) FROM information_schema.statistics "
            f"WHERE table_schema = '{self.all}' AND index_name <> 'PRIMARY' GROUP BY index_name"
        )
        return dict(found)


def test_several_tables_into_one(mariadb_database: Database, tmp_path: Path) -> None:
    """What is done to one touches its rows alone, and what takes a column from all waits for the last one; the daemon
    dies on the way."""
    shards = Shards(tmp_path, mariadb_database)
    run = shards.run
    shards.make(1, 2, 3, rows=150)
    run.start()
    try:
        run.wait_for(lambda: len(run.phases()) == 3, 60)
        run.wait_copies(6)
        assert shards.indexes() == {"u": "name,shard", "k": "qty"}

        run.die_at({"barrier.acted": 2})
        shards.make(4, rows=50)  # found in the log
        shards.each("ALTER TABLE orders_{0} ADD note VARCHAR(20) NOT NULL DEFAULT 'new' AFTER name", 1, 2)
        shards.each("UPDATE orders_{0} SET qty = 5 WHERE id % 50 = 0", 1, 2, 3, 4)
        shards.each("TRUNCATE TABLE orders_{0}", 2)
        shards.make(5, rows=20)
        shards.each("INSERT INTO orders_{0} (id, name, qty) VALUES (900, 'again', 7), (901, 'n3-1', 8)", 2, 5)
        shards.each("ALTER TABLE orders_{0} ADD note VARCHAR(20) NOT NULL DEFAULT 'new' AFTER name", 3, 4, 5)
        shards.each("ALTER TABLE orders_{0} MODIFY qty BIGINT", 3)
        shards.each("UPDATE orders_{0} SET qty = 5000000000, note = 'own' WHERE id = 3", 3)
        run.wait_for(lambda: not run.deaths_to_come(), 60)
        run.wait_for(lambda: len(run.copies()) == 10, 60)
        shards.check(1, 2, 3, 4, 5)
        assert shards.indexes() == {"u": "name,shard", "k": "qty"}

        shards.each("DROP TABLE orders_{0}", 5)
        shards.each("ALTER TABLE orders_{0} DROP COLUMN at", 1, 2, 3)
        shards.each("INSERT INTO orders_{0} (id, name) VALUES (950, 'without')", 1, 2, 3)
        shards.each("INSERT INTO orders_{0} (id, name, at) VALUES (951, 'with', '2001-02-03 04:05:06.789')", 4)
        run.wait_applied(60)
        assert "at" in shards.columns()
        shards.each("ALTER TABLE orders_{0} DROP COLUMN at", 4)
        run.wait_applied(60)
        assert "at" not in shards.columns()

        shards.each("ALTER TABLE orders_{0} CHANGE name title VARCHAR(40) NOT NULL", 1)
        shards.each("INSERT INTO orders_{0} (id, title) VALUES (960, 'titled')", 1)
        why = f"{mariadb_database.name}.orders_1: name is called title now"
        run.wait_for(lambda: any(why in wait.reason for wait in run.state.waits().values()), 60)
        shards.each("UPDATE orders_{0} SET name = CONCAT(name, '!') WHERE id = 4", 2, 3, 4)
        run.die_at({"barrier.acted": 1})
        shards.each("ALTER TABLE orders_{0} CHANGE name title VARCHAR(40) NOT NULL", 2, 3, 4)
        run.wait_applied(60)
        assert shards.columns() == {"shard", "id", "title", "note", "qty"}

        shards.shop.execute(
            f"DELETE FROM {shards.all}.orders WHERE shard = '1' AND id IN (7, 8)",
            f"INSERT INTO {shards.all}.orders (shard, id, title) VALUES ('1', 5000, 'extra')",
            f"UPDATE {shards.all}.orders SET note = 'other' WHERE shard = '1' AND id = 9",
        )
        run.die_at({"deliver.swapped": 1})
        for n in (1, 3):
            control.resync(run.service, "chaos", f"{mariadb_database.name}.orders_{n}")
        shards.each("UPDATE orders_{0} SET note = 'meanwhile' WHERE id % 9 = 0", 1, 2, 3, 4)
        run.wait_for(lambda: not run.deaths_to_come(), 60)
        run.wait_for(lambda: not run.state.resyncs() and not any(r.shadow for r in run.state.tables()), 60)
        shards.check(1, 2, 3, 4)
        assert shards.indexes() == {"u": "title,shard", "k": "qty"}
        assert not run.state.halts()
        assert run.terminate() == 0
    finally:
        run.close()
        shards.shop.execute(f"DROP DATABASE IF EXISTS {shards.all}")


class Sites:
    """One daemon with two jobs: each copies the table `orders` of the databases NAME_N of a source into a common table
    at the same two sinks, which are the servers of the sources."""

    def __init__(self, folder: Path, *sources: Database) -> None:
        self.sources, self.all, self.made = sources, f"{sources[0].name}_all", set[tuple[Database, str]]()
        self.run = Running(folder, sources[0].port, "none", "arrival")
        self.run.path = folder / "jobs"
        self.run.path.mkdir()
        sinks = "".join(
            f'  at_{n}: {{mysql: {{url: "mysql://root@127.0.0.1:{sink.port}"}}}}\n' for n, sink in enumerate(sources)
        )
        for n, source in enumerate(sources):
            (self.run.path / f"site_{n}.yaml").write_text(
                f"""job: site_{n}
source: {{mysql: {{url: "mysql://root@127.0.0.1:{source.port}", heartbeat: 0.5}}}}
tables:
  '{source.name}_(\\d+).orders': {{to: {self.all}.orders, add: {{shard: '\\1'}}, key: [shard, id]}}
policy: {{ddl: {{drop_table: apply}}}}
queue: {{queues: 2, embedded: {{}}}}
snapshot: {{chunk_bytes: 4000}}
sinks:
{sinks}"""
            )
        self.jobs = control.jobs([self.run.path], self.run.service)

    def make(self, source: Database, *shards: int) -> None:
        for n in shards:
            name = f"{source.name}_{n}"
            self.made.add((source, name))
            source.execute(
                f"CREATE DATABASE {name}",
                f"CREATE TABLE {name}.orders (id INT PRIMARY KEY, v VARCHAR(20), UNIQUE (v))",
                f"INSERT INTO {name}.orders WITH RECURSIVE s (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM s "
                f"WHERE id < {99 + n}) SELECT id, CONCAT('v', id) FROM s",
            )

    def live(self, *counts: int) -> bool:
        """So many copies of each job are LIVE, and no others are there; no table is to be loaded anew."""
        queue = self.run.queue
        if queue is None:
            return False
        states = [State(queue, job.name) for job in self.jobs]
        if any(state.resyncs() for state in states):
            return False
        found = [[(record.phase, record.shadow) for record in state.tables()] for state in states]
        return found == [[(Phase.LIVE, "")] * count for count in counts]

    def check(self, *copies: int) -> None:
        """So many copies of each job are LIVE, also of dropped tables; all rows are at both sinks, and no others."""
        self.run.wait_for(lambda: self.live(*copies), 60)
        queue = self.run.queue
        assert queue is not None
        there = {name for _, name in self.made}
        for job in self.jobs:
            parts = Parts(job, self.run.service)
            head = settle.source_head(parts, queue)
            self.run.wait_for(partial(settle.applied, parts, queue, head), 60)
            results = [r for r in control.reconcile(self.run.service, job) if r.table.database in there]
            assert results
            assert all(result.right for result in results), results
        wanted = sorted(
            row
            for source, name in self.made
            for row in source.query(f"SELECT '{name.rpartition('_')[2]}', id, v FROM {name}.orders")
        )
        for sink in self.sources:
            assert sink.query(f"SELECT shard, id, v FROM {self.all}.orders ORDER BY BINARY shard, id") == wanted

    def close(self) -> None:
        self.run.close()
        for source, name in self.made:
            source.execute(f"DROP DATABASE IF EXISTS {name}")
        for sink in self.sources:
            sink.execute(f"DROP DATABASE IF EXISTS {self.all}")


@pytest.mark.mysql9
def test_databases_of_two_sources_into_one(
    mariadb_database: Database, mysql9_database: Database, tmp_path: Path
) -> None:
    """A database comes, one goes, one is emptied and one is loaded anew: the others' rows stay, and the other job's."""
    maria, mysql = mariadb_database, mysql9_database
    sites = Sites(tmp_path, maria, mysql)
    try:
        sites.make(maria, 1, 2)
        sites.make(mysql, 3, 14)
        sites.run.start()
        sites.check(4, 4)
        sites.run.die_at({"barrier.acted": 2})
        sites.make(maria, 25)
        sites.make(mysql, 4)
        maria.execute(f"UPDATE {maria.name}_1.orders SET v = CONCAT(v, '!') WHERE id % 3 = 0")
        mysql.execute(
            f"TRUNCATE TABLE {mysql.name}_3.orders",
            f"INSERT INTO {mysql.name}_3.orders VALUES (7, 'v8')",
            f"UPDATE {mysql.name}_14.orders SET id = id + 1000 WHERE id < 9",
        )
        maria.execute(f"DROP DATABASE {maria.name}_2")
        sites.made.remove((maria, f"{maria.name}_2"))
        maria.execute(f"DELETE FROM {sites.all}.orders WHERE shard = '14' AND id < 20")
        control.resync(sites.run.service, "site_1", f"{mysql.name}_14.orders")
        sites.run.wait_for(lambda: not sites.run.deaths_to_come(), 60)
        sites.check(6, 6)
        assert sites.run.terminate() == 0
    finally:
        sites.close()
