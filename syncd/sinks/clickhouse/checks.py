"""What `check` says of a server."""

from __future__ import annotations

import re

import pyarrow as pa

from syncd.model import Finding
from syncd.sinks.clickhouse.client import Client
from syncd.sinks.clickhouse.limits import Limits, shown

# The first version whose ReplacingMergeTree takes a column that marks deleted rows.
OLDEST = (23, 2)


def findings(client: Client, url: str, limits: Limits) -> list[Finding]:
    """Version, read-only user, and the range of dates."""
    sql = "SELECT version(), (SELECT value FROM system.settings WHERE name = 'readonly')"
    version, readonly = client.text(sql, doing="asking for the version").rstrip("\n").split("\t")
    dates = shown(pa.date32(), limits.dates)
    return [_version(url, version), _readonly(url, readonly), Finding("ok", url, f"holds dates of {dates}")]


def _version(url: str, version: str) -> Finding:
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        return Finding("error", url, f"ClickHouse {version} knows no deleted rows", "take 23.2 or newer")
    return Finding("ok", url, f"ClickHouse {version}")


def _readonly(url: str, value: str) -> Finding:
    if value != "0":
        return Finding("error", url, f"the user may not write (readonly = {value})", "take another user")
    return Finding("ok", url, "the user is not read-only (its grants are not looked at)")
