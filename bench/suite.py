"""All benches one after the other: their lines, the committed results and the README's table.

    bench/run all [--quick] [--json] [--markdown] [--only NAME,...]

With `--markdown`, each bench as it ends goes into `docs/bench/results-<cores>-cores.json` (bench -> machine, figures)
and into the table between the README's markers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measure import machine

ROOT = Path(__file__).resolve().parent.parent
NAMES = (
    "decode",
    "snapshot_clickhouse",
    "cdc_clickhouse",
    "snapshot_oceanbase",
    "cdc_oceanbase",
    "cdc_mysql",
    "fanout",
    "latency",
    "memory",
    "queue_embedded",
)
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
BENCHES = "[bench](bench/README.md)"

Results = dict[str, dict[str, Any]]
"""Bench -> the machine that it ran on, and its figures."""


def run(name: str, *, quick: bool) -> list[dict[str, Any]]:
    """One bench in a process of its own; its figures. An exit code of 1 says that a bar was missed."""
    words = [sys.executable, "-m", f"bench.{name}", "--json", *(["--quick"] if quick else [])]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    figures = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode not in (0, 1) or not figures:
        raise SystemExit(f"bench {name} ended with {done.returncode}")
    return figures


def table(results: Results) -> str:
    """The figures for people; under them where and when they were taken."""
    lines = ["| figure | value | beside | ratio | bar |", "|---|--:|---|--:|---|"]
    taken: dict[str, list[str]] = {}
    for name, result in results.items():
        lines += [_line(name, figure) for figure in result["figures"]]
        taken.setdefault(_circumstances(result["machine"]), []).append(name)
    lines += ["", f"`bench/run all --markdown` writes this table; {BENCHES} says what is measured and how."]
    for circumstances, names in taken.items():
        whose = "" if len(taken) == 1 else f"{', '.join(f'`{name}`' for name in names)}: "
        lines.append(f"{whose}{circumstances}")
    return "\n".join(lines)


def _line(bench: str, figure: Mapping[str, Any]) -> str:
    beside = ", ".join(f"{name} {shown(value)}" for name, value in figure["beside"].items())
    ratio = f"{figure['ratio']:.2f}" if figure["ratio"] is not None else ""
    bar = f"{figure['bar']:g} {'held' if figure['holds'] else '**missed**'}" if figure["bar"] is not None else ""
    return f"| {bench} {figure['name']} | {shown(figure['value'])} {figure['unit']} | {beside} | {ratio} | {bar} |"


def _circumstances(about: Mapping[str, Any]) -> str:
    size = "Quick runs" if about["quick"] else "Full runs"
    return (
        f"{size} of {about['date']} on {about['cores']} cores ({about['cpu']}), {about['memory_gb']} GB, "
        f"Python {about['python']}, servers included."
    )


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def results_file(cores: int) -> Path:
    return ROOT / "docs" / "bench" / f"results-{cores}-cores.json"


def read(file: Path) -> Results:
    results: Results = json.loads(file.read_text()) if file.exists() else {}
    return results


def write(file: Path, results: Results) -> None:
    """The results, and the table in the README."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the short form of each bench")
    parser.add_argument("--json", action="store_true", help="one JSON object per figure and line")
    parser.add_argument("--markdown", action="store_true", help="write the results file and the README's table")
    parser.add_argument("--only", metavar="NAME,...", default=",".join(NAMES), help="these; the others' results stay")
    arguments = parser.parse_args(argv)
    asked = arguments.only.split(",")
    if unknown := sorted(set(asked) - set(NAMES)):
        parser.error(f"--only {unknown[0]}: there are {', '.join(NAMES)}")
    about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "quick": arguments.quick, **machine()}
    file = results_file(about["cores"])
    measured: Results = {}
    for name in asked:
        print(f"{name} ...", file=sys.stderr, flush=True)
        measured[name] = {"machine": about, "figures": run(name, quick=arguments.quick)}
        if arguments.json:
            for figure in measured[name]["figures"]:
                print(json.dumps(figure), flush=True)
        if arguments.markdown:
            kept = read(file) | measured
            write(file, {name: kept[name] for name in NAMES if name in kept})
    if not arguments.json:
        print(table(measured))
    held = (figure.get("holds") is not False for result in measured.values() for figure in result["figures"])
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
