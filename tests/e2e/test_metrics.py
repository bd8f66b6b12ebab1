"""The daemon over HTTP while a table is loaded, changes run, a worker is killed, and a table halts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from syncd import control
from syncd.engine.counts import COUNTERS
from syncd.ops.metrics import GAUGES
from tests.e2e.harness import Running, order, running
from tests.e2e.workload import TABLES, Workload
from tests.services.database import Database, fresh_database
from tests.services.fixtures import PrivateServer

pytestmark = pytest.mark.mariadb

Samples = dict[tuple[str, ...], float]
"""Name without `syncd_`, then the labels' values in the order of the declaration."""


def address(run: Running) -> str:
    """Of the daemon that runs now."""
    return str(run.events("metrics_served")[-1]["address"])


def get(place: str, path: str, accept: str = "") -> tuple[int, str]:
    request = urllib.request.Request(f"http://{place}{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def scrape(place: str) -> Samples:
    status, text = get(place, "/metrics")
    assert status == 200
    labels = {name: kind.labels for name, kind in GAUGES.items()}
    labels |= {f"{name}_total": ("job", *kind.labels) for name, kind in COUNTERS.items()}
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name.removeprefix("syncd_")
            assert sample.labels.keys() == set(labels[name])
            key = (name, *(sample.labels[label] for label in labels[name]))
            assert key not in found
            found[key] = sample.value
    return found


def ready(place: str) -> tuple[int, dict[str, Any]]:
    status, text = get(place, "/readyz")
    return status, json.loads(text)


class Watch:
    """Scrapes without pause, and holds every counter against the scrape before."""

    def __init__(self, place: str) -> None:
        self._place, self._end = place, threading.Event()
        self.scrapes, self.fallen = 0, dict[tuple[str, ...], tuple[float, float]]()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        before: Samples = {}
        while not self._end.wait(0.1):
            now = scrape(self._place)
            for key, value in before.items():
                if key[0].endswith("_total") and now.get(key, -1.0) < value:
                    self.fallen[key] = value, now.get(key, -1.0)
            before = now
            self.scrapes += 1

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._end.set()
            self._thread.join()


def count(database: Database, table: str) -> int:
    return int(database.query(f"SELECT COUNT(*) FROM {table}")[0][0])


def rows(samples: Samples, name: str, *labels: str) -> float:
    return samples[f"{name}_rows_total", "chaos", *labels]


@pytest.fixture
def shop(private_mariadb: PrivateServer) -> Iterator[Database]:
    """On a server that keeps its log for ten days."""
    with fresh_database(private_mariadb("--binlog-expire-logs-seconds=864000")) as made:
        yield made


def test_what_is_told_is_what_was_done(shop: Database, tmp_path: Path) -> None:
    Workload(shop, seed=3).create(rows=300)
    with running(tmp_path, shop.port, shop.name, "arrival") as run:
        run.wait_live(len(TABLES))
        place = address(run)
        watch = Watch(place)
        with watch.watching():
            loaded(run, shop, place)
            changed(run, shop, place)
            killed(run, shop, place)
            lagging(run, shop, place)
            halted(run, shop, place)
        assert watch.scrapes > 20
        assert watch.fallen == {}
        assert run.terminate() == 0
    host, port = place.split(":")
    with socket.socket() as end:
        assert end.connect_ex((host, int(port))) != 0


def loaded(run: Running, shop: Database, place: str) -> None:
    run.wait_for(lambda: ready(place)[0] == 200, 60)
    assert ready(place) == (200, {"ready": True})
    assert json.loads(get(place, "/healthz")[1])["healthy"] is True
    assert get(place, "/nothing")[0] == 404
    now = scrape(place)
    for table in TABLES:
        at = "copy", f"{shop.name}.{table}"
        assert rows(now, "loaded", *at) == now["table_load_rows", "chaos", *at] == count(shop, table)
        assert now["loaded_bytes_total", "chaos", *at] > 0
        assert rows(now, "captured", at[1]) == rows(now, "delivered", *at) == 0
        assert now["table_state", "chaos", *at, "LIVE"] == 1
    assert now["tables", "chaos", "copy", "LIVE"] == len(TABLES)
    assert now["tables", "chaos", "copy", "HALTED"] == 0
    assert now["job_state", "chaos", "RUNNING"] == 1
    assert now["worker_up", "chaos", "capture"] == now["worker_up", "chaos", "deliver/copy"] == 1
    assert now["log_kept_seconds", "chaos"] == 864000
    assert 864000 - 60 < now["log_purge_seconds", "chaos"] <= 864000
    assert 0 < now["queue_bytes",] < now["queue_limit_bytes",]
    assert 0 < now["disk_free_bytes",] < now["disk_size_bytes",]
    other = open_metrics(get(place, "/metrics", "application/openmetrics-text")[1])  # type: ignore[no-untyped-call]
    assert {family.name for family in other} == {
        family.name for family in text_string_to_metric_families(get(place, "/metrics")[1])
    }


def changed(run: Running, shop: Database, place: str) -> None:
    updated = count(shop, "items")
    shop.execute("UPDATE items SET n = n + 1", "UPDATE items SET n = n + 1")
    shop.many("INSERT INTO pairs VALUES (%s, 'new', 0.5)", [(10**6 + i,) for i in range(50)])
    shop.execute("DELETE FROM words WHERE n < 10")
    done = {"items": 2 * updated, "pairs": 50, "words": 10}
    run.wait_applied(60)

    def told() -> bool:
        now = scrape(place)
        return all(
            rows(now, "captured", f"{shop.name}.{table}")
            == rows(now, "published", f"{shop.name}.{table}")
            == rows(now, "delivered", "copy", f"{shop.name}.{table}")
            == changes
            for table, changes in done.items()
        )

    run.wait_for(told, 30)
    now = scrape(place)
    for table in TABLES:
        assert now["captured_bytes_total", "chaos", f"{shop.name}.{table}"] > 0
        assert now["published_bytes_total", "chaos", f"{shop.name}.{table}"] > 0
        assert now["delivered_bytes_total", "chaos", "copy", f"{shop.name}.{table}"] > 0
        assert now["sink_write_seconds_total", "chaos", "copy", f"{shop.name}.{table}"] > 0
        assert now["table_lag_rows", "chaos", "copy", f"{shop.name}.{table}"] == 0


def killed(run: Running, shop: Database, place: str) -> None:
    items = "copy", f"{shop.name}.items"
    before = scrape(place)
    assert before["worker_restarts_total", "chaos", "deliver/copy"] == 0
    os.kill(run.workers()["deliver/copy"], signal.SIGKILL)
    run.wait_for(lambda: scrape(place)["worker_restarts_total", "chaos", "deliver/copy"] == 1, 60)
    shop.execute("UPDATE items SET n = n + 1 LIMIT 20")
    run.wait_for(lambda: rows(scrape(place), "delivered", *items) == rows(before, "delivered", *items) + 20, 60)


def lagging(run: Running, shop: Database, place: str) -> None:
    table = f"{shop.name}.items"
    lag = "chaos", "copy", table
    control.pause(run.service, "chaos", table=table)
    shop.execute("UPDATE items SET n = n + 1 LIMIT 77")
    run.wait_for(lambda: scrape(place)["table_lag_rows", *lag] == 77, 60)
    now = scrape(place)
    lanes = [value for key, value in now.items() if key[:4] == ("lane_lag_rows", *lag)]
    assert (len(lanes), sum(lanes)) == (4, 77)
    assert 0 < now["table_lag_seconds", *lag] < 60
    assert now["table_lag_seconds", *lag] == max(
        value for key, value in now.items() if key[:4] == ("lane_lag_seconds", *lag)
    )
    assert now["table_queue_bytes", *lag] > 0
    assert now["table_lag_rows", "chaos", "copy", f"{shop.name}.words"] == 0
    control.resume(run.service, "chaos", table=table)
    run.wait_for(lambda: scrape(place)["table_lag_rows", *lag] == 0, 60)


def halted(run: Running, shop: Database, place: str) -> None:
    words = f"{shop.name}.words"
    order(run.folder, refuse={"word": ["never"]})
    shop.execute("INSERT INTO words VALUES ('never', 1)")
    run.wait_for(lambda: ready(place)[0] == 503, 60)
    reasons = [{"job": "chaos", "table": words, "sink": "copy", "reason": "it is HALTED"}]
    assert ready(place) == (503, {"ready": False, "reasons": reasons, "see": "syncd status says why"})
    assert get(place, "/healthz")[0] == 200
    run.wait_for(lambda: rows(scrape(place), "refused", "copy", words) == 1, 30)
    now = scrape(place)
    assert now["table_halts_total", "chaos", "copy", words] == 1
    assert now["table_state", "chaos", "copy", words, "HALTED"] == 1
    order(run.folder)
    control.resume(run.service, "chaos", table=words)
    run.wait_for(lambda: ready(place)[0] == 200, 60)


def test_a_data_directory_that_is_away_for_a_while(mariadb_database: Database, tmp_path: Path) -> None:
    """No number that is not known, and what the daemon knows by itself; no page waits, and neither does the daemon."""
    mariadb_database.execute("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1), (2)")
    with running(tmp_path, mariadb_database.port, mariadb_database.name, "arrival") as run:
        run.wait_live(1)
        place = address(run)
        run.wait_for(lambda: ready(place)[0] == 200, 60)
        run.close_queue()
        run.service.data.rename(tmp_path / "away")
        run.wait_for(lambda: ready(place)[0] == 503, 60, restart=False)
        assert ready(place)[1]["reasons"] == [{"reason": "the queue's files do not answer"}]
        assert get(place, "/healthz")[0] == 200
        now = scrape(place)
        assert now["state_readable",] == 0
        run.wait_for(lambda: run.events("trim_waits"), 30, restart=False)
        assert "queue_bytes" not in {key[0] for key in now}
        assert rows(now, "loaded", "copy", f"{mariadb_database.name}.t") == 2
        (tmp_path / "away").rename(run.service.data)
        run.wait_for(lambda: ready(place)[0] == 200, 120, restart=False)
        assert run.alive
        mariadb_database.execute("INSERT INTO t VALUES (3)")
        run.wait_applied(60)
        assert run.terminate() == 0


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    """Before anything else is begun: by name, and what is left is a directory that can be started again."""
    (tmp_path / "job.yaml").write_text(
        'job: j\nsource: {mysql: {url: "mysql://root@127.0.0.1:1"}}\ntables: {"a.b": {}}\n'
        f'sinks: {{s: {{clickhouse: {{url: "chdb://{tmp_path}/ch/copy"}}}}}}\n'
    )
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (tmp_path / "syncd.yaml").write_text(f"{{data: data, metrics: {{listen: '127.0.0.1:{port}'}}}}\n")
        done = subprocess.run(
            [sys.executable, "-m", "syncd", "run", "job.yaml"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert f"metrics.listen: 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "[C131]" in done.stderr
    assert "worker_started" not in done.stderr
