"""The daemon as a process of its own, to be killed, frozen and looked at from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from syncd import control, failpoints
from syncd.config import Job, Service, load_job
from syncd.engine.build import Parts
from syncd.ops import settle
from syncd.ops.reconcile import Result
from syncd.spi import Queue
from syncd.state import Phase, State, TableRecord
from tests import plugins

SINKS = {
    "arrival": "sqlite_arrival: {{path: {folder}/sink.db, faults_file: {folder}/faults}}",
    "versioned": "sqlite_versioned: {{path: {folder}/sink.db, faults_file: {folder}/faults}}",
    "clickhouse": 'clickhouse: {{url: "chdb://{folder}/ch/copy"}}',
    "parquet": "parquet: {{path: {folder}/files}}",
}

JOB = """\
job: chaos
source:
  mysql: {{url: "mysql://root@127.0.0.1:{port}", heartbeat: 0.5{source}}}
tables:
  "{database}.*": {{{rule}}}
queue: {{queues: 4, embedded: {{{queue}}}}}
snapshot: {{chunk_bytes: {chunk_bytes}, readers: {readers}}}
sinks:
  copy:
    {sink}
"""


def order(folder: Path, **faults: object) -> None:
    """What goes wrong at the sink from its next write on (`sink_faults.Faults`); nothing given: all is well again.

    A write that comes by reads an order whole, or none.
    """
    if not faults:
        (folder / "faults").unlink()
        return
    part = folder / "faults.part"
    part.write_text(json.dumps(faults))
    part.rename(folder / "faults")


_HALTED_SECONDS = 60.0


class Running:
    """One job in one daemon, in `folder`. `sink`: a name of `SINKS`, or a sink's block as YAML."""

    def __init__(
        self,
        folder: Path,
        port: int,
        database: str,
        sink: str,
        chunk_bytes: int = 100_000,
        extra: str = "",
        queue: str = "",
        source: str = "",
        rule: str = "",
        readers: int = 2,
    ) -> None:
        self.folder = folder
        self.database = database
        self.path = folder / "job.yaml"
        self.failpoints = folder / "failpoints"
        self.failpoints.mkdir(exist_ok=True)
        text = JOB.format(
            port=port,
            database=database,
            rule=rule,
            readers=readers,
            chunk_bytes=chunk_bytes,
            sink=SINKS.get(sink, sink).format(folder=folder),
            queue=queue,
            source=source,
        )
        self.path.write_text(text + extra)
        service = folder / "syncd.yaml"
        service.write_text(
            f"{{data: data, plugin_paths: [{plugins.FOLDER}], lease: 3s, heartbeat: 0.5, log: {{level: info}}, "
            "metrics: {listen: '127.0.0.1:0'}}\n"
        )
        self.service: Service = control.service(service)
        self.job: Job = load_job(self.path, self.service.plugin_paths)
        self.parts = Parts(self.job, self.service)
        self._queue: Queue | None = None
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "daemon.log"

    # -- the process

    def start(self) -> None:
        with self.log.open("a+b") as log:
            if log.tell() and self.log.read_bytes()[-1:] != b"\n":
                log.write(b"\n")  # the last one died in the middle of a line
                log.flush()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "syncd", "run", str(self.path), "--service", str(self.folder / "syncd.yaml")],
                stdout=log,
                stderr=log,
                env={**os.environ, "SYNCD_FAILPOINTS": str(self.failpoints)},
            )

    def die_at(self, places: Mapping[str, int]) -> None:
        """Failpoint -> at its how-manieth passing whoever comes by dies."""
        for name, times in places.items():
            failpoints.arm(self.failpoints, name, times)

    def deaths_to_come(self) -> list[str]:
        """The failpoints that have not killed yet."""
        return sorted(path.name for path in self.failpoints.iterdir())

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def keep_alive(self) -> None:
        """Start it again if it was killed, as a service manager would."""
        if not self.alive:
            self.start()

    def terminate(self, timeout: float = 40.0) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout)

    def ended(self, timeout: float = 60.0) -> int:
        """Waits until it ends by itself; the exit code."""
        assert self._process is not None
        return self._process.wait(timeout)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        self.kill()
        self.close_queue()

    def workers(self) -> dict[str, int]:
        """Name -> pid of the daemon's worker processes ("capture", "reader/1", ...), the supervisor as "run"."""
        assert self._process is not None
        found = {"run": self._process.pid}
        for word in self.events("worker_started"):
            if _alive(word["pid"], self._process.pid):
                found[word["worker"]] = word["pid"]
        return found

    # -- looking

    @property
    def queue(self) -> Queue | None:
        """The daemon's queue, opened once; None before the daemon has made it."""
        if self._queue is None and (self.service.data / "queue.json").exists():
            self._queue = self._stack.enter_context(control.opened_queue(self.service))
        return self._queue

    def close_queue(self) -> None:
        """So that its files can be changed; the next look opens it again."""
        self._stack.close()
        self._queue = None

    def halted(self) -> dict[str, str]:
        """Table -> why capture has left it."""
        return {table: halt.reason for table, halt in control.status(self.service)[0].halted.items()}

    def phases(self) -> dict[str, Phase]:
        """By table; at a job of several sinks, of the last of these."""
        return {str(record.table): record.phase for record in self.records()}

    def records(self) -> list[TableRecord]:
        return [] if self.queue is None else State(self.queue, self.job.name).tables()

    def wait_for(self, what: Callable[[], object], seconds: float = 300.0, *, restart: bool = True) -> None:
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s; phases {self.phases()}\n{self.tail()}")
            if restart:
                self.keep_alive()
            time.sleep(0.2)

    def wait_live(self, tables: int, seconds: float = 300.0) -> None:
        """`tables`: of all sinks. One that stays HALTED fails at once, or nearly: it may be told to go on."""
        fine = time.monotonic()

        def live() -> bool:
            nonlocal fine
            phases = [record.phase for record in self.records()]
            fine = fine if Phase.HALTED in phases else time.monotonic()
            assert time.monotonic() < fine + _HALTED_SECONDS, f"halted: {self.phases()}\n{self.tail()}"
            return len(phases) >= tables and all(phase is Phase.LIVE for phase in phases)

        self.wait_for(live, seconds)

    def wait_applied(self, seconds: float = 300.0) -> None:
        """Everything that is committed at the source now is at the sink."""
        queue = self.queue
        assert queue is not None
        head = settle.source_head(self.parts, queue)
        self.wait_for(lambda: settle.applied(self.parts, queue, head), seconds)

    def copied(self, table: str) -> Counter[tuple[Any, ...]]:
        """What the sink holds, each row as often as it is there; the daemon is down."""
        assert self.queue is not None
        state = State(self.queue, self.job.name)
        (record,) = [record for record in state.tables() if record.table.name == table]
        versions = state.schemas(record.table)[record.table]
        published = versions[max(versions)].published
        names = [column.name for column in published.columns if not column.normal_of]
        sink = self.parts.make_sink("copy")
        sink.open()
        try:
            parts = sink.scan(self.parts.target("copy", published), None, None)
            return Counter(tuple(row.values()) for part in parts for row in part.select(names).to_pylist())
        finally:
            sink.close()

    def reconcile(self) -> list[Result]:
        return control.reconcile(self.service, self.job)

    def assert_equal(self) -> None:
        """Every value at both ends, by syncd's own reconcile; delivery tests also compare with a plain SELECT."""
        results = self.reconcile()
        assert results, self.tail()
        for result in results:
            assert result.right, f"{result}\n{self.tail()}"

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def events(self, name: str) -> list[dict[str, Any]]:
        """Half a line is none: others write just now, or were killed in the middle of it."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            if f'"{name}"' in line:
                with suppress(json.JSONDecodeError):
                    found.append(json.loads(line))
        return found


def _alive(pid: int, daemon: int) -> bool:
    """A worker's parent is the daemon's fork server."""
    state, parent = _state(pid)
    return state not in {"", "Z"} and _state(parent)[1] == daemon


def _state(pid: int) -> tuple[str, int]:
    """A process's state, "" for none, and its parent."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    fields = stat.rpartition(")")[2].split()
    return fields[0], int(fields[1])


@contextmanager
def running(folder: Path, port: int, database: str, sink: str, **options: Any) -> Iterator[Running]:
    """A started daemon; killed with all of its workers at the end, whatever happens."""
    run = Running(folder, port, database, sink, **options)
    run.start()
    try:
        yield run
    finally:
        run.close()
