"""The whole of syncd against a real server, a writer that never rests, and processes that die; then every value.

python -m tests.e2e.proof [--server mariadb|mysql9|mysql80] [--sink NAME] [--size full] [--seed N]

Every size but `ci` and `brief` has schema changes of every kind, resyncs, a failover of the source to its replica, and
the target and the queue put back from copies; at servers of MySQL's family the indexes are compared, too.
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
from tests.e2e.kept import Folder, Tables, indexes
from tests.e2e.mishaps import Kept, Mishaps, Spare, drained, settled, stuck
from tests.e2e.proxy import proxied
from tests.e2e.tables import ALL
from tests.services.database import Database, fresh_database
from tests.services.replication import follow

SERVERS: dict[str, type[Server]] = {"mariadb": MariaDB, "mysql9": MySQL9, "mysql80": MySQL80}
TARGETS: dict[str, type[Server]] = {**SERVERS, "oceanbase": OceanBase}
CHUNK_BYTES = 400_000
GAP = (0.1, 1.5)
"""Seconds between two accidents that are due at once."""
PATIENCE = 300.0


@dataclass(frozen=True)
class Size:
    """`rows` loaded, `changes` of rows afterwards, `kills` and `stops` spread over both, `rounds` of changes.

    Every round ends with the writer at rest and every value compared. `statements`: turns of schema changes in a round,
    about. `every`: of every kind, and with `MISHAPS`.
    """

    rows: int
    changes: int
    kills: int
    stops: int = 2
    rounds: int = 1
    statements: int = 60
    every: bool = True


SIZES = {
    "full": Size(200_000, 200_000, 10),
    "ci": Size(20_000, 20_000, 10, statements=20, every=False),
    "small": Size(10_000, 10_000, 5, stops=1),
    "brief": Size(10_000, 10_000, 5, stops=1, statements=20, every=False),
}
SEEN = ("log_changed", "table_swapped", "sink_set_back")
"""Events that tell what has come of mishaps."""
MISHAPS = ("resync", "range", "resync", "failover", "both")
POLICY = "policy: {ddl: {drop_table: apply, rename_table: apply}}\n"
VERSIONED = ("clickhouse", "parquet", "versioned")
"""These keep no marks: a queue that is put back alone changes nothing, a target alone is not noticed."""
FILES = {"clickhouse": "ch", "parquet": "files"}


Sink = str | Server
"""The name of a sink of the harness, or a target that speaks MySQL's protocol."""


def family(target: Server) -> str:
    """The sink's block for such a target."""
    name = "oceanbase" if isinstance(target, OceanBase) else "mysql"
    return f'{name}: {{{{url: "mysql://root@127.0.0.1:{target.port}/"}}}}'


class Differs(AssertionError):
    """The two ends do not hold the same values."""


def prove(
    database: Database, folder: Path, sink: Sink, size: Size, seed: int, spare: Server | None = None
) -> dict[str, Any]:
    """What was done, when both ends hold the same values after it; AssertionError when they do not, or work stops.

    `spare`: a replica of the database's server, which is failed over to.
    """
    began = time.monotonic()
    rng = random.Random(seed)
    each = size.changes // size.rounds // size.statements
    workload = BulkWorkload(
        database,
        rng.getrandbits(32),
        size.rows,
        statements_every=each,
        statements_at_most=size.rounds * 60,
        every=size.every,
    )
    workload.pause = 0.05
    workload.create()
    block = family(sink) if isinstance(sink, Server) else sink
    with ExitStack() as stack:
        port, proxy = database.port, None
        if spare is not None:
            proxy = stack.enter_context(proxied(database.port))
            port = proxy.port
        options = {"chunk_bytes": CHUNK_BYTES, "extra": POLICY if size.every else ""}
        run = stack.enter_context(running(folder, port, database.name, block, **options))
        kept: Kept
        if isinstance(sink, Server):
            kept = Tables(Database(sink, database.name))
            stack.callback(kept.drop)
        else:
            kept = Folder(folder / FILES.get(sink, "sink.db"))
        mishaps = Mishaps(run, workload, rng, kept, Spare(spare, proxy) if spare and proxy else None)
        return {"seed": seed, **_proved(run, workload, mishaps, sink, size), "seconds": _since(began)}


def _mishaps(sink: Sink, size: Size, spare: Spare | None) -> list[str]:
    if not size.every:
        return []
    wanted = [*MISHAPS, "queue" if sink in VERSIONED else "target"]
    return [what for what in wanted if what != "failover" or spare is not None]


def _proved(run: Running, workload: BulkWorkload, mishaps: Mishaps, sink: Sink, size: Size) -> dict[str, Any]:
    rng = mishaps.rng
    accidents = Accidents(run, rng, mishaps=mishaps.acts())
    first = rng.randrange(2)
    wanted = ["kill"] * size.kills + [("freeze", "sleep")[(first + n) % 2] for n in range(size.stops)]
    rng.shuffle(wanted)
    during_load, rounds = wanted[: len(wanted) * 2 // 5], wanted[len(wanted) * 2 // 5 :]
    rounds += _mishaps(sink, size, mishaps.spare)
    rng.shuffle(rounds)
    workload.limit = size.changes // size.rounds
    workload.start()
    try:
        _storm(run, accidents, during_load, lambda: _loaded(run, size.rows))
        run.wait_live(len(ALL), PATIENCE)
        during_load_changes, compared = workload.changes, 0
        share = size.changes // size.rounds
        workload.pause, workload.ddl.reshapes = 0.0, True
        for number in range(size.rounds):
            if number:
                run.start()
                workload.start()
            base = workload.changes

            def allow(part: float, base: int = base) -> None:
                workload.limit = base + part * share

            changed = partial(_changed, run, workload, base, share)
            _storm(run, accidents, rounds[number :: size.rounds], changed, allow)
            run.wait_for(lambda: changed() >= 1.0 and workload.ddl.busy is None, PATIENCE)  # noqa: B023
            workload.stop()
            compared += compare(run, workload, workload.database, sink)
        assert len(run.events("log_changed")) >= accidents.mishaps_done["failover"]
        assert bool(run.events("sink_set_back")) == bool(accidents.mishaps_done["target"])
    finally:
        workload.stop()
    return {
        "rows": size.rows,
        "changes": {"while loading": during_load_changes, "afterwards": workload.changes - during_load_changes},
        "statements": workload.statements,
        "ddl": dict(workload.ddl.done),
        "mishaps": dict(accidents.mishaps_done),
        "seen": {event: len(run.events(event)) for event in SEEN},
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
    assert not stuck(run, workload.names), run.tail()
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
    run.wait_applied(PATIENCE)
    settled(run, workload)
    run.wait_applied(PATIENCE)
    command = [sys.executable, "-m", "syncd", "reconcile", run.job.name, "--full"]
    for name in workload.names:
        command += ["--table", f"{database.name}.{name}"]
    done = subprocess.run(
        [*command, "--service", str(run.folder / "syncd.yaml")], capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        raise Differs(f"syncd reconcile ended with {done.returncode}:\n{done.stdout}{done.stderr}\n{run.tail()}")
    for sink in sinks:
        if isinstance(sink, Server):
            _compare_indexes(database, Database(sink, database.name), workload.names)
    drained(run)
    compared = 0
    for sink in sinks:
        with _select(run, database, sink) as select:
            rows, wrong = values.differences(database, select)
        if wrong:
            raise Differs(f"{sink}:\n" + "\n".join(wrong))
        compared += rows
    return compared


def _compare_indexes(source: Database, target: Database, tables: list[str]) -> None:
    wanted, found = indexes(source, tables), indexes(target, tables)
    if wanted != found:
        raise Differs(
            f"indexes at the source alone {sorted(wanted - found)}, at the sink alone {sorted(found - wanted)}"
        )


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
    folder = Path(tempfile.mkdtemp(prefix="syncd-proof-"))
    print(folder)
    with ends(given.server, given.sink, size) as (database, sink, spare):
        print(prove(database, folder, sink, size, given.seed, spare))
    return 0


@contextmanager
def ends(server: str, sink: str, size: Size) -> Iterator[tuple[Database, Sink, Server | None]]:
    """A database at a new server, the sink, and a replica of the source where one is wanted."""
    more = ["--log-slave-updates"] if server == "mariadb" else []
    with ExitStack() as stack:
        source = stack.enter_context(SERVERS[server](options=["--server-id=11", *more]))
        spare = stack.enter_context(SERVERS[server](options=["--server-id=12", *more])) if size.every else None
        if spare is not None:
            follow(spare, source)
        target = stack.enter_context(TARGETS[sink]()) if sink in TARGETS else sink
        yield stack.enter_context(fresh_database(source)), target, spare


if __name__ == "__main__":
    sys.exit(main())
