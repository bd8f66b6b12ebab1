"""What `check` says of a server."""

from __future__ import annotations

import re

from syncd.drivers.mysql.connection import Connection, Server, rows, variables
from syncd.model import Finding
from syncd.sinks.mysql.session import Limits

OLDEST = {"mysql": (8, 0, 0), "mariadb": (10, 5, 0), "oceanbase": (4, 0, 0), "seekdb": (1, 0, 0)}
_OCEANBASE = re.compile(r"(seekdb)?-v(\d+)\.(\d+)\.(\d+)", re.IGNORECASE)
_NAMES = {"mysql": "MySQL", "mariadb": "MariaDB", "oceanbase": "OceanBase"}
_SMALL_PACKET = 4 << 20


def findings(connection: Connection, url: str, limits: Limits, *, wanted: str) -> list[Finding]:
    """Which server it is, whether it may be written, how large a statement may be. `wanted`: the sink's own name."""
    found = [_version(connection, url, limits, wanted), _writable(connection, url)]
    if limits.packet < _SMALL_PACKET:
        text = (
            f"max_allowed_packet is {limits.packet:,} bytes: a row that is larger is refused, and statements are small"
        )
        found.append(Finding("warning", url, text, "SET GLOBAL max_allowed_packet = 67108864"))
    return found


def _version(connection: Connection, url: str, limits: Limits, wanted: str) -> Finding:
    server = limits.server
    name = f"{_NAMES[server.flavour]} {rows(connection, 'SELECT VERSION()')[0][0]}"
    if (server.flavour == "oceanbase") != (wanted == "oceanbase"):
        right = "oceanbase" if server.flavour == "oceanbase" else "mysql"
        return Finding("error", url, f"this is {name}, not what the sink `{wanted}` is for", f"name the sink `{right}`")
    if oldest := too_old(server):
        return Finding("error", url, f"{name} is older than any that syncd writes to", f"take {oldest} or newer")
    return Finding("ok", url, name)


def too_old(server: Server) -> str:
    """The oldest version that is not, or "". OceanBase says a version of MySQL's first, then its own."""
    kind, version = server.flavour, server.version
    if kind == "oceanbase" and (own := _OCEANBASE.search(server.text)):
        kind, version = own[1].lower() if own[1] else kind, (int(own[2]), int(own[3]), int(own[4]))
    return ".".join(map(str, OLDEST[kind][:2])) if version < OLDEST[kind] else ""


def _writable(connection: Connection, url: str) -> Finding:
    modes = variables(connection, "read_only", "super_read_only")
    on = [name for name, value in modes.items() if value.upper() not in {"OFF", "0"}]
    if on:
        return Finding("error", url, f"the server takes no writes ({', '.join(on)})", "write to the primary")
    return Finding("ok", url, "the server takes writes (the user's grants are not looked at)")
