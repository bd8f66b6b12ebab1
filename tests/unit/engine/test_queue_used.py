"""Which queue a data directory works with, as a worker process finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.config import Service, parse_job
from syncd.engine import queue_used
from syncd.engine.build import Parts
from syncd.errors import StateError
from tests import plugins

JOB = """\
job: shop
source: {mysql: {url: "mysql://root@127.0.0.1:1"}}
tables: {"shop.*": {}}
sinks: {copy: {sqlite_versioned: {path: sink.db}}}
"""


def test_an_empty_directory_in_the_place_of_the_daemons_is_refused(tmp_path: Path) -> None:
    """As when a link to the data directory is changed while syncd runs: everything that is saved would seem lost."""
    link = tmp_path / "data"
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    link.symlink_to("one")
    parts = Parts(parse_job(JOB, "shop.yaml", [plugins.FOLDER]), Service(data=link))
    queue = parts.make_queue()
    queue.open()
    queue_used.settle(parts, queue)
    queue.close()
    link.unlink()
    link.symlink_to("other")
    with (
        pytest.raises(StateError, match=r"holds no queue\.json; put the data directory, or the link to it, back"),
        queue_used.opened(parts.make_queue(), parts.service),
    ):
        pytest.fail("a worker would wait there for ever")
    assert not [*(tmp_path / "other").rglob("queue.db")]
    link.unlink()
    link.symlink_to("one")
    with queue_used.opened(parts.make_queue(), parts.service):
        pass
