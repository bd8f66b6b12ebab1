"""How many examples the property tests try: `SYNCD_FUZZ=50` takes fifty times as many, and another seed each time."""

from __future__ import annotations

import os

from hypothesis import settings

TIMES = int(os.environ.get("SYNCD_FUZZ", "1"))
USUAL = 100


def examples(number: int) -> int:
    """`number` as CI has it."""
    return number * TIMES


def load_profile() -> None:
    """For the tests that say nothing of their own. No example has a deadline: on a busy machine it would be a coin."""
    same = TIMES == 1 and settings().derandomize  # in CI Hypothesis by itself takes the same examples each time
    settings.register_profile("syncd", max_examples=examples(USUAL), deadline=None, derandomize=same)
    settings.load_profile("syncd")
