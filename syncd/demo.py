"""`syncd demo`: a private database server, a shop that keeps changing, a live copy in ClickHouse, and the proof.

Everything lives in one temporary folder and is gone at the end. The database is a MariaDB that is installed, or one
that is unpacked from the machine's own package sources, or one in Docker; ClickHouse is the real engine, embedded.
"""

from __future__ import annotations

import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pymysql
from rich.console import Console

from syncd import control
from syncd.config import Job, Service, parse_job
from syncd.engine.build import Parts
from syncd.engine.job import JobRunner
from syncd.errors import ConfigError, FatalError, TransientError
from syncd.model import ChangeBatch, Head, Op
from syncd.ops import settle
from syncd.ops.reconcile import Verdict, verdict
from syncd.printing import print_results
from syncd.progress import Progress
from syncd.spi import Ticket
from syncd.state import Phase, State
from syncd.testing.servers import MariaDB, Server, ServerUnavailable
from syncd.testing.servers.guard import Guard
from syncd.testing.shop import Shop

JOB = """\
job: shop
source:
  mysql: {{url: "mysql://root@127.0.0.1:{port}"}}
tables:
  "shop.*": {{}}
sinks:
  olap:
    clickhouse: {{url: "chdb://{path}/shop"}}
"""

KEPT = """\
Kept in {folder}: shop.yaml (the job), data (queue and state: `syncd status --data {folder}/data`), \
clickhouse (the copy), db (the database, which is stopped)"""

GIVE_UP_SECONDS = 300.0


def run(console: Console, *, seconds: float, rows: int, corrupt: bool, keep: Path | None) -> Verdict:
    """What the comparison at the end has found.

    `corrupt` changes one value at the sink before comparing. KeyboardInterrupt: Ctrl-C, or SIGTERM.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _temporary() if keep is None else nullcontext(_empty(keep)) as folder:
            found = _run(console, folder, seconds, rows, corrupt=corrupt)
    except ServerUnavailable as error:
        raise TransientError(f"the demo has no database: {error}") from error
    else:
        if keep is not None:
            console.print(KEPT.format(folder=folder))
        return found
    finally:
        signal.signal(signal.SIGTERM, before)


def _empty(keep: Path) -> Path:
    """ConfigError: it holds something, or cannot be made."""
    try:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise ConfigError(f"--keep {keep}: the folder is not empty", hint="name a new or an empty one", code="C109")
    except OSError as error:
        what = f"--keep {keep}: {error.strerror}"
        raise ConfigError(what, hint="name a folder that this user can make and write", code="C109") from error
    return keep.absolute()


@contextmanager
def _temporary() -> Iterator[Path]:
    """A folder that is gone at the end, also where this process is killed."""
    folder = Path(tempfile.mkdtemp(prefix="syncd-demo-"))
    guard = Guard(None, folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        guard.release()


def _run(console: Console, folder: Path, seconds: float, rows: int, *, corrupt: bool) -> Verdict:
    console.print("Starting a private database server ...")
    with MariaDB(folder / "db") as server:
        console.print(f"{server.flavour} {server.version} runs. Filling a shop with {rows:,} rows ...")
        shop = Shop(lambda: _connect(server), random.Random(7))  # noqa: S311 - a sample shop, not a secret
        shop.create(rows)
        text = JOB.format(port=server.port, path=folder / "clickhouse")
        console.print(f"The job:\n\n{text}")
        file = folder / "shop.yaml"
        file.write_text(text, encoding="utf-8")
        job = parse_job(text, str(file))
        service = Service(data=folder / "data", readers=2)
        console.print(f"Copying while a writer changes the shop, for {seconds:.0f} s after everything is live ...")
        _copy(console, job, service, shop, seconds)
        console.print(f"The writer has made {shop.changes:,} changes. Comparing every value at both ends ...")
        if corrupt:
            console.print(f"(after changing one value at the sink: {_corrupt(job, service)})")
        return _compare(console, job, service)


def _connect(server: Server) -> pymysql.Connection:
    return pymysql.connect(host="127.0.0.1", port=server.port, user="root", charset="utf8mb4", autocommit=True)


class Director:
    """Decides when the demo's daemon is to end: live for `seconds`, then the writer stopped, then all applied."""

    def __init__(self, job: Job, service: Service, shop: Shop, seconds: float) -> None:
        self._parts = Parts(job, service)
        self._seconds = seconds
        self._stop = threading.Event()
        self._writer = threading.Thread(target=shop.keep_changing, args=(self._stop,), name="writer")
        self._began = time.monotonic()
        self._live: float | None = None
        self._head: Head | None = None
        self.over = False

    def start(self) -> None:
        self._writer.start()

    def end(self) -> None:
        self._stop.set()
        self._writer.join()

    def is_over(self, runners: Sequence[JobRunner]) -> bool:
        self.over = self._is_over(runners)
        return self.over

    def _is_over(self, runners: Sequence[JobRunner]) -> bool:
        now = time.monotonic()
        if now - self._began > self._seconds + GIVE_UP_SECONDS:
            raise FatalError(
                f"the demo was not live and applied after {now - self._began:.0f} s", hint="see the log", code="E169"
            )
        queue = runners[0].queue
        records = State(queue, self._parts.job.name).tables()
        if self._live is None:
            if records and all(record.phase is Phase.LIVE for record in records):
                self._live = now
            return any(record.phase is Phase.HALTED for record in records)
        if now - self._live < self._seconds:
            return False
        if self._head is None:
            self.end()
            self._head = settle.source_head(self._parts, queue)
        return settle.applied(self._parts, queue, self._head)


def _copy(console: Console, job: Job, service: Service, shop: Shop, seconds: float) -> None:
    director = Director(job, service, shop, seconds)
    director.start()
    try:
        with Progress(console, sys.stdout.isatty()) as progress:
            runners = control.run([job], service, progress.show, director.is_over, progress.draining)
    finally:
        director.end()
    if runners[0].failed is not None:
        raise runners[0].failed
    if not director.over:
        raise KeyboardInterrupt  # the daemon has taken the signal for a word to drain


_SAYS: dict[Verdict, tuple[str, str]] = {
    "right": ("Both ends hold the same values.", "green"),
    "differs": ("The two ends differ.", "red"),
    "not compared": ("Not every table was compared to the end.", "red"),
}


def _compare(console: Console, job: Job, service: Service) -> Verdict:
    results = control.reconcile(service, job)
    print_results(results)
    found = verdict(results, control.left_out(service, job))
    text, style = _SAYS[found]
    console.print(text, style=style)
    return found


def _corrupt(job: Job, service: Service) -> str:
    """Overwrite one row at the sink with another value, as a bug or a person might. Says which."""
    parts = Parts(job, service)
    with control.opened_queue(service) as queue:
        record = next(r for r in State(queue, job.name).tables("olap") if r.table.name == "orders")
        pair = parts.schema_at(State(queue, job.name), record)
    target = parts.target("olap", pair.published)
    sink = parts.make_sink("olap")
    sink.open()
    try:
        rows = next(iter(sink.scan(target, None, None))).slice(0, 1)
        place = rows.schema.get_field_index("user_id")
        rows = rows.set_column(place, rows.schema.field(place), (np.asarray(rows.column(place)) + 1).astype(np.uint32))
        batch = ChangeBatch(target.schema, rows, np.array([Op.UPDATE], np.uint8), np.array([2**63], np.uint64))
        sink.write(target, replace(batch), Ticket("corruption", 1, 1))
    finally:
        sink.close()
    return f"shop.orders {rows.column('id')[0]} user_id"
