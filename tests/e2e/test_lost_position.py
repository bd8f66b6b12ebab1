"""Capture cannot go on from its position: it goes on from a new one, and the copies are compared and mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.state import Phase, State
from tests.e2e.harness import Running, running
from tests.e2e.proxy import proxied
from tests.e2e.test_bad_days import ROWS, fill, right
from tests.services.database import Database, fresh_database
from tests.services.fixtures import PrivateServer
from tests.services.replication import follow
from tests.services.replication import run as run_at

DEATHS = {"snapshot.relocated": 1, "repair.asked": 1, "repair.compared": 2, "refresh.read": 1}


def mended(run: Running, tables: int) -> None:
    """Every table is LIVE, and nothing was before it was right."""
    assert run.queue is not None
    state = State(run.queue, run.job.name)

    def is_over() -> bool:
        waits = state.lost() or state.added() or state.resyncs() or state.repairs()
        unproven, phases = {*state.repairs()}, {(r.sink, r.table): r.phase for r in state.tables()}
        assert not any(phases.get(place) is Phase.LIVE for place in unproven if not state.lost())
        return bool(not waits and not run.deaths_to_come() and [*phases.values()] == [Phase.LIVE] * tables)

    run.wait_for(lambda: run.events("log_begins_anew"), 120)
    run.wait_for(is_over, 120)


@pytest.mark.mariadb
def test_a_purged_log(private_mariadb: PrivateServer, tmp_path: Path) -> None:
    """Rows and a table come, change and go in what is lost; a table without a key and one that was altered are loaded
    anew. Processes die on the way, and the source goes on meanwhile."""
    server, policy = private_mariadb(), "policy: {position_lost: reconcile-repair}\n"
    with fresh_database(server) as database:
        fill(database)
        database.execute("CREATE TABLE w (v INT)", "INSERT INTO w VALUES (1), (1)")
        database.execute("CREATE TABLE x (id VARCHAR(9) PRIMARY KEY)", "INSERT INTO x VALUES ('a'), ('b')")
        rule = "keyless: append"
        with running(tmp_path, database.port, database.name, "arrival", rule=rule, extra=policy) as run:
            run.wait_live(4)
            assert run.terminate() == 0
            database.execute(
                "UPDATE a SET v = 'in the lost part' WHERE id < 9",
                "DELETE FROM b WHERE id BETWEEN 5 AND 20",
                f"INSERT INTO b VALUES ({ROWS + 7}, 'new')",
                "INSERT INTO w VALUES (2)",
                "ALTER TABLE x ADD n INT NOT NULL DEFAULT 7",
                "INSERT INTO x VALUES ('c', 8)",
                "CREATE TABLE y (id INT PRIMARY KEY)",
                "INSERT INTO y VALUES (1)",
            )
            server.restart()
            database.execute("FLUSH BINARY LOGS")
            if database.query("SHOW VARIABLES LIKE 'slave_connections_needed_for_purge'"):
                database.execute("SET GLOBAL slave_connections_needed_for_purge = 0")
            ((last, *_),) = database.query("SHOW MASTER STATUS")

            def purged() -> bool:  # a server keeps the log before the last until its engine has caught up
                database.execute(f"PURGE BINARY LOGS TO '{last}'")
                return len(database.query("SHOW BINARY LOGS")) == 1

            run.wait_for(purged, 120, restart=False)
            run.die_at(DEATHS)
            run.start()
            run.wait_for(lambda: run.events("position_lost"), 60)
            database.execute("UPDATE a SET v = 'later' WHERE id BETWEEN 5 AND 12", "DELETE FROM a WHERE id = 300")
            mended(run, 5)
            right(run)
            anew = {word["table"].rpartition(".")[2] for word in run.events("table_begins_anew")}
            assert anew == {"w", "x"}, run.tail()
            assert run.terminate() == 0
            run.assert_equal()


@pytest.mark.mysql9
def test_a_promoted_replica_that_lacks_what_was_copied(private_mysql9: PrivateServer, tmp_path: Path) -> None:
    """The copy becomes what the new server has."""
    old, new = private_mysql9("--server-id=11"), private_mysql9("--server-id=12")
    follow(new, old)
    with fresh_database(old) as database, proxied(old.port) as proxy:
        fill(database)
        at_new, policy = Database(new, database.name), "policy: {lost_transactions: refresh}\n"
        with running(tmp_path, proxy.port, database.name, "clickhouse", extra=policy) as run:
            run.wait_live(2)
            run.wait_for(lambda: at_new.query("SELECT COUNT(*) FROM b") == database.query("SELECT COUNT(*) FROM b"))
            run_at(new, "STOP REPLICA")
            database.execute(
                "UPDATE a SET v = 'only here' WHERE id < 9",
                "DELETE FROM b WHERE id BETWEEN 5 AND 20",
                f"INSERT INTO b VALUES ({ROWS + 7}, 'only here')",
            )
            run.wait_applied()
            run.die_at(DEATHS)
            at_new.execute("UPDATE a SET v = 'only there' WHERE id BETWEEN 5 AND 12")
            proxy.lead_to(new.port)
            run.wait_for(lambda: run.events("position_lost"), 60)
            at_new.execute("INSERT INTO b VALUES (1000, 'later')")
            mended(run, 2)
            right(run)
            (lost,) = {word["error"] for word in run.events("position_lost")}
            assert "lacks 3 transactions (" in lost
            assert run.terminate() == 0
            run.assert_equal()
