"""A sink for a job whose readers wait less for one another's sinks than usual."""

from __future__ import annotations

from syncd.engine import outlets
from syncd.model import Target
from syncd.testing.sinks import ArrivalSink

outlets.LATE_SECONDS = 0.5


class Sink(ArrivalSink):
    """`sinks: {copy: {hasty_arrival: {path: ...}}}`."""

    def prepare(self, target: Target, newest: int | None = None) -> None:
        """Defined here so that the file's text tells that it is a sink: no other job imports it, and is hasty."""
        super().prepare(target, newest)
