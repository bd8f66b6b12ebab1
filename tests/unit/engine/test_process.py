"""A worker process and the signals of a terminal."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from syncd.config import Service, parse_job
from syncd.engine.build import Parts
from syncd.engine.process import Link, Worker
from tests import plugins

JOB = """\
job: shop
source: {mysql: {url: "mysql://root@127.0.0.1:1"}}
tables: {"shop.*": {}}
sinks: {copy: {sqlite_versioned: {path: sink.db}}}
"""


def say(link: Link, _parts: Parts) -> None:
    link.send("here")


def test_ctrl_c_while_a_worker_starts_is_its_parents_business(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())  # an embedded engine in this process blocks some
    worker = Worker("one", Parts(parse_job(JOB, "shop.yaml", [plugins.FOLDER]), Service(data=tmp_path)), say)
    heard: list[object] = []
    end = time.monotonic() + 60
    while "here" not in heard and worker.alive and time.monotonic() < end:
        os.kill(worker.pid, signal.SIGINT)
        heard += worker.words()
        time.sleep(0.01)
    heard += worker.words()
    worker.close()
    assert "here" in heard
    assert capfd.readouterr().err == ""
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
