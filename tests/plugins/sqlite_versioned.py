"""The largest seq wins."""

from __future__ import annotations

from syncd.testing.sinks import VersionedSink


class Sink(VersionedSink):
    """`sinks: {copy: {sqlite_versioned: {path: ...}}}`."""
