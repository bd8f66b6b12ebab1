"""The whole of syncd against a real server, a writer that never rests, and processes that die; then every value.

python -m tests.e2e.proof [--server mariadb|mysql9|mysql80] [--sink NAME] [--size full] [--seed N]
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from syncd.model import TableId
from syncd.state import Phase, State
from syncd.testing.servers import MariaDB, MySQL9, MySQL80, OceanBase, Server
from tests.e2e import values
from tests.e2e.accidents import Accidents
from tests.e2e.bulk import BulkWorkload
from tests.e2e.harness import Running, running
from tests.e2e.tables import ALL
from tests.services.database import Database, fresh_database

SERVERS: dict[str, type[Server]] = {"mariadb": MariaDB, "mysql9": MySQL9, "mysql80": MySQL80}
TARGETS: dict[str, type[Server]] = {**SERVERS, "oceanbase": OceanBase}
CHUNK_BYTES = 400_000
GAP = (0.1, 1.5)
"""Seconds between two accidents that are due at once."""
PATIENCE = 300.0


@dataclass(frozen=True)
class Size:
    """`rows` loaded, `changes` of rows afterwards, `kills` and `stops` spread over both, `rounds` of changes.

    Every round ends with the writer at rest and every value compared.
    """

    rows: int
    changes: int
    kills: int
    stops: int = 2
    rounds: int = 1


SIZES = {
    "full": Size(200_000, 200_000, 10),
    "ci": Size(20_000, 20_000, 10),
    "small": Size(10_000, 10_000, 5, stops=1),
}
STATEMENTS = 20
"""Schema changes in one round, about."""


Sink = str | Server
"""The name of a sink of the harness, or a target that speaks MySQL's protocol."""


def family(target: Server) -> str:
    """The sink's block for such a target."""
    name = "oceanbase" if isinstance(target, OceanBase) else "mysql"
    return f'{name}: {{{{url: "mysql://root@127.0.0.1:{target.port}/"}}}}'


class Differs(AssertionError):
    """The two ends do not hold the same values."""


def prove(database: Database, folder: Path, sink: Sink, size: Size, seed: int) -> dict[str, Any]:
    """What was done, when both ends hold the same values after it; AssertionError when they do not, or work stops."""
    began = time.monotonic()
    rng = random.Random(seed)
    every = size.changes // size.rounds // STATEMENTS
    workload = BulkWorkload(database, rng.getrandbits(32), size.rows, statements_every=every)
    workload.pause = 0.05
    workload.create()
    block = family(sink) if isinstance(sink, Server) else sink
    with running(folder, database.port, database.name, block, chunk_bytes=CHUNK_BYTES) as run:
        return {"seed": seed, **_proved(run, workload, database, sink, size, rng), "seconds": _since(began)}


def _proved(
    run: Running, workload: BulkWorkload, database: Database, sink: Sink, size: Size, rng: random.Random
) -> dict[str, Any]:
    accidents = Accidents(run, rng)
    first = rng.randrange(2)
    wanted = ["kill"] * size.kills + [("freeze", "sleep")[(first + n) % 2] for n in range(size.stops)]
    rng.shuffle(wanted)
    during_load, rounds = wanted[: len(wanted) * 2 // 5], wanted[len(wanted) * 2 // 5 :]
    workload.limit = size.changes // size.rounds
    workload.start()
    try:
        _storm(run, accidents, during_load, lambda: _loaded(run, size.rows))
        run.wait_live(len(ALL), PATIENCE)
        during_load_changes, compared = workload.changes, 0
        share = size.changes // size.rounds
        workload.pause, workload.reshapes = 0.0, True
        for number in range(size.rounds):
            if number:
                run.start()
                workload.start()
            base = workload.changes

            def allow(part: float, base: int = base) -> None:
                workload.limit = base + part * share

            changed = partial(_changed, run, workload, base, share)
            _storm(run, accidents, rounds[number :: size.rounds], changed, allow)
            run.wait_for(lambda: changed() >= 1.0, PATIENCE)  # noqa: B023
            workload.stop()
            compared += compare(run, workload, database, sink)
    finally:
        workload.stop()
    return {
        "rows": size.rows,
        "changes": {"while loading": during_load_changes, "afterwards": workload.changes - during_load_changes},
        "statements": workload.statements,
        "ddl": dict(workload.done),
        "kills": dict(accidents.kills),
        "stops": dict(accidents.stops),
        "comparisons": size.rounds,
        "rows_compared": compared,
        "differences": 0,  # `compare` has raised at any
    }


def _storm(
    run: Running,
    accidents: Accidents,
    wanted: list[str],
    progress: Callable[[], float],
    allow: Callable[[float], None] = lambda part: None,
) -> None:
    """Each accident at a random moment of the progress from 0 to 1; `allow` hears how far it may get meanwhile."""
    moments = sorted(accidents.rng.random() for _ in wanted)
    for what, at, after in zip(wanted, moments, [*moments[1:], 1.0], strict=True):
        allow(at)
        run.wait_for(lambda: progress() >= at, PATIENCE)  # noqa: B023
        allow(after)
        accidents.strike(what)
        time.sleep(accidents.rng.uniform(*GAP))
    allow(1.0)


def _changed(run: Running, workload: BulkWorkload, base: int, wanted: int) -> float:
    """Which part of the wanted row changes was made since there were `base`; raises what makes the rest useless."""
    workload.check()
    if run.queue is not None:
        assert not State(run.queue, run.job.name).halts(), run.tail()
        assert Phase.HALTED not in run.phases().values(), run.tail()
    return (workload.changes - base) / wanted


def _loaded(run: Running, rows: int) -> float:
    """Which part of the load is done, by its saved marks."""
    if run.queue is None:
        return 0.0
    state = State(run.queue, run.job.name)
    records = state.tables()
    if records and all(record.phase not in {Phase.NEW, Phase.SNAPSHOT} for record in records):
        return 1.0
    return sum(mark.rows for record in records for mark in state.done(record.sink, record.table).values()) / rows


def compare(run: Running, workload: BulkWorkload, database: Database, *sinks: Sink) -> int:
    """Everything is applied, `syncd reconcile --full` finds no difference, nor do plain SELECTs; rows compared.

    The daemon has drained and ended afterwards.
    """
    run.wait_live(len(workload.names), PATIENCE)
    run.wait_applied(PATIENCE)
    command = [sys.executable, "-m", "syncd", "reconcile", run.job.name, "--full"]
    done = subprocess.run(
        [*command, "--service", str(run.folder / "syncd.yaml")], capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        raise Differs(f"syncd reconcile ended with {done.returncode}:\n{done.stdout}{done.stderr}\n{run.tail()}")
    code = run.terminate(60)
    assert code == 0, f"the drain ended with {code}\n{run.tail()}"
    compared = 0
    for sink in sinks:
        with _select(run, database, sink) as select:
            rows, wrong = values.differences(database, select)
        if wrong:
            raise Differs(f"{sink}:\n" + "\n".join(wrong))
        compared += rows
    return compared


@contextmanager
def _select(run: Running, database: Database, sink: Sink) -> Iterator[values.Select]:
    if sink == "clickhouse":
        with values.clickhouse(run.folder / "ch" / "copy", database.name) as select:
            yield select
        return
    if isinstance(sink, Server):
        yield partial(values.server_rows, Database(sink, database.name))
        return
    if sink == "parquet":
        yield partial(values.parquet, run.folder / "files" / database.name)
        return
    opened = run.parts.make_sink("copy")
    opened.open()

    def scan(table: str, columns: dict[str, str]) -> Counter[values.Row]:
        assert run.queue is not None
        versions = State(run.queue, run.job.name).schemas()[TableId(database.name, table)]
        target = run.parts.target("copy", versions[max(versions)].published)
        return values.sink_rows(pa.Table.from_batches(opened.scan(target, None, None), target.schema.arrow()), columns)

    try:
        yield scan
    finally:
        opened.close()


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=SERVERS, default="mariadb")
    sinks = ["clickhouse", "parquet", "arrival", "versioned", *TARGETS]
    parser.add_argument("--sink", choices=sinks, default="clickhouse")
    parser.add_argument("--size", choices=SIZES, default="ci")
    parser.add_argument("--kills", type=int)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args()
    size = SIZES[given.size] if given.kills is None else replace(SIZES[given.size], kills=given.kills)
    print(f"seed {given.seed}")
    with ExitStack() as stack:
        database = stack.enter_context(fresh_database(stack.enter_context(SERVERS[given.server]())))
        target = TARGETS.get(given.sink)
        sink: Sink = given.sink if target is None else stack.enter_context(target())
        folder = Path(tempfile.mkdtemp(prefix="syncd-proof-"))
        print(folder)
        print(prove(database, folder, sink, size, given.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
