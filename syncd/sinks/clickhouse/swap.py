"""A table that was loaded anew takes the place of the one before.

EXCHANGE TABLES is one step, and would be undone by a second one. So whoever swaps first gives the shadow a name of its
own, by its epoch: one that was frozen before its EXCHANGE names a table that is not there any more when it wakes up. A
constraint that holds for every row says of the table in place that it is the new one.
"""

# ruff: noqa: S608 - every name and value in these statements is quoted by `ddl`

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from syncd.model import Target
from syncd.sinks.clickhouse.acts import close
from syncd.sinks.clickhouse.client import Client
from syncd.sinks.clickhouse.ddl import HOLDS, full_name, own_rows, view_name
from syncd.sinks.clickhouse.present import describe, fingerprint
from syncd.sinks.clickhouse.rows import DELETED, VERSION
from syncd.sinks.clickhouse.syntax import quoted, text

LOADED = "syncd_loaded_"


class Swap:
    """`seq`: rows older than this are taken no more."""

    def __init__(self, client: Client, shadow: Target, target: Target, seq: int) -> None:
        self._client, self._shadow, self._target = client, shadow, target
        self._seq, self._mark = seq, f"{LOADED}{shadow.name.rpartition('_')[2]}"
        self._table = str(target.schema.table)

    def run(self, epoch: int) -> None:
        """`epoch`: the swapper's lease."""
        there = describe(self._client, self._target) is not None
        if not there or self._mark not in fingerprint(self._client, self._target):
            self._put_in_place(replace(self._shadow, name=f"{self._shadow.name}_{epoch}"), there=there)
        for name in self._shadows():
            self._command(f"DROP TABLE {full_name(replace(self._shadow, name=name))}")
        self._command(f"DROP VIEW IF EXISTS {view_name(self._shadow)}")

    def merge(self, fit: Callable[[], None], query_id: str) -> None:
        """Of a target with others' rows in it: `fit` gives it the shadow's columns. The shadow goes last, so that who
        comes later finds nothing to do; what is copied late has the same versions again, and is closed out once others
        have raised the floor. `query_id`: the copying ends when its owner is fenced off."""
        if describe(self._client, self._shadow) is None:
            return
        fit()
        close(self._client, self._target, self._seq)
        names = ", ".join(map(quoted, (*(c.name for c in self._target.schema.columns), VERSION, DELETED)))
        mine = f"SELECT {names} FROM {full_name(self._shadow)} WHERE {own_rows(self._target)}"
        self._command(f"INSERT INTO {full_name(self._target)} ({names}) {mine}", query_id)
        old = f"{VERSION} < {self._seq} AND {own_rows(self._target)}"
        self._command(f"ALTER TABLE {full_name(self._target)} DELETE WHERE {old} SETTINGS mutations_sync = 2")
        self._command(f"DROP TABLE IF EXISTS {full_name(self._shadow)}")
        self._command(f"DROP VIEW IF EXISTS {view_name(self._shadow)}")

    def _put_in_place(self, mine: Target, *, there: bool) -> None:
        found = self._shadows()
        if not found:
            return
        if mine.name not in found:
            before = replace(self._shadow, name=found[-1])
            self._command(f"RENAME TABLE {full_name(before)} TO {full_name(mine)}")
        close(self._client, mine, self._seq)
        self._command(f"ALTER TABLE {full_name(mine)} ADD CONSTRAINT IF NOT EXISTS {self._mark} {HOLDS}")
        if there:
            self._command(f"EXCHANGE TABLES {full_name(mine)} AND {full_name(self._target)}")
        else:
            self._command(f"RENAME TABLE {full_name(mine)} TO {full_name(self._target)}")

    def _shadows(self) -> list[str]:
        """The names that the shadow has, or that the table has which was exchanged for it."""
        name, database = text(self._shadow.name), text(self._shadow.database)
        found = self._client.text(
            f"SELECT toJSONString(name) FROM system.tables WHERE database = {database} AND NOT engine LIKE '%View' "
            f"AND (name = {name} OR match(name, concat('^', regexpQuoteMeta({name}), '_[0-9]+$'))) ORDER BY name",
            doing=f"looking for {full_name(self._shadow)}",
            table=self._table,
        )
        return [json.loads(line) for line in found.splitlines()]

    def _command(self, sql: str, query_id: str = "") -> None:
        self._client.command(sql, doing=f"swapping {full_name(self._target)}", table=self._table, query_id=query_id)
