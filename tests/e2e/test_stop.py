"""A job that ends holds up no other job of its daemon, and at SIGTERM all jobs drain at the same time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd import control
from tests import plugins
from tests.e2e.harness import _alive
from tests.e2e.test_halted_job import JOB

DRAIN = 8.0


class Daemon:
    """`syncd run` with jobs a and b, whose source cannot be reached."""

    def __init__(self, folder: Path) -> None:
        (folder / "syncd.yaml").write_text(
            f"{{data: data, plugin_paths: [{plugins.FOLDER}], lease: 3s, heartbeat: 0.5, drain: {DRAIN}, "
            "log: {level: info}}\n"
        )
        (folder / "jobs").mkdir()
        for name in "ab":
            (folder / "jobs" / f"{name}.yaml").write_text(JOB.format(name=name, queues=2, folder=folder))
        self.service = control.service(folder / "syncd.yaml")
        self._log = folder / "daemon.log"
        line = [sys.executable, "-m", "syncd", "run", "jobs", "--service", str(folder / "syncd.yaml")]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(line, cwd=folder, stdout=log, stderr=log)

    def workers(self, job: str) -> dict[str, int]:
        """Name -> pid of those that live."""
        lines = self._log.read_text().splitlines(keepends=True)
        words = [json.loads(line) for line in lines if '"worker_started"' in line and line.endswith("}\n")]
        mine = {word["worker"]: word["pid"] for word in words if word["job"] == job}
        return {name: pid for name, pid in mine.items() if _alive(pid, self.process.pid)}

    def freeze(self, job: str) -> int:
        """The process that delivers; the queue belongs to all, so not while it writes there."""
        pid = self.workers(job)["deliver/copy"]
        os.kill(pid, signal.SIGSTOP)
        while any(f" WRITE {pid} " in line for line in Path("/proc/locks").read_text().splitlines()):
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.01)
            os.kill(pid, signal.SIGSTOP)
        return pid

    def leases(self, job: str) -> set[str]:
        """Of its workers, those that are held."""
        (found,) = [status for status in control.status(self.service) if status.job == job]
        return {worker.name.removeprefix(f"job/{job}/") for worker in found.workers if worker.running}

    def at_work(self, job: str) -> bool:
        known = (self.service.data / "queue.json").exists() and job in {s.job for s in control.status(self.service)}
        return known and {"run", "deliver/copy"} <= self.leases(job)

    def wait_for(self, what: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, self._log.read_text()
            assert self.process.poll() is None, self._log.read_text()
            time.sleep(0.05)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    try:
        made.wait_for(lambda: made.at_work("a") and made.at_work("b"), 60)
        yield made
    finally:
        made.process.kill()
        made.process.wait()


def test_a_job_that_is_stopped_holds_up_no_other(daemon: Daemon) -> None:
    frozen = daemon.freeze("a")
    control.stop(daemon.service, "a")
    daemon.wait_for(lambda: set(daemon.workers("a")) == {"deliver/copy"}, DRAIN)
    killed = daemon.workers("b")["deliver/copy"]
    os.kill(killed, signal.SIGKILL)
    daemon.wait_for(lambda: daemon.workers("b").get("deliver/copy", killed) != killed, DRAIN / 2)
    assert daemon.workers("a") == {"deliver/copy": frozen}
    control.resume(daemon.service, "a")  # goes on when the old workers have ended, and not before
    assert "run" in daemon.leases("a")
    daemon.wait_for(lambda: frozen not in daemon.workers("a").values(), DRAIN + 5)
    daemon.wait_for(lambda: daemon.at_work("a") and len(daemon.workers("a")) == 2, 20)
    control.stop(daemon.service, "a")
    daemon.wait_for(lambda: not daemon.workers("a") and "run" not in daemon.leases("a"), 10)
    assert daemon.at_work("b")


def test_all_jobs_drain_at_the_same_time(daemon: Daemon) -> None:
    daemon.freeze("a")
    daemon.freeze("b")
    began = time.monotonic()
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(3 * DRAIN) == 0
    assert DRAIN <= time.monotonic() - began < 1.7 * DRAIN
    assert not daemon.workers("a")
    assert not daemon.workers("b")
