"""Which table, and which schema of it, the row events of a window belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from syncd.errors import FatalError
from syncd.model import TableId, TableSchema
from syncd.sources.mysql.binlog import kinds, plan, tablemap
from syncd.sources.mysql.binlog.arrays import Ints
from syncd.sources.mysql.binlog.plan import Plan
from syncd.sources.mysql.binlog.rows import RowEvents
from syncd.sources.mysql.binlog.window import Window

_NO_TABLE = 0xFFFFFF
"""The table id of row events that hold no rows and only end a statement."""
_NUMBER_AND_FLAGS = 8
"""Bytes that a TABLE_MAP begins with; all that follows is the same whenever the server opens the same table anew."""
_KEPT = 4096
"""Numbers, and plans, that are kept: those that the log has used last. Row events follow their TABLE_MAP closely, and
servers never use a number again."""
_ROWS = np.zeros(256, bool)
_ROWS[list(kinds.ROWS)] = True


class Tables:
    """The schemas in force, and the plans of the TABLE_MAPs seen, by the number that row events name them by."""

    def __init__(
        self,
        schemas: dict[TableId, TableSchema],
        wanted: Callable[[TableId], bool],
        zero_date: str,
        charsets: Mapping[int, str],
        is_sequence: Callable[[TableId], bool] = lambda table: False,
    ) -> None:
        self.schemas = schemas
        self.wanted = wanted
        self.charsets = charsets
        self.noticed: Callable[[TableId, bytes], None] = lambda table, body: None
        """Called for each new TABLE_MAP of a table that is not wanted."""
        self._zero_date, self._is_sequence = zero_date, is_sequence
        self._maps: dict[int, tuple[bytes, Plan | None]] = {}
        self._plans: dict[tuple[bytes, int], Plan] = {}

    def change(self, schema: TableSchema) -> None:
        """From here on the table has this schema."""
        self.schemas[schema.table] = schema
        self._maps.clear()

    def forget(self, table: TableId) -> None:
        self.schemas.pop(table, None)
        self._maps.clear()

    def learn(self, window: Window, first: int, after: int) -> int:
        """Take the TABLE_MAPs in; the index up to which the row events can be read with what is known now."""
        index = np.flatnonzero(window.kind[first:after] == kinds.TABLE_MAP) + first
        if not index.size:
            return after
        if (window.end[index] - window.start[index] < kinds.HEADER + 12).any():
            raise FatalError("malformed TABLE_MAP event: too short")
        numbers = window.number[index]
        found, places = np.unique(numbers, return_index=True)
        stop = after
        for number, place in zip(found.tolist(), places.tolist(), strict=True):
            same = index[numbers == number]
            body = window.body(int(index[place]))
            known = self._maps.get(number)
            if known is not None and known[0] != body and int(same[0]) > first:
                stop = min(stop, int(same[0]))  # rows before it are of the old map
                continue
            stop = min(stop, _first_other(window, same, body, after))
            self._maps.pop(number, None)  # the one used last is the last one
            self._maps[number] = known if known is not None and known[0] == body else (body, self._plan(body))
        _keep_last(self._maps, len(found))
        return stop

    def _plan(self, body: bytes) -> Plan | None:
        table = tablemap.table_of(body)
        if not self.wanted(table):
            self.noticed(table, body)
            return None
        schema = self.schemas.get(table)
        if schema is None and self._is_sequence(table):
            return None
        if schema is None:
            raise FatalError(
                f"{table}: rows in the log before its CREATE TABLE was seen", table=str(table), hint="resync the table"
            )
        key = body[_NUMBER_AND_FLAGS:], schema.version
        made = self._plans.get(key)
        if made is None or made.schema is not schema:
            made = plan.make(schema, tablemap.parse(body), self._zero_date, self.charsets)
            self._plans[key] = made
            _keep_last(self._plans, 1)
        return made

    def groups(self, window: Window, first: int, after: int) -> Iterator[tuple[Plan, Ints, RowEvents]]:
        """The row events of each wanted table in log order: their plan, their index in the window, themselves.

        A table has two numbers at once when the server has opened it anew (FLUSH TABLES, a full table cache) beside a
        transaction that began before: then its events come in as many groups as it takes to keep their order.
        """
        index = np.flatnonzero(_ROWS[window.kind[first:after]]) + first
        if not index.size:
            return
        start = window.start[index]
        if (window.end[index] - start < kinds.HEADER + 10).any():
            raise FatalError("malformed row event: too short")
        numbers = window.number[index]
        plans = self._plans_of(np.unique(numbers).tolist())
        by_table: dict[TableId, list[int]] = {}
        for number, made in plans.items():
            by_table.setdefault(made.schema.table, []).append(number)
        for mine in by_table.values():
            for run in _runs(index, numbers, mine):
                yield plans[int(window.number[run[0]])], run, _events(window, run)

    def _plans_of(self, numbers: Sequence[int]) -> dict[int, Plan]:
        """Those of the wanted tables. FatalError: rows of a number that no TABLE_MAP has named."""
        plans = {}
        for number in numbers:
            known = self._maps.get(number)
            if known is None:
                if number == _NO_TABLE:
                    continue
                raise FatalError(f"row event of table number {number}, which no TABLE_MAP has named", hint="resync")
            if known[1] is not None:
                plans[number] = known[1]
        return plans


def _keep_last(known: dict[Any, Any], needed: int) -> None:
    for old in [*known][: max(0, len(known) - max(_KEPT, needed))]:
        del known[old]


def _runs(index: Ints, numbers: Ints, mine: Sequence[int]) -> list[Ints]:
    """Those of `index` whose number is of `mine`, in order, cut where the number changes."""
    if len(mine) == 1:
        same = numbers == mine[0]
        return [index if same.all() else index[same]]
    taken = np.isin(numbers, mine)
    index, numbers = index[taken], numbers[taken]
    return np.split(index, np.flatnonzero(np.diff(numbers)) + 1)


def _events(window: Window, index: Ints) -> RowEvents:
    room = None if window.room is None else window.room[index]
    return RowEvents(
        window.views, window.start[index], window.end[index], window.kind[index], window.place[index], room
    )


def _first_other(window: Window, index: Ints, body: bytes, after: int) -> int:
    """The first of the events at `index` whose body is not `body`, else `after`."""
    start = window.start[index] + kinds.HEADER
    other = window.end[index] - start != len(body)
    if not other.any():
        found = window.views.blocks(len(body), start)
        if found.tobytes() == body * len(index):
            return after
        other = (found != np.frombuffer(body, np.uint8)).any(axis=1)
    return int(index[other][0]) if other.any() else after
