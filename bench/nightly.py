"""What is too long for CI: kills by the hundred, a soak, long fuzzing, the full end-to-end proof, all full benches.

    bench/run nightly [--only kills,soak,fuzz,proof,sinks,servers,benches] [--kills N] [--soak-minutes M] [--fuzz N]
                      [--seed N]

Each part writes its own entry of `docs/bench/nightly-<cores>-cores.json` as soon as it has ended, and the section
between the markers of `bench/README.md`; entries of parts that were not asked for stay. Exit code 1: a part failed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import soak, suite
from bench.measure import machine
from syncd.testing.servers import ServerUnavailable
from tests.e2e import many_sinks
from tests.e2e.proof import SERVERS, SIZES, Size, ends, prove

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "bench" / "README.md"
BEGIN, END = "<!-- nightly:begin -->", "<!-- nightly:end -->"

KILLS_A_JOB = 50

CLOSING = re.compile(r"^=*\s*((?:\d+ [a-z]+,? ?)+) in [\d.]+s", re.MULTILINE)

Facts = dict[str, Any]


class Failed(Exception):
    """A part has not come out as it must; `facts`: what it had found by then."""

    def __init__(self, text: str, facts: Facts) -> None:
        super().__init__(text)
        self.facts = facts


def proved(kind: str, sink: str, size: Size, seed: int, before: Sequence[Facts]) -> Facts:
    """One proof on a fresh server of this kind; `before`: what had been proved when it fails."""
    say(f"{kind} to {sink}, seed {seed}")
    try:
        with ends(kind, sink, size) as (database, target, spare), tempfile.TemporaryDirectory() as folder:
            about = {"server": f"{database.server.name} {database.server.version}", "sink": sink}
            return {**about, **prove(database, Path(folder), target, size, seed, spare)}
    except (AssertionError, ServerUnavailable) as error:
        raise Failed(f"{kind} to {sink}, seed {seed}: {error}", {**_killed(before), "jobs": before}) from error


def kills(given: argparse.Namespace) -> Facts:
    """Jobs of up to 50 kills each, on the three servers in turn; every value compared four times in each job."""
    jobs: list[Facts] = []
    left = given.kills
    while left > 0:
        kind = [*SERVERS][len(jobs) % len(SERVERS)]
        size = Size(40_000, 40_000, min(left, KILLS_A_JOB), stops=2, rounds=4, statements=20)
        jobs.append(proved(kind, "clickhouse", size, given.seed + len(jobs), jobs))
        left -= size.kills
    return {**_killed(jobs), "jobs": jobs}


def _killed(jobs: Sequence[Facts]) -> Facts:
    """The sums of jobs that came out right."""
    victims: Counter[str] = Counter()
    for job in jobs:
        victims.update(job["kills"])
    return {
        "kills": victims.total(),
        "victims": dict(victims),
        "stops": sum(sum(job["stops"].values()) for job in jobs),
        "comparisons": sum(job["comparisons"] for job in jobs),
        "rows_compared": sum(job["rows_compared"] for job in jobs),
        "differences": sum(job["differences"] for job in jobs),
    }


def proof(given: argparse.Namespace) -> Facts:
    """The end-to-end proof in full: from all three servers to ClickHouse, and to each other sink."""
    jobs: list[Facts] = []
    others = [("mariadb", "arrival"), ("mariadb", "parquet"), ("mariadb", "oceanbase"), ("mysql9", "mariadb")]
    for kind, sink in [*((kind, "clickhouse") for kind in SERVERS), *others, ("mysql80", "mysql9")]:
        jobs.append(proved(kind, sink, SIZES["full"], given.seed + len(jobs), jobs))
    return {**_killed(jobs), "jobs": jobs}


def sinks(given: argparse.Namespace) -> Facts:
    """Two sources into five sinks, one slow and one down for a while."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            return {"sources": many_sinks.run(many_sinks.SIZES["full"], Path(folder), given.seed)}
    except (AssertionError, ServerUnavailable) as error:
        raise Failed(str(error), {}) from error


def soaked(given: argparse.Namespace) -> Facts:
    """A job under steady load."""
    facts = soak.run(given.soak_minutes, given.seed)
    if facts["wrong"]:
        raise Failed("; ".join(facts["wrong"]), facts)
    return facts


def fuzz(given: argparse.Namespace) -> Facts:
    """Every Hypothesis test with many times its examples, from a new seed, and what takes long by itself."""
    words = [sys.executable, "-m", "pytest", "-q", "-n", "2", f"--hypothesis-seed={given.seed}", "tests"]
    env = {**os.environ, "SYNCD_FUZZ": str(given.fuzz)}
    done = subprocess.run([*words, "-m", "hypothesis or nightly"], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    found = CLOSING.search(done.stdout)
    facts = {"times_the_examples": given.fuzz, "pytest": found[1].strip() if found else "no closing line"}
    if done.returncode:
        raise Failed("\n".join(done.stdout.splitlines()[-40:]), facts)
    return facts


def servers(given: argparse.Namespace) -> Facts:
    """What CI runs on one of the two MySQL servers, on both."""
    words = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--every-server", "-m", "mysql9 or mysql80"]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    found = CLOSING.search(done.stdout)
    facts = {"pytest": found[1].strip() if found else "no closing line"}
    if done.returncode:
        raise Failed("\n".join(done.stdout.splitlines()[-40:]), facts)
    return facts


def benches(given: argparse.Namespace) -> Facts:
    """All full benches; their figures stand in the results file that `bench/run all --markdown` writes."""
    code = suite.main(["--markdown"])
    if code:
        raise Failed("a bar is missed", {"exit_code": code})
    return {"exit_code": code}


PARTS: dict[str, Callable[[argparse.Namespace], Facts]] = {
    "kills": kills,
    "soak": soaked,
    "fuzz": fuzz,
    "proof": proof,
    "sinks": sinks,
    "servers": servers,
    "benches": benches,
}


def say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


def ran(name: str, part: Callable[[argparse.Namespace], Facts], given: argparse.Namespace) -> Facts:
    """One part with its outcome, date, machine and seconds; a failure is an outcome, too."""
    say(name)
    began, about = time.monotonic(), machine()
    error = ""
    try:
        facts = part(given)
    except Failed as failed:
        error, facts = str(failed), failed.facts
    except Exception as broken:  # noqa: BLE001 - whatever ends a part, the others go on
        say(f"{name} ended with {broken!r}")
        error, facts = f"{type(broken).__name__}: {broken}", {}
    return {
        "outcome": "failed" if error else "passed",
        **({"error": error} if error else {}),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "seconds": round(time.monotonic() - began),
        "seed": given.seed,
        **facts,
        "machine": about,
    }


# -- results


def results_file(cores: int) -> Path:
    return ROOT / "docs" / "bench" / f"nightly-{cores}-cores.json"


def write(name: str, entry: Mapping[str, Any], file: Path, page: Path) -> None:
    """Put one part's entry into the file, and the whole file's summary into the page."""
    held = json.loads(file.read_text()) if file.exists() else {}
    held[name] = entry
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(held, indent=1, ensure_ascii=False) + "\n")
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{table(held)}\n{END}{after}")


def table(held: Mapping[str, Mapping[str, Any]]) -> str:
    """The entries for people."""
    lines = ["| part | outcome | date | minutes | seed | what |", "|---|---|---|--:|--:|---|"]
    for name in PARTS:
        if name not in held:
            lines.append(f"| {name} | not run yet | | | | |")
            continue
        e = held[name]
        outcome = "passed" if e["outcome"] == "passed" else "**failed**"
        lines.append(f"| {name} | {outcome} | {e['date']} | {e['seconds'] / 60:.0f} | {e['seed']} | {told(name, e)} |")
    machines = {f"{e['machine']['cores']} cores ({e['machine']['cpu']})": None for e in held.values()}
    return "\n".join([*lines, "", f"On {', '.join(machines)}, servers included."])


def told(name: str, e: Mapping[str, Any]) -> str:
    """What a part did, in a line."""
    load = e["machine"]["load"]
    busy = f"; load {load:.0f} when it began" if load > e["machine"]["cores"] else ""
    if name in {"kills", "proof"} and "kills" in e:
        victims = ", ".join(f"{count} {who}" for who, count in sorted(e["victims"].items()))
        return (
            f"{e['kills']} kills ({victims}), {e['stops']} freezes in {len(e['jobs'])} jobs; {e['rows_compared']:,} "
            f"rows compared at {e['comparisons']} points, {e['differences']} differ{busy}"
        )
    if name == "sinks" and "sources" in e:
        each = [
            f"{source}: {facts['changes']:,} changes, {facts['rows_compared']:,} rows compared, "
            f"lag {facts['before']} s, while one is down {facts['down']} s"
            for source, facts in e["sources"].items()
        ]
        return "; ".join(each) + busy
    if name == "soak" and "changes" in e:
        return (
            f"{e['changes']:,} row changes, lag at most {e['lag_s_max']:.1f} s, memory at the end "
            f"{e['memory_growth']:.2f} of that at the beginning, {e['rows_compared']:,} rows compared{busy}"
        )
    if name == "fuzz" and "pytest" in e:
        return f"{e['times_the_examples']} times the examples of CI: {e['pytest']}{busy}"
    return str(e.get("error", ""))[:200].replace("\n", " ").replace("|", "/") + busy


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts with commas between them; default: all")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--soak-minutes", type=float, default=60.0)
    parser.add_argument("--fuzz", type=int, default=50, help="times the examples that CI tries")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args(argv)
    wanted = given.only.split(",")
    if strange := sorted({*wanted} - {*PARTS}):
        parser.error(f"there is no part {', '.join(strange)}; there is {', '.join(PARTS)}")
    say(f"seed {given.seed}")
    failed = False
    for name in wanted:
        entry = ran(name, PARTS[name], given)
        failed = failed or entry["outcome"] != "passed"
        write(name, entry, results_file(entry["machine"]["cores"]), PAGE)
        say(f"{name} {entry['outcome']} in {entry['seconds']} s {entry.get('error', '')}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
