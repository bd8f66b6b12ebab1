"""Barrier acts and the purge of tombstones: only what is older than the seq is touched, twice or late is harmless."""

# ruff: noqa: S608 - every name and value in these statements is quoted by `ddl`

from __future__ import annotations

from syncd.errors import FatalError, Unsupported
from syncd.model import Ddl, SchemaChange, Target
from syncd.sinks.clickhouse.alter import Alter
from syncd.sinks.clickhouse.client import Client
from syncd.sinks.clickhouse.ddl import floor, floor_name, full_name, own_rows, raise_floor
from syncd.sinks.clickhouse.limits import Limits
from syncd.sinks.clickhouse.present import fingerprint
from syncd.sinks.clickhouse.rows import DELETED, VERSION
from syncd.sinks.clickhouse.shards import Shared
from syncd.sinks.clickhouse.syntax import quoted
from syncd.sinks.clickhouse.types import Making

# All replicas have done it when the statement returns.
_SYNC = "SETTINGS mutations_sync = 2"


def truncate(client: Client, target: Target, seq: int) -> None:
    """All rows older than `seq` go, or are marked as deleted, or stay: as the target's policy treats any delete.

    Guarantee 7: first the floor is raised, so that an owner that was frozen before the act brings no row back after it.
    """
    name, table, own = full_name(target), str(target.schema.table), own_rows(target)
    if target.deletes == "ignore":
        return
    close(client, target, seq)
    if target.deletes == "soft" and target.append:
        sql = f"ALTER TABLE {name} UPDATE {DELETED} = 1 WHERE {VERSION} < {seq} AND {DELETED} = 0 {_SYNC}"
    elif target.deletes == "soft":
        columns = ", ".join(quoted(c.name) for c in target.schema.columns)
        sql = (
            f"INSERT INTO {name} ({columns}, {VERSION}, {DELETED}) SELECT {columns}, toUInt64({seq}), 1 "
            f"FROM {name} FINAL WHERE {VERSION} < {seq} AND {DELETED} = 0 AND {own}"
        )
    else:
        sql = f"ALTER TABLE {name} DELETE WHERE {VERSION} < {seq} AND {own} {_SYNC}"
    client.command(sql, doing=f"truncating {name}", table=table)


def close(client: Client, target: Target, seq: int) -> None:
    """To own rows older than `seq`."""
    seen = fingerprint(client, target)
    if floor(target, seen) < seq:
        doing = f"closing {full_name(target)} to older rows"
        client.command(raise_floor(target, seq, seen), doing=doing, table=str(target.schema.table))


def refuse_newer(client: Client, target: Target, newest: int, floor: int) -> None:
    """FatalError: rows with the seq `newest` would be left out, or lose to what is there (4)."""
    name, table = full_name(target), str(target.schema.table)
    found = f"SELECT max({VERSION}) FROM {name} WHERE {own_rows(target)}"
    there = int(client.text(found, doing=f"looking into {name}", table=table))
    if max(floor, there) <= newest:
        return
    why = f"takes no rows older than seq {floor}" if floor > newest else f"holds rows up to seq {there}"
    raise FatalError(
        f"{name} {why}, and the log is at seq {newest}: it was written by another job, or from another log",
        table=table,
        hint=f"{_todo(target)}, then `syncd jobs resume`",
        code="E192",
    )


def _todo(target: Target) -> str:
    if not target.own:
        return "drop the target table (emptying it is not enough)"
    return f"remove the rows where {own_rows(target)}, and the table's constraints {floor_name(target)}_..."


def expire(client: Client, target: Target, below: int, at_least: int) -> None:
    """Remove tombstones with a seq below `below`, once there are `at_least` of them.

    The floor is raised to `below`: what is older was applied everywhere, and could now only bring a deleted row back.
    The older rows that a tombstone hides go first, in a step of their own: parts are rewritten one by one, and a
    tombstone that left before them would let them appear again.
    """
    name, table = full_name(target), str(target.schema.table)
    old = f"{DELETED} = 1 AND {VERSION} < {below} AND {own_rows(target)}"
    doing = f"removing tombstones of {name}"
    if int(client.text(f"SELECT count() FROM {name} WHERE {old}", doing=doing, table=table)) < at_least:
        return
    close(client, target, below)
    key = ", ".join(quoted(n) for n in target.schema.identity)
    dead = (
        f"SELECT {key} FROM {name} WHERE ({key}) IN (SELECT {key} FROM {name} WHERE {old}) "
        f"GROUP BY {key} HAVING max({VERSION}) < {below} AND argMax({DELETED}, {VERSION}) = 1"
    )
    hidden = f"{DELETED} = 0 AND {VERSION} < {below} AND ({key}) IN ({dead})"
    client.command(f"ALTER TABLE {name} DELETE WHERE {hidden} {_SYNC}", doing=doing, table=table)
    client.command(f"ALTER TABLE {name} DELETE WHERE {old} {_SYNC}", doing=doing, table=table)


def act(client: Client, target: Target, change: SchemaChange, making: Making, limits: Limits) -> None:
    """The acts that need no new table. DROP and RENAME keep the table: a person decides."""
    match change.kind:
        case Ddl.ALTER if target.own:
            Shared(client, target, change, making, limits).run()
        case Ddl.ALTER:
            Alter(client, target, change, making, limits).run()
        case Ddl.TRUNCATE:
            truncate(client, target, change.seq)
        case Ddl.DROP | Ddl.RENAME | Ddl.INDEX:
            return
        case _:
            raise Unsupported(
                f"{change.table}: the sink cannot follow `{change.statement}`",
                table=str(change.table),
                hint="change the target by hand and go on, or resync the table",
            )
