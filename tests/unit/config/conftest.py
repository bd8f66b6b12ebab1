"""Plugins that only have options, and a job that is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.config import Job, parse_job

PLUGINS = Path(__file__).with_name("plugins")

FULL = r"""
job: shop
source: {mysql: {url: "mysql://sync@db1:3306", password: "${env:SHOP_PW}"}}
tables:
  "shop.*": {}
  'shop_(\d+).orders': {to: shop.orders, add: {shard: '\1'}, key: [shard, id]}
  shop.audit: {kind: append}
  shop.users: {mask: {email: hash}, where: "country = 'DE'"}
queue: {queues: 8, tag: table}
sinks:
  olap: {clickhouse: {url: "http://ch:8123/shop"}}
  core: {oceanbase: {url: "mysql://sync@ob:2881/shop", password: "${file:ob}"}, tags: "orders || users"}
policy: {ddl: apply, position_lost: reconcile-repair, zero_date: "null"}
retry: {steps: rocketmq, then: park}
reconcile: {cron: "0 3 * * *", repair: dry-run}
throttle: {source_threads_running: 30, rows_per_s: 50000}
"""

MINIMAL = """
job: shop
source: {mysql: {url: "mysql://db"}}
tables: {"shop.*": {}}
sinks: {olap: {clickhouse: {url: "http://ch"}}}
"""

Load = Callable[..., Job]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """A job from a text, with the fake plugins; its path is in an empty folder."""

    def parse(text: str = MINIMAL, name: str = "shop.yaml") -> Job:
        return parse_job(text, str(tmp_path / name), [PLUGINS])

    return parse


@pytest.fixture
def full(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job that says everything, with two secrets."""
    monkeypatch.setenv("SHOP_PW", "hunter2")
    (tmp_path / "ob").write_text("tiger-in-a-file\n")
    return load(FULL)
