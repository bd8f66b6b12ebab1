"""A sink for a job whose readers wait less for one another's sinks than usual."""

from __future__ import annotations

from syncd.engine import outlets
from syncd.testing.sinks import ArrivalSink

outlets.LATE_SECONDS = 0.5


class Sink(ArrivalSink):
    """`sinks: {copy: {hasty_arrival: {path: ...}}}`."""
