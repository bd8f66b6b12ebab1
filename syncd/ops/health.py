"""What `/healthz` and `/readyz` answer: whether the daemon lives, and whether every job does its work."""

from __future__ import annotations

from collections.abc import Collection

from syncd.ops.metrics import JobLook, Look
from syncd.ops.status import STARTS
from syncd.state import STANDING

STEP_SECONDS = 30.0
"""The main loop makes ten steps a second; one in which the queue is slow to answer takes some seconds."""
NAMED = 20
"""So many reasons are told."""

Answer = dict[str, object]
WHY = "syncd status says why"


def healthy(step_age: float) -> tuple[bool, Answer]:
    """`step_age`: seconds since the daemon's main loop made its last step."""
    good = step_age <= STEP_SECONDS
    answer: Answer = {"healthy": good, "step_age_seconds": round(step_age, 3)}
    return good, answer if good else answer | {"reason": "the daemon's main loop stands still"}


def ready(seen: Look | None, failed: Collection[str], patience: float) -> tuple[bool, Answer]:
    """Every job is RUNNING, or WAITING for less than `patience` seconds, and all of its tables go on.

    `seen`: None while the queue's files do not answer. `failed`: jobs that the daemon itself knows to have failed. The
    reasons name what stands still. Why it does stays with `syncd status`: the text may quote a value of a row.
    """
    reasons: list[Answer] = []
    if seen is None:
        reasons.append({"reason": "the queue's files do not answer"})
    else:
        for at in seen.jobs:
            reasons += _of(at, failed, patience, seen.at)
    more: Answer = {"more": len(reasons) - NAMED, "see": WHY} if len(reasons) > NAMED else {"see": WHY}
    answer: Answer = {"ready": not reasons}
    return not reasons, answer if not reasons else answer | {"reasons": reasons[:NAMED]} | more


def _of(at: JobLook, failed: Collection[str], patience: float, now: int) -> list[Answer]:
    job, state = at.state.job, "HALTED" if at.state.job in failed else at.state.state
    starts = [wait for wait in at.state.waits.values() if wait.reason == STARTS]
    if state not in {"RUNNING", "WAITING"} or starts:
        return [{"job": job, "reason": STARTS if starts else f"it is {state}"}]
    old = {name: (now - wait.since) / 1e6 for name, wait in at.state.waits.items()}
    reasons: list[Answer] = []
    for name, age in old.items():
        if age > patience:
            reasons.append({"job": job, "what": name, "reason": f"it waits for {age:.0f} s"})
    for (sink, table), phase in at.tables.items():
        if phase in STANDING:
            reasons.append({"job": job, "table": str(table), "sink": sink, "reason": f"it is {phase}"})
    return reasons
