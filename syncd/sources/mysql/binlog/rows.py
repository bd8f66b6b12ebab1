"""Row events of one table, many at a time, into one batch of Arrow columns.

The k-th rows of all events are walked together to find where every image begins and that the last one ends where its
event does; then each column of all rows is gathered at once.

PARTIAL_UPDATE_ROWS (MySQL, `binlog_row_value_options=PARTIAL_JSON`; `rows_event.h`, Rows_event) is UPDATE_ROWS with
value options before each after-image: 0, or 1 and a bitmap of the table's JSON columns, a bit set for each that holds a
diff.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from syncd.errors import FatalError, Unsupported
from syncd.model import ChangeBatch, Column, Op, TableSchema
from syncd.sources.mysql.binlog.arrays import Bools, Bytes, Ints, Views
from syncd.sources.mysql.binlog.cells import Cells
from syncd.sources.mysql.binlog.kinds import DELETES, HEADER, INSERTS, PARTIAL_UPDATE_ROWS, UPDATES
from syncd.sources.mysql.binlog.plan import Normalise, Plan
from syncd.sources.mysql.binlog.tablemap import JSON

_OPS = np.zeros(256, np.uint8)
for _kinds, _op in ((INSERTS, Op.INSERT), (UPDATES, Op.UPDATE), (DELETES, Op.DELETE)):
    _OPS[list(_kinds)] = _op


@dataclass(frozen=True, slots=True)
class RowEvents:
    """Row events of one TABLE_MAP in log order, in one buffer.

    `start`: first byte of each event's header; `end`: one past its last row image; `kind`: its type; `place`: where
    the event begins in the log file.
    `room`: None, or how many bytes each event has in the log file where it lies there compressed, alone or together
    with others of the same place; 0 where it does not. The n-th row of such a place takes the n-th byte behind it,
    `given` rows of it having gone before.
    """

    views: Views
    start: Ints
    end: Ints
    kind: NDArray[np.uint8]
    place: Ints
    room: Ints | None = None
    given: int = 0


class RowDecoder(Protocol):
    """One interface for this decoder and any other (a compiled one) that may stand beside it."""

    def __call__(
        self, events: RowEvents, plan: Plan, base: int, before: Collection[str], normalise: Normalise
    ) -> ChangeBatch:
        """All rows of the events; `base` is the seq of byte 0 of the log file; `before` names the columns beyond
        the key whose old values are wanted too.

        Unsupported: an image without all columns. FatalError: malformed. Both with `table`.
        """


def decode(events: RowEvents, plan: Plan, base: int, before: Collection[str], normalise: Normalise) -> ChangeBatch:
    """See `RowDecoder`."""
    try:
        images = _images(events, plan)
        rows = _columns(events.views, plan, plan.schema.columns, images.last, None, normalise)
        old = _before(events.views, plan, images, before, normalise)
    except IndexError as error:
        raise _malformed(plan) from error
    offset = images.first - events.start[images.event]
    if events.room is not None and events.room.any():
        offset = np.where(events.room[images.event] > 0, _ordinals(events, images.event, plan), offset)
    place = events.place[images.event] + offset
    seq = np.uint64(base) + place.astype(np.uint64)
    return ChangeBatch(plan.schema, rows, images.op, seq, old, trace=int(seq[0]))


def _ordinals(events: RowEvents, event: Ints, plan: Plan) -> Ints:
    """The number of each row among those of its place. Unsupported: the event has more rows than bytes."""
    assert events.room is not None
    place = events.place[event]
    number: Ints = np.arange(len(place)) - np.searchsorted(place, place, side="left") + events.given + HEADER
    room = events.room[event]
    if ((number >= room) & (room > 0)).any():
        table = plan.schema.table
        raise Unsupported(
            f"{table}: a compressed transaction in the log has more rows than bytes: no place for each row's version",
            table=str(table),
            hint="SET GLOBAL binlog_transaction_compression = OFF (MariaDB: log_bin_compress), then resync the table",
        )
    return number


def _malformed(plan: Plan) -> FatalError:
    table = plan.schema.table
    return FatalError(
        f"{table}: malformed row event: its rows do not end where it ends",
        table=str(table),
        hint="check the log with mysqlbinlog, then resync the table",
    )


@dataclass(frozen=True, slots=True)
class _Images:
    """One item a row, in log order: its event, its first image and its last (the same for INSERT and DELETE)."""

    event: Ints
    first: Ints
    last: Ints
    op: NDArray[np.uint8]


def _images(events: RowEvents, plan: Plan) -> _Images:
    op = _OPS[events.kind]
    updates = op == Op.UPDATE
    partial = events.kind == PARTIAL_UPDATE_ROWS
    at = _first_images(events, plan, updates)
    found: list[tuple[Ints, Ints, Ints]] = []
    active = np.flatnonzero(at < events.end)
    at = at[active]
    while active.size:
        last, end = _step(events.views, plan, at, updates[active], partial[active])
        limit = events.end[active]
        if (end > limit).any():
            raise _malformed(plan)
        found.append((active, at, last))
        more = end < limit
        active, at = active[more], end[more]
    if not found:
        raise _malformed(plan)
    event, first, last = found[0] if len(found) == 1 else (np.concatenate(part) for part in zip(*found, strict=True))
    if len(found) > 1:
        order = np.argsort(first, kind="stable")
        event, first, last = event[order], first[order], last[order]
    return _Images(event, first, last, op[event])


def _step(views: Views, plan: Plan, at: Ints, updates: Bools, partial: Bools) -> tuple[Ints, Ints]:
    """From the first image of a row to its last image and to the end of that."""
    end = plan.layout.ends(views, at)
    if not updates.any():
        return at, end
    after = _behind_options(views, plan, end, partial) if partial.any() else end
    if updates.all():
        return after, plan.layout.ends(views, after)
    last = np.where(updates, after, at)
    which = np.flatnonzero(updates)
    end[which] = plan.layout.ends(views, after[which])
    return last, end


def _behind_options(views: Views, plan: Plan, at: Ints, partial: Bools) -> Ints:
    """One past the value options where `partial`. Unsupported: a column holds a diff, not a value."""
    json = sum(column.type == JSON for column in plan.layout.columns)
    bitmap = (json + 7) // 8
    options = np.where(partial, views.data[at].astype(np.int64), 0)
    some = at[options == 1]
    if (options > 1).any() or (bitmap and some.size and views.blocks(bitmap, some + 1).any()):
        table = plan.schema.table
        raise Unsupported(
            f"{table}: the log holds a partial JSON update",
            table=str(table),
            hint="SET GLOBAL binlog_row_value_options = '' (and in all sessions), then resync the table",
        )
    behind: Ints = at + partial + options * bitmap
    return behind


def _first_images(events: RowEvents, plan: Plan, updates: Bools) -> Ints:
    """Behind the header of each rows event, which must say that its images have all columns."""
    views, at = events.views, events.start + HEADER + 8
    second = events.kind >= 30
    if second.any():
        if (at + 2 > events.end).any():
            raise _malformed(plan)
        at = at + np.where(second, views.little(2, at), 0)
    bitmap = plan.layout.bitmap
    width = len(plan.count) + bitmap
    if (at + width + updates * bitmap > events.end).any():
        raise _malformed(plan)
    columns = views.blocks(width, at)
    if (columns[:, :-bitmap] != np.frombuffer(plan.count, np.uint8)).any():
        raise _malformed(plan)
    _check_present(plan, columns[:, -bitmap:])
    after = at + width
    if updates.any():
        which = np.flatnonzero(updates)
        _check_present(plan, views.blocks(bitmap, after[which]))
        after[which] += bitmap
    return after


def _check_present(plan: Plan, bitmaps: Bytes) -> None:
    """One bit a column, all of which must be set; those behind the last column may be anything."""
    if (bitmaps[:, :-1] != 0xFF).any() or (~bitmaps[:, -1] & 0xFF >> -len(plan.columns) % 8).any():
        table = plan.schema.table
        raise Unsupported(
            f"{table}: a row image in the log has not all columns",
            table=str(table),
            hint="SET GLOBAL binlog_row_image = FULL (and in all sessions), then resync the table",
        )


def _columns(
    views: Views,
    plan: Plan,
    wanted: tuple[Column, ...],
    at: Ints,
    absent: Bools | None,
    normalise: Normalise,
) -> pa.RecordBatch:
    """The `wanted` columns of the images at `at`; null where `absent`."""
    names = {column.normal_of or column.name for column in wanted}
    asked = frozenset(index for index, column in enumerate(plan.columns) if column.name in names)
    values: dict[str, pa.Array] = {}
    for cell in plan.layout.cells(views, at, asked):
        null, size = cell.null, cell.size
        if absent is not None:
            null = absent if null is None else null | absent
            size = None if size is None else np.where(absent, 0, size)
        values[plan.columns[cell.column].name] = plan.converts[cell.column](Cells(cell.views, cell.at, size, null))
    for column in wanted:
        if column.normal_of:
            values[column.name] = normalise(plan.schema.column(column.normal_of), values[column.normal_of])
    return pa.RecordBatch.from_arrays([values[c.name] for c in wanted], schema=_arrow(plan, wanted))


def _arrow(plan: Plan, wanted: tuple[Column, ...]) -> pa.Schema:
    if wanted is plan.schema.columns:
        return plan.arrow
    return pa.schema([pa.field(column.name, column.type) for column in wanted])


def _before(
    views: Views, plan: Plan, images: _Images, before: Collection[str], normalise: Normalise
) -> pa.RecordBatch | None:
    updates = images.op == Op.UPDATE
    wanted = _before_columns(plan.schema, before)
    if not wanted or not updates.any():
        return None
    absent = None if updates.all() else ~updates
    return _columns(views, plan, wanted, images.first, absent, normalise)


def _before_columns(schema: TableSchema, before: Collection[str]) -> tuple[Column, ...]:
    if not schema.key:
        return schema.columns
    wanted = {*schema.key, *before}
    return tuple(column for column in schema.columns if (column.normal_of or column.name) in wanted)
