"""All benches one after the other: their lines, the committed results and the README's table.

    bench/run all [--quick] [--json] [--markdown]

With `--markdown`, `docs/bench/results-<cores>-cores.json` and the table between the README's markers are written anew.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measure import machine

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("decode", "snapshot_clickhouse", "cdc_clickhouse", "latency", "memory", "queue_embedded")
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def run(name: str, *, quick: bool) -> list[dict[str, Any]]:
    """One bench in a process of its own; its figures. An exit code of 1 says that a bar was missed."""
    words = [sys.executable, "-m", f"bench.{name}", "--json", *(["--quick"] if quick else [])]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    figures = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode not in (0, 1) or not figures:
        raise SystemExit(f"bench {name} ended with {done.returncode}")
    return figures


def table(figures: Iterable[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """The figures for people."""
    lines = ["| figure | value | beside | ratio | bar |", "|---|--:|---|--:|---|"]
    for figure in figures:
        beside = ", ".join(
            f"{name} {shown(value)}" for name, value in figure.get("beside", {}).items() if "cpu" not in name
        )
        ratio = f"{figure['ratio']:.2f}" if figure.get("ratio") is not None else ""
        bar = (
            f"{figure['bar']:g} {'held' if figure['holds'] else '**missed**'}" if figure.get("bar") is not None else ""
        )
        lines.append(f"| {figure['name']} | {shown(figure['value'])} {figure['unit']} | {beside} | {ratio} | {bar} |")
    size = "quick runs" if about["quick"] else "full runs"
    where = (
        f"{about['cores']} cores ({about['cpu']}), {about['memory_gb']} GB, Python {about['python']}, servers included"
    )
    lines += [
        "",
        f"`bench/run all --markdown`, {about['date']}: {size} on {where}. More: [bench](bench/README.md).",
    ]
    return "\n".join(lines)


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def write(figures: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    results = ROOT / "docs" / "bench" / f"results-{about['cores']}-cores.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps({"machine": about, "figures": figures}, indent=1, ensure_ascii=False) + "\n")
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{table(figures, about)}\n{END}{after}")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the short form of each bench")
    parser.add_argument("--json", action="store_true", help="one JSON object per figure and line")
    parser.add_argument("--markdown", action="store_true", help="write the results file and the README's table")
    arguments = parser.parse_args(argv)
    about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "quick": arguments.quick, **machine()}
    figures = []
    for name in NAMES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found = run(name, quick=arguments.quick)
        figures += found
        if arguments.json:
            for figure in found:
                print(json.dumps(figure), flush=True)
    if arguments.markdown:
        write(figures, about)
    if not arguments.json:
        print(table(figures, about))
    return 0 if all(figure.get("holds") is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
