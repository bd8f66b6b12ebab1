"""Scripts of the model: what happens at the source, in the engine, and to it; each step always makes sense."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from syncd.model import Column, TableId, TableSchema
from syncd.testing.source_log import Transaction
from tests.unit.engine.world import World

NUMBERS = TableSchema(
    TableId("shop", "numbers"),
    0,
    (Column("id", pa.int64(), False, "bigint"), Column("v", pa.string(), True, "varchar(20)")),
    ("id",),
    "primary",
)
WORDS = TableSchema(
    TableId("shop", "words"),
    0,
    (
        Column("word", pa.string(), False, "varchar(20)", "utf8mb4", "utf8mb4_general_ci"),
        Column("v", pa.string(), True, "varchar(20)"),
        Column("_key_word", pa.binary(), False, normal_of="word"),
    ),
    ("word",),
    "primary",
)
VISITS = replace(NUMBERS, table=TableId("shop", "visits"), key=(), key_from="")
LATER = replace(NUMBERS, table=TableId("shop", "later"))
TABLES = (NUMBERS, WORDS, LATER, VISITS)
KEYS = 8
VALUES = 4

POINTS: dict[str, tuple[str, ...]] = {
    "load": (
        *("snapshot.head_taken", "snapshot.head_saved", "snapshot.prepared", "snapshot.border_found"),
        *("snapshot.chunk_saved", "snapshot.chunk_part", "snapshot.chunk_written", "snapshot.chunk_marked"),
        *("snapshot.all_marked", "snapshot.handed_over", "snapshot.attempt_saved", "snapshot.attempt_begun"),
    ),
    "capture": (
        "capture.transformed",
        "capture.part_published",
        "capture.published",
        "queue.publish",
        "queue.published",
    ),
    "deliver": (
        *("deliver.opened", "deliver.intended", "deliver.merged", "deliver.written", "deliver.refused"),
        *("deliver.committed", "deliver.set_back"),
        *("queue.commit", "queue.committed"),
    ),
    "barrier": ("barrier.reached", "barrier.acted", "barrier.passed", "sink.apply", "sink.applied"),
    "state": ("queue.put", "queue.stored"),
    "source": (
        *("source.open", "source.head", "source.tables", "source.chunks", "source.scan", "source.stream"),
        *("source.event", "source.scan_once"),
    ),
    "sink": ("sink.write", "sink.written"),
}
# What a call's caller is told: only before the call, as nothing of it was done; a sink's write may have been done.
FAILING: dict[str, tuple[str, ...]] = dict.fromkeys(
    (*POINTS["source"], *POINTS["sink"], "sink.apply", "sink.applied"), ("fail",)
)
FAILING |= {"queue.publish": ("fail", "full"), "queue.commit": ("fail",), "queue.put": ("fail",)}


@dataclass(frozen=True)
class Change:
    """`put`, `delete`, `move` (to key `other`), `swap` (with key `other`) of one row."""

    what: str
    table: int
    key: int
    other: int
    value: int


@dataclass(frozen=True)
class Tx:
    changes: tuple[Change, ...]

    def run(self, world: World) -> None:
        with world.log.transaction() as tx:
            for change in self.changes:
                schema = TABLES[change.table]
                if world.log.find(schema.table) is not None:
                    apply(world, tx, change)


@dataclass(frozen=True)
class Statement:
    what: str
    table: int

    def run(self, world: World) -> None:
        schema = TABLES[self.table]
        here = world.log.find(schema.table)
        if here is None:
            world.log.create(schema)
        elif self.what == "truncate":
            world.log.truncate(schema.table)
        elif self.what == "add":
            number = 1 + max((int(c.name[1:]) for c in here.columns if c.name[0] in "nm"), default=0)
            world.log.add_column(schema.table, Column(f"n{number}", pa.int32(), False, "int", default=str(number)))
        else:
            self._reshape(world, here)

    def _reshape(self, world: World, here: TableSchema) -> None:
        """Of the oldest of the columns that were added; while the table is read, its columns must be there."""
        added = [column for column in here.columns if column.name[0] in "nm"]
        if not added or not world.is_read_no_more(here.table):
            return
        one = added[0]
        others = [column for column in here.columns if column is not one]
        match self.what:
            case "drop":
                world.log.alter(here.table, others)
            case "rename":
                name = ("m" if one.name[0] == "n" else "n") + one.name[1:]
                now = replace(one, name=name)
                world.log.alter(here.table, [now if c is one else c for c in here.columns], {one.name: name})
            case "retype":
                kind = pa.int64() if one.type == pa.int32() else pa.int32()
                now = replace(one, type=kind, source_type=str(kind))
                world.log.alter(here.table, [now if c is one else c for c in here.columns])


@dataclass(frozen=True)
class Work:
    """Steps of the supervisor ("run"), of one kind of process, or of all ("")."""

    kind: str
    times: int

    def run(self, world: World) -> None:
        for _ in range(self.times):
            if self.kind == "run":
                world.supervise()
            elif self.kind:
                world.work(self.kind)
            else:
                world.round()


@dataclass(frozen=True)
class Order:
    """`act`: what happens at the point, or the transaction that the source commits there."""

    point: str
    times: int
    act: str | Tx

    def run(self, world: World) -> None:
        act = self.act
        world.orders.pending[self.point] = self.times, act if isinstance(act, str) else partial(act.run, world)


@dataclass(frozen=True)
class Kill:
    """SIGKILL of the daemon and everything in it, then a start."""

    def run(self, world: World) -> None:
        world.restart()


@dataclass(frozen=True)
class Refuse:
    """The sinks refuse a value, or take everything again and their tables are resumed."""

    value: int | None

    def run(self, world: World) -> None:
        world.resume() if self.value is None else world.refuse(f"v{self.value}")


@dataclass(frozen=True)
class Copy:
    """Of the arrival sink, taken or put back."""

    what: str

    def run(self, world: World) -> None:
        world.keep() if self.what == "take" else world.put_back()


Step = Copy | Tx | Statement | Work | Order | Kill | Refuse


@dataclass(frozen=True)
class Script:
    """`loaded`: the first rows are at the sinks before it begins."""

    loaded: bool
    steps: tuple[Step, ...]


def apply(world: World, tx: Transaction, change: Change) -> None:
    """One change, as far as the rows that are there let it be done."""
    schema = world.log.schema(TABLES[change.table].table)
    if not schema.key:
        if change.what in {"put", "move"}:  # the same row twice, too
            tx.put(schema.table, _row(schema, change.key % 2, f"v{change.value}", change.value))
        return
    rows = {
        row[schema.key[0]].casefold() if schema.key == ("word",) else row["id"]: row
        for row in world.log.rows(schema.table)
    }
    key, other = _key(schema, change.key), _key(schema, change.other)
    here, there = rows.get(_folded(key)), rows.get(_folded(other))
    match change.what:
        case "delete" if here is not None:
            tx.delete(schema.table, (key,))
        case "move" if here is not None and (there is None or _folded(key) == _folded(other)):
            tx.change(schema.table, (key,), _row(schema, other, here["v"], change.value))
        case "swap" if here is not None and there is not None and _folded(key) != _folded(other):
            spare = _key(schema, 99)
            tx.change(schema.table, (key,), _row(schema, spare, here["v"], change.value))
            tx.change(schema.table, (other,), _row(schema, key, there["v"], change.value))
            tx.change(schema.table, (spare,), _row(schema, other, here["v"], change.value))
        case "put":
            tx.put(schema.table, _row(schema, key, f"v{change.value}", change.value))


def _key(schema: TableSchema, key: int) -> Any:
    """Of words, two keys in a row differ only in their case."""
    if schema.key == ("id",):
        return key
    word = f"word{key // 2}"
    return word.upper() if key % 2 else word


def _folded(key: Any) -> Any:
    return key.casefold() if isinstance(key, str) else key


def _row(schema: TableSchema, key: Any, text: str | None, value: int) -> tuple[Any, ...]:
    more = [value] * (len([c for c in schema.columns if not c.normal_of]) - 2)
    return (key, text, *more)


_tables = st.integers(0, len(TABLES) - 1)
_keys = st.integers(0, KEYS - 1)
_changes = st.builds(
    Change,
    st.sampled_from(["put", "put", "put", "delete", "move", "swap"]),
    _tables,
    _keys,
    _keys,
    st.integers(0, VALUES - 1),
)
_transactions = st.lists(_changes, min_size=1, max_size=5).map(tuple).map(Tx)
_early_statements = st.builds(Statement, st.sampled_from(["truncate", "add"]), _tables)
_statements = st.builds(Statement, st.sampled_from(["truncate", "add", "add", "drop", "rename", "retype"]), _tables)


def _acts(point: str) -> st.SearchStrategy[Order]:
    acts = st.sampled_from(["die", "die", "freeze", *FAILING.get(point, ())])
    return st.builds(Order, st.just(point), st.sampled_from([1, 1, 2, 3]), st.one_of(acts, acts, _transactions))


_work = st.one_of(
    st.builds(Work, st.just(""), st.integers(1, 3)),
    st.builds(Work, st.sampled_from(["run", "planner", "reader", "capture", "deliver"]), st.integers(1, 3)),
)
_copies = st.builds(Copy, st.sampled_from(["take", "put back"]))
_refusals = st.builds(Refuse, st.one_of(st.none(), st.integers(0, VALUES - 1)))
_other = st.one_of(st.just(Kill()), _copies, _refusals, _early_statements)


def scripts(*groups: str) -> st.SearchStrategy[Script]:
    """Scripts whose accidents happen at the points of these groups; at all without one. "load" begins with it."""
    points = [point for group in groups or POINTS for point in POINTS[group]]
    orders = st.sampled_from(points).flatmap(_acts)
    statements = _early_statements if "load" in groups else _statements  # a load bears no others
    steps = st.one_of(
        st.tuples(orders, _transactions, _work),
        st.tuples(orders, _transactions, st.just(Work("", 2))),
        st.tuples(_transactions, orders, st.just(Work("", 2))),
        st.tuples(orders, statements, _transactions, st.just(Work("", 2))),
        st.tuples(_other, _transactions, _work),
        st.tuples(_copies, _transactions, st.just(Work("", 2)), orders, _copies, _work),
    )
    parts = st.lists(steps, min_size=3, max_size=10).map(lambda found: tuple(chain(*found)))
    return st.builds(Script, st.just("load" not in groups) if groups else st.booleans(), parts)


def play(world: World, script: Script) -> None:
    """The script, then rest, then every value at both sinks equals the source's."""
    world.log.create(NUMBERS)
    world.log.create(WORDS)
    world.log.create(VISITS)
    with world.log.transaction() as tx:
        for key in range(0, KEYS, 2):
            for number in (0, 1, 3):
                apply(world, tx, Change("put", number, key, key, key % VALUES))
    if script.loaded:
        world.settle()
    for step in script.steps:
        step.run(world)
    world.settle()
    world.assert_equal()
