"""A job that cannot run says why, on a terminal and in `syncd status`, and takes no other job of its daemon with it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast

from syncd import control
from syncd.ops import status
from tests import plugins

JOB = """\
job: {name}
source: {{mysql: {{url: "mysql://root@127.0.0.1:1"}}}}
tables: {{"nowhere.*": {{}}}}
queue: {{queues: {queues}}}
sinks: {{copy: {{sqlite_arrival: {{path: {folder}/{name}.db}}}}}}
"""


class OnTerminal:
    """`syncd run` with a terminal of its own; `said` is all that it has shown."""

    def __init__(self, folder: Path) -> None:
        self.said = ""
        self._near, far = pty.openpty()
        line = [sys.executable, "-m", "syncd", "run", "jobs", "--service", str(folder / "syncd.yaml")]
        environment = {**os.environ, "COLUMNS": "250", "TERM": "xterm"}
        self.process = subprocess.Popen(line, cwd=folder, stdin=far, stdout=far, stderr=far, env=environment)
        os.close(far)

    def read(self) -> None:
        while select.select([self._near], [], [], 0.1)[0]:
            try:
                self.said += os.read(self._near, 65536).decode(errors="replace")
            except OSError:  # the other end has gone
                return

    def wait_for(self, what: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not what():
            self.read()
            assert time.monotonic() < end, self.said
            assert self.process.poll() is None, self.said

    def end(self) -> int:
        """SIGTERM; the exit code. What is shown meanwhile is read, since a terminal holds little."""
        self.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 60
        while self.process.poll() is None:
            self.read()
            assert time.monotonic() < end, self.said
        self.read()
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._near)


def test_a_job_that_contradicts_its_state_halts_by_name_and_the_other_goes_on(tmp_path: Path) -> None:
    (tmp_path / "syncd.yaml").write_text(
        f"{{data: data, plugin_paths: [{plugins.FOLDER}], lease: 3s, heartbeat: 0.5}}\n"
    )
    (tmp_path / "jobs").mkdir()
    service = control.service(tmp_path / "syncd.yaml")

    def states() -> dict[str, str]:
        if not (tmp_path / "data" / "queue.json").exists():
            return {}
        return {job.job: job.state for job in control.status(service)}

    for name in ("bad", "good"):
        (tmp_path / "jobs" / f"{name}.yaml").write_text(JOB.format(name=name, queues=4, folder=tmp_path))
    with closing(OnTerminal(tmp_path)) as first:
        first.wait_for(lambda: states() == {"bad": "WAITING", "good": "WAITING"})
        assert first.end() == 0
    (tmp_path / "jobs" / "bad.yaml").write_text(JOB.format(name="bad", queues=5, folder=tmp_path))
    with closing(OnTerminal(tmp_path)) as second:
        second.wait_for(lambda: "HALTED: " in second.said and states() == {"bad": "HALTED", "good": "WAITING"})
        assert_said_why(tmp_path)
        assert second.end() == 2
    assert_said_why(tmp_path)
    assert "Traceback" not in second.said
    assert "queue.queues: the saved state was made with 4" in second.said
    (tmp_path / "jobs" / "bad.yaml").write_text(JOB.format(name="bad", queues=4, folder=tmp_path))
    with closing(OnTerminal(tmp_path)) as third:
        third.wait_for(lambda: states() == {"bad": "WAITING", "good": "WAITING"})
        assert third.end() == 0


def assert_said_why(folder: Path) -> None:
    line = [sys.executable, "-m", "syncd", "status", "--service", str(folder / "syncd.yaml")]
    text = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True).stdout
    why = r"bad HALTED\n  halted [\d.]+ s ago: .*bad\.yaml:4:\d+ queue\.queues: .* made with 4; .*\[C140\]\n"
    assert re.search(why, text), text
    (facts,) = (status.facts(job) for job in control.status(control.service(folder / "syncd.yaml"))[:1])
    assert cast("dict[str, str]", facts["failed"])["reason"] in text
