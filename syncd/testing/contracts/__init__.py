"""Conformance suites: abstract pytest classes; a plugin's test is a subclass and a fixture."""

import pytest

pytest.register_assert_rewrite(
    "syncd.testing.contracts.queue_groups",
    "syncd.testing.contracts.queue_kit",
    "syncd.testing.contracts.queue_leases",
    "syncd.testing.contracts.queue_messages",
    "syncd.testing.contracts.sink",
    "syncd.testing.contracts.sink_delivery",
    "syncd.testing.contracts.sink_schema",
    "syncd.testing.contracts.sink_values",
    "syncd.testing.contracts.source_changes",
    "syncd.testing.contracts.source_kit",
    "syncd.testing.contracts.source_rows",
)
