"""syncd as a user runs it: `syncd run job.yaml` with default settings, watched from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from bench.measure import cpu_of, reap
from bench.source import DATABASE
from syncd import control
from syncd.config import load_job
from syncd.engine.build import Parts
from syncd.errors import ConfigError, StateError
from syncd.ops import settle
from syncd.spi import Queue
from syncd.state import Phase, State
from syncd.testing.servers.cache import cache_dir

JOB = """\
job: bench
mode: {mode}
source:
  mysql: {{url: "mysql://root@127.0.0.1:{port}"}}
tables:
  {database}.orders: {{}}
sinks:
{sinks}
"""

TICK = 0.02


class Daemon:
    """One job of one table in a process tree of its own, in `folder`.

    `sinks`: name -> its line in the job, `plugin: {settings}`; by default the embedded ClickHouse, in `folder`.
    `plugins`: a folder of more.
    """

    def __init__(
        self, folder: Path, port: int, mode: str, sinks: Mapping[str, str] | None = None, plugins: Path | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log = folder / "daemon.log"
        job, service = folder / "job.yaml", folder / "syncd.yaml"
        sinks = sinks or {"target": f'clickhouse: {{url: "chdb://{folder}/ch"}}'}
        lines = "\n".join(f"  {name}:\n    {line}" for name, line in sinks.items())
        job.write_text(JOB.format(mode=mode, port=port, sinks=lines, database=DATABASE))
        service.write_text("data: data\n" + (f"plugin_paths: [{plugins}]\n" if plugins else ""))
        self._command = [sys.executable, "-m", "syncd", "run", str(job), "--service", str(service)]
        self.service = control.service(service)
        self.parts = Parts(load_job(job, self.service.plugin_paths), self.service)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def engine(self) -> Path:
        """The folder of the embedded ClickHouse; free for others when the daemon has ended."""
        return self.folder / "ch"

    def start(self) -> None:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=_with_bytecode()
            )

    def reconcile(self) -> None:
        """Every value at every sink against the source's, while no daemon runs. RuntimeError: some are others."""
        wrong = [result for result in control.reconcile(self.service, self.parts.job) if not result.right]
        if wrong:
            raise RuntimeError(f"the copies differ: {wrong}")

    def wait(self, timeout: float = 1800.0) -> float:
        """Until it ends by itself; processor seconds of its whole tree."""
        assert self._process is not None
        process, self._process = self._process, None
        seconds = reap(process, timeout)
        if process.returncode:
            raise RuntimeError(f"syncd ended with {process.returncode}:\n{self.tail()}")
        return seconds

    def stop(self) -> float:
        """SIGTERM and a drain; processor seconds of its whole tree."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.wait(60)

    def kill(self) -> None:
        """At the end of a bench, however it ended; workers die with their parent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def tail(self) -> str:
        return "\n".join(self.log.read_text().splitlines()[-15:])

    # -- looking

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def cpu(self) -> float:
        """Processor seconds of the processes that run now."""
        used = 0.0
        for pid in self.workers().values():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                used += cpu_of(pid)
        return used

    def workers(self) -> dict[str, int]:
        """Name -> pid of every process that was started, the supervisor as "supervisor"."""
        assert self._process is not None
        found = {"supervisor": self._process.pid}
        for line in self.log.read_text().splitlines():
            if '"worker_started"' in line and line.endswith("}"):
                word = json.loads(line)
                found[word["worker"]] = word["pid"]
        return found

    def until(self, what: Callable[[Queue], bool], timeout: float = 1800.0) -> float:
        """Wait until `what` holds of the queue; seconds since 1970 at which it did, at most `TICK` late."""
        end = time.monotonic() + timeout
        while True:
            try:
                with control.opened_queue(self.service) as queue:
                    return self._until(queue, what, end)
            except (ConfigError, StateError):  # it has not made its queue yet
                time.sleep(TICK)
                self._check(end)

    def _until(self, queue: Queue, what: Callable[[Queue], bool], end: float) -> float:
        while not what(queue):
            self._check(end)
            time.sleep(TICK)
        return time.time()

    def _check(self, end: float) -> None:
        if time.monotonic() > end or self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"syncd is late or gone:\n{self.tail()}")

    def live(self, queue: Queue) -> bool:
        records = State(queue, self.parts.job.name).tables()
        if any(record.phase is Phase.HALTED for record in records):
            raise RuntimeError(f"a table halted:\n{self.tail()}")
        return bool(records) and all(record.phase is Phase.LIVE for record in records)

    def wait_live(self) -> None:
        self.until(self.live)

    def load(self) -> None:
        """Run it until all tables are LIVE."""
        self.start()
        try:
            self.wait_live()
            self.stop()
        finally:
            self.kill()

    def wait_applied(self) -> float:
        """Until everything that is committed at the source now is at the target; when that was."""
        with control.opened_queue(self.service) as queue:
            head = settle.source_head(self.parts, queue)
        return self.until(lambda queue: settle.applied(self.parts, queue, head))

    def loaded_at(self) -> float:
        """When the last chunk was written and visible, in seconds since 1970."""
        with control.opened_queue(self.service) as queue:
            state = State(queue, self.parts.job.name)
            record = state.tables()[0]
            return max(done.at for done in state.done(record.sink, record.table).values()) / 1e6


def _with_bytecode() -> dict[str, str]:
    """The environment in which modules are compiled once and not at each start, as in an installed package."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**env, "PYTHONPYCACHEPREFIX": str(cache_dir() / "bench" / "pyc")}
