"""`syncd apply`: what each change of a job file asks for, and which file a start runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from syncd.config import Service, parse_job
from syncd.engine import apply
from syncd.engine.build import Parts
from syncd.engine.diff import diff, effect_of, reloaded, started_anew
from syncd.errors import ConfigError
from syncd.model import Head, Position
from syncd.state import Halt, Phase, SchemaPair, State, TableRecord
from tests import plugins
from tests.unit.engine.kit import leased, opened_queue
from tests.unit.engine.test_state import SCHEMA, TABLE, Saved

JOB = """\
job: shop
source: {mysql: {url: "mysql://sync@db1:3306", password: hidden}}
tables: {"shop.*": {}, shop.users: {mask: {email: hash}}}
queue: {queues: 4}
mask_salt: grain
throttle: {rows_per_s: 5}
sinks:
  lake: {sqlite_versioned: {path: lake.db}}
  copy: {sqlite_arrival: {path: copy.db}, batch: {rows: 9}}
"""
USERS = replace(SCHEMA, table=TABLE._replace(name="users"))

Made = Callable[..., Parts]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    def make(*edits: tuple[str, str], path: str = "shop.yaml") -> Parts:
        text = JOB
        for before, after in edits:
            assert text.count(before) == 1, before
            text = text.replace(before, after)
        service = Service(data=tmp_path / "data", plugin_paths=[plugins.FOLDER])
        return Parts(parse_job(text, path, service.plugin_paths), service)

    return make


@pytest.fixture
def state(tmp_path: Path, made: Made) -> Iterator[State]:
    """The job has run: items and users are at both sinks, and logs was refused."""
    with opened_queue(tmp_path) as queue:
        state = State(queue, "shop")
        saved = Saved(state, leased(queue))
        saved.put(state.meta_item(**made().facts()))
        for schema in (SCHEMA, USERS):
            saved.put(state.schema_item(SchemaPair(schema, schema)))
            for sink in ("lake", "copy"):
                record = TableRecord(schema.table, sink, Phase.LIVE, Head(Position("log:1"), 1))
                saved.put(state.table_item(record))
        saved.put(state.halt_item(TABLE._replace(name="logs"), Halt("no key", Position("log:1"), 1)))
        yield state


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("rows_per_s: 5", "rows_per_s: 7", "shop.yaml:6:12 throttle.rows_per_s: 5 -> 7: live"),
        (", batch: {rows: 9}", "", "shop.yaml:9:3 sinks.copy.batch.rows: 9 -> nothing: live"),
        ("db1:3306", "db2:3306", "source.mysql.url: mysql://sync@db1:3306 -> mysql://sync@db2:3306: restart"),
        ("hidden", "other", "source.mysql.password: *** -> ***: restart"),
        ("queues: 4", "queues: 5", "queue.queues: 4 -> 5: refused, the saved state was made with 4; put it back; or"),
        ("queues: 4", "queues: 4, embedded: {sync: NORMAL}", "the queue belongs to all jobs of the daemon"),
        ("grain", "sand", "mask_salt: *** -> ***: refused, the saved state, and rows at the sinks, were made with"),
        ("lake.db", "sea.db", "sinks.lake.sqlite_versioned.path: lake.db -> sea.db: refused, the saved state was made"),
        ("  lake: {sqlite_versioned: {path: lake.db}}\n", "", "sinks.lake: {\"sqlite_versioned\": {\"path\": \"la"),
        ("  lake: {", "  sea: {sqlite_arrival: {path: sea.db}}\n  lake: {", "8:3 sinks.sea: nothing -> {\"sqlite"),
        ('"shop.*"', 'shop.logs: {keyless: append}, "shop.*"', "shop.logs: restart, it was refused, and is looked at"),
        ('"shop.*": {}, ', "", "tables: shop.items -> nothing: restart, its saved state and queued changes are forgot"),
        ("email: hash", "email: partial", "tables: shop.users -> shop.users: resnapshot, loaded anew under other sett"),
        (", shop.users: {mask: {email: hash}}", "", "tables: shop.users -> shop.users: resnapshot, loaded anew und"),
        ("lake: {", "lake: {where: 'id > 1', ", "8:10 sinks.lake.where: nothing -> id > 1: restart"),
        ("lake: {", "lake: {where: 'id > 1', ", "sinks.lake.where: resnapshot, shop.items is loaded anew at lake"),
        ("lake: {", "lake: {where: {'shop.u*': 'id > 1'}, ", "resnapshot, shop.users is loaded anew at lake under"),
        ("job: shop", "job: shop\npolicy: {zero_date: 'null'}", "policy.zero_date: nothing -> null: restart, in full"),
        ("job: shop", "job: shop\npolicy: {cascades: ignore}", "policy.cascades: nothing -> ignore: restart, for what"),
    ],
)  # fmt: skip
def test_each_change_says_what_it_asks_for(made: Made, state: State, before: str, after: str, says: str) -> None:
    told = [*map(str, diff(made((before, after)), state))]
    assert any(says in line for line in told), told
    assert "hidden" not in str(told)


def test_what_says_the_same_is_no_change(made: Made, state: State) -> None:
    assert diff(made(), state) == []
    assert diff(made(("job: shop", "# a comment\njob:  'shop'\nsnapshot: {}")), state) == []


def test_another_filter_of_a_sink_is_about_the_tables_that_it_fits(made: Made, state: State) -> None:
    """At that sink. What says the same of them is no other one; a job that does not load cannot take another."""
    one = made(("lake: {", "lake: {where: {'shop.u*': 'id > 1', shop.logs: 'x = 1'}, "))
    assert reloaded(one, state) == [("lake", USERS.table)]
    mode = ("job: shop", "job: shop\nmode: cdc")
    saved = Saved(state, leased(state._queue, "other"))
    saved.put(state.meta_item(**one.facts()))
    assert reloaded(one, state) == []
    assert reloaded(made(("lake: {", "lake: {where: {shop.users: 'id > 1'}, ")), state) == []
    assert reloaded(made(("lake: {", "lake: {where: 'id > 1', ")), state) == [("lake", SCHEMA.table)]
    assert reloaded(made(), state) == [("lake", USERS.table)]
    saved.put(state.meta_item(**made(mode).facts()))
    (refused,) = [str(each) for each in diff(made(mode, ("lake: {", "lake: {where: {shop.users: 'id > 1'}, ")), state)]
    assert "refused, shop.users was loaded at lake under another `where`; put it back" in refused


def test_what_is_refused_loads_nothing_anew_at_a_sink(made: Made, state: State) -> None:
    """But for what an earlier file has begun: its record is gone."""
    saved, gone = Saved(state, leased(state._queue, "other")), TABLE._replace(name="gone")
    for table in (USERS.table, gone):
        saved.put(state.reload_item("lake", table, wanted=True))
    saved.put(apply.refused(made(), state, 1, ConfigError("no")))
    assert state.reloads() == [("lake", gone)]


def test_one_refusal_refuses_all_and_live_changes_name_their_workers(made: Made, state: State) -> None:
    workers = ["capture", "planner", "reader/1", "deliver/copy", "deliver/lake"]
    batch, throttle = ("rows: 9", "rows: 8"), ("rows_per_s: 5", "rows_per_s: 6")
    live = diff(made(batch), state)
    assert (effect_of(live), started_anew(live, workers)) == ("live", ["deliver/copy"])
    assert started_anew(diff(made(throttle), state), workers) == ["planner", "reader/1"]
    assert effect_of(diff(made(batch, ("db1", "db2")), state)) == "restart"
    assert effect_of(diff(made(batch, ("db1", "db2"), ("queues: 4", "queues: 5")), state)) == "refused"
    assert effect_of([]) == "live"


def test_an_older_file_does_not_undo_what_was_applied(tmp_path: Path, made: Made, state: State) -> None:
    """A start runs the file that it is given, but for one that the applied ones have replaced, kept elsewhere."""
    saved = Saved(state, leased(state._queue, "other"))
    first, second = made(("rows: 9", "rows: 8")), made(("rows: 9", "rows: 7"))
    assert apply.at_start(parts := made(), state) is parts
    for parts in (first, second):
        saved.put(state.applied_item(apply.following(state, parts.job.text, "/elsewhere.yaml", 1)))
        saved.put(state.meta_item(**parts.facts()))
    for older in (made(), first):
        assert apply.at_start(older, state).job.text == second.job.text
    edited = made(("rows: 9", "rows: 1"))
    assert apply.at_start(edited, state) is edited
    saved.put(state.applied_item(apply.following(state, first.job.text, str(Path("shop.yaml").absolute()), 2)))
    assert apply.at_start(edited, state) is edited
    assert apply.at_start(old := made(), state) is old, "it was put back by hand"
