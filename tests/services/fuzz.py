"""How many examples the property tests try: `SYNCD_FUZZ=50` takes fifty times as many, and another seed each time."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("SYNCD_FUZZ", "1"))
USUAL = 100
SLOW = [HealthCheck.too_slow]
"""Checks of how long examples take to make, which a busy machine fails."""


def examples(number: int) -> int:
    """`number` as CI has it."""
    return number * TIMES


def load_profile() -> None:
    """For the tests that say nothing of their own. Nothing hangs on the time of an example: on a busy machine that
    would be a coin."""
    same = TIMES == 1 and settings().derandomize  # in CI Hypothesis by itself takes the same examples each time
    settings.register_profile(
        "syncd", max_examples=examples(USUAL), deadline=None, derandomize=same, suppress_health_check=SLOW
    )
    settings.load_profile("syncd")
