"""Who is too late at OceanBase: a chunk's writer, a lane's owner, a second daemon. Nothing that they do counts (7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.testing.servers import Server
from tests.e2e.harness import Running, running
from tests.e2e.proxy import Proxy, proxied
from tests.services.database import Database

pytestmark = [pytest.mark.mariadb, pytest.mark.oceanbase]


def held(run: Running, wire: Proxy) -> None:
    """A write is on its way, and its process dies; the next one does it again."""
    run.wait_for(lambda: wire.holds, restart=False)
    run.kill()
    run.start()


def equal(source: Database, target: Database) -> bool:
    sql = "SELECT id, v, n FROM orders ORDER BY id"
    return source.query(sql) == target.query(sql)


def test_what_comes_late_changes_nothing(mariadb_database: Database, oceanbase: Server, tmp_path: Path) -> None:
    source, target = mariadb_database, Database(oceanbase, mariadb_database.name)
    source.execute(
        "CREATE TABLE orders (id INT PRIMARY KEY, v VARCHAR(20), n INT)",
        "INSERT INTO orders SELECT seq, 'as read', 0 FROM seq_1_to_3000",
    )
    with proxied(oceanbase.port) as wire:
        sink = f'oceanbase: {{{{url: "mysql://root@127.0.0.1:{wire.port}/"}}}}'
        wire.hold(b"as read")
        with running(tmp_path, source.port, source.name, sink, chunk_bytes=20_000) as run:
            held(run, wire)
            run.wait_live(1)
            source.execute("UPDATE orders SET n = 1 WHERE id % 2", "DELETE FROM orders WHERE id % 3 = 0")
            run.wait_applied()
            assert equal(source, target)
            assert not wire.release()
            assert equal(source, target)

            wire.hold(b"too late")
            source.execute(
                "UPDATE orders SET v = 'too late' WHERE id < 100", "INSERT INTO orders VALUES (-1, 'too late', 1)"
            )
            held(run, wire)
            source.execute("UPDATE orders SET v = 'newer'", "DELETE FROM orders WHERE id = -1 OR id % 5 = 0")
            run.wait_applied()
            assert equal(source, target)
            assert not wire.release()
            assert equal(source, target)

            second = tmp_path / "second"
            second.mkdir()
            other = Running(second, source.port, source.name, sink)
            try:
                other.start()
                other.wait_for(lambda: [p.value for p in other.phases().values()] == ["HALTED"], restart=False)
                assert "[E192]" in other.log.read_text() or "another one than it was" in other.log.read_text()
            finally:
                other.close()
            source.execute("UPDATE orders SET n = n + 1")
            run.wait_applied()
            assert equal(source, target)
            assert run.terminate() == 0
    target.execute(f"DROP DATABASE {target.name}")
