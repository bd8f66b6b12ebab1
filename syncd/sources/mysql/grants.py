"""What the user of the source may do."""

from __future__ import annotations

import re

from syncd.sources.mysql.connect import Connection, rows, server

_LOCKS = re.compile(r"^GRANT .*\b(LOCK TABLES|ALL PRIVILEGES)\b.* ON (\S+?)\.\*")


def granted(connection: Connection) -> str:
    """The user's grants, those of its active roles among them, as one text in capitals."""
    texts = [str(row[0]) for row in rows(connection, "SHOW GRANTS")]
    role = str(rows(connection, "SELECT CURRENT_ROLE()")[0][0] or "NONE")
    if role != "NONE" and not server(connection).mariadb:
        texts += [str(row[0]) for row in rows(connection, f"SHOW GRANTS FOR CURRENT_USER() USING {role}")]
    return "\n".join(texts).upper()


def account(connection: Connection) -> str:
    """The user's account as GRANT takes it."""
    user, _, host = str(rows(connection, "SELECT CURRENT_USER()")[0][0]).rpartition("@")
    return f"'{user}'@'{host}'"


def may_lock(grants: str, database: str | None = None) -> bool:
    """Whether LOCK TABLES is granted everywhere or in `database` (None: anywhere); patterns of names count as granted.

    What is said here is advice: the server itself decides when the table is locked.
    """
    held = [found[2].strip("`").replace("\\_", "_") for line in grants.splitlines() if (found := _LOCKS.match(line))]
    return bool(held) if database is None else any(name in {"*", database.upper()} or "%" in name for name in held)
