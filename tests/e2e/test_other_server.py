"""Another log in the source's place: with all that was copied it is gone on with, else it ends the job."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.harness import running
from tests.e2e.proxy import proxied
from tests.e2e.test_bad_days import ends, fill, right
from tests.services.database import Database, fresh_database
from tests.services.fixtures import PrivateServer
from tests.services.replication import follow
from tests.services.replication import run as run_at


@pytest.mark.mariadb
@pytest.mark.parametrize("sink", ["arrival", "versioned"])
def test_the_epoch_is_raised_before_the_first_publish_from_it(
    private_mariadb: PrivateServer, tmp_path: Path, sink: str
) -> None:
    """Capture dies between the two."""
    server = private_mariadb("--server-id=1")
    with fresh_database(server) as database:
        fill(database)
        with running(tmp_path, database.port, database.name, sink) as run:
            run.wait_live(2)
            database.execute("UPDATE a SET v = 'before' WHERE id < 9", "DELETE FROM b WHERE id = 1")
            run.wait_applied()
            run.die_at({"capture.epoch_raised": 1})
            server.stop()
            server.options = ("--server-id=2",)
            server.start()
            database.execute("UPDATE a SET v = 'after' WHERE id < 5", "INSERT INTO b VALUES (1, 'again')")
            run.wait_for(lambda: not run.deaths_to_come(), 60)
            run.wait_applied()
            right(run)
            (changed,) = run.events("log_changed")
            assert (changed["before"], changed["now"], changed["epoch"]) == ("mariadb:1", "mariadb:2", 2)
            assert run.terminate() == 0
            run.assert_equal()


@pytest.mark.parametrize(
    "kind", [pytest.param("mariadb", marks=pytest.mark.mariadb), pytest.param("mysql9", marks=pytest.mark.mysql9)]
)
def test_a_promoted_replica_goes_on_and_one_that_lacks_what_was_copied_does_not(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The name leads to another server while the old one still answers, as a switch-over does it."""
    private: PrivateServer = request.getfixturevalue(f"private_{kind}")
    more = ("--log-slave-updates",) if kind == "mariadb" else ()
    old, new = private("--server-id=11", *more), private("--server-id=12", *more)
    follow(new, old)
    with fresh_database(old) as database, proxied(old.port) as proxy:
        fill(database)
        at_new = Database(new, database.name)
        with running(tmp_path, proxy.port, database.name, "versioned") as run:
            run.wait_live(2)
            database.execute("UPDATE a SET v = 'before' WHERE id < 9", "DELETE FROM b WHERE id = 1")
            run.wait_applied()
            run.wait_for(lambda: at_new.query("SELECT COUNT(*) FROM b") == database.query("SELECT COUNT(*) FROM b"))
            run_at(new, "STOP REPLICA" if kind == "mysql9" else "STOP SLAVE")
            proxy.lead_to(new.port)
            at_new.execute("UPDATE a SET v = 'after' WHERE id < 5", "INSERT INTO b VALUES (1, 'again')")
            run.wait_for(lambda: run.events("log_changed"), 60)
            right(run)
            (changed,) = run.events("log_changed")
            assert changed["epoch"] == 2
            assert not run.events("worker_died")
            # Back at the old one, which never got what was copied since.
            proxy.lead_to(old.port)
            ends(run, 4, "lacks 2 transactions (", "[E176]", seconds=60)


@pytest.mark.mysql9
@pytest.mark.parametrize("options", [(), ("--gtid-mode=OFF", "--enforce-gtid-consistency=OFF")], ids=["gtids", "none"])
def test_a_log_that_is_reset_under_its_reader(
    private_mysql9: PrivateServer, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """The server leaves its reader waiting at the end of the old log, and says that all is well."""
    with fresh_database(private_mysql9(*options)) as database:
        fill(database)
        with running(tmp_path, database.port, database.name, "versioned") as run:
            run.wait_live(2)
            database.execute("UPDATE a SET v = 'before'")
            run.wait_applied()
            database.execute("RESET BINARY LOGS AND GTIDS", "UPDATE a SET v = 'after' WHERE id = 1")
            ends(run, 4, "was reset", "[E151]", seconds=30)
