"""A job as a typed value."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from pydantic import SecretStr

from syncd.config import DdlPolicy, Faults, Job, not_yet
from syncd.errors import ConfigError
from syncd.model import TableId
from tests.unit.config.conftest import MINIMAL, Load


def test_a_full_job_validates(full: Job) -> None:
    assert full.name == "shop"
    assert full.mode == "snapshot+cdc"
    assert (full.source.plugin, full.source.options.url) == ("mysql", "mysql://sync@db1:3306")
    assert full.source.options.password == SecretStr("hunter2")
    assert (full.queue.plugin, full.queue.queues, full.queue.tag) == ("embedded", 8, "table")
    assert list(full.sinks) == ["olap", "core"]
    assert (full.sinks["olap"].tags, full.sinks["core"].tags) == ("*", "orders || users")
    assert full.policy.zero_date == "null"
    assert full.throttle.model_dump(exclude_none=True) == {"source_threads_running": 30, "rows_per_s": 50000}
    assert full.spec.retry is not None
    assert full.spec.retry.then == "park"


def test_defaults(load: Load) -> None:
    job = load()
    assert (job.queue.plugin, job.queue.queues) == ("embedded", 8)
    assert job.policy.model_dump() == {
        "ddl": dict(DdlPolicy()),
        "position_lost": "fail",
        "lost_transactions": "fail",
        "zero_date": "fail",
        "cascades": "fail",
    }
    assert job.spec.retry is None
    assert not_yet(job) == []
    assert job.findings == ()


def test_sizes_and_durations(load: Load) -> None:
    job = load(MINIMAL.replace('"http://ch"}', '"http://ch"}, batch: {rows: 10, bytes: 1.5MiB, seconds: 250ms}'))
    batch = job.sinks["olap"].batch
    assert (batch.rows, batch.bytes, batch.seconds) == (10, 1_572_864, 0.25)


def test_not_yet_names_every_part_with_its_place(full: Job) -> None:
    places = {(fault.key, fault.line, fault.code) for fault in not_yet(full)}
    assert places == {
        ("tables.shop.audit.kind", 7, "C130"),
        ("retry", 14, "C130"),
        ("reconcile.cron", 15, "C130"),
        ("reconcile.repair", 15, "C130"),
    }


@pytest.mark.parametrize(
    ("addition", "key"),
    [
        ("mode: cdc\nstart: {timestamp: 2026-05-01T00:00:00Z}", "start.timestamp"),
        ("queue: {kafka: {brokers: k}}", "queue.kafka"),
    ],
)
def test_not_yet_of(load: Load, addition: str, key: str) -> None:
    assert [fault.key for fault in not_yet(load(MINIMAL + addition))] == [key]


@pytest.mark.parametrize(
    ("rule", "keys"),
    [
        ("{keyless: append}", []),
        ("{keyless: row-hash}", ["tables.shop.*.keyless"]),
        ("{kind: append}", ["tables.shop.*.kind"]),
    ],
)
def test_tables_without_a_key(load: Load, rule: str, keys: list[str]) -> None:
    assert [fault.key for fault in not_yet(load(MINIMAL.replace('{"shop.*": {}}', f'{{"shop.*": {rule}}}')))] == keys


@pytest.mark.parametrize(
    ("tables", "count"),
    [
        ("{'s(.*).t': {to: 'all.t_\\1'}}", 0),
        ("{'s(.*).t': {to: all.t}}", 1),
        ("{a.t: {to: all.t}}", 0),
        ("{a.t: {to: all.t}, b.t: {to: all.t}}", 1),
        ("{'a.*': {to: all.t}}", 1),
        ("{a.t: {to: b.t}, b.t: {}}", 1),
        ("{a.t: {to: u}, a.s: {to: a.u}}", 1),
        ("{a.t: {to: b.t}, b.t: {skip: true}}", 0),
        ("{a.t: {to: b.t}, b.t: {to: a.t}}", 0),
        ("{'s(.*).t': {to: all.t, add: {s: '\\1'}, key: [s, id]}}", 0),
        ("{'s(.*).t': {to: all.t, add: {s: '\\1'}}}", 1),
        ("{'(s|r)(.*).t': {to: all.t, add: {s: '\\2'}, key: [s, id]}}", 1),
        ("{'(s|r)(.*).t': {to: '\\1.t', add: {s: '\\2'}, key: [id, s]}}", 0),
        ("{a.t: {to: u, add: {s: 1}, key: [s, id]}, a.s: {to: a.u, add: {s: 2}, key: [s, id]}}", 0),
        ("{a.t: {to: u, add: {s: x}, key: [s, id]}, a.s: {to: a.u, add: {s: 'x '}, key: [s, id]}}", 1),
        ("{a.t: {to: u, add: {s: 1}, key: [s, id]}, a.s: {to: a.u, add: {r: 2}, key: [r, id]}}", 1),
    ],
)
def test_tables_with_one_target_are_told_apart(load: Load, tables: str, count: int) -> None:
    try:
        load(MINIMAL.replace('{"shop.*": {}}', tables))
        found = []
    except Faults as faults:
        found = [fault.code for fault in faults.faults]
    assert found == ["C127"] * count


def test_secrets_are_shown_nowhere(full: Job) -> None:
    shown = [repr(full), str(full), json.dumps(full.public()), json.dumps(full.fingerprint()), repr(full.spec)]
    shown += [
        repr(full.source),
        repr(full.sinks),
        repr(full.secrets),
        repr(full.document.data),
        str(pickle.dumps(full)),
    ]
    shown += [repr(full.source.options), full.source.options.model_dump_json(), str(not_yet(full)), repr(full.findings)]
    assert not any("hunter2" in text or "tiger" in text for text in shown)
    assert full.secrets.hide("user sync, password hunter2") == "user sync, password ***"


def test_a_literal_password_is_a_finding_and_is_not_shown(load: Load) -> None:
    job = load(MINIMAL.replace('"mysql://db"', '"mysql://sync:tiger@db", password: hunter2'))
    assert [finding.level for finding in job.findings] == ["warning", "warning"]
    assert job.findings[0].subject.endswith("shop.yaml:3:23 source.mysql.url")
    shown = [repr(job), json.dumps(job.public()), json.dumps(job.fingerprint()), repr(job.findings)]
    assert not any("hunter2" in text or "tiger" in text for text in shown)
    assert job.secrets.hide("mysql://sync:tiger@db hunter2") == "mysql://sync:***@db ***"


def test_hash_without_a_salt_is_a_finding(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    text = MINIMAL.replace('"shop.*": {}', "shop.users: {mask: {email: hash}}")
    assert [finding.todo for finding in load(text).findings] == ["set mask_salt: ${env:NAME}"]
    monkeypatch.setenv("SALT", "pepper")
    salted = load(text + "mask_salt: ${env:SALT}\n")
    assert salted.findings == ()
    rule = salted.match(TableId("shop", "users"))
    assert rule is not None
    assert rule.salt == SecretStr("pepper")
    assert "pepper" not in repr(rule)


def test_references(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "db7")
    monkeypatch.setenv("PORT", "3307")
    (tmp_path / "pw").write_text("p w\r\n")
    url = '"mysql://${env:HOST}/$${x}", port: "${env:PORT}", password: "${file:pw}"'
    options = load(MINIMAL.replace('"mysql://db"', url)).source.options
    assert (options.url, options.port, options.password.get_secret_value()) == ("mysql://db7/${x}", 3307, "p w")


def test_a_pickled_job_holds_no_secret_and_is_the_same_job(full: Job) -> None:
    again = pickle.loads(pickle.dumps(full))
    assert again.source.options.password == SecretStr("hunter2")
    assert again.fingerprint() == full.fingerprint()


def test_the_fingerprint_forgets_order_and_passwords(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    one = load(MINIMAL.replace('"mysql://db"', '"mysql://db", password: hunter2'))
    other = load(MINIMAL.replace('{url: "mysql://db"}', '{password: tiger, url: "mysql://db"}'))
    assert one.fingerprint() == other.fingerprint()
    assert set(one.fingerprint()) == {"job", "source", "tables", "sinks.olap"}
    changed = load(MINIMAL.replace("{}", "{mask: {password: hash}}"))
    assert changed.fingerprint()["tables"] == '{"shop.*":{"mask":{"password":"hash"}}}'


def test_anchors_merge_keys_and_extras(load: Load) -> None:
    text = MINIMAL.replace(
        'tables: {"shop.*": {}}',
        "x-rules:\n  people: &people {mask: {email: hash}, where: 'a = 1'}\n"
        "tables:\n  shop.users: *people\n  shop.staff:\n    <<: *people\n    where: b = 2\n  shop.other:\n",
    )
    job = load(text)
    users, staff = (job.match(TableId("shop", name)) for name in ("users", "staff"))
    assert users is not None
    assert staff is not None
    assert (users.mask, users.where) == ({"email": "hash"}, "a = 1")
    assert (staff.mask, staff.where) == ({"email": "hash"}, "b = 2")
    assert "x-rules" not in job.public()


def test_a_fault_found_later_gets_its_place(full: Job) -> None:
    late = ConfigError("shop.users has no column 'email'", key="tables.shop.users.mask.email", code="C124")
    assert str(full.placed(late)).startswith(f"{full.path}:8:30 tables.shop.users.mask.email: ")
    assert str(full.fault(("queue", "queues"), "was 4", code="C140")).startswith(f"{full.path}:9:17 queue.queues: ")


def test_secrets_in_a_log_event(full: Job) -> None:
    event = {"error": "no hunter2", "rows": 3, "more": ["tiger-in-a-file", ("x",)]}
    assert full.secrets.hide_in(event) == {"error": "no ***", "rows": 3, "more": ["***", ("x",)]}
