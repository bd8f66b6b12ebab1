"""The ClickHouse engine in a process of its own: `python -m bench.engine FOLDER` runs a JSON list of statements.

Answers a JSON list on standard output: for each statement its `text`, `seconds` and `cpu` (processor seconds).
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Answer:
    text: str
    seconds: float
    cpu: float


def run(folder: Path, statements: Sequence[str], timeout: float = 1800.0) -> list[Answer]:
    """Run the statements in the engine whose files are in `folder`; nobody else may have it open."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.engine", str(folder)],
        input=json.dumps(statements),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return [Answer(**answer) for answer in json.loads(done.stdout)]


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    import chdb

    connection = chdb.connect(sys.argv[1])
    answers = []
    for statement in json.load(sys.stdin):
        began, cpu = time.monotonic(), _cpu()
        result = connection.query(statement, "TabSeparatedRaw")
        seconds = time.monotonic() - began
        answers.append({"text": bytes(result.bytes() or b"").decode(), "seconds": seconds, "cpu": _cpu() - cpu})
    connection.close()
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
