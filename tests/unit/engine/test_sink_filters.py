"""A filter of one sink in the model: rows that enter and leave, whatever happens; another filter; one that fits no
more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from syncd.config import parse_job
from syncd.engine import change
from syncd.engine.diff import diff
from syncd.errors import ConfigError
from syncd.model import ChangeBatch, Chunk, Column, Op, TableId, TableSchema
from syncd.ops.reconcile import reconcile
from syncd.spi import Ticket
from syncd.state import Items, Phase
from tests import plugins
from tests.services.fuzz import examples
from tests.unit.engine import world as engine_world
from tests.unit.engine.script import NUMBERS, VISITS, WORDS, Script, play, scripts
from tests.unit.engine.test_change import edit, give, until, wish
from tests.unit.engine.test_model import CALM
from tests.unit.engine.test_refresh import MoveOn, ask
from tests.unit.engine.test_resync import halted
from tests.unit.engine.world import SINKS, ModelParts, ModelSource, World, engine_in

PLAIN = engine_world.JOB
ARRIVAL = "v COLLATE utf8mb4_0900_bin IN ('v0', 'v3')"
VERSIONED = "v COLLATE utf8mb4_0900_bin <> 'v0'"


def filtered(arrival: str = "", versioned: str = "") -> str:
    """The job, with these texts behind `where:` of the sinks."""
    text = PLAIN
    for name, where in (("arrival", arrival), ("versioned", versioned)):
        text = text.replace(f"  {name}: {{{{", f"  {name}: {{{{where: {where}, " if where else f"  {name}: {{{{")
    return text


BOTH = filtered(f'"{ARRIVAL}"', f'{{{{shop.words: "TRUE", "shop.*": "{VERSIONED}"}}}}')


def wanted(sink: str, table: TableId, row: Mapping[str, Any]) -> bool:
    if sink == "arrival":
        return row["v"] in ("v0", "v3")
    return table == WORDS.table or row["v"] not in ("v0", None)


@pytest.mark.hypothesis
def test_each_sink_has_what_it_asks_for_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_world, "JOB", BOTH)

    @settings(CALM, max_examples=examples(4))
    @given(scripts())
    def check(script: Script) -> None:
        with engine_in(tmp_path / "world") as world:
            world.wanted = wanted
            play(world, script)

    check()


def put(world: World, key: int, text: str | None) -> None:
    with world.log.transaction() as tx:
        tx.put(NUMBERS.table, (key, text, *[1] * (len(world.log.schema(NUMBERS.table).columns) - 2)))


def numbers(world: World, sink: str) -> dict[int, str]:
    return {row["id"]: row["v"] for row in world.copy(sink, NUMBERS.table)}


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loaded by a job without filters: what `edit` makes of it comes then."""
    monkeypatch.setattr(engine_world, "JOB", PLAIN.replace("halt-table", "resnapshot"))
    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, WORDS, VISITS):
            world.log.create(schema)
        for key in range(8):
            put(world, key, f"v{key % 4}")
        world.settle()
        yield world


def parts_of(world: World, text: str) -> ModelParts:
    text = text.replace("halt-table", "resnapshot").format(folder=world.folder)
    return ModelParts(parse_job(text, str(world.folder / "job.yaml"), [plugins.FOLDER]), world.parts.service, world)


def taken(world: World, text: str) -> None:
    """As `syncd apply` does it, with the daemon down."""
    world.writes.exempt.add(str(NUMBERS.table))  # their older versions are read anew, into another table
    items: Items = {}
    for each in change.refiltered(parts_of(world, text), world.state):
        items |= world.state.reload_item(*each, wanted=True)
    give(world, text.replace("halt-table", "resnapshot"), 1)
    wish(world, lambda before: before, items)
    edit(world, text.replace("halt-table", "resnapshot"))


def test_tags_deletes_and_filters_are_each_sinks_own_and_one_scan_is_for_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = filtered(versioned=f'"{VERSIONED}"').replace(
        "  arrival: {{", "  arrival: {{tags: numbers, deletes: ignore, "
    )
    monkeypatch.setattr(engine_world, "JOB", text)
    scans, whole = Counter[tuple[str, int]](), ModelSource.scan

    def scan(source: ModelSource, schema: TableSchema, chunk: Chunk, seq: int) -> Iterator[ChangeBatch]:
        scans[schema.table.name, chunk.number] += 1
        yield from whole(source, schema, chunk, seq)

    monkeypatch.setattr(ModelSource, "scan", scan)
    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, WORDS):
            world.log.create(schema)
        for key in range(8):
            put(world, key, f"v{key % 4}")
        with world.log.transaction() as tx:
            tx.put(WORDS.table, ("a", "v1"))
        until(world, 3)
        assert {(r.sink, r.table.name) for r in world.records()} == {
            ("arrival", "numbers"),
            ("versioned", "numbers"),
            ("versioned", "words"),
        }
        assert scans == {("numbers", 0): 1, ("numbers", 1): 1, ("numbers", 2): 1, ("words", 0): 1}
        with world.log.transaction() as tx:
            tx.delete(NUMBERS.table, (5,))
            tx.delete(WORDS.table, ("a",))
        put(world, 6, "v0")
        put(world, 9, "v2")
        until_applied(world)
        kept = {key: f"v{key % 4}" for key in range(8)} | {6: "v0", 9: "v2"}
        assert numbers(world, "arrival") == kept
        assert numbers(world, "versioned") == {k: v for k, v in kept.items() if v != "v0" and k != 5}
        assert world.copy("versioned", WORDS.table) == []
        assert {lane.tag for lane in world.queue.lanes("model/arrival")} == {"shop.numbers"}


def until_applied(world: World) -> None:
    for _ in range(20):
        world.round()
        world.clock.now += 4.0
        source = world.state.source()
        lanes = [border for sink in SINKS for border in world.queue.lanes(f"model/{sink}").values()]
        if source and source.position == f"log:{world.log.end()[0]}" and all(start == end for start, end in lanes):
            return
    raise AssertionError("not all is applied")


def test_another_value_of_a_reference_is_another_filter(begun: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORD", "v1")
    text = filtered(versioned="""{{shop.numbers: "v COLLATE utf8mb4_0900_bin <> '${{env:WORD}}'"}}""")
    taken(begun, text)
    begun.restart()
    begun.wanted = lambda sink, table, row: (sink, table) != ("versioned", NUMBERS.table) or row["v"] != "v1"
    begun.settle()
    begun.assert_equal()
    assert change.refiltered(parts_of(begun, text), begun.state) == []
    monkeypatch.setenv("WORD", "v2")
    assert change.refiltered(parts_of(begun, text), begun.state) == [("versioned", NUMBERS.table)]


def test_another_filter_loads_its_tables_anew_at_its_sink_alone(begun: World) -> None:
    """Also where who does it dies on the way; in a start that was not asked to, it is a contradiction."""
    world, before = begun, {(r.sink, r.table.name): r.epoch for r in begun.records()}
    text = filtered(versioned=f'{{{{shop.numbers: "{VERSIONED}"}}}}')
    (one, other) = [str(each) for each in diff(parts_of(world, text), world.state)]
    assert one.endswith(": restart")
    assert "where: resnapshot, shop.numbers is loaded anew at versioned under another `where`" in other
    (fault,) = change.contradictions(parts_of(world, text), world.state)
    assert (fault.code, fault.key) == ("C140", "sinks.versioned.where")
    taken(world, text)
    for point in ("change.saved", "change.cleared", "snapshot.added"):
        world.orders.pending[point] = 1, "die"
        for _ in range(3):
            try:
                world.restart()
            except engine_world.Died:
                continue
            world.round()
        put(world, 3, "v0")
        put(world, 9, "v1")
    world.wanted = lambda sink, table, row: (sink, table) != ("versioned", NUMBERS.table) or row["v"] != "v0"
    world.settle()
    world.assert_equal()
    assert (world.state.reloads(), world.state.added(), change.refiltered(world.parts, world.state)) == ([], [], [])
    after = {(r.sink, r.table.name): r.epoch for r in world.records()}
    assert {place for place in before if before[place] != after[place]} == {("versioned", "numbers")}
    # And back again, to all rows.
    taken(world, PLAIN)
    world.restart()
    world.wanted = lambda sink, table, row: True
    world.settle()
    world.assert_equal()


def test_a_column_that_goes_halts_the_table_at_the_sink_that_looks_at_it(begun: World) -> None:
    """In front of the change, with the setting and the column; a filter that fits loads it anew."""
    world = begun
    world.log.add_column(NUMBERS.table, Column("n", pa.int32(), False, "int", default="9"))
    put(world, 1, "v1")
    world.settle()
    text = filtered(arrival='{{shop.numbers: "n IS NOT NULL"}}')
    taken(world, text)
    world.restart()
    world.settle()
    world.log.alter(NUMBERS.table, [NUMBERS.columns[0], NUMBERS.columns[1]])
    with world.log.transaction() as tx:
        tx.put(NUMBERS.table, (2, "later"))
    found = halted(world)
    assert [*found] == [("arrival", "shop.numbers")]
    (why,) = found.values()
    assert (
        "yaml:8:35 sinks.arrival.where.shop.numbers: shop.numbers has no column 'n'; there is: id, v; the filter of"
        in why
    )
    assert "[C124]" in why
    assert numbers(world, "versioned")[2] == "later"
    taken(world, filtered(arrival='{{shop.numbers: "id > 2"}}'))
    world.restart()
    world.wanted = lambda sink, table, row: (sink, table) != ("arrival", NUMBERS.table) or row["id"] > 2
    world.settle()
    world.assert_equal()


def test_a_filter_that_does_not_fit_from_the_start_halts_its_table_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_world, "JOB", filtered(arrival='{{shop.words: "nowhere = 1"}}'))
    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, WORDS):
            world.log.create(schema)
        put(world, 1, "v1")
        until(world, 3)
        (record,) = [record for record in world.records() if record.phase is not Phase.LIVE]
        assert (record.sink, record.table, record.phase, record.resume) == (
            "arrival",
            WORDS.table,
            Phase.HALTED,
            Phase.NEW,
        )
        assert "shop.words has no column 'nowhere'" in record.reason


def test_a_value_that_a_filter_cannot_judge_halts_its_table_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the load that it shares with another sink, which goes on."""
    monkeypatch.setattr(engine_world, "JOB", filtered(arrival="{{shop.words: \"word = 'ze'\"}}"))
    with engine_in(tmp_path / "world") as world:
        world.log.create(WORDS)
        for word in ("a", "b", "c", "z\u00e9"):
            with world.log.transaction() as tx:
                tx.put(WORDS.table, (word, "v"))
        until(world, 1)
        found = {record.sink: record for record in world.records()}
        assert (found["arrival"].phase, found["versioned"].phase) == (Phase.HALTED, Phase.LIVE)
        assert "[E170]" in found["arrival"].reason
        assert len(world.copy("versioned", WORDS.table)) == 4


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        ("deletes: soft, where: 'id > 1'", "[C121]"),
        ("where: {'shop.number?': 'id > 1', 'shop.numbe?s': 'id > 2'}", "equally well"),
    ],
)
def test_what_does_not_go_together(begun: World, block: str, fault: str) -> None:
    """Soft deletes keep values, which a sink that writes whole rows would be given of all others, too."""
    text = PLAIN.replace("  versioned: {{", f"  versioned: {{{{{block.replace('{', '{{').replace('}', '}}')}, ")
    with pytest.raises(ConfigError) as error:
        parts_of(begun, text).sink_filter("versioned", NUMBERS)
    assert fault in str(error.value)
    assert error.value.line == 9


def test_reconcile_and_refresh_go_by_the_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_world, "JOB", BOTH)
    with engine_in(tmp_path / "world") as world:
        for schema in (NUMBERS, VISITS):
            world.log.create(schema)
        for key in range(8):
            put(world, key, f"v{key % 4}")
        with world.log.transaction() as tx:
            tx.put(VISITS.table, (1, "v0"))
            tx.put(VISITS.table, (1, "v1"))
        world.wanted = wanted
        world.settle()
        world.assert_equal()
        assert [world.parts.job.sinks[sink].deletes for sink in SINKS] == ["apply"] * 2
        for sink in SINKS:
            assert compared(world, sink, NUMBERS.table) == (True, [], [])
        harm(world, "arrival")
        assert compared(world, "arrival", NUMBERS.table) == (False, [(4,)], [(5,)])
        ask(world, NUMBERS, [3, 4, 5])
        MoveOn().run(world)
        world.settle()
        world.assert_equal()
        assert compared(world, "arrival", NUMBERS.table)[0]


def compared(world: World, sink: str, table: TableId) -> tuple[bool, list[Any], list[Any]]:
    versions = world.state.schemas()[table]
    pair = versions[max(versions)]
    source, made = world.make_source(), world.parts.make_sink(sink)
    source.open()
    made.open()
    target, own = world.parts.target(sink, pair.published), world.parts.sink_filter(sink, pair.published)
    transform, settle = world.parts.transform_of(pair), lambda: ""
    found = reconcile(source, made, sink, pair.source, transform, target, 300, settle, sink_filter=own)
    source.close()
    made.close()
    return found.right, found.missing_keys, found.extra_keys


def harm(world: World, sink: str) -> None:
    """By hand: a row that matches goes, and one that does not comes."""
    made, seq = world.parts.make_sink(sink), max(world.writes.last.values()) + 1
    rows = pa.RecordBatch.from_arrays([pa.array([4, 5]), pa.array(["v0", "v1"])], schema=NUMBERS.arrow())
    batch = ChangeBatch(NUMBERS, rows, np.array([Op.DELETE, Op.READ], np.uint8), np.array([seq, seq], np.uint64))
    made.open()
    made.write(world.parts.target(sink, NUMBERS), batch, Ticket("by hand", 1, 1))
    made.close()
