"""Runs the stages of `./dev ci`, holds their seconds against the committed budget, and ends with pytest's own line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
STAGES = ("lint", "types", "layers", "docs", "test")
# The docs have had a stage of their own.
MORE = {"test": ["--ignore=tests/docs", "--durations=30", "--durations-min=5"]}
CLOSING_SECONDS = 30.0
"""For an interrupted stage to say how far it has come."""
SUMMARY = re.compile(r"^=*\s*((?:\d+ [a-z]+,? ?)+) in [\d.]+s.*$")


@dataclass(frozen=True)
class Budget:
    """What each stage may take."""

    factor: float
    limit: float
    seconds: dict[str, float]

    @classmethod
    def read(cls, path: Path) -> Budget:
        """The budget in the TOML file `path`."""
        told = tomllib.loads(path.read_text())
        return cls(told["factor"], told["limit"], told["seconds"])

    def allows(self, stage: str, seconds: float) -> bool:
        """Whether `seconds` is within what `stage` may take at most."""
        return seconds <= self.seconds[stage] * self.factor


@dataclass(frozen=True)
class Outcome:
    """What became of a stage."""

    stage: str
    code: int
    seconds: float
    summary: str = ""
    """pytest's closing line, if one was printed."""


def say(line: str = "") -> None:
    """Print a line at once, in order with what the stages print."""
    print(line, flush=True)  # noqa: T201 - this is a program for the terminal


def run(stage: str, limit: float) -> Outcome:
    """Run `./dev STAGE`, showing its output as it comes.

    A stage that outlasts `limit` seconds is interrupted, so that pytest says what it has found, and then ended.
    """
    say(f"--- {stage}")
    began = time.monotonic()
    summary = ""
    words = [str(ROOT / "dev"), stage, *MORE.get(stage, [])]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True
    ) as process:
        assert process.stdout is not None
        clocks = [
            threading.Timer(limit, process.send_signal, (signal.SIGINT,)),
            threading.Timer(limit + CLOSING_SECONDS, os.killpg, (process.pid, signal.SIGKILL)),
        ]
        for clock in clocks:
            clock.start()
        try:
            for line in process.stdout:
                say(line.rstrip("\n"))
                if SUMMARY.match(line.rstrip()):
                    summary = line.rstrip()
        finally:
            for clock in clocks:
                clock.cancel()
    return Outcome(stage, process.returncode, time.monotonic() - began, summary)


def counts(summary: str) -> str:
    """pytest's closing line as `N passed, N failed, N skipped`, errors counted as failures."""
    told = {word.rstrip("s"): int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", summary)}
    failed = told.get("failed", 0) + told.get("error", 0)
    return f"{told.get('passed', 0)} passed, {failed} failed, {told.get('skipped', 0)} skipped"


def main() -> int:
    """Run all stages, also after one has failed; 1 if any failed or was too slow."""
    budget = Budget.read(ROOT / ".ci" / "budget.toml")
    outcomes = [Outcome("setup", 0, float(os.environ.get("SYNCD_SETUP_SECONDS", "0")))]
    outcomes += [run(stage, budget.limit) for stage in STAGES]
    bad = False
    say("--- seconds of each stage")
    for o in outcomes:
        slow = not budget.allows(o.stage, o.seconds)
        bad = bad or bool(o.code) or slow
        verdict = "FAILED" if o.code else "ok"
        told = f"TOO SLOW, at most {budget.seconds[o.stage] * budget.factor:.0f}" if slow else ""
        say(f"{o.stage:8} {o.seconds:7.1f} s  budget {budget.seconds[o.stage]:5.0f} s  {verdict}  {told}".rstrip())
    say(f"{'in all':8} {sum(o.seconds for o in outcomes):7.1f} s")
    closing = outcomes[-1].summary or "no closing line of pytest: the tests did not end"
    say(closing)
    say(counts(closing))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
