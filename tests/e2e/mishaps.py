"""What befalls a running job beside the death of its processes: a table is loaded anew, or a range of one read again,
the source fails over to another server, the target and the queue are put back from copies."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from syncd import control
from syncd.model import TableId
from syncd.ops import settle
from syncd.state import Phase, State
from syncd.testing.servers import MySQL9, Server
from tests.e2e.bulk import BulkWorkload
from tests.e2e.harness import Running
from tests.e2e.kept import Folder
from tests.e2e.proxy import Proxy
from tests.e2e.tables import ALL, PAIRS
from tests.services.database import Database
from tests.services.replication import run as run_at

PATIENCE = 300.0
AHEAD = 500
"""Changes between a copy and the moment when it is put back."""


class Kept(Protocol):
    def take(self) -> None: ...

    def put_back(self) -> None: ...


@dataclass
class Spare:
    """A replica of the source, and the proxy by which the job goes to the source."""

    server: Server
    proxy: Proxy


@dataclass
class Mishaps:
    """`acts`, by name. `kept`: the target."""

    run: Running
    workload: BulkWorkload
    rng: random.Random
    kept: Kept
    spare: Spare | None = None

    def acts(self) -> dict[str, Callable[[], None]]:
        return {
            "resync": self.resync,
            "range": self.range,
            "failover": self.failover,
            "target": lambda: self.restore(target=True, queue=False),
            "queue": lambda: self.restore(target=False, queue=True),
            "both": lambda: self.restore(target=True, queue=True),
        }

    def resync(self) -> None:
        control.resync(self.run.service, self.run.job.name, self._named(self.rng.choice(ALL).name))

    def range(self) -> None:
        settled(self.run, self.workload)
        words = ["jobs", "resync", self.run.job.name, "--table", self._named(PAIRS.name), "--where"]
        words += [f"a BETWEEN {(first := self.rng.randrange(500))} AND {first + 300}", "--yes"]
        command = [sys.executable, "-m", "syncd", *words, "--service", str(self.run.folder / "syncd.yaml")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"

    def _named(self, table: str) -> str:
        return f"{self.workload.database.name}.{table}"

    def failover(self) -> None:
        """To a replica that has everything; nobody writes for that moment."""
        assert self.spare is not None
        old, new = self.workload.database, self.spare.server
        self.workload.stop()
        newer = isinstance(new, MySQL9)
        ((file, place, *_),) = old.query("SHOW BINARY LOG STATUS" if newer else "SHOW MASTER STATUS")
        at_new = Database(new, old.name)
        wait = "SOURCE_POS_WAIT" if newer else "MASTER_POS_WAIT"
        assert at_new.query(f"SELECT {wait}('{file}', {place}, 60)")[0][0] >= 0
        run_at(new, "STOP REPLICA" if newer else "STOP SLAVE")
        self.spare.proxy.lead_to(new.port)
        self.workload.go_over(at_new)
        self.workload.start()

    def restore(self, *, target: bool, queue: bool) -> None:
        """Copies are taken between two runs of the daemon, and put back when it has gone on and was killed."""
        ddl = self.workload.ddl
        ddl.calm, ddl.still = True, not target
        try:
            self._captured()
            if not target:
                self._applied()
            settled(self.run, self.workload)
            self.run.wait_for(lambda: len(self.run.workers()) > 1, PATIENCE)  # one that has just begun drains nothing
            drained(self.run)
            data = Folder(self.run.service.data)
            self.run.close_queue()
            self.kept.take()
            data.take()
            self.run.start()
            wanted = self.workload.changes + AHEAD
            self.workload.limit = max(self.workload.limit, wanted)
            self.run.wait_for(lambda: self.workload.changes >= wanted, PATIENCE)
            self._captured()
            time.sleep(self.rng.uniform(0.5, 2.0))
            self._end()
            if target:
                self.kept.put_back()
            if queue:
                data.put_back()
            self.run.start()
        finally:
            ddl.calm = ddl.still = False

    def _applied(self) -> None:
        """The writer rests; a queue that is put back alone knows no columns that the target got since."""
        self.run.wait_for(self._between_statements, PATIENCE)
        self.workload.limit = self.workload.changes
        self.run.wait_applied(PATIENCE)

    def _between_statements(self) -> bool:
        self.workload.check()
        return self.workload.ddl.busy is None

    def _captured(self) -> None:
        """What is committed now: capture has said which tables are to be loaded anew."""
        queue = self.run.queue
        assert queue is not None
        head, state = settle.source_head(self.run.parts, queue), State(queue, self.run.job.name)
        self.run.wait_for(lambda: settle.published(state, head), PATIENCE)

    def _end(self) -> None:
        """No process of the job is left."""
        pids = [*self.run.workers().values()]
        self.run.kill()
        self.run.close_queue()
        end = time.monotonic() + 60
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            assert time.monotonic() < end, "workers outlive their daemon"
            time.sleep(0.05)


def drained(run: Running) -> None:
    """The daemon has ended; with 4 where a table stood HALTED, as one that got another name before it was loaded."""
    code = run.terminate(60)
    assert code in {0, 4}, f"the drain ended with {code}\n{run.tail()}"


def stuck(run: Running, names: Collection[str]) -> set[TableId]:
    """Those of these tables that have halted, and are not to be loaded anew; seen twice, since the two are not read at
    once. One that has got another name meanwhile stays as it is."""
    if run.queue is None:
        return set()
    state = State(run.queue, run.job.name)

    def halted() -> set[TableId]:
        at_sinks = {record.table for record in state.tables() if record.phase is Phase.HALTED}
        return {table for table in {*at_sinks, *state.halts()} - {*state.resyncs()} if table.name in names}

    return halted() and halted()


def settled(run: Running, workload: BulkWorkload) -> None:
    """All tables that are at the source are LIVE, and none is to be loaded anew."""

    def is_settled() -> bool:
        if run.queue is None:
            return False
        state = State(run.queue, run.job.name)
        names, records = workload.names, state.tables()
        assert not stuck(run, names), run.tail()
        waits = state.resyncs() or state.reloads() or state.added()
        live = {r.table.name for r in records if r.phase is Phase.LIVE and not r.shadow}
        return not waits and live.issuperset(names)

    run.wait_for(is_settled, PATIENCE)
