"""What all benches share: figures, medians of interleaved rounds, processor time of process trees, the machine.

A bench is a module with `main(argv)`; it prints one line per figure, with `--json` one object per line.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

PACKAGES = ("syncd", "numpy", "pyarrow", "PyMySQL", "mysql-replication", "clickhouse-connect", "chdb")

ALWAYS = ("name", "value", "unit", "beside", "ratio", "bar", "holds")


@dataclass(frozen=True)
class Figure:
    """One figure beside a floor or a peer of the same run.

    `ratio` is ours by theirs. `bar` is what the ratio, or without one the value, has to keep to; `holds` says whether.
    `spread`: (largest - smallest) / median of the rounds. `cpu_s`: median processor seconds, the source server's apart;
    of a round, or of what `note` says.
    """

    name: str
    value: float
    unit: str
    beside: Mapping[str, float] = field(default_factory=dict)
    ratio: float | None = None
    bar: float | None = None
    holds: bool | None = None
    spread: float | None = None
    rounds: int = 1
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    def json(self) -> str:
        """Every line has the first seven keys; of the others those that say something."""
        told = {key: value for key, value in asdict(self).items() if key in ALWAYS or value not in (None, {}, "")}
        return json.dumps({key: _rounded(value) for key, value in told.items()})

    def text(self) -> str:
        words = [
            f"{self.name}: {self.value:,.4g} {self.unit}"
            if self.value < 1000
            else f"{self.name}: {self.value:,.0f} {self.unit}"
        ]
        words += [f"{name} {value:,.0f}" for name, value in self.beside.items()]
        if self.ratio is not None:
            words.append(f"ratio {self.ratio:.2f}")
        if self.bar is not None:
            words.append(f"bar {self.bar:g} {'holds' if self.holds else 'MISSED'}")
        if self.spread is not None:
            words.append(f"spread {self.spread:.0%} of {self.rounds} rounds")
        words += [f"cpu {name} {seconds:.3g} s" for name, seconds in self.cpu_s.items()]
        return ", ".join(words) + (f" ({self.note})" if self.note else "")


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.4g}") if abs(value) < 1000 else round(value)
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    return value


def parser(doc: str | None, rounds: int = 3) -> argparse.ArgumentParser:
    """The options of every bench."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="less data; within ninety seconds with a warm cache")
    made.add_argument("--json", action="store_true", help="one JSON object per figure and line")
    made.add_argument("--rounds", type=int, default=None, help=f"rounds of each measurement (default {rounds})")
    return made


def emit(figure: Figure, *, as_json: bool) -> None:
    """One line, at once."""
    print(figure.json() if as_json else figure.text(), flush=True)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> float:
    """How far the rounds lie apart, by their median."""
    return (max(values) - min(values)) / median(values)


def faster(
    name: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    peer: str,
    bar: float,
    unit: str,
    cpu: Mapping[str, Sequence[float]],
    note: str = "",
) -> Figure:
    """A rate beside another one, more is better. The ratio is the median of the rounds' ratios."""
    if len(ours) == len(theirs):
        ratio = median([mine / other for mine, other in zip(ours, theirs, strict=True)])
    else:
        ratio = median(ours) / median(theirs)
    seconds = {who: median(values) for who, values in cpu.items()}
    beside = {peer: median(theirs)}
    return Figure(name, median(ours), unit, beside, ratio, bar, ratio >= bar, spread(ours), len(ours), seconds, note)


def below(name: str, value: float, unit: str, bar: float, *, rounds: int = 1, note: str = "") -> Figure:
    """A figure with a limit, less is better."""
    return Figure(name, value, unit, bar=bar, holds=value <= bar, rounds=rounds, note=note)


# -- processor time


def cpu_of(pid: int) -> float:
    """Processor seconds of one running process, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reap(process: subprocess.Popen[bytes], timeout: float) -> float:
    """Wait for a process to end; processor seconds of it and of all its descendants that were waited for."""
    deadline = time.monotonic() + timeout
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_utime + usage.ru_stime
        if time.monotonic() > deadline:
            process.kill()
            raise TimeoutError(f"{process.args!r} had not ended after {timeout:.0f} s")
        time.sleep(0.005)


# -- the machine


def machine() -> dict[str, object]:
    """Where the figures come from."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }
