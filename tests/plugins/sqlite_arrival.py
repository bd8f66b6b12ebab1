"""What arrives last wins."""

from __future__ import annotations

from syncd.testing.sinks import ArrivalSink


class Sink(ArrivalSink):
    """`sinks: {copy: {sqlite_arrival: {path: ...}}}`."""
