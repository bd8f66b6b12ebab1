"""Leases and the fence: who may write as what, counted in epochs."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from syncd.errors import FencedError
from syncd.mq.embedded.clock import Clock
from syncd.mq.embedded.database import Database
from syncd.spi import Lease, LeaseState


def acquire(c: sqlite3.Connection, name: str, owner: str, ttl: float, clock: Clock) -> Lease | None:
    row = c.execute("SELECT owner, epoch, ttl, boot, renewed FROM lease WHERE name = ?", (name,)).fetchone()
    if row is not None and row[0] != owner and _live(row[0], row[2], row[3], row[4], clock):
        return None
    epoch = 1 if row is None else row[1] + 1
    c.execute("REPLACE INTO lease VALUES (?, ?, ?, ?, ?, ?)", (name, owner, epoch, ttl, clock.boot, clock.now()))
    return Lease(name, owner, epoch, ttl)


def renew(c: sqlite3.Connection, lease: Lease, clock: Clock) -> None:
    fence(c, lease)
    c.execute("UPDATE lease SET boot = ?, renewed = ? WHERE name = ?", (clock.boot, clock.now(), lease.name))


def release(c: sqlite3.Connection, lease: Lease) -> None:
    # The row stays: the next owner's epoch must be larger than every one before it.
    c.execute(
        "UPDATE lease SET owner = '' WHERE name = ? AND owner = ? AND epoch = ?", (lease.name, lease.owner, lease.epoch)
    )


def fence(c: sqlite3.Connection, lease: Lease) -> None:
    """FencedError unless the lease is its owner's still. A lease that ran out and that nobody took is."""
    row = c.execute("SELECT owner, epoch FROM lease WHERE name = ?", (lease.name,)).fetchone()
    if row == (lease.owner, lease.epoch):
        return
    now = "nobody" if row is None or not row[0] else f"{row[0]!r} (epoch {row[1]})"
    raise FencedError(
        f"lease {lease.name!r} of {lease.owner!r} (epoch {lease.epoch}) has passed to {now}; nothing was stored",
        hint="this process stops; the other one goes on",
    )


def states(db: Database, prefix: str, clock: Clock) -> Sequence[LeaseState]:
    """Leases that have an owner, live or run out. A lease of an earlier boot is as old as this boot at least."""
    rows = db.read(
        "SELECT name, owner, epoch, ttl, boot, renewed FROM lease "
        "WHERE owner != '' AND substr(name, 1, ?) = ? ORDER BY name",
        (len(prefix), prefix),
    )
    found = []
    for name, owner, epoch, ttl, boot, renewed in rows:
        age = clock.now() - renewed if boot == clock.boot and renewed <= clock.now() else clock.now()
        live = _live(owner, ttl, boot, renewed, clock)
        found.append(LeaseState(Lease(name, owner, epoch, ttl), age, live))
    return found


def _live(owner: str, ttl: float, boot: str, renewed: float, clock: Clock) -> bool:
    return bool(owner) and boot == clock.boot and renewed <= clock.now() < renewed + ttl
