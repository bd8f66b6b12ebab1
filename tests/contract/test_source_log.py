"""The source without a server is a source: it passes the suite that the engine's model relies on."""

from __future__ import annotations

from tests.contract.source_log import LogContract


class TestLogSource(LogContract):
    pass
