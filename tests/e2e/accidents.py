"""SIGKILL and SIGSTOP of random processes of a running job."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.harness import Running

LIMITS = {"reader": 2, "": 3}
"""Kills of one kind of worker between two starts of the daemon. One more, and what the test means as bad luck is a
crash loop for the supervisor (five deaths in a row) or a poisoned chunk (three readers), which halt by design."""
FROZEN_SECONDS = 75.0
"""Within which the supervisor has killed a worker that stands still; one that never spoke has a minute."""
SETTLED_SECONDS = 5.0
EARLY = 0.2
"""How often a supervisor that has no workers yet may be struck; else they are waited for."""
ASLEEP_SECONDS = 4.5
"""Longer than the lease of the harness's daemon, shorter than what the supervisor takes for frozen."""


@dataclass
class Accidents:
    """`kill`, `freeze` and `sleep` each pick a process. What happened is counted in `kills` and `stops` by its kind.

    `mishaps`: what else may happen, by name, counted in `mishaps_done`.
    """

    run: Running
    rng: random.Random
    mishaps: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    mishaps_done: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    _since_start: Counter[str] = field(default_factory=Counter)

    def strike(self, what: str) -> None:
        """`what`: kill, freeze (until the supervisor kills it), sleep (frozen past its lease, then woken), a mishap."""
        if what in self.mishaps:
            self.mishaps[what]()
            self.mishaps_done[what] += 1
            return
        act = {"kill": self.kill, "freeze": self.freeze, "sleep": self.sleep}[what]
        struck = False
        while not struck:
            try:
                act()
                struck = True
            except ProcessLookupError:  # it has just ended by itself, its work being done: not an accident
                time.sleep(0.05)

    def kill(self) -> None:
        kind, pid = self._pick(self._killable)
        if kind == "run":
            self.run.kill()
            self._since_start.clear()
            time.sleep(self.rng.uniform(0, 0.5))
            self.run.start()
        else:
            os.kill(pid, signal.SIGKILL)
            self._since_start[kind] += 1
        self.kills[kind] += 1

    def freeze(self) -> None:
        """A worker stands still until the supervisor notices, and kills it. The planner may have been told to end: then
        it would be given all the time that a drain has."""
        fit = {"capture", "deliver", "reader"}
        kind, pid = self._pick(lambda kind: kind in fit and self._killable(kind), SETTLED_SECONDS)
        os.kill(pid, signal.SIGSTOP)
        self._since_start[kind] += 1
        self.stops[f"{kind}, until killed"] += 1
        self.run.wait_for(lambda: pid not in self.run.workers().values(), FROZEN_SECONDS)

    def sleep(self) -> None:
        """Any process stands still until its lease has run out, and then goes on."""
        kind, pid = self._pick(lambda kind: kind not in {"planner", "reader"})
        os.kill(pid, signal.SIGSTOP)
        time.sleep(ASLEEP_SECONDS)
        with suppress(ProcessLookupError):  # killed meanwhile, by the supervisor that took it for frozen
            os.kill(pid, signal.SIGCONT)
        self.stops[f"{kind}, woken"] += 1

    def _pick(self, fit: Callable[[str], bool], age: float = 0.0) -> tuple[str, int]:
        """A kind first, rather one that was hit seldom; then one process of it that is `age` seconds old."""
        end = time.monotonic() + FROZEN_SECONDS
        early = self.rng.random() < EARLY
        found: dict[str, list[int]] = {}
        while True:
            assert time.monotonic() < end, f"no process to strike\n{self.run.tail()}"
            self.run.keep_alive()
            workers = self.run.workers()
            for name, pid in workers.items():
                kind = name.partition("/")[0]
                if fit(kind) and _age(pid) >= age:
                    found.setdefault(kind, []).append(pid)
            if found and (early or len(workers) > 1):
                break
            found.clear()
            time.sleep(0.05)
        kinds = sorted(found)
        kind = self.rng.choices(kinds, [1 / (1 + self.kills[kind]) ** 2 for kind in kinds])[0]
        return kind, self.rng.choice(found[kind])

    def _killable(self, kind: str) -> bool:
        return kind == "run" or self._since_start[kind] < LIMITS.get(kind, LIMITS[""])


def _age(pid: int) -> float:
    """Seconds since the process was started; -1 when it has ended."""
    try:
        return time.time() - Path(f"/proc/{pid}").stat().st_ctime
    except FileNotFoundError:
        return -1.0
