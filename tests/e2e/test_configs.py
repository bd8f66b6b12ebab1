"""Each job in configs/ copies a shop: load, changes, every value compared. Only its addresses are others."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from syncd import control
from syncd.engine.build import Parts
from syncd.ops import settle
from syncd.state import Phase, State
from syncd.testing.clickhouse_http import PASSWORD, USER, Front
from tests.services.database import Database, connect
from tests.services.fixtures import PrivateServer

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
JOBS = [path for path in CONFIGS if path.name != "syncd.yaml"]
SHARDS = {"shop_1.orders", "shop_2.orders"}
WANTED = {
    "mysql-to-clickhouse.yaml": {"shop.orders", "shop.users"},
    "shards-to-chdb.yaml": SHARDS,
}


@pytest.fixture
def shop(private_mariadb: PrivateServer) -> Database:
    server = private_mariadb()
    with closing(connect(server)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE shop")
    made = Database(server, "shop")
    made.execute(
        "CREATE TABLE orders (id BIGINT PRIMARY KEY, user_id INT, price DECIMAL(10, 2), placed DATETIME(6))",
        "CREATE TABLE users (id INT PRIMARY KEY, email VARCHAR(90), phone VARCHAR(30), password_digest CHAR(40))",
        "CREATE TABLE tmp_cart (id INT PRIMARY KEY)",
        "INSERT INTO orders SELECT seq, seq % 7, seq / 8, '2026-01-02 03:04:05.000006' FROM seq_1_to_500",
        "INSERT INTO users SELECT seq, CONCAT(seq, '@example.org'), '+49 30 1234567', SHA1(seq) FROM seq_1_to_90",
        "INSERT INTO tmp_cart VALUES (1)",
        *(
            s
            for shard in SHARDS
            for s in (f"CREATE DATABASE {shard[:6]}", f"CREATE TABLE {shard} SELECT * FROM orders")
        ),
        *(f"ALTER TABLE {shard} ADD PRIMARY KEY (id)" for shard in SHARDS),
        f"CREATE USER sync@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'",
        "GRANT SELECT ON `shop%`.* TO sync@'127.0.0.1'",
        "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO sync@'127.0.0.1'",
    )
    return made


def moved(path: Path, shop: Database, front: Front, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The job with the addresses of this test. Nothing else of it is another."""
    text = path.read_text(encoding="utf-8")
    for variable in re.findall(r"\$\{env:(\w+)\}", text):
        monkeypatch.setenv(variable, PASSWORD)
    user = "sync" if "SHOP_PASSWORD" in text or "SYNCD_PASSWORD" in text else "root"
    for pattern, here in (
        (r"mysql://\w+@[\w.]+:3306/", f"mysql://{user}@127.0.0.1:{shop.port}/"),
        (r"http://[\w.]+:8123/shop", f"{front.url.rpartition('/')[0]}/shop"),
        (r"chdb:///tmp/[\w-]+", f"chdb://{folder}/ch"),
        (r"user: syncd", f"user: {USER}"),
    ):
        text = re.sub(pattern, here, text)
    job = folder / path.name
    job.write_text(text, encoding="utf-8")
    return job


@contextmanager
def daemon(job: Path, data: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "syncd", "run", str(job), "--data", str(data)]
    with (data.parent / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.mariadb
@pytest.mark.chdb
@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_a_config_copies_a_shop(path: Path, shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    with Front(tmp_path / "front") as front:
        job = moved(path, shop, front, tmp_path, monkeypatch)
        service = control.service(None, data)
        parts = Parts(control.jobs([job], service)[0], service)
        wanted = WANTED.get(path.name, {"shop.orders", "shop.users", "shop.tmp_cart"})
        with daemon(job, data) as process:
            wait_for(lambda: (data / "queue.json").exists(), data)
            with control.opened_queue(service) as queue:
                wait_for(lambda: live(State(queue, parts.job.name)) == wanted, data)
                shop.execute("UPDATE orders SET price = -price WHERE id % 3 = 0", "DELETE FROM users WHERE id < 9")
                shop.execute(*(f"DELETE FROM {shard} WHERE id % 5 = 1" for shard in SHARDS))
                shop.execute("INSERT INTO users VALUES (1000, 'new@example.org', NULL, '')")
                head = settle.source_head(parts, queue)
                wait_for(lambda: settle.applied(parts, queue, head), data)
            done = subprocess.run(
                [sys.executable, "-m", "syncd", "reconcile", parts.job.name, "--full", "--data", str(data)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert set(re.findall(r"shop\w*\.\w+", done.stdout)) == wanted
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def live(state: State) -> set[str]:
    return {str(record.table) for record in state.tables() if record.phase is Phase.LIVE}


def wait_for(holds: Callable[[], bool], data: Path) -> None:
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end, (data.parent / "log").read_text()[-3000:]
        time.sleep(0.1)
